//! Who is to be told of an event, and how (`sigevent(3type)`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct sigevent`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigEvent {
    /// What the signal carries (`sigev_value`).
    pub value: u64,
    /// The signal.
    pub signo: i32,
    /// One of the constants below.
    pub notify: i32,
    /// The thread, with [`SIGEV_THREAD_ID`].
    pub tid: i32,
    /// Of the union's other members.
    pub pad: [i32; 11],
}

/// A signal to the process.
pub const SIGEV_SIGNAL: i32 = 0;
/// Nobody is told.
pub const SIGEV_NONE: i32 = 1;
/// The C library starts a thread.
pub const SIGEV_THREAD: i32 = 2;
/// A signal to one thread.
pub const SIGEV_THREAD_ID: i32 = 4;
