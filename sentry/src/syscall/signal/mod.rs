//! Signals.

mod action;
mod kill;
mod mask;
mod queue;
pub(crate) mod sigaltstack;
mod wait;

pub(crate) use action::{sys_rt_sigaction, sys_rt_sigreturn};
pub(crate) use kill::{check_permission_in, sys_kill, sys_tgkill, sys_tkill};
pub(crate) use mask::{sys_rt_sigpending, sys_rt_sigprocmask};
pub(crate) use queue::{sys_pidfd_send_signal, sys_rt_sigqueueinfo, sys_rt_tgsigqueueinfo};
pub(crate) use sigaltstack::sys_sigaltstack;
pub(crate) use wait::{sys_pause, sys_restart_syscall, sys_rt_sigsuspend, sys_rt_sigtimedwait};

use sentry_abi::signal::SigSet;

use crate::errno::Errno;

/// The size of a signal set that the kernel accepts.
pub(crate) fn check_size(size: u64) -> Result<(), Errno> {
    if size == size_of::<SigSet>() as u64 { Ok(()) } else { Err(Errno::EINVAL) }
}
