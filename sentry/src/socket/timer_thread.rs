//! Runs the timers of stacks that no link's thread drives, those of the namespaces that guests make: one thread for all of
//! them, as long as there are any. It also takes apart what namespaces leave behind.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::socket::NetNamespace;

/// Keeps the timers of a namespace running until it is dropped.
#[derive(Debug)]
pub(super) struct Registration(u64);

/// Has the timers of `namespace` run from now on.
///
/// # Errors
/// What the host says when it has no thread to give.
pub(super) fn register(namespace: &Arc<NetNamespace>) -> std::io::Result<Registration> {
    let id = {
        let mut state = SERVICE.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.namespaces.insert(id, Watched { namespace: Arc::downgrade(namespace), deadline: None });
        state.woken.push(id);
        id
    };
    let registration = Registration(id);
    namespace.stack().set_timer_waker(Arc::new(move || SERVICE.wake(id)));
    SERVICE.start()?;
    Ok(registration)
}

/// Has the thread do `job`, for who may hold locks that it needs. Without a thread it is done at once.
pub(super) fn later(job: impl FnOnce() + Send + 'static) {
    SERVICE.state.lock().jobs.push(Box::new(job));
    if SERVICE.start().is_err() {
        SERVICE.state.lock().jobs.drain(..).collect::<Vec<_>>().into_iter().for_each(|job| job());
    }
    SERVICE.changed.notify_one();
}

impl Drop for Registration {
    fn drop(&mut self) {
        SERVICE.state.lock().forget(self.0);
        // The last one ends the thread.
        SERVICE.changed.notify_one();
    }
}

static SERVICE: LazyLock<Service> = LazyLock::new(Service::default);

#[derive(Default)]
struct Service {
    state: Mutex<State>,
    changed: Condvar,
}

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    next_id: u64,
    namespaces: HashMap<u64, Watched>,
    /// What is due when, of those that have a deadline.
    agenda: BTreeSet<(Instant, u64)>,
    /// Those whose earliest deadline may have changed.
    woken: Vec<u64>,
    jobs: Vec<Job>,
    is_running: bool,
}

struct Watched {
    namespace: Weak<NetNamespace>,
    deadline: Option<Instant>,
}

impl State {
    fn forget(&mut self, id: u64) {
        self.set_deadline(id, None);
        self.namespaces.remove(&id);
    }

    fn set_deadline(&mut self, id: u64, deadline: Option<Instant>) {
        let Some(watched) = self.namespaces.get_mut(&id) else { return };
        if let Some(old) = std::mem::replace(&mut watched.deadline, deadline) {
            self.agenda.remove(&(old, id));
        }
        self.agenda.extend(deadline.map(|at| (at, id)));
    }

    /// Those to look at now.
    fn due(&mut self, now: Instant) -> Vec<(u64, Weak<NetNamespace>)> {
        let mut ids = std::mem::take(&mut self.woken);
        while let Some((at, id)) = self.agenda.first().copied().filter(|(at, _)| *at <= now) {
            self.agenda.remove(&(at, id));
            if let Some(watched) = self.namespaces.get_mut(&id) {
                watched.deadline = None;
            }
            ids.push(id);
        }
        let find = |id| Some((id, self.namespaces.get(&id)?.namespace.clone()));
        ids.into_iter().filter_map(find).collect()
    }
}

impl Service {
    fn wake(&self, id: u64) {
        self.state.lock().woken.push(id);
        self.changed.notify_one();
    }

    fn start(&'static self) -> std::io::Result<()> {
        let mut state = self.state.lock();
        if !state.is_running {
            std::thread::Builder::new().name("net-timers".to_owned()).spawn(|| self.run())?;
            state.is_running = true;
        }
        Ok(())
    }

    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            let jobs = std::mem::take(&mut state.jobs);
            let due = state.due(Instant::now());
            if !jobs.is_empty() || !due.is_empty() {
                drop(state);
                jobs.into_iter().for_each(|job| job());
                let next: Vec<_> =
                    due.into_iter().map(|(id, namespace)| (id, run_timers(&namespace))).collect();
                state = self.state.lock();
                for (id, deadline) in next {
                    state.set_deadline(id, deadline);
                }
                continue;
            }
            if state.namespaces.is_empty() {
                state.is_running = false;
                return;
            }
            match state.agenda.first() {
                Some((at, _)) => {
                    let at = *at;
                    self.changed.wait_until(&mut state, at);
                }
                None => self.changed.wait(&mut state),
            }
        }
    }
}

/// Runs what is due in a namespace and tells when there is more.
fn run_timers(namespace: &Weak<NetNamespace>) -> Option<Instant> {
    let namespace = namespace.upgrade()?;
    let stack = namespace.stack();
    stack.run_timers();
    let left = stack.next_deadline().map(|at| at.saturating_duration_since(stack.now()))?;
    // Timers far away are looked at again once in a while.
    Some(Instant::now() + left.min(LONGEST_SLEEP))
}

/// Keeps sums of times from overflowing.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use netstack::options::Family;
    use netstack::{Stack, TcpSocket};

    use super::*;

    #[test]
    fn timers_of_several_namespaces_run_on_one_thread() {
        let namespaces: Vec<_> =
            (0..3).map(|_| NetNamespace::standalone(Stack::builder().build()).unwrap()).collect();
        let thread = |namespace: &Arc<NetNamespace>| {
            let (sender, receiver) = mpsc::channel();
            // A connection attempt that nobody answers is repeated after a second.
            let socket = TcpSocket::new(namespace.stack(), Family::V4);
            let _ = socket.connect("192.0.2.1:9".parse().unwrap());
            later(move || sender.send(std::thread::current().id()).unwrap());
            receiver.recv_timeout(Duration::from_secs(10)).unwrap()
        };
        let ids: Vec<_> = namespaces.iter().map(thread).collect();
        assert!(ids.iter().all(|id| *id == ids[0] && *id != std::thread::current().id()));
    }

    #[test]
    fn a_namespace_that_is_gone_is_forgotten() {
        let namespace = NetNamespace::standalone(Stack::builder().build()).unwrap();
        let id = namespace.timers().map(|registration| registration.0).unwrap();
        assert!(SERVICE.state.lock().namespaces.contains_key(&id));
        drop(namespace);
        assert!(!SERVICE.state.lock().namespaces.contains_key(&id));
    }
}
