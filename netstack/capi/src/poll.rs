//! Waiting for several sockets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libc::{c_int, c_short, c_ulong, pollfd};
use netstack::wait::{Readiness, Sleeper, WaitId, WaitQueue};

use crate::descriptor::{Entry, Socket};
use crate::errno::{Errno, answer};
use crate::forward::Catcher;
use crate::packet::Packets;
use crate::stack::ns_stack;

/// Waits until a socket is ready, as `poll(2)`: each entry's `fd` is a socket of this stack, a forwarder (readable while there
/// is a request), or negative to be ignored. Returns how many entries have something in `revents`; zero when `timeout_ms` is over
/// first (negative: never; a stack with a manual clock never waits).
///
/// # Safety
/// `stack` is a valid stack and `entries` points to `count` entries that nobody else uses meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_poll(
    stack: *const ns_stack,
    entries: *mut pollfd,
    count: c_ulong,
    timeout_ms: c_int,
) -> c_int {
    // SAFETY: as required of the caller.
    let handle = unsafe { ns_stack::from_raw(stack) };
    answer(handle.and_then(|handle| {
        let count = usize::try_from(count).map_err(|_| Errno(libc::EINVAL))?;
        let entries = match (entries.is_null(), count) {
            (_, 0) => &mut [][..],
            (true, _) => return Err(Errno(libc::EFAULT)),
            // SAFETY: as required of the caller.
            (false, count) => unsafe { std::slice::from_raw_parts_mut(entries, count) },
        };
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        let timeout = if handle.is_manual { Some(Duration::ZERO) } else { timeout };
        let ready = poll(handle, entries, timeout);
        c_int::try_from(ready).map_err(|_| Errno(libc::EINVAL))
    }))
}

fn poll(handle: &ns_stack, entries: &mut [pollfd], timeout: Option<Duration>) -> usize {
    let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let sockets: Vec<Target> = entries.iter().map(|entry| Target::of(handle, entry)).collect();
    let ready = look(&sockets, entries);
    if ready > 0 || timeout == Some(Duration::ZERO) {
        return ready;
    }
    let sleeper = Sleeper::of_this_thread();
    let _registered: Vec<Registration<'_>> =
        sockets.iter().filter_map(|target| target.register(&sleeper)).collect();
    loop {
        let ready = look(&sockets, entries);
        if ready > 0 || !sleeper.sleep_until(end) {
            return ready;
        }
    }
}

/// Writes what each entry is ready for; how many are.
fn look(targets: &[Target], entries: &mut [pollfd]) -> usize {
    let mut ready = 0;
    for (target, entry) in targets.iter().zip(entries) {
        entry.revents = target.ready();
        ready += usize::from(entry.revents != 0);
    }
    ready
}

/// What an entry stands for.
enum Target {
    /// A negative number.
    Ignored,
    /// No socket or forwarder has the number.
    Invalid,
    Socket(Arc<Socket>, Readiness),
    Packet(Arc<Packets>, Readiness),
    Forwarder(Arc<Catcher>, Readiness),
}

impl Target {
    fn of(handle: &ns_stack, entry: &pollfd) -> Self {
        // The bits of `poll(2)` are those of `Readiness`; a negative value has none beyond them.
        let events = Readiness::from_bits_truncate(u32::from(entry.events.cast_unsigned()));
        if entry.fd < 0 {
            return Self::Ignored;
        }
        let events = events | Readiness::ALWAYS;
        let target = handle.sockets.look(entry.fd, |entry| match entry {
            Entry::Socket(socket) => Ok(Self::Socket(Arc::clone(socket), events)),
            Entry::Packet(packets) => Ok(Self::Packet(Arc::clone(packets), events)),
            Entry::Forwarder(forwarder) => Ok(Self::Forwarder(Arc::clone(forwarder), events)),
            Entry::Request(_) => Err(Errno(libc::EBADF)),
        });
        target.unwrap_or(Self::Invalid)
    }

    fn ready(&self) -> c_short {
        let ready = match self {
            Self::Ignored => return 0,
            Self::Invalid => return libc::POLLNVAL,
            Self::Socket(socket, events) => socket.readiness() & *events,
            Self::Packet(packets, events) => packets.socket.readiness() & *events,
            Self::Forwarder(forwarder, events) => forwarder.readiness() & *events,
        };
        // All of them are below 2^15.
        c_short::try_from(ready.bits()).unwrap_or(0)
    }

    fn register<'a>(&'a self, sleeper: &Arc<Sleeper>) -> Option<Registration<'a>> {
        let (queue, events) = match self {
            Self::Ignored | Self::Invalid => return None,
            Self::Socket(socket, events) => (socket.wait_queue(), *events),
            Self::Packet(packets, events) => (packets.socket.wait_queue(), *events),
            Self::Forwarder(forwarder, events) => (forwarder.wait_queue(), *events),
        };
        let id = queue.register(events, Arc::clone(sleeper) as _);
        Some(Registration { queue, id })
    }
}

/// Ends a registration.
struct Registration<'a> {
    queue: &'a WaitQueue,
    id: WaitId,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.queue.unregister(self.id);
    }
}
