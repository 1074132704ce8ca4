//! `futex(2)`.

use std::sync::Arc;

use crate::errno::{Errno, Restart, SysError, SysResult};
use crate::kernel::KTime;
use crate::kernel::futex::FutexWaiter;
use crate::mm::{FutexKey, UserAddr};
use crate::syscall::Args;
use crate::syscall::time::read_timespec;
use crate::task::{BlockError, CurrentTask};

const WAIT: u32 = 0;
const WAKE: u32 = 1;
const REQUEUE: u32 = 3;
const CMP_REQUEUE: u32 = 4;
const WAKE_OP: u32 = 5;
const LOCK_PI: u32 = 6;
const UNLOCK_PI: u32 = 7;
const TRYLOCK_PI: u32 = 8;
const WAIT_BITSET: u32 = 9;
const WAKE_BITSET: u32 = 10;
const LOCK_PI2: u32 = 13;
const PRIVATE_FLAG: u32 = 128;
const CLOCK_REALTIME: u32 = 256;
const CMD_MASK: u32 = !(PRIVATE_FLAG | CLOCK_REALTIME);
/// `FUTEX_BITSET_MATCH_ANY`.
const ANY: u32 = u32::MAX;

/// `futex(2)`.
pub(crate) fn sys_futex(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (addr, op, value) = (args.addr(0), args.u32(1), args.u32(2));
    let (addr2, value2, value3) = (args.addr(4), args.u32(3), args.u32(5));
    let is_private = op & PRIVATE_FLAG != 0;
    let command = op & CMD_MASK;
    if op & CLOCK_REALTIME != 0 && !matches!(command, WAIT_BITSET | LOCK_PI2 | WAIT) {
        return Err(Errno::ENOSYS.into());
    }
    match command {
        WAIT => {
            let deadline = read_relative(task, args.addr(3))?;
            task.futex_wait(addr, value, ANY, deadline, is_private, Resume::Relative)
        }
        WAIT_BITSET => {
            let deadline = read_absolute(task, args.addr(3), op & CLOCK_REALTIME != 0)?;
            task.futex_wait(addr, value, value3, deadline, is_private, Resume::Absolute)
        }
        WAKE => Ok(task.futex_wake(addr, value, ANY, is_private)? as u64),
        WAKE_BITSET => Ok(task.futex_wake(addr, value, value3, is_private)? as u64),
        REQUEUE => task.futex_requeue(addr, addr2, value, value2, None, is_private),
        CMP_REQUEUE => task.futex_requeue(addr, addr2, value, value2, Some(value3), is_private),
        WAKE_OP => task.futex_wake_op(addr, addr2, value, value2, value3, is_private),
        LOCK_PI | LOCK_PI2 => {
            // FUTEX_LOCK_PI measures on CLOCK_REALTIME always; LOCK_PI2 as its flag says.
            let is_realtime = command == LOCK_PI || op & CLOCK_REALTIME != 0;
            let deadline = read_absolute(task, args.addr(3), is_realtime)?;
            task.futex_lock_pi(addr, deadline, is_private)
        }
        TRYLOCK_PI => task.futex_trylock_pi(addr, is_private),
        UNLOCK_PI => task.futex_unlock_pi(addr, is_private),
        _ => Err(Errno::ENOSYS.into()),
    }
}

/// How an interrupted wait goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// The timeout was relative: by `restart_syscall(2)` with the same deadline.
    Relative,
    /// By the same call.
    Absolute,
}

fn read_relative(task: &CurrentTask, addr: UserAddr) -> Result<Option<KTime>, Errno> {
    if addr.is_null() {
        return Ok(None);
    }
    let ns = read_timespec(task, addr)?.to_ns()?;
    Ok(Some(task.kernel().clocks().monotonic().saturating_add(ns)))
}

fn read_absolute(task: &CurrentTask, addr: UserAddr, is_realtime: bool) -> Result<Option<KTime>, Errno> {
    if addr.is_null() {
        return Ok(None);
    }
    let ns = read_timespec(task, addr)?.to_ns()?;
    let clocks = task.kernel().clocks();
    Ok(Some(if is_realtime { clocks.realtime_deadline(ns) } else { KTime(ns) }))
}

