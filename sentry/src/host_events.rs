//! One host thread that waits for descriptors of the host and wakes who waits for them in the guest.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, LazyLock, OnceLock, Weak};
use std::thread;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use parking_lot::Mutex;
use sentry_hostio::nowait;

use crate::wait::{Readiness, WaitQueue};

/// A descriptor of the host with those who wait for it in the guest.
#[derive(Debug)]
pub(crate) struct Watched<F: AsFd> {
    fd: F,
    queue: Arc<WaitQueue>,
    /// Empty until somebody waits; then the place in the list of those that are watched, if it can be.
    token: OnceLock<Option<u64>>,
}

impl<F: AsFd> Watched<F> {
    /// Nobody waits for it so far.
    pub(crate) fn new(fd: F) -> Self {
        Self { fd, queue: Arc::default(), token: OnceLock::new() }
    }

    /// The descriptor.
    pub(crate) fn get(&self) -> &F {
        &self.fd
    }

    /// Who is told of changes, once [`watch`](Self::watch) was called.
    pub(crate) fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    /// Has changes of readiness told to the queue from now on.
    pub(crate) fn watch(&self) {
        self.token.get_or_init(|| match start_watching(self.fd.as_fd(), Arc::downgrade(&self.queue)) {
            Ok(token) => token,
            Err(error) => {
                // Without it a waiter would sleep for good; the file is as good as always ready then.
                tracing::warn!("watch a host descriptor: {error}");
                None
            }
        });
    }

    /// What `poll(2)` reports of the descriptor now.
    pub(crate) fn readiness(&self) -> Readiness {
        let interest = Readiness::IN | Readiness::OUT | Readiness::PRI | Readiness::RDHUP;
        // The bits are poll(2)'s, and fit into its 16.
        let interest = i16::try_from(interest.bits()).unwrap_or(0);
        match nowait::ready_bits(self.fd.as_fd(), interest) {
            Ok(bits) => Readiness::from_bits_truncate(u32::from(bits.cast_unsigned())),
            Err(_) => Readiness::ERR,
        }
    }
}

impl<F: AsFd> Drop for Watched<F> {
    fn drop(&mut self) {
        let (Some(Some(token)), Ok(notifier)) = (self.token.get(), NOTIFIER.as_ref()) else {
            return;
        };
        notifier.watched.lock().by_token.remove(token);
        // Closing alone does not end it: the host would go on as long as somebody outside has the same open file.
        // Cannot fail: it was added.
        let _ = notifier.epoll.delete(self.fd.as_fd());
    }
}

/// Stack of the thread, which calls nothing deep.
const STACK_BYTES: usize = 64 << 10;

/// Events taken at once.
const BATCH: usize = 64;

struct Notifier {
    epoll: Epoll,
    watched: Mutex<Queues>,
}

#[derive(Default)]
struct Queues {
    next: u64,
    by_token: HashMap<u64, Weak<WaitQueue>>,
}

/// Made when the first descriptor is waited for: most programs never wait for their standard streams.
static NOTIFIER: LazyLock<io::Result<Arc<Notifier>>> = LazyLock::new(start);

fn start_watching(fd: BorrowedFd<'_>, queue: Weak<WaitQueue>) -> io::Result<Option<u64>> {
    let notifier = NOTIFIER.as_ref().map_err(|error| io::Error::from(error.kind()))?;
    let token = {
        let mut watched = notifier.watched.lock();
        watched.next += 1;
        let token = watched.next;
        watched.by_token.insert(token, queue);
        token
    };
    // Edge-triggered: told at each change, and a guest that does not read costs nothing.
    let events = EpollFlags::EPOLLIN
        | EpollFlags::EPOLLOUT
        | EpollFlags::EPOLLPRI
        | EpollFlags::EPOLLRDHUP
        | EpollFlags::EPOLLET;
    match notifier.epoll.add(fd, EpollEvent::new(events, token)) {
        Ok(()) => Ok(Some(token)),
        Err(error) => {
            notifier.watched.lock().by_token.remove(&token);
            // Files that are always ready cannot be watched, and need not be.
            if error == nix::Error::EPERM { Ok(None) } else { Err(error.into()) }
        }
    }
}

fn start() -> io::Result<Arc<Notifier>> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let notifier = Arc::new(Notifier { epoll, watched: Mutex::default() });
    let own = notifier.clone();
    thread::Builder::new().name("host-events".to_owned()).stack_size(STACK_BYTES).spawn(move || run(&own))?;
    Ok(notifier)
}

fn run(notifier: &Notifier) {
    let mut events = [EpollEvent::empty(); BATCH];
    loop {
        let count = match notifier.epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => continue,
            Err(error) => {
                tracing::error!("wait for host descriptors: {error}");
                return;
            }
        };
        for event in &events[..count] {
            notify(notifier, *event);
        }
    }
}

fn notify(notifier: &Notifier, event: EpollEvent) {
    let queue = notifier.watched.lock().by_token.get(&event.data()).and_then(Weak::upgrade);
    if let Some(queue) = queue {
        // epoll's bits are poll(2)'s.
        let bits = event.events().bits().cast_unsigned();
        queue.notify(Readiness::from_bits_truncate(bits));
    }
}
