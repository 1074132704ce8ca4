//! `seccomp(2)`: operations, flags, answers of filters, what filters look at.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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
    pub const NEW_LISTENER: u64 = 8;
    pub const TSYNC_ESRCH: u64 = 16;
    pub const WAIT_KILLABLE_RECV: u64 = 32;
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
    pub const USER_NOTIF: u32 = 0x7fc0_0000;
    pub const LOG: u32 = 0x7ffc_0000;
    pub const ALLOW: u32 = 0x7fff_0000;
    /// What of an answer says what to do.
    pub const ACTION_FULL: u32 = 0xffff_0000;
    /// What of it goes with that.
    pub const DATA: u32 = 0x0000_ffff;
}

/// Requests to a listener (`SECCOMP_IOCTL_NOTIF_*`, seccomp_unotify(2)).
#[allow(missing_docs, reason = "the names are those of seccomp_unotify(2)")]
pub mod notify_ioctl {
    pub const RECV: u32 = 0xc050_2100;
    pub const SEND: u32 = 0xc018_2101;
    pub const ID_VALID: u32 = 0x4008_2102;
    /// As programs before Linux 5.17 have it.
    pub const ID_VALID_WRONG_DIR: u32 = 0x8008_2102;
    pub const ADDFD: u32 = 0x4018_2103;
    pub const SET_FLAGS: u32 = 0x4008_2104;
    /// Flag of `SET_FLAGS`.
    pub const SYNC_WAKE_UP: u64 = 1;
}

/// Flags of answers (`SECCOMP_USER_NOTIF_FLAG_*`).
pub mod response {
    /// The call is made.
    pub const CONTINUE: u32 = 1;
}

/// Flags of descriptors for callers (`SECCOMP_ADDFD_FLAG_*`).
pub mod addfd {
    /// At a certain number.
    pub const SETFD: u32 = 1;
    /// The number is the answer, too.
    pub const SEND: u32 = 2;
}

/// `struct seccomp_notif`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Notification {
    /// Names the call.
    pub id: u64,
    /// The thread.
    pub pid: u32,
    /// None are defined.
    pub flags: u32,
    /// The call as its filter sees it.
    pub data: [u32; DATA_LEN / 4],
}

/// `struct seccomp_notif_resp`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NotifResponse {
    /// Names the call.
    pub id: u64,
    /// What it returns.
    pub value: i64,
    /// A negative errno instead.
    pub error: i32,
    /// [`response`].
    pub flags: u32,
}

/// `struct seccomp_notif_addfd`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NotifAddFd {
    /// Names the call.
    pub id: u64,
    /// [`addfd`].
    pub flags: u32,
    /// The listener's descriptor.
    pub source: u32,
    /// The caller's, with `SETFD`.
    pub new: u32,
    /// `O_CLOEXEC`.
    pub new_flags: u32,
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
