//! `ptrace(2)`: requests, options, events, register structures.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Requests.
#[allow(missing_docs, reason = "the names are those of ptrace(2)")]
pub mod request {
    pub const TRACEME: u64 = 0;
    pub const PEEKTEXT: u64 = 1;
    pub const PEEKDATA: u64 = 2;
    pub const PEEKUSER: u64 = 3;
    pub const POKETEXT: u64 = 4;
    pub const POKEDATA: u64 = 5;
    pub const POKEUSER: u64 = 6;
    pub const CONT: u64 = 7;
    pub const KILL: u64 = 8;
    pub const SINGLESTEP: u64 = 9;
    pub const GETREGS: u64 = 12;
    pub const SETREGS: u64 = 13;
    pub const GETFPREGS: u64 = 14;
    pub const SETFPREGS: u64 = 15;
    pub const ATTACH: u64 = 16;
    pub const DETACH: u64 = 17;
    pub const OLDSETOPTIONS: u64 = 21;
    pub const SYSCALL: u64 = 24;
    pub const ARCH_PRCTL: u64 = 30;
    pub const SYSEMU: u64 = 31;
    pub const SYSEMU_SINGLESTEP: u64 = 32;
    pub const SETOPTIONS: u64 = 0x4200;
    pub const GETEVENTMSG: u64 = 0x4201;
    pub const GETSIGINFO: u64 = 0x4202;
    pub const SETSIGINFO: u64 = 0x4203;
    pub const GETREGSET: u64 = 0x4204;
    pub const SETREGSET: u64 = 0x4205;
    pub const SEIZE: u64 = 0x4206;
    pub const INTERRUPT: u64 = 0x4207;
    pub const LISTEN: u64 = 0x4208;
    pub const PEEKSIGINFO: u64 = 0x4209;
    pub const GETSIGMASK: u64 = 0x420a;
    pub const SETSIGMASK: u64 = 0x420b;
    pub const GET_SYSCALL_INFO: u64 = 0x420e;
}

/// `PTRACE_EVENT_*`. Option bit `n` asks for event `n`, except for the last one, which seized threads always report.
#[allow(missing_docs, reason = "the names are those of ptrace(2)")]
pub mod event {
    pub const FORK: i32 = 1;
    pub const VFORK: i32 = 2;
    pub const CLONE: i32 = 3;
    pub const EXEC: i32 = 4;
    pub const VFORK_DONE: i32 = 5;
    pub const EXIT: i32 = 6;
    pub const SECCOMP: i32 = 7;
    pub const STOP: i32 = 128;
}

/// `PTRACE_O_*`.
#[allow(missing_docs, reason = "the names are those of ptrace(2)")]
pub mod option {
    pub const TRACESYSGOOD: u64 = 1;
    pub const EXITKILL: u64 = 1 << 20;
    /// All that there are, but for `PTRACE_O_SUSPEND_SECCOMP`.
    pub const ALL: u64 = 0xff | EXITKILL;
}

/// Register sets (`<elf.h>`).
#[allow(missing_docs, reason = "the names are those of elf.h")]
pub mod regset {
    pub const NT_PRSTATUS: u64 = 1;
    pub const NT_PRFPREG: u64 = 2;
    pub const NT_X86_XSTATE: u64 = 0x202;
}

/// `struct user_regs_struct`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of sys/user.h")]
pub struct UserRegs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// `sizeof(struct user)`: where `PTRACE_PEEKUSER` ends.
pub const USER_LEN: u64 = 912;
/// Offset of `u_debugreg` in it.
pub const USER_DEBUG_REGISTERS: u64 = 848;

/// `struct ptrace_syscall_info`, the longest of its forms.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SyscallInfo {
    /// `PTRACE_SYSCALL_INFO_*`.
    pub op: u8,
    /// Zero.
    pub pad: [u8; 3],
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// `rip`
    pub instruction_pointer: u64,
    /// `rsp`
    pub stack_pointer: u64,
    /// Entry and seccomp: number and six arguments. Exit: the result, and in the lowest byte of the next word whether it
    /// is an error.
    pub words: [u64; 7],
    /// Seccomp: the filter's data.
    pub ret_data: u64,
}

impl SyscallInfo {
    /// Not at a call.
    pub const NONE: (u8, usize) = (0, 24);
    /// At the entry, with the length of the form.
    pub const ENTRY: (u8, usize) = (1, 80);
    /// At the exit.
    pub const EXIT: (u8, usize) = (2, 33);
    /// At a filter's stop.
    pub const SECCOMP: (u8, usize) = (3, 84);
}

/// `struct ptrace_peeksiginfo_args`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PeekSigInfo {
    /// From which one on.
    pub off: u64,
    /// `PTRACE_PEEKSIGINFO_SHARED`.
    pub flags: u32,
    /// How many.
    pub nr: i32,
}
