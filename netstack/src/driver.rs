//! A thread that runs a stack's timers.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::sync::{Condvar, Mutex};

use crate::stack::Stack;

/// Runs the timers of a stack on a thread of its own, until it is dropped.
///
/// For programs without an event loop. An event loop does the same by itself: sleep until
/// [`Stack::next_deadline`], wake up when the callback of [`Stack::set_timer_waker`] says so, call
/// [`Stack::run_timers`]. A stack has one driver; a second one takes the first one's place as the one to be woken.
pub struct Driver {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The earliest deadline has moved since the thread looked.
    is_woken: bool,
    is_stopping: bool,
}

impl Driver {
    /// Starts the thread. Fails if the operating system gives none.
    pub fn start(stack: &Stack) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let waker = Arc::clone(&shared);
        stack.set_timer_waker(Arc::new(move || waker.wake(|state| state.is_woken = true)));
        let (stack, runner) = (stack.clone(), Arc::clone(&shared));
        let thread =
            thread::Builder::new().name("net-timers".to_owned()).spawn(move || runner.run(&stack))?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.wake(|state| state.is_stopping = true);
        if let Some(thread) = self.thread.take() {
            // It panicked if this fails, and has said so already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn wake(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_one();
    }

    fn run(&self, stack: &Stack) {
        loop {
            stack.run_timers();
            let mut state = self.state.lock();
            if state.is_stopping {
                return;
            }
            if !std::mem::take(&mut state.is_woken) {
                // Looked up with the lock held: a deadline that moves from here on sets `is_woken`.
                match stack.next_deadline() {
                    Some(deadline) => {
                        let left = deadline - stack.now();
                        self.changed.wait_for(&mut state, left.max(SHORTEST_SLEEP));
                    }
                    None => self.changed.wait(&mut state),
                }
            }
        }
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// Timers of a stack are coarse; a deadline that is a few microseconds away is not worth a wake-up of its own.
const SHORTEST_SLEEP: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SocketError;
    use crate::link::channel::ChannelLink;
    use crate::link::{Capabilities, Medium};
    use crate::options::{Family, SendMeta};
    use crate::wait::Readiness;
    use crate::{MacAddr, UdpSocket};

    #[test]
    fn deadlines_that_appear_later_are_kept() {
        let stack = Stack::builder().build();
        let driver = Driver::start(&stack).unwrap();
        let medium = Medium::Ethernet(MacAddr([2, 0, 0, 0, 0, 1]));
        let nic = stack.add_nic("eth0", ChannelLink::new(medium, 1500, Capabilities::default(), 16)).unwrap();
        stack.add_address(nic, "10.0.0.1/24".parse().unwrap()).unwrap();
        let socket = UdpSocket::new(&stack, Family::V4);
        socket.connect("10.0.0.2:7".parse().unwrap()).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        socket.wait_queue().register(
            Readiness::ERR,
            Arc::new(move |_: Readiness| {
                let _ = sender.send(());
            }),
        );
        socket.try_send(&mut &b"x"[..], &SendMeta::default()).unwrap();
        // The resolution gives up after three seconds.
        receiver.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(socket.take_error(), Some(SocketError::HostUnreachable));
        drop(driver);
    }
}
