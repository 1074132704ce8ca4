//! The host system calls that a gateway keeps: sockets of the internet families, its link, time and memory.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use thiserror::Error;

/// Why the filter could not be put in force.
#[derive(Debug, Error)]
pub enum FilterError {
    /// It could not be made.
    #[error("make the system-call filter: {0}")]
    Make(#[from] BackendError),
    /// The host refused it.
    #[error("install the system-call filter: {0}")]
    Install(#[from] seccompiler::Error),
}

/// Confines the calling process, which has one thread and a finished [`Gateway`](crate::Gateway), for good: any other
/// system call kills it. Sets no_new_privs.
pub fn confine() -> Result<(), FilterError> {
    let filter =
        SeccompFilter::new(rules()?, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter_all_threads(&program)?;
    Ok(())
}

fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for number in SOCKETS.iter().chain(&PROCESS).chain(netstack_host_links::host_syscalls()) {
        rules.insert(*number, Vec::new());
    }
    let families = [libc::AF_INET, libc::AF_INET6];
    let family = |family: libc::c_int| argument(0, SeccompCmpOp::Eq, family);
    let families = families.into_iter().map(family).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_socket, families);
    // No executable memory, neither new nor by change.
    for number in [libc::SYS_mmap, libc::SYS_mprotect] {
        let mask = u64::from(libc::PROT_EXEC.cast_unsigned());
        rules.insert(number, vec![argument(2, SeccompCmpOp::MaskedEq(mask), 0)?]);
    }
    // Not blocking.
    rules.insert(libc::SYS_ioctl, vec![argument(1, SeccompCmpOp::Eq, FIONBIO)?]);
    let commands = [libc::F_GETFL, libc::F_SETFL, libc::F_GETFD, libc::F_SETFD];
    let commands = commands.into_iter().map(|command| argument(1, SeccompCmpOp::Eq, command));
    rules.insert(libc::SYS_fcntl, commands.collect::<Result<_, _>>()?);
    Ok(rules)
}

fn argument(index: u8, operator: SeccompCmpOp, value: libc::c_int) -> Result<SeccompRule, BackendError> {
    let value = u64::from(value.cast_unsigned());
    SeccompRule::new(vec![SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)?])
}

/// ioctl_tty(2) has it; the type of the constant differs between C libraries.
const FIONBIO: libc::c_int = 0x5421;

/// What it does with the host's sockets; socket(2) itself is checked.
const SOCKETS: [i64; 13] = [
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    libc::SYS_close,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
];

/// What its allocator, clock and end need.
const PROCESS: [i64; 14] = [
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_programs_are_out_of_reach() {
        let rules = rules().unwrap();
        for number in [
            libc::SYS_open,
            libc::SYS_openat,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_clone,
            libc::SYS_fork,
            libc::SYS_ptrace,
            libc::SYS_kill,
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_setns,
        ] {
            assert!(!rules.contains_key(&number), "{number}");
        }
        assert_eq!(rules[&libc::SYS_socket].len(), 2);
    }
}
