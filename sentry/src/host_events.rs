//! One host thread that waits for descriptors of the host and wakes who waits for them in the guest.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, LazyLock, OnceLock, Weak};
use std::thread;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use parking_lot::Mutex;
use sentry_hostio::nowait;

use crate::wait::{Readiness, WaitQueue};

/// A file or socket of the host with those who wait for it in the guest.
pub(crate) trait HostEvents: Send + Sync {
    /// The descriptor.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Who is told of changes.
    fn queue(&self) -> &WaitQueue;

    /// Whether and as what it is watched.
    fn watch(&self) -> &Watch;
}

/// The place of a descriptor in the list of those that are watched; empty until somebody waits for it.
#[derive(Debug, Default)]
pub(crate) struct Watch(OnceLock<Option<u64>>);

/// Has changes of readiness told to the queue of `source` from now on.
pub(crate) fn watch<T: HostEvents + 'static>(source: &Arc<T>) {
    source.watch().0.get_or_init(|| {
        let weak: Weak<T> = Arc::downgrade(source);
        match start_watching(source.fd(), weak) {
            Ok(token) => token,
            Err(error) => {
                // Without it a waiter would sleep for good; the file is as good as always ready then.
                tracing::warn!("watch a host descriptor: {error}");
                None
            }
        }
    });
}

/// Ends what [`watch`] began, to be called before the descriptor is closed: the host would go on as long as somebody
/// outside has the same open file.
pub(crate) fn unwatch(source: &impl HostEvents) {
    let (Some(Some(token)), Ok(notifier)) = (source.watch().0.get(), NOTIFIER.as_ref()) else {
        return;
    };
    notifier.watched.lock().sources.remove(token);
    // Cannot fail: it was added.
    let _ = notifier.epoll.delete(source.fd());
}

/// What `poll(2)` reports of a descriptor now.
pub(crate) fn readiness(fd: BorrowedFd<'_>) -> Readiness {
    let interest = Readiness::IN | Readiness::OUT | Readiness::PRI | Readiness::RDHUP;
    // The bits are poll(2)'s, and fit into its 16.
    let interest = i16::try_from(interest.bits()).unwrap_or(0);
    match nowait::ready_bits(fd, interest) {
        Ok(bits) => Readiness::from_bits_truncate(u32::from(bits.cast_unsigned())),
        Err(_) => Readiness::ERR,
    }
}

/// Stack of the thread, which calls nothing deep.
const STACK_BYTES: usize = 64 << 10;

/// Events taken at once.
const BATCH: usize = 64;

struct Notifier {
    epoll: Epoll,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    next: u64,
    sources: HashMap<u64, Weak<dyn HostEvents>>,
}

/// Made when the first descriptor is waited for: most programs never wait for their standard streams.
static NOTIFIER: LazyLock<io::Result<Arc<Notifier>>> = LazyLock::new(start);

fn start_watching(fd: BorrowedFd<'_>, source: Weak<dyn HostEvents>) -> io::Result<Option<u64>> {
    let notifier = NOTIFIER.as_ref().map_err(|error| io::Error::from(error.kind()))?;
    let token = {
        let mut watched = notifier.watched.lock();
        watched.next += 1;
        let token = watched.next;
        watched.sources.insert(token, source);
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
            notifier.watched.lock().sources.remove(&token);
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
    let source = notifier.watched.lock().sources.get(&event.data()).and_then(Weak::upgrade);
    if let Some(source) = source {
        // epoll's bits are poll(2)'s.
        let bits = event.events().bits().cast_unsigned();
        source.queue().notify(Readiness::from_bits_truncate(bits));
    }
}
