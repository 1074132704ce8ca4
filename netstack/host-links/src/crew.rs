//! Leader and followers: threads that would sleep for network data read the links themselves.
//!
//! A reader thread hands each answer over to the thread that waits for it, which costs two switches between threads per
//! round trip, or two wake-ups across processors. Here the thread that waits turns the pump instead (it *leads*), and
//! returns with its own data as soon as a turn has delivered it. Other threads that wait meanwhile *follow*: they sleep
//! until the leader's turns notify them.
//!
//! A standby thread leads while nobody else does. It does not race for the lead when a leader leaves, because most often
//! the same thread is back within microseconds; it takes over when followers are left behind, or after a while without
//! any leader ([`QUIET`]). That is the longest time for which a frame or timer can wait.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use netstack::wait::{Observer, Readiness, WaitQueue};
use parking_lot::{Mutex, MutexGuard};

use crate::pump::{Pump, Turn};
use crate::wake::Wake;

/// The threads that share a pump. Dropping it stops the standby thread.
#[derive(Debug)]
pub struct Crew {
    shared: Arc<Shared>,
    standby: Option<JoinHandle<()>>,
}

struct Shared {
    /// Whoever holds it leads.
    pump: Mutex<Pump>,
    wake: Wake,
    /// The standby thread leads, and gives way to anybody.
    is_standby_leading: AtomicBool,
    /// Threads that want the standby thread to give way.
    wanted: AtomicUsize,
    /// How often somebody has led. Relaxed: only its changes mean something, and a late one costs a tick.
    leads: AtomicU64,
    /// Threads that wait without leading.
    followers: AtomicUsize,
    /// A leader left while there were followers.
    is_takeover_due: AtomicBool,
    is_stopping: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("followers", &self.followers).finish_non_exhaustive()
    }
}

/// What a thread that is about to wait has become.
pub enum Post<'a> {
    /// It turns the pump.
    Lead(Lead<'a>),
    /// Another thread does; it may sleep until its wait queue notifies it.
    Follow(Follow<'a>),
}

/// The right and the duty to turn the pump, until dropped.
pub struct Lead<'a> {
    // Taken only by the drop.
    pump: Option<MutexGuard<'a, Pump>>,
    crew: &'a Crew,
}

/// Being counted among those that wait, until dropped.
pub struct Follow<'a> {
    shared: &'a Shared,
}

impl Crew {
    /// Starts the standby thread, which leads at first.
    pub fn start(pump: Pump) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            wake: pump.wake(),
            pump: Mutex::new(pump),
            is_standby_leading: AtomicBool::new(false),
            wanted: AtomicUsize::new(0),
            leads: AtomicU64::new(0),
            followers: AtomicUsize::new(0),
            is_takeover_due: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        });
        let its = Arc::clone(&shared);
        let standby =
            std::thread::Builder::new().name("link-standby".into()).spawn(move || its.stand_by())?;
        Ok(Self { shared, standby: Some(standby) })
    }

    /// Joins those that wait. Look at the object waited for once more before sleeping as a follower.
    pub fn join(&self) -> Post<'_> {
        if let Some(lead) = self.try_lead() {
            return Post::Lead(lead);
        }
        self.shared.followers.fetch_add(1, Ordering::SeqCst);
        let follow = Follow { shared: &self.shared };
        // The leader may have left before it could see us.
        match self.try_lead() {
            Some(lead) => Post::Lead(lead),
            None => Post::Follow(follow),
        }
    }

    /// Ends the leader's sleep, so that it looks at what it waits for.
    pub fn wake(&self) -> Wake {
        self.shared.wake.clone()
    }

    /// Waits until `is_done`, at most until `end`, leading or following; false if the time was over. `is_done` is asked
    /// again whenever `queue` notified about `interest`.
    pub fn wait(
        &self,
        queue: &WaitQueue,
        interest: Readiness,
        end: Option<Instant>,
        mut is_done: impl FnMut() -> bool,
    ) -> io::Result<bool> {
        if is_done() {
            return Ok(true);
        }
        let sleeper = Arc::new(Sleeper {
            thread: std::thread::current(),
            wake: self.wake(),
            is_leading: AtomicBool::new(false),
        });
        let id = queue.register(interest, Arc::clone(&sleeper) as Arc<dyn Observer>);
        let outcome = self.wait_registered(&sleeper, end, &mut is_done);
        queue.unregister(id);
        outcome
    }

    fn wait_registered(
        &self,
        sleeper: &Sleeper,
        end: Option<Instant>,
        is_done: &mut dyn FnMut() -> bool,
    ) -> io::Result<bool> {
        let mut post = self.join();
        sleeper.is_leading.store(matches!(post, Post::Lead(_)), Ordering::SeqCst);
        while !is_done() {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(false);
            }
            match &mut post {
                Post::Lead(lead) => drop(lead.turn(left)?),
                Post::Follow(_) => left.map_or_else(std::thread::park, std::thread::park_timeout),
            }
        }
        Ok(true)
    }

    fn try_lead(&self) -> Option<Lead<'_>> {
        let shared = &*self.shared;
        if let Some(pump) = shared.pump.try_lock() {
            return Some(Lead { pump: Some(pump), crew: self });
        }
        if !shared.is_standby_leading.load(Ordering::SeqCst) {
            return None;
        }
        shared.wanted.fetch_add(1, Ordering::SeqCst);
        shared.wake.wake();
        // Another thread may be faster, and then lead for long.
        let pump = shared.pump.try_lock_for(GIVE_WAY);
        shared.wanted.fetch_sub(1, Ordering::SeqCst);
        Some(Lead { pump: Some(pump?), crew: self })
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        self.shared.wake.wake();
        if let Some(standby) = self.standby.take() {
            standby.thread().unpark();
            // A panic has been reported by its thread already.
            let _ = standby.join();
        }
    }
}

