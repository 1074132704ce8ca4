//! One host thread that waits for all imported descriptors and wakes who waits for them in the guest.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, LazyLock, Weak};
use std::thread;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use parking_lot::Mutex;

use crate::fs::host::Description;
use crate::wait::Readiness;

/// Stack of the thread, which calls nothing deep.
const STACK_BYTES: usize = 64 << 10;

/// Events taken at once; there are rarely more descriptors.
const BATCH: usize = 16;

struct Notifier {
    epoll: Epoll,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    next: u64,
    descriptions: HashMap<u64, Weak<Description>>,
}

/// Made when the first descriptor is waited for: most programs never wait for their standard streams.
static NOTIFIER: LazyLock<io::Result<Arc<Notifier>>> = LazyLock::new(start);

/// Tells the queue of `description` about every change of readiness.
pub(super) fn watch(description: &Arc<Description>) -> io::Result<()> {
    let notifier = NOTIFIER.as_ref().map_err(|error| io::Error::from(error.kind()))?;
    let token = {
        let mut watched = notifier.watched.lock();
        watched.next += 1;
        let token = watched.next;
        watched.descriptions.insert(token, Arc::downgrade(description));
        token
    };
    // Edge-triggered: told at each change, and a guest that does not read costs nothing.
    let events = EpollFlags::EPOLLIN
        | EpollFlags::EPOLLOUT
        | EpollFlags::EPOLLPRI
        | EpollFlags::EPOLLRDHUP
        | EpollFlags::EPOLLET;
    match notifier.epoll.add(description.fd(), EpollEvent::new(events, token)) {
        // Files that are always ready cannot be watched, and need not be.
        Err(nix::Error::EPERM) => Ok(()),
        outcome => Ok(outcome?),
    }
}

fn start() -> io::Result<Arc<Notifier>> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let notifier = Arc::new(Notifier { epoll, watched: Mutex::default() });
    let own = notifier.clone();
    thread::Builder::new().name("host-files".to_owned()).stack_size(STACK_BYTES).spawn(move || run(&own))?;
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
    let description = {
        let mut watched = notifier.watched.lock();
        let found = watched.descriptions.get(&event.data()).and_then(Weak::upgrade);
        if found.is_none() {
            // Closed; the kernel has forgotten it as well.
            watched.descriptions.remove(&event.data());
        }
        found
    };
    if let Some(description) = description {
        // epoll's bits are poll(2)'s.
        let bits = event.events().bits().cast_unsigned();
        description.queue().notify(Readiness::from_bits_truncate(bits));
    }
}
