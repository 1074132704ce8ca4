//! `seccomp(2)`: operations, flags, answers of filters, what filters look at.

/// `seccomp(2)` operations and flags.
#[allow(missing_docs, reason = "the names are those of seccomp(2)")]
pub mod op {
    pub const SET_MODE_STRICT: u32 = 0;
    pub const SET_MODE_FILTER: u32 = 1;
    pub const GET_ACTION_AVAIL: u32 = 2;
    pub const GET_NOTIF_SIZES: u32 = 3;
}

/// Flags of `SECCOMP_SET_MODE_FILTER`.
#[allow(missing_docs, reason = "the names are those of seccomp(2)")]
pub mod flag {
    pub const TSYNC: u64 = 1;
    pub const LOG: u64 = 2;
    pub const SPEC_ALLOW: u64 = 4;
    pub const TSYNC_ESRCH: u64 = 16;
}

/// Modes, as `prctl(2)` and `/proc/PID/status` number them.
#[allow(missing_docs, reason = "the names are those of seccomp(2)")]
pub mod mode {
    pub const DISABLED: u8 = 0;
    pub const STRICT: u8 = 1;
    pub const FILTER: u8 = 2;
}

/// The answers of filters (`SECCOMP_RET_*`).
#[allow(missing_docs, reason = "the names are those of seccomp(2)")]
pub mod ret {
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    pub const KILL_THREAD: u32 = 0;
    pub const TRAP: u32 = 0x0003_0000;
    pub const ERRNO: u32 = 0x0005_0000;
    pub const TRACE: u32 = 0x7ff0_0000;
    pub const LOG: u32 = 0x7ffc_0000;
    pub const ALLOW: u32 = 0x7fff_0000;
    /// What of an answer says what to do.
    pub const ACTION_FULL: u32 = 0xffff_0000;
    /// What of it goes with that.
    pub const DATA: u32 = 0x0000_ffff;
}

/// `AUDIT_ARCH_X86_64`.
pub const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// `si_code` of the `SIGSYS` of a filter.
pub const SYS_SECCOMP: i32 = 1;
/// The bit of x32 system calls in `seccomp_data::nr`.
pub const X32_SYSCALL_BIT: u32 = 0x4000_0000;
/// The size of `struct seccomp_data`.
pub const DATA_LEN: usize = 64;
/// Offset of `nr`.
pub const DATA_NR: u32 = 0;
/// Offset of `arch`.
pub const DATA_ARCH: u32 = 4;
/// Offset of the low half of argument `n`; the high half follows.
#[must_use]
pub const fn data_arg(n: u32) -> u32 {
    16 + 8 * n
}

/// `struct seccomp_data` as words in the byte order of the machine.
#[must_use]
pub fn data(number: u32, ip: u64, args: [u64; 6]) -> [u32; DATA_LEN / 4] {
    // The halves of a long word, lower first.
    let halves = |word: u64| [(word & 0xffff_ffff) as u32, (word >> 32) as u32];
    let mut words = [0; DATA_LEN / 4];
    words[0] = number;
    words[1] = AUDIT_ARCH_X86_64;
    words[2..4].copy_from_slice(&halves(ip));
    for (n, arg) in args.into_iter().enumerate() {
        words[4 + 2 * n..6 + 2 * n].copy_from_slice(&halves(arg));
    }
    words
}
