//! Time structures (`clock_gettime(2)`, `getitimer(2)`, `timer_create(2)`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Errno;

const NS: u64 = 1_000_000_000;

/// `struct timespec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timespec {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds, `0..1_000_000_000` when valid.
    pub nsec: i64,
}

impl Timespec {
    /// From nanoseconds.
    #[must_use]
    pub fn from_ns(ns: u64) -> Self {
        Self { sec: (ns / NS).cast_signed(), nsec: (ns % NS).cast_signed() }
    }

    /// As nanoseconds, saturating.
    ///
    /// # Errors
    /// `EINVAL` for negative seconds or nanoseconds out of range.
    pub fn to_ns(self) -> Result<u64, Errno> {
        let sec = u64::try_from(self.sec).map_err(|_| Errno::EINVAL)?;
        let nsec = u64::try_from(self.nsec).ok().filter(|n| *n < NS).ok_or(Errno::EINVAL)?;
        Ok(sec.saturating_mul(NS).saturating_add(nsec))
    }
}

/// `struct timeval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timeval {
    /// Seconds.
    pub sec: i64,
    /// Microseconds, `0..1_000_000` when valid.
    pub usec: i64,
}

/// `struct timex` (`adjtimex(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of linux/timex.h")]
pub struct Timex {
    pub modes: u32,
    pub pad0: u32,
    pub offset: i64,
    pub freq: i64,
    pub maxerror: i64,
    pub esterror: i64,
    pub status: i32,
    pub pad1: u32,
    pub constant: i64,
    pub precision: i64,
    pub tolerance: i64,
    pub time: Timeval,
    pub tick: i64,
    pub ppsfreq: i64,
    pub jitter: i64,
    pub shift: i32,
    pub pad2: u32,
    pub stabil: i64,
    pub jitcnt: i64,
    pub calcnt: i64,
    pub errcnt: i64,
    pub stbcnt: i64,
    pub tai: i32,
    pub reserved: [u32; 11],
}

const _: () = assert!(size_of::<Timex>() == 208);

impl Timeval {
    /// From nanoseconds, truncating.
    #[must_use]
    pub fn from_ns(ns: u64) -> Self {
        Self { sec: (ns / NS).cast_signed(), usec: (ns % NS / 1000).cast_signed() }
    }

    /// As nanoseconds, saturating.
    ///
    /// # Errors
    /// `EINVAL` for negative seconds or microseconds out of range.
    pub fn to_ns(self) -> Result<u64, Errno> {
        let sec = u64::try_from(self.sec).map_err(|_| Errno::EINVAL)?;
        let usec = u64::try_from(self.usec).ok().filter(|n| *n < 1_000_000).ok_or(Errno::EINVAL)?;
        Ok(sec.saturating_mul(NS).saturating_add(usec * 1000))
    }
}

/// `struct itimerspec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Itimerspec {
    /// The period.
    pub interval: Timespec,
    /// The first expiry.
    pub value: Timespec,
}

/// `struct itimerval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Itimerval {
    /// The period.
    pub interval: Timeval,
    /// The time left to the next expiry.
    pub value: Timeval,
}

/// Clock ids (`clock_getres(2)`).
#[allow(missing_docs, reason = "the names are those of clock_getres(2)")]
pub mod clock {
    pub const REALTIME: i32 = 0;
    pub const MONOTONIC: i32 = 1;
    pub const PROCESS_CPUTIME_ID: i32 = 2;
    pub const THREAD_CPUTIME_ID: i32 = 3;
    pub const MONOTONIC_RAW: i32 = 4;
    pub const REALTIME_COARSE: i32 = 5;
    pub const MONOTONIC_COARSE: i32 = 6;
    pub const BOOTTIME: i32 = 7;
    pub const REALTIME_ALARM: i32 = 8;
    pub const BOOTTIME_ALARM: i32 = 9;
    pub const TAI: i32 = 11;
}

/// `TIMER_ABSTIME`.
pub const TIMER_ABSTIME: i32 = 1;
