//! `poll(2)` and what `select(2)` shares with it.

use std::sync::Arc;

use sentry_abi::fs::PollFd;
use sentry_abi::signal::SigSet;
use sentry_abi::time::Timespec;

use crate::errno::{Errno, SysError, SysResult};
use crate::kernel::KTime;
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::task::{BlockError, CurrentTask, Resource};
use crate::vfs::{Fd, File, OpenFlags};
use crate::wait::{Readiness, WaitId};

/// `POLLNVAL`, which no file reports by itself.
const POLLNVAL: i16 = 0x20;

/// `poll(2)`.
pub(crate) fn sys_poll(task: &mut CurrentTask, args: &Args) -> SysResult {
    let timeout = args.i32(2);
    let deadline = u64::try_from(timeout)
        .ok()
        .map(|ms| task.kernel().clocks().monotonic().saturating_add(ms.saturating_mul(1_000_000)));
    poll(task, args.addr(0), args.u64(1), deadline)
}

/// `ppoll(2)`.
pub(crate) fn sys_ppoll(task: &mut CurrentTask, args: &Args) -> SysResult {
    let deadline = read_timeout(task, args.addr(2))?;
    let mask = read_mask(task, args.addr(3), args.u64(4))?;
    let result = with_mask(task, mask, |task| poll(task, args.addr(0), args.u64(1), deadline));
    write_left(task, args.addr(2), deadline);
    result
}

/// A relative timeout as a deadline; `None` for a null pointer, which waits forever.
///
/// # Errors
/// `EFAULT`, `EINVAL`.
pub(super) fn read_timeout(task: &CurrentTask, addr: UserAddr) -> Result<Option<KTime>, Errno> {
    if addr.is_null() {
        return Ok(None);
    }
    let timeout: Timespec = task.mm().read_obj(addr)?;
    Ok(Some(task.kernel().clocks().monotonic().saturating_add(timeout.to_ns()?)))
}

/// Linux writes the time left back where it can (`poll(2)`, `select(2)`).
pub(super) fn write_left(task: &CurrentTask, addr: UserAddr, deadline: Option<KTime>) {
    if let Some(deadline) = deadline {
        let left = deadline.since(task.kernel().clocks().monotonic());
        let _ = task.mm().write_obj(addr, &Timespec::from_ns(left));
    }
}

/// The signal mask of `ppoll(2)`, `pselect6(2)` and `epoll_pwait(2)`.
///
/// # Errors
/// `EINVAL` for a set of another size, `EFAULT`.
pub(super) fn read_mask(task: &CurrentTask, addr: UserAddr, size: u64) -> Result<Option<SigSet>, Errno> {
    if addr.is_null() {
        return Ok(None);
    }
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    Ok(Some(SigSet(task.mm().read_obj(addr)?)))
}

/// Runs `call` with `mask` as the signal mask. When a signal interrupts it, the old mask comes back only after the
/// handler (`ppoll(2)`).
pub(super) fn with_mask(
    task: &mut CurrentTask,
    mask: Option<SigSet>,
    call: impl FnOnce(&mut CurrentTask) -> SysResult,
) -> SysResult {
    let Some(mask) = mask else { return call(task) };
    task.set_temporary_mask(mask);
    let result = call(task);
    let interrupted = matches!(&result, Err(SysError::Restart(_) | SysError::Errno(Errno::EINTR)));
    task.restore_mask(interrupted);
    result
}

fn poll(task: &mut CurrentTask, addr: UserAddr, count: u64, deadline: Option<KTime>) -> SysResult {
    if count > task.rlimit(Resource::Nofile).soft {
        return Err(Errno::EINVAL.into());
    }
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let mut fds: Vec<PollFd> = task.mm().read_array(addr, count)?;
    let mut waits: Vec<Polled> = Vec::with_capacity(count);
    for entry in &mut fds {
        entry.revents = 0;
        waits.push(Polled::new(task, entry.fd, readiness_of(entry.events)));
    }
    let ready = wait_any(task, &mut waits, deadline)?;
    let mut n = 0_u64;
    for (entry, polled) in fds.iter_mut().zip(&ready) {
        entry.revents = match polled {
            PollResult::Ready(ready) => events_of(*ready, entry.events),
            PollResult::Invalid => POLLNVAL,
            PollResult::Ignored => 0,
        };
        n += u64::from(entry.revents != 0);
    }
    for (i, entry) in fds.iter().enumerate() {
        // Only revents is written, as on Linux.
        let at = addr.checked_add(i as u64 * 8 + 6)?;
        task.mm().write_obj(at, &entry.revents)?;
    }
    Ok(n)
}

