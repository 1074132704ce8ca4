//! `ptrace(2)` requests with types.

use std::io;
use std::ptr;

use crate::regs::Regs;

/// A host thread that may be traced by the calling thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tid(pub(super) i32);

/// What `waitpid(2)` said of a tracee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Stopped at a system call that will not be performed.
    Syscall,
    /// Stopped before the delivery of this signal.
    Signal(i32),
    /// Stopped by `PTRACE_INTERRUPT` or a group stop.
    Event,
    /// Gone.
    Dead,
}

const NT_X86_XSTATE: i32 = 0x202;

impl Tid {
    /// Starts tracing without stopping the thread.
    pub(super) fn seize(self) -> io::Result<()> {
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        self.request(libc::PTRACE_SEIZE, 0, u64::from(options.cast_unsigned()))
    }

    /// Stops a seized thread; the stop is waited for with [`Tid::wait`].
    pub(super) fn interrupt(self) -> io::Result<()> {
        self.request(libc::PTRACE_INTERRUPT, 0, 0)
    }

    /// Runs until the next system call, without performing any.
    pub(super) fn sysemu(self) -> io::Result<()> {
        self.request(libc::PTRACE_SYSEMU, 0, 0)
    }

    /// Runs on as if it were not traced, until the next stop.
    pub(super) fn cont(self) -> io::Result<()> {
        self.request(libc::PTRACE_CONT, 0, 0)
    }

    /// The `AUDIT_ARCH` of the call at which the thread is stopped: `int 0x80` and `sysenter` stop it, too.
    pub(super) fn syscall_arch(self) -> io::Result<u32> {
        // SAFETY: an all-zero ptrace_syscall_info is valid.
        let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
        let len = size_of::<libc::ptrace_syscall_info>();
        // SAFETY: `info` is valid for writing its length.
        let done = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, self.0, len, &raw mut info) };
        if done == -1 { Err(io::Error::last_os_error()) } else { Ok(info.arch) }
    }

    /// Stops tracing and lets the thread run on its own.
    pub(super) fn detach(self) -> io::Result<()> {
        self.request(libc::PTRACE_DETACH, 0, 0)
    }

    fn request(self, request: libc::c_uint, addr: u64, data: u64) -> io::Result<()> {
        // SAFETY: these requests take numbers, no pointers.
        let done = unsafe { libc::ptrace(request, self.0, addr, data) };
        if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits for the next stop.
    pub(super) fn wait(self) -> Stop {
        let mut status = 0;
        loop {
            // SAFETY: `status` is valid for writing.
            let pid = unsafe { libc::waitpid(self.0, &raw mut status, libc::__WALL) };
            if pid == self.0 {
                break;
            }
            if io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                return Stop::Dead;
            }
        }
        if !libc::WIFSTOPPED(status) {
            return Stop::Dead;
        }
        if status >> 16 != 0 {
            return Stop::Event;
        }
        match libc::WSTOPSIG(status) {
            s if s == libc::SIGTRAP | 0x80 => Stop::Syscall,
            s => Stop::Signal(s),
        }
    }

    /// Reads the registers of a stopped thread.
    pub(super) fn registers(self) -> io::Result<libc::user_regs_struct> {
        // SAFETY: an all-zero user_regs_struct is valid.
        let mut regs: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: `regs` is valid for writing.
        let done = unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.0, 0, &raw mut regs) };
        if done == -1 { Err(io::Error::last_os_error()) } else { Ok(regs) }
    }

    /// Writes the registers of a stopped thread.
    pub(super) fn set_registers(self, regs: &libc::user_regs_struct) -> io::Result<()> {
        // SAFETY: `regs` is valid for reading.
        let done = unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.0, 0, ptr::from_ref(regs)) };
        if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The signal that a thread in a signal-delivery-stop is about to get.
    pub(super) fn siginfo(self) -> io::Result<libc::siginfo_t> {
        // SAFETY: an all-zero siginfo_t is valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is valid for writing.
        let done = unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, self.0, 0, &raw mut info) };
        if done == -1 { Err(io::Error::last_os_error()) } else { Ok(info) }
    }

    /// The vector state of a stopped thread, as an XSAVE area.
    pub(super) fn xsave(self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 16 * 1024];
        let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: the iovec describes `bytes`; the kernel stores the length it wrote.
        let done = unsafe { libc::ptrace(libc::PTRACE_GETREGSET, self.0, NT_X86_XSTATE, &raw mut iov) };
        if done == -1 {
            return Err(io::Error::last_os_error());
        }
        bytes.truncate(iov.iov_len);
        Ok(bytes)
    }

    /// Replaces the vector state of a stopped thread. The kernel wants the full size of the area.
    pub(super) fn set_xsave(self, bytes: &[u8]) -> io::Result<()> {
        let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: the iovec describes `bytes`, which the kernel only reads.
        let done = unsafe { libc::ptrace(libc::PTRACE_SETREGSET, self.0, NT_X86_XSTATE, &raw mut iov) };
        if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Moves guest registers into the host's structure; the selectors stay as they are.
pub(super) fn store(regs: &Regs, to: &mut libc::user_regs_struct) {
    let Regs { r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, .. } = *regs;
    let Regs { orig_rax: _, rip, rflags, rsp, fs_base, gs_base, .. } = *regs;
    (to.r15, to.r14, to.r13, to.r12, to.rbp, to.rbx, to.r11, to.r10) =
        (r15, r14, r13, r12, rbp, rbx, r11, r10);
    (to.r9, to.r8, to.rax, to.rcx, to.rdx, to.rsi, to.rdi) = (r9, r8, rax, rcx, rdx, rsi, rdi);
    (to.rip, to.eflags, to.rsp, to.fs_base, to.gs_base) = (rip, rflags, rsp, fs_base, gs_base);
    // Not in a system call: the kernel must not restart one.
    to.orig_rax = u64::MAX;
}

/// Moves the host's structure into guest registers.
pub(super) fn load(from: &libc::user_regs_struct, regs: &mut Regs) {
    *regs = Regs {
        r15: from.r15,
        r14: from.r14,
        r13: from.r13,
        r12: from.r12,
        rbp: from.rbp,
        rbx: from.rbx,
        r11: from.r11,
        r10: from.r10,
        r9: from.r9,
        r8: from.r8,
        rax: from.rax,
        rcx: from.rcx,
        rdx: from.rdx,
        rsi: from.rsi,
        rdi: from.rdi,
        orig_rax: from.orig_rax,
        rip: from.rip,
        rflags: from.eflags,
        rsp: from.rsp,
        fs_base: from.fs_base,
        gs_base: from.gs_base,
    };
}