impl Lead<'_> {
    /// Waits for frames, timers or a wake, at most for `limit`, and carries what there is through the stack.
    pub fn turn(&mut self, limit: Option<Duration>) -> io::Result<Turn> {
        match &mut self.pump {
            Some(pump) => pump.turn(limit),
            None => Ok(Turn::default()),
        }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let shared = &*self.crew.shared;
        shared.leads.fetch_add(1, Ordering::Relaxed);
        self.pump = None;
        if shared.followers.load(Ordering::SeqCst) > 0 {
            shared.is_takeover_due.store(true, Ordering::SeqCst);
            if let Some(standby) = &self.crew.standby {
                standby.thread().unpark();
            }
        }
    }
}

impl Drop for Follow<'_> {
    fn drop(&mut self) {
        self.shared.followers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn stand_by(&self) {
        while !self.is_stopping.load(Ordering::SeqCst) {
            if self.lead_until_wanted().is_err() {
                // The host refuses to wait on the links; leaders see the same error.
                return;
            }
            self.sleep_until_needed();
        }
    }

    fn lead_until_wanted(&self) -> io::Result<()> {
        let mut pump = self.pump.lock();
        self.is_standby_leading.store(true, Ordering::SeqCst);
        let mut outcome = Ok(());
        while outcome.is_ok()
            && self.wanted.load(Ordering::SeqCst) == 0
            && !self.is_stopping.load(Ordering::SeqCst)
        {
            outcome = pump.turn(None).map(drop);
        }
        self.is_standby_leading.store(false, Ordering::SeqCst);
        outcome
    }

    /// Until followers are without a leader, or nobody has led for a while.
    fn sleep_until_needed(&self) {
        loop {
            let before = self.leads.load(Ordering::Relaxed);
            std::thread::park_timeout(QUIET);
            let is_due = self.is_takeover_due.swap(false, Ordering::SeqCst);
            let is_quiet = self.leads.load(Ordering::Relaxed) == before && !self.pump.is_locked();
            if is_due || is_quiet || self.is_stopping.load(Ordering::SeqCst) {
                return;
            }
        }
    }
}

/// Wakes a thread that waits, however it does.
struct Sleeper {
    thread: Thread,
    wake: Wake,
    is_leading: AtomicBool,
}

impl Observer for Sleeper {
    fn notify(&self, _ready: Readiness) {
        if self.is_leading.load(Ordering::SeqCst) {
            // Costs nothing within a turn of its own.
            self.wake.wake_if_asleep();
        } else {
            self.thread.unpark();
        }
    }
}

/// How long the standby thread may take to give way, on a machine whose processors are all busy.
const GIVE_WAY: Duration = Duration::from_millis(2);

/// How long nobody leads before the standby thread does: long against the time in which a thread comes back for its
/// next answer, short against any timer of TCP.
const QUIET: Duration = Duration::from_micros(250);
