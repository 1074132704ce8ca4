//! POSIX message queues (`mq_overview(7)`): what one holds, and what all of a namespace may hold.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::task::ThreadGroup;
use crate::wait::{Readiness, WaitQueue};

/// Priorities are below this (`MQ_PRIO_MAX`).
pub(crate) const PRIORITIES: u32 = 32_768;

/// The most messages and bytes of a message, even with `CAP_SYS_RESOURCE` (`HARD_MSGMAX`, `HARD_MSGSIZEMAX`).
const HARD_MESSAGES: usize = 65_536;
const HARD_BYTES: usize = 16 << 20;

/// What Linux charges for a message beside its text: `struct msg_msg`.
const MESSAGE_OVERHEAD: u64 = 48;
/// What it charges for a priority: `struct posix_msg_tree_node`.
const PRIORITY_OVERHEAD: u64 = 48;

/// How much a queue may hold (`mq_maxmsg`, `mq_msgsize`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Capacity {
    /// What counts for `RLIMIT_MSGQUEUE` (getrlimit(2)).
    fn charge(self) -> u64 {
        let (messages, bytes) = (self.messages as u64, self.bytes as u64);
        let priorities = messages.min(PRIORITIES.into());
        messages * (bytes + MESSAGE_OVERHEAD) + priorities * PRIORITY_OVERHEAD
    }
}

/// Limits of a namespace (`/proc/sys/fs/mqueue`, mq_overview(7)).
#[derive(Debug)]
pub(crate) struct QueueLimits {
    /// Queues.
    pub(crate) queues_max: AtomicUsize,
    /// Messages of a queue whose maker is not privileged.
    pub(crate) msg_max: AtomicUsize,
    /// Bytes of a message, likewise.
    pub(crate) msgsize_max: AtomicUsize,
    /// Messages of a queue whose maker says nothing.
    pub(crate) msg_default: AtomicUsize,
    /// Bytes of a message, likewise.
    pub(crate) msgsize_default: AtomicUsize,
}

impl Default for QueueLimits {
    /// Linux's.
    fn default() -> Self {
        Self {
            queues_max: AtomicUsize::new(256),
            msg_max: AtomicUsize::new(10),
            msgsize_max: AtomicUsize::new(8192),
            msg_default: AtomicUsize::new(10),
            msgsize_default: AtomicUsize::new(8192),
        }
    }
}

/// Who makes a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Maker {
    pub(crate) uid: u32,
    /// `CAP_SYS_RESOURCE`.
    pub(crate) is_privileged: bool,
    /// `RLIMIT_MSGQUEUE`.
    pub(crate) limit: u64,
}

/// What the queues of a namespace take together.
#[derive(Debug, Default)]
pub(crate) struct QueueAccounts {
    pub(crate) limits: QueueLimits,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    queues: usize,
    /// By user.
    bytes: HashMap<u32, u64>,
}

impl QueueAccounts {
    /// A queue as its maker wants it, or the usual one.
    ///
    /// # Errors
    /// `EINVAL` for more than the maker may have, `ENOSPC` for too many queues, `EMFILE` for the user's limit.
    pub(crate) fn open(
        self: &Arc<Self>,
        wanted: Option<Capacity>,
        maker: Maker,
    ) -> Result<Arc<Queue>, Errno> {
        let get = |limit: &AtomicUsize| limit.load(Ordering::Relaxed);
        let limits = &self.limits;
        let capacity = wanted.unwrap_or(Capacity {
            messages: get(&limits.msg_max).min(get(&limits.msg_default)),
            bytes: get(&limits.msgsize_max).min(get(&limits.msgsize_default)),
        });
        if capacity.messages == 0 || capacity.bytes == 0 {
            return Err(Errno::EINVAL);
        }
        let (messages, bytes) = match maker.is_privileged {
            true => (HARD_MESSAGES, HARD_BYTES),
            false => (get(&limits.msg_max), get(&limits.msgsize_max)),
        };
        if capacity.messages > messages || capacity.bytes > bytes {
            return Err(Errno::EINVAL);
        }
        let mut used = self.used.lock();
        if used.queues >= get(&limits.queues_max) && !maker.is_privileged {
            return Err(Errno::ENOSPC);
        }
        let bytes = used.bytes.entry(maker.uid).or_default();
        // Both are below 2^41.
        let total = *bytes + capacity.charge();
        if total > maker.limit {
            return Err(Errno::EMFILE);
        }
        *bytes = total;
        used.queues += 1;
        drop(used);
        Ok(Arc::new(Queue {
            capacity,
            uid: maker.uid,
            accounts: self.clone(),
            state: Mutex::default(),
            events: WaitQueue::default(),
        }))
    }
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) priority: u32,
    pub(crate) text: Vec<u8>,
}

/// A queue.
pub(crate) struct Queue {
    capacity: Capacity,
    uid: u32,
    accounts: Arc<QueueAccounts>,
    state: Mutex<State>,
    events: WaitQueue,
}

