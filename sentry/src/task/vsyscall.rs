//! The legacy vsyscall page at a fixed address above the guest's range (`vdso(7)`).

use sentry_abi::syscall::nr;
use sentry_platform::{Access, Fault, Regs};

const PAGE: u64 = 0xffff_ffff_ff60_0000;

/// The system call at an entry of the page.
pub(crate) fn number(rip: u64) -> Option<u64> {
    match rip {
        PAGE => Some(nr::GETTIMEOFDAY),
        0xffff_ffff_ff60_0400 => Some(nr::TIME),
        0xffff_ffff_ff60_0800 => Some(nr::GETCPU),
        _ => None,
    }
}

/// True where the fault is a call of an entry.
pub(crate) fn is_call(regs: &Regs, fault: &Fault) -> bool {
    fault.addr == regs.rip
        && matches!(fault.access, None | Some(Access::Execute))
        && number(regs.rip).is_some()
}