impl CurrentTask {
    pub(crate) fn futex_wait(
        &mut self,
        addr: UserAddr,
        expected: u32,
        bitset: u32,
        deadline: Option<KTime>,
        is_private: bool,
        resume: Resume,
    ) -> SysResult {
        if bitset == 0 {
            return Err(Errno::EINVAL.into());
        }
        let key = self.mm().futex_key(addr, is_private)?;
        // Faults the page in, so that the look under the lock rarely has to.
        self.mm().load_u32(addr)?;
        let waiter = FutexWaiter::new(self.waiter().clone(), key, bitset, 0);
        {
            let kernel = self.kernel();
            let mut bucket = kernel.futexes().lock(key);
            if self.mm().load_u32(addr)? != expected {
                return Err(Errno::EAGAIN.into());
            }
            bucket.push(key, waiter.clone());
        }
        match self.sleep_on_futex(&waiter, deadline) {
            Ok(()) => Ok(0),
            Err(BlockError::TimedOut) => Err(Errno::ETIMEDOUT.into()),
            Err(BlockError::Interrupted) if deadline.is_some() && resume == Resume::Relative => {
                self.set_restart_block(Box::new(move |task| {
                    task.futex_wait(addr, expected, bitset, deadline, is_private, resume)
                }));
                Err(Restart::ViaRestartBlock.into())
            }
            Err(BlockError::Interrupted) => Err(Restart::IfSaRestart.into()),
        }
    }

    /// Sleeps until somebody took the waiter out of its queue. On failure it is out, too.
    pub(crate) fn sleep_on_futex(
        &mut self,
        waiter: &Arc<FutexWaiter>,
        deadline: Option<KTime>,
    ) -> Result<(), BlockError> {
        let slept = self.block_until(deadline, |_| waiter.is_woken().then_some(()));
        match slept {
            // A wake-up that came while this thread gave up must not be lost: it counts.
            Err(_) if !self.kernel().futexes().cancel(waiter) => Ok(()),
            other => other,
        }
    }

    pub(crate) fn futex_wake(
        &self,
        addr: UserAddr,
        max: u32,
        bitset: u32,
        is_private: bool,
    ) -> Result<usize, Errno> {
        if bitset == 0 {
            return Err(Errno::EINVAL);
        }
        let key = self.mm().futex_key(addr, is_private)?;
        let woken = self.kernel().futexes().lock(key).take(key, limit(max).max(1), bitset);
        for waiter in &woken {
            waiter.wake();
        }
        Ok(woken.len())
    }

    fn futex_requeue(
        &self,
        from: UserAddr,
        to: UserAddr,
        max_wake: u32,
        max_move: u32,
        expected: Option<u32>,
        is_private: bool,
    ) -> SysResult {
        if max_wake.cast_signed() < 0 || max_move.cast_signed() < 0 {
            return Err(Errno::EINVAL.into());
        }
        let source = self.mm().futex_key(from, is_private)?;
        let target = self.mm().futex_key(to, is_private)?;
        if expected.is_some() {
            self.mm().load_u32(from)?;
        }
        let (woken, moved) = {
            let (mut first, mut second) = self.kernel().futexes().lock_two(source, target);
            if let Some(expected) = expected
                && self.mm().load_u32(from)? != expected
            {
                return Err(Errno::EAGAIN.into());
            }
            let woken = first.take(source, limit(max_wake), ANY);
            let moved = if source == target { Vec::new() } else { first.take(source, limit(max_move), ANY) };
            let bucket = second.as_mut().unwrap_or(&mut first);
            for waiter in &moved {
                *waiter.key.lock() = target;
                bucket.push(target, waiter.clone());
            }
            (woken, moved.len())
        };
        for waiter in &woken {
            waiter.wake();
        }
        Ok((woken.len() + moved) as u64)
    }

