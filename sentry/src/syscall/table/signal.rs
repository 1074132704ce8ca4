//! Rows about signals.

use crate::syscall::signal as s;
use crate::syscall::table::{Syscall, row};

/// The rows of this family, ascending.
pub(crate) const SYSCALLS: &[Syscall] = &[
    row!(RT_SIGACTION, "rt_sigaction", [Signal, Ptr, Ptr, Uint], s::sys_rt_sigaction, Full),
    row!(RT_SIGPROCMASK, "rt_sigprocmask", [Int, Ptr, Ptr, Uint], s::sys_rt_sigprocmask, Full),
    row!(RT_SIGRETURN, "rt_sigreturn", [], s::sys_rt_sigreturn, Full),
    row!(PAUSE, "pause", [], s::sys_pause, Full),
    row!(KILL, "kill", [Int, Signal], s::sys_kill, Full),
    row!(RT_SIGPENDING, "rt_sigpending", [Ptr, Uint], s::sys_rt_sigpending, Full),
    row!(RT_SIGTIMEDWAIT, "rt_sigtimedwait", [Ptr, Ptr, Ptr, Uint], s::sys_rt_sigtimedwait, Full),
    row!(RT_SIGQUEUEINFO, "rt_sigqueueinfo", [Int, Signal, Ptr], s::sys_rt_sigqueueinfo, Full),
    row!(RT_SIGSUSPEND, "rt_sigsuspend", [Ptr, Uint], s::sys_rt_sigsuspend, Full),
    row!(SIGALTSTACK, "sigaltstack", [Ptr, Ptr], s::sys_sigaltstack, Full),
    row!(TKILL, "tkill", [Int, Signal], s::sys_tkill, Full),
    row!(RESTART_SYSCALL, "restart_syscall", [], s::sys_restart_syscall, Full),
    row!(TGKILL, "tgkill", [Int, Int, Signal], s::sys_tgkill, Full),
    row!(RT_TGSIGQUEUEINFO, "rt_tgsigqueueinfo", [Int, Int, Signal, Ptr], s::sys_rt_tgsigqueueinfo, Full),
    row!(PIDFD_SEND_SIGNAL, "pidfd_send_signal", [Fd, Signal, Ptr, Hex], s::sys_pidfd_send_signal, Full),
];