#[derive(Default)]
struct State {
    /// By priority; no list is empty.
    letters: BTreeMap<u32, VecDeque<Vec<u8>>>,
    count: usize,
    bytes: usize,
    /// Receivers that wait.
    receivers: usize,
    notification: Option<Notification>,
}

/// Whom the next message in an empty queue is announced to (mq_notify(3)).
pub(crate) struct Notification {
    /// The process.
    pub(crate) owner: Weak<ThreadGroup>,
    pub(crate) announce: Box<dyn Announce>,
}

/// How somebody is told of a message.
pub(crate) trait Announce: Send + Sync {
    /// A message has come, from process `pid` of user `uid`.
    fn arrived(&self, owner: &Arc<ThreadGroup>, pid: i32, uid: u32);
    /// No message will be announced.
    fn removed(&self) {}
    /// `SIGEV_*`.
    fn kind(&self) -> i32;
    /// The signal, 0 for others.
    fn signal(&self) -> i32 {
        0
    }
}

impl Notification {
    fn living(&self) -> Option<Arc<ThreadGroup>> {
        self.owner.upgrade().filter(|owner| !owner.has_ended())
    }
}

/// What `mq_getattr(3)` and reading a queue's file tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueReport {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    /// `SIGEV_*`, signal and process of who is to be told.
    pub(crate) notification: Option<(i32, i32, i32)>,
}

impl Queue {
    pub(crate) fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Told when there is a message or room for one.
    pub(crate) fn events(&self) -> &WaitQueue {
        &self.events
    }

    pub(crate) fn readiness(&self) -> Readiness {
        let count = self.state.lock().count;
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN, count > 0);
        ready.set(Readiness::OUT, count < self.capacity.messages);
        ready
    }

    pub(crate) fn report(&self) -> QueueReport {
        let state = self.state.lock();
        let notification = state.notification.as_ref().and_then(|notification| {
            let pid = notification.living()?.pid().0;
            Some((notification.announce.kind(), notification.announce.signal(), pid))
        });
        QueueReport { messages: state.count, bytes: state.bytes, notification }
    }

    /// Puts `letter` in, from process `pid` of user `uid`; a full queue gives it back.
    pub(crate) fn send(&self, letter: Letter, pid: i32, uid: u32) -> Result<(), Letter> {
        let told = {
            let mut state = self.state.lock();
            if state.count >= self.capacity.messages {
                return Err(letter);
            }
            state.count += 1;
            state.bytes += letter.text.len();
            state.letters.entry(letter.priority).or_default().push_back(letter.text);
            // "If another thread is waiting to receive a message, that thread receives it" and nobody is told.
            let is_news = state.count == 1 && state.receivers == 0;
            if is_news { state.notification.take() } else { None }
        };
        self.events.notify(Readiness::IN);
        if let Some(notification) = told
            && let Some(owner) = notification.living()
        {
            notification.announce.arrived(&owner, pid, uid);
        }
        Ok(())
    }

    /// Takes the oldest message of the highest priority.
    pub(crate) fn receive(&self) -> Option<Letter> {
        let letter = {
            let mut state = self.state.lock();
            let mut highest = state.letters.last_entry()?;
            let priority = *highest.key();
            let text = highest.get_mut().pop_front()?;
            if highest.get().is_empty() {
                highest.remove();
            }
            state.count -= 1;
            state.bytes -= text.len();
            Letter { priority, text }
        };
        self.events.notify(Readiness::OUT);
        Some(letter)
    }

    /// Counts a receiver that waits until the value is dropped.
    pub(crate) fn wait_to_receive(&self) -> Receiver<'_> {
        self.state.lock().receivers += 1;
        Receiver(self)
    }

    /// Has `notification` told of the next message in the empty queue.
    ///
    /// # Errors
    /// `EBUSY` where somebody is already.
    pub(crate) fn register(&self, notification: Notification) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if state.notification.as_ref().is_some_and(|other| other.living().is_some()) {
            return Err(Errno::EBUSY);
        }
        state.notification = Some(notification);
        Ok(())
    }

    /// Ends what process `owner` is to be told.
    pub(crate) fn unregister(&self, owner: &Arc<ThreadGroup>) {
        let removed = {
            let mut state = self.state.lock();
            let is_own = |notification: &Notification| notification.owner.as_ptr() == Arc::as_ptr(owner);
            if !state.notification.as_ref().is_some_and(is_own) {
                return;
            }
            state.notification.take()
        };
        if let Some(notification) = removed {
            notification.announce.removed();
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut used = self.accounts.used.lock();
        used.queues -= 1;
        if let Some(bytes) = used.bytes.get_mut(&self.uid) {
            *bytes = bytes.saturating_sub(self.capacity.charge());
            if *bytes == 0 {
                used.bytes.remove(&self.uid);
            }
        }
    }
}

/// A receiver that waits.
pub(crate) struct Receiver<'a>(&'a Queue);

impl Drop for Receiver<'_> {
    fn drop(&mut self) {
        self.0.state.lock().receivers -= 1;
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({:?})", self.capacity)
    }
}