    fn futex_wake_op(
        &self,
        addr: UserAddr,
        addr2: UserAddr,
        max: u32,
        max2: u32,
        encoded: u32,
        is_private: bool,
    ) -> SysResult {
        let key = self.mm().futex_key(addr, is_private)?;
        let key2 = self.mm().futex_key(addr2, is_private)?;
        let op = WakeOp::decode(encoded)?;
        let mut old = self.mm().load_u32(addr2)?;
        let woken = {
            let (mut first, mut second) = self.kernel().futexes().lock_two(key, key2);
            while let Err(actual) = self.mm().compare_exchange_u32(addr2, old, op.apply(old))? {
                old = actual;
            }
            let mut woken = take_for_wake_op(&mut first, key, max);
            if op.compares(old) {
                let bucket = second.as_mut().unwrap_or(&mut first);
                woken.extend(take_for_wake_op(bucket, key2, max2));
            }
            woken
        };
        for waiter in &woken {
            waiter.wake();
        }
        Ok(woken.len() as u64)
    }
}

fn take_for_wake_op(
    bucket: &mut crate::kernel::futex::Bucket,
    key: FutexKey,
    max: u32,
) -> Vec<Arc<FutexWaiter>> {
    bucket.take(key, limit(max).max(1), ANY)
}

fn limit(n: u32) -> usize {
    // u32 fits usize on x86-64; a negative int means "none" for requeue, which the caller checked.
    n as usize
}

/// The operation of `FUTEX_WAKE_OP`.
struct WakeOp {
    op: u32,
    cmp: u32,
    op_arg: u32,
    cmp_arg: u32,
}

impl WakeOp {
    fn decode(encoded: u32) -> Result<Self, SysError> {
        let shifted = encoded >> 31 != 0;
        let (op, cmp) = (encoded >> 28 & 7, encoded >> 24 & 15);
        if op > 4 || cmp > 5 {
            return Err(Errno::ENOSYS.into());
        }
        // Both arguments are 12-bit signed numbers.
        let sign_extend = |n: u32| ((n << 20).cast_signed() >> 20).cast_unsigned();
        let mut op_arg = sign_extend(encoded >> 12 & 0xfff);
        if shifted {
            op_arg = 1 << (op_arg & 31);
        }
        Ok(Self { op, cmp, op_arg, cmp_arg: sign_extend(encoded & 0xfff) })
    }

    fn apply(&self, old: u32) -> u32 {
        match self.op {
            0 => self.op_arg,
            1 => old.wrapping_add(self.op_arg),
            2 => old | self.op_arg,
            3 => old & !self.op_arg,
            _ => old ^ self.op_arg,
        }
    }

    fn compares(&self, old: u32) -> bool {
        let (old, arg) = (old.cast_signed(), self.cmp_arg.cast_signed());
        match self.cmp {
            0 => old == arg,
            1 => old != arg,
            2 => old < arg,
            3 => old <= arg,
            4 => old > arg,
            _ => old >= arg,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(op: u32, cmp: u32, op_arg: u32, cmp_arg: u32) -> u32 {
        op << 28 | cmp << 24 | (op_arg & 0xfff) << 12 | (cmp_arg & 0xfff)
    }

    #[test]
    fn wake_op_table() {
        // (op, operand, old) -> new, as futex(2) lists the operations.
        let rows =
            [(0, 5, 9, 5), (1, 5, 9, 14), (2, 6, 9, 15), (3, 1, 9, 8), (4, 3, 9, 10), (8 | 2, 4, 1, 17)];
        for (op, arg, old, new) in rows {
            let decoded = WakeOp::decode(encode(op, 0, arg, 0)).unwrap();
            assert_eq!(decoded.apply(old), new, "op {op}");
        }
        let minus_one = WakeOp::decode(encode(1, 2, u32::MAX, u32::MAX)).unwrap();
        assert_eq!(minus_one.apply(7), 6);
        assert!(minus_one.compares((-2_i32).cast_unsigned()));
        assert!(!minus_one.compares(0));
        assert!(WakeOp::decode(encode(5, 0, 0, 0)).is_err());
    }
}
