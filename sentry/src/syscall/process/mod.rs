//! Tasks, identities, limits, scheduling.

mod capability;
mod clone;
mod exec;
mod exit;
mod identity;
mod job;
mod limit;
mod membarrier;
mod pidfd;
mod prctl;
mod ptrace;
mod random;
mod rseq;
mod scheduling;
mod seccomp;
mod setns;
mod system;
mod unshare;
mod wait;

pub(crate) use capability::{sys_capget, sys_capset};
pub(crate) use clone::{sys_clone, sys_clone3, sys_fork, sys_set_tid_address, sys_vfork};
pub(crate) use exec::{sys_execve, sys_execveat};
pub(crate) use exit::{sys_exit, sys_exit_group};
pub(crate) use identity::{
    sys_getegid, sys_geteuid, sys_getgid, sys_getgroups, sys_getresgid, sys_getresuid, sys_getuid,
    sys_setfsgid, sys_setfsuid, sys_setgid, sys_setgroups, sys_setregid, sys_setresgid, sys_setresuid,
    sys_setreuid, sys_setuid,
};
pub(crate) use job::{
    sys_getpgid, sys_getpgrp, sys_getpid, sys_getppid, sys_getsid, sys_gettid, sys_setpgid, sys_setsid,
};
pub(crate) use limit::{sys_getrlimit, sys_getrusage, sys_prlimit64, sys_setrlimit};
pub(crate) use membarrier::sys_membarrier;
pub(crate) use pidfd::{sys_pidfd_getfd, sys_pidfd_open};
pub(crate) use prctl::{sys_arch_prctl, sys_prctl};
pub(crate) use ptrace::sys_ptrace;
pub(crate) use random::sys_getrandom;
pub(crate) use rseq::sys_rseq;
pub(crate) use scheduling::{
    sys_getcpu, sys_getpriority, sys_ioprio_get, sys_ioprio_set, sys_sched_get_priority_max,
    sys_sched_get_priority_min, sys_sched_getaffinity, sys_sched_getattr, sys_sched_getparam,
    sys_sched_getscheduler, sys_sched_rr_get_interval, sys_sched_setaffinity, sys_sched_setattr,
    sys_sched_setparam, sys_sched_setscheduler, sys_sched_yield, sys_setpriority,
};
pub(crate) use seccomp::sys_seccomp;
pub(crate) use setns::sys_setns;
pub(crate) use system::{sys_personality, sys_setdomainname, sys_sethostname, sys_sysinfo, sys_uname};
pub(crate) use unshare::sys_unshare;
pub(crate) use wait::{sys_wait4, sys_waitid};
