//! Why the guest stopped.

use crate::regs::Regs;

/// What [`crate::Context::switch`] returns with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A system call: `orig_rax` has the number, `rip` is behind the instruction. The sentry stores the result in `rax`
    /// and switches again.
    Syscall,
    /// A processor exception; `rip` is at the faulting instruction (behind it for a breakpoint).
    Fault(Fault),
    /// Somebody called [`crate::Interrupter::interrupt`].
    Interrupted,
    /// The host thread or process behind the context is gone. The guest process cannot continue.
    Died,
}

impl Event {
    /// What `int 0x80` or `sysenter` does on a kernel without support for 32-bit programs: a general protection fault
    /// at the instruction, behind which `regs` are.
    pub(crate) fn compatibility_call(regs: &mut Regs) -> Self {
        const SI_KERNEL: i32 = 0x80;
        regs.rip = regs.rip.wrapping_sub(2);
        regs.rax = regs.orig_rax;
        regs.orig_rax = u64::MAX;
        // The error code names the gate in the interrupt table (Intel SDM, volume 3, 6.13).
        let error_code = 0x80 << 3 | 2;
        let fault =
            Fault { signo: libc::SIGSEGV, code: SI_KERNEL, addr: 0, access: None, trapno: 13, error_code };
        Self::Fault(fault)
    }
}

/// A processor exception as the signal that Linux would raise for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// `SIGSEGV`, `SIGBUS`, `SIGFPE`, `SIGILL` or `SIGTRAP`.
    pub signo: i32,
    /// `si_code` of the host's signal.
    pub code: i32,
    /// `si_addr`: the address accessed, for `SIGSEGV` and `SIGBUS`; else that of the instruction.
    pub addr: u64,
    /// How `addr` was accessed, where the backend knows it. A fault whose access is unknown is taken for a read first.
    pub access: Option<Access>,
    /// The processor's exception number (`trapno` of a signal frame).
    pub trapno: u64,
    /// The page fault error code (`err` of a signal frame).
    pub error_code: u64,
}

impl Fault {
    /// Whether it is the trap behind an instruction that the trap flag of the registers asks for.
    #[must_use]
    pub fn is_step(&self) -> bool {
        const TRAP_TRACE: i32 = 2;
        self.signo == libc::SIGTRAP && self.code == TRAP_TRACE
    }
}

/// The kind of access that faulted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

impl Access {
    /// Reads the error code of a page fault: bit 1 is a write, bit 4 an instruction fetch (Intel SDM, volume 3, 4.7).
    #[must_use]
    pub fn from_error_code(code: u64) -> Self {
        if code & 0x10 != 0 {
            Self::Execute
        } else if code & 2 != 0 {
            Self::Write
        } else {
            Self::Read
        }
    }
}