/// A file that is polled.
pub(super) struct Polled {
    target: Target,
    interest: Readiness,
    registration: Option<WaitId>,
}

enum Target {
    File(Arc<File>),
    Invalid,
    Ignored,
}

/// What a poll found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PollResult {
    /// These of the interest, and errors.
    Ready(Readiness),
    /// The descriptor is not open.
    Invalid,
    /// The descriptor is negative.
    Ignored,
}

impl Polled {
    /// The file behind `fd` with what the caller wants to know.
    pub(super) fn new(task: &CurrentTask, fd: i32, interest: Readiness) -> Self {
        let target = match task.files().get(Fd(fd)) {
            _ if fd < 0 => Target::Ignored,
            Ok(file) if !file.flags().contains(OpenFlags::PATH) => Target::File(file),
            _ => Target::Invalid,
        };
        let interest = interest | Readiness::ERR | Readiness::HUP;
        Self { target, interest, registration: None }
    }

    /// True where the descriptor is not open.
    pub(super) fn is_invalid(&self) -> bool {
        matches!(self.target, Target::Invalid)
    }

    fn check(&self) -> PollResult {
        match &self.target {
            Target::File(file) => PollResult::Ready(file.ops().readiness(file) & self.interest),
            Target::Invalid => PollResult::Invalid,
            Target::Ignored => PollResult::Ignored,
        }
    }
}

impl PollResult {
    fn is_ready(self) -> bool {
        match self {
            Self::Ready(ready) => !ready.is_empty(),
            Self::Invalid => true,
            Self::Ignored => false,
        }
    }
}

/// Waits until one of `polled` is ready or `deadline` passed, and returns the state of all.
///
/// # Errors
/// `ERESTARTNOHAND` on a signal.
pub(super) fn wait_any(
    task: &mut CurrentTask,
    polled: &mut [Polled],
    deadline: Option<KTime>,
) -> Result<Vec<PollResult>, SysError> {
    let check = |polled: &[Polled]| -> Option<Vec<PollResult>> {
        let results: Vec<PollResult> = polled.iter().map(Polled::check).collect();
        results.iter().any(|r| r.is_ready()).then_some(results)
    };
    if let Some(done) = check(polled) {
        return Ok(done);
    }
    if deadline.is_some_and(|at| at <= task.kernel().clocks().monotonic()) {
        return Ok(polled.iter().map(Polled::check).collect());
    }
    for one in polled.iter_mut() {
        if let Target::File(file) = &one.target {
            one.registration = file.ops().register(one.interest, task.waiter().clone());
        }
    }
    let result = task.block_until(deadline, |_| check(polled));
    for one in polled.iter_mut() {
        if let (Target::File(file), Some(id)) = (&one.target, one.registration.take()) {
            file.ops().unregister(id);
        }
    }
    match result {
        Ok(done) => Ok(done),
        Err(BlockError::TimedOut) => Ok(polled.iter().map(Polled::check).collect()),
        Err(BlockError::Interrupted) => Err(crate::errno::Restart::IfNoHandler.into()),
    }
}

const POLLERR_HUP: i16 = 0x18;
const POLLRDNORM: i16 = 0x40;
const POLLRDBAND: i16 = 0x80;
const POLLWRNORM: i16 = 0x100;
const POLLWRBAND: i16 = 0x200;

/// The readiness that poll events ask for; the `*NORM` bits mean the same as the plain ones.
fn readiness_of(events: i16) -> Readiness {
    let bits = u32::from(events.cast_unsigned());
    let mut ready = Readiness::from_bits_truncate(bits);
    ready.set(Readiness::IN, events & (1 | POLLRDNORM) != 0);
    ready.set(Readiness::OUT, events & (4 | POLLWRNORM | POLLWRBAND) != 0);
    ready.set(Readiness::PRI, events & (2 | POLLRDBAND) != 0);
    ready
}

/// The events to report for a readiness, with the `*NORM` names where they were asked for.
fn events_of(ready: Readiness, asked: i16) -> i16 {
    // Every bit of Readiness fits in 15 bits.
    let plain = (ready.bits() & 0x7fff) as i16;
    let mut events = plain & (asked | POLLERR_HUP);
    if ready.contains(Readiness::IN) {
        events |= asked & POLLRDNORM;
    }
    if ready.contains(Readiness::OUT) {
        events |= asked & (POLLWRNORM | POLLWRBAND);
    }
    if ready.contains(Readiness::PRI) {
        events |= asked & POLLRDBAND;
    }
    events
}
