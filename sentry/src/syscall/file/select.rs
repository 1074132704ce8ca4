//! `select(2)`.

use sentry_abi::time::Timeval;

use crate::errno::{Errno, SysResult};
use crate::kernel::KTime;
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::syscall::file::poll::{
    PollResult, Polled, read_mask, read_timeout, wait_any, with_mask, write_left,
};
use crate::task::CurrentTask;
use crate::wait::Readiness;

/// The most descriptors: the largest table. The C library's `FD_SETSIZE` is not the kernel's limit.
const MAX_FDS: usize = 1 << 20;

/// `select(2)`.
pub(crate) fn sys_select(task: &mut CurrentTask, args: &Args) -> SysResult {
    let deadline = if args.addr(4).is_null() {
        None
    } else {
        let timeout: Timeval = task.mm().read_obj(args.addr(4))?;
        // Linux normalises the microseconds of select.
        let carried = timeout.usec.div_euclid(1_000_000);
        let sec = timeout.sec.checked_add(carried).ok_or(Errno::EINVAL)?;
        let ns = Timeval { sec, usec: timeout.usec.rem_euclid(1_000_000) }.to_ns()?;
        Some(task.kernel().clocks().monotonic().saturating_add(ns))
    };
    let result = select(task, args.i32(0), [args.addr(1), args.addr(2), args.addr(3)], deadline);
    if let Some(deadline) = deadline {
        let left = deadline.since(task.kernel().clocks().monotonic());
        let _ = task.mm().write_obj(args.addr(4), &Timeval::from_ns(left));
    }
    result
}

/// `pselect6(2)`.
pub(crate) fn sys_pselect6(task: &mut CurrentTask, args: &Args) -> SysResult {
    let deadline = read_timeout(task, args.addr(4))?;
    let mask = if args.addr(5).is_null() {
        None
    } else {
        let [set, size]: [u64; 2] = task.mm().read_obj(args.addr(5))?;
        read_mask(task, UserAddr(set), size)?
    };
    let sets = [args.addr(1), args.addr(2), args.addr(3)];
    let result = with_mask(task, mask, |task| select(task, args.i32(0), sets, deadline));
    write_left(task, args.addr(4), deadline);
    result
}

/// What each set asks for, and what counts as ready for it (`select(2)`, "Correspondence between select() and poll()
/// notifications").
const KINDS: [(Readiness, Readiness); 3] = [
    (Readiness::IN, Readiness::IN.union(Readiness::HUP).union(Readiness::ERR)),
    (Readiness::OUT, Readiness::OUT.union(Readiness::ERR)),
    (Readiness::PRI, Readiness::PRI),
];

fn select(task: &mut CurrentTask, n: i32, sets: [UserAddr; 3], deadline: Option<KTime>) -> SysResult {
    let n = usize::try_from(n).map_err(|_| Errno::EINVAL)?.min(MAX_FDS);
    // Linux cuts nfds to the size of the table.
    let last = task.files().open_fds().last().map_or(0, |fd| fd.0.unsigned_abs() as usize + 1);
    let bytes = n.div_ceil(64) * 8;
    let mut wanted: [Option<Vec<u8>>; 3] = [None, None, None];
    for (set, addr) in wanted.iter_mut().zip(sets) {
        if !addr.is_null() {
            *set = Some(task.mm().read_array(addr, bytes)?);
        }
    }
    let is_set = |set: &Option<Vec<u8>>, fd: usize| {
        set.as_ref().is_some_and(|bits| bits[fd / 8] & (1 << (fd % 8)) != 0)
    };
    let mut polled = Vec::new();
    let mut fds = Vec::new();
    for fd in 0..n {
        let mut interest = Readiness::empty();
        let mut ready_when = Readiness::empty();
        for (set, (asks, counts)) in wanted.iter().zip(KINDS) {
            if is_set(set, fd) {
                interest |= asks;
                ready_when |= counts;
            }
        }
        if interest.is_empty() {
            continue;
        }
        if fd >= last {
            return Err(Errno::EBADF.into());
        }
        // Below 2^20.
        let number = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
        let one = Polled::new(task, number, interest);
        if one.is_invalid() {
            return Err(Errno::EBADF.into());
        }
        polled.push(one);
        fds.push(fd);
    }
    let ready = wait_any(task, &mut polled, deadline)?;
    let mut count = 0;
    let mut results: [Option<Vec<u8>>; 3] = wanted.clone().map(|set| set.map(|bits| vec![0; bits.len()]));
    for (fd, result) in fds.iter().zip(&ready) {
        let PollResult::Ready(ready) = result else { continue };
        for ((result, wanted), (_, counts)) in results.iter_mut().zip(&wanted).zip(KINDS) {
            if is_set(wanted, *fd) && ready.intersects(counts) {
                if let Some(bits) = result {
                    bits[fd / 8] |= 1 << (fd % 8);
                }
                count += 1;
            }
        }
    }
    for (bits, addr) in results.iter().zip(sets) {
        if let Some(bits) = bits {
            task.mm().write_bytes(addr, bits)?;
        }
    }
    Ok(count)
}
