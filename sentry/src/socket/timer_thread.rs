//! Runs the timers of a stack that no link's thread drives: a namespace with a loopback only.

use std::sync::{Arc, Weak};
use std::time::Duration;

use netstack::Stack;
use parking_lot::{Condvar, Mutex};

use crate::socket::NetNamespace;

/// Tells the thread about earlier deadlines and about the end.
#[derive(Debug, Default)]
struct Alarm {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Alarm {
    fn set(&self) {
        *self.is_set.lock() = true;
        self.changed.notify_one();
    }

    /// Sleeps for `span`, or until set; forgets that it was set.
    fn sleep(&self, span: Option<Duration>) {
        let mut is_set = self.is_set.lock();
        while !*is_set {
            match span {
                None => self.changed.wait(&mut is_set),
                Some(span) => {
                    if self.changed.wait_for(&mut is_set, span).timed_out() {
                        break;
                    }
                }
            }
        }
        *is_set = false;
    }
}

/// Ends the thread when dropped with its namespace.
#[derive(Debug)]
pub(super) struct TimerThread(Arc<Alarm>);

impl TimerThread {
    /// Starts a thread that runs until the namespace is gone.
    ///
    /// # Errors
    /// What the host says when it has no thread to give.
    pub(super) fn start(namespace: &Arc<NetNamespace>) -> std::io::Result<Self> {
        let alarm = Arc::<Alarm>::default();
        let waker = alarm.clone();
        namespace.stack().set_timer_waker(Arc::new(move || waker.set()));
        let (weak, own) = (Arc::downgrade(namespace), alarm.clone());
        std::thread::Builder::new().name("net-timers".to_owned()).spawn(move || run(&weak, &own))?;
        Ok(Self(alarm))
    }
}

impl Drop for TimerThread {
    fn drop(&mut self) {
        self.0.set();
    }
}

fn run(namespace: &Weak<NetNamespace>, alarm: &Alarm) {
    loop {
        let span = {
            // The namespace is not kept alive while the thread sleeps.
            let Some(namespace) = namespace.upgrade() else { return };
            let stack: &Stack = namespace.stack();
            stack.run_timers();
            stack.next_deadline().map(|at| at.saturating_duration_since(stack.now()))
        };
        alarm.sleep(span);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_thread_ends_with_its_namespace() {
        let namespace = NetNamespace::standalone(Stack::builder().build()).unwrap();
        let weak = Arc::downgrade(&namespace);
        let (sender, receiver) = mpsc::channel();
        // A second runner over the same alarm's logic: it must return once the namespace is gone.
        let alarm = Arc::<Alarm>::default();
        let own = alarm.clone();
        std::thread::spawn(move || {
            run(&weak, &own);
            sender.send(()).unwrap();
        });
        drop(namespace);
        alarm.set();
        receiver.recv_timeout(Duration::from_secs(10)).expect("the thread ends");
    }
}
