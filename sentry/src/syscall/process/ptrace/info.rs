//! What a traced thread stopped for, and its signals.

use sentry_abi::ptrace::{PeekSigInfo, SyscallInfo};
use sentry_abi::seccomp::AUDIT_ARCH_X86_64;
use sentry_abi::signal::{SigInfo, SigSet};
use zerocopy::IntoBytes;

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::syscall::process::ptrace::Traced;
use crate::task::trace::{Reason, Stop};

/// `PTRACE_PEEKSIGINFO_SHARED`.
const SHARED: u32 = 1;
/// The highest errno: results above its negative are errors.
const MAX_ERRNO: u64 = 4095;

impl Traced<'_> {
    pub(super) fn get_signal_info(&self, data: u64) -> SysResult {
        // A group stop of a thread that is not seized has none: so tracers tell it from a signal.
        let info = self.with_stop(|stop| stop.info)?.ok_or(Errno::EINVAL)?;
        self.tracer.mm().write_obj(UserAddr(data), &info)?;
        Ok(0)
    }

    pub(super) fn set_signal_info(&self, data: u64) -> SysResult {
        let given: SigInfo = self.tracer.mm().read_obj(UserAddr(data))?;
        self.with_stop(|stop| stop.info.replace(given).map(|_| ()).ok_or(Errno::EINVAL))??;
        Ok(0)
    }

    /// `PTRACE_PEEKSIGINFO`: pending signals, which stay there.
    pub(super) fn peek_signal_info(&self, addr: u64, data: u64) -> SysResult {
        let PeekSigInfo { off, flags, nr } = self.tracer.mm().read_obj(UserAddr(addr))?;
        if flags & !SHARED != 0 || nr < 0 {
            return Err(Errno::EINVAL.into());
        }
        let skip = usize::try_from(off).unwrap_or(usize::MAX);
        let count = usize::try_from(nr).unwrap_or(0);
        let infos = if flags & SHARED != 0 {
            self.target.thread_group().signals.lock().pending.queued(skip, count)
        } else {
            self.target.signals.lock().pending.queued(skip, count)
        };
        for (n, info) in (0..).zip(&infos) {
            let at = data.wrapping_add(n * size_of::<SigInfo>() as u64);
            self.tracer.mm().write_obj(UserAddr(at), info)?;
        }
        Ok(infos.len() as u64)
    }

    pub(super) fn get_signal_mask(&self, addr: u64, data: u64) -> SysResult {
        if addr != size_of::<SigSet>() as u64 {
            return Err(Errno::EINVAL.into());
        }
        self.tracer.mm().write_obj(UserAddr(data), &self.target.signal_mask())?;
        Ok(0)
    }

    pub(super) fn set_signal_mask(&self, addr: u64, data: u64) -> SysResult {
        if addr != size_of::<SigSet>() as u64 {
            return Err(Errno::EINVAL.into());
        }
        let mask: SigSet = self.tracer.mm().read_obj(UserAddr(data))?;
        self.target.set_signal_mask(mask);
        Ok(0)
    }

    pub(super) fn get_event_message(&self, data: u64) -> SysResult {
        let message = self.target.trace().lock().message;
        self.tracer.mm().write_obj(UserAddr(data), &message)?;
        Ok(0)
    }

    /// `PTRACE_GET_SYSCALL_INFO`: as much as fits into `size` bytes; returns how much there is.
    pub(super) fn get_call_info(&self, size: u64, data: u64) -> SysResult {
        let message = self.target.trace().lock().message;
        let (info, len) = self.with_stop(|stop| call_info(stop, message))?;
        let wanted = usize::try_from(size).unwrap_or(usize::MAX).min(len);
        self.tracer.mm().write_bytes(UserAddr(data), &info.as_bytes()[..wanted])?;
        Ok(len as u64)
    }
}

fn call_info(stop: &Stop, message: u64) -> (SyscallInfo, usize) {
    let regs = &stop.regs;
    let mut info = SyscallInfo {
        arch: AUDIT_ARCH_X86_64,
        instruction_pointer: regs.rip,
        stack_pointer: regs.rsp,
        ..SyscallInfo::default()
    };
    let (op, len) = match stop.reason {
        Reason::CallEntry | Reason::Filter => {
            info.words[0] = regs.orig_rax;
            info.words[1..].copy_from_slice(&regs.syscall_args());
            if stop.reason == Reason::CallEntry {
                SyscallInfo::ENTRY
            } else {
                info.ret_data = message;
                SyscallInfo::SECCOMP
            }
        }
        Reason::CallExit => {
            info.words[0] = regs.rax;
            info.words[1] = u64::from(regs.rax >= MAX_ERRNO.wrapping_neg());
            SyscallInfo::EXIT
        }
        Reason::Signal | Reason::Event | Reason::Group => SyscallInfo::NONE,
    };
    info.op = op;
    (info, len)
}
