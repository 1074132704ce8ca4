//! The first page of a thread area: how a guest thread and its sentry thread take turns.
//!
//! `state` says whose turn it is: RUN while guest code runs, REQUEST when the stub gave everything else in the page to
//! the sentry, RESPONSE when the sentry gave it back. The page is writable by the guest: the sentry copies what it
//! needs once and checks it, and never waits on it without a timeout.

/// `u32`; both sides sleep on it.
pub(crate) const STATE: u64 = 0;
/// `u32`: the signal that stopped the guest, or [`KIND_CALL`].
pub(crate) const KIND: u64 = 4;
/// `u64`: address of the `ucontext` that the kernel saved on the signal stack.
pub(crate) const FRAME: u64 = 8;
/// `u64`
pub(crate) const FS_BASE: u64 = 0x10;
/// `u64`
pub(crate) const GS_BASE: u64 = 0x18;

// Written by the sentry, on a cache line of its own.

/// `u32`: whether the sentry sleeps.
pub(crate) const SENTRY_WAITS: u64 = 0x40;
/// `u32`: the processor that the sentry's thread was last on.
pub(crate) const SENTRY_CPU: u64 = 0x44;
/// `u32`: how many TSC ticks the stub may spin while the sentry runs on another processor.
pub(crate) const SPIN_BUDGET: u64 = 0x48;
/// `u32`: what to do with the response.
pub(crate) const COMMAND: u64 = 0x4c;

// Written by the stub.

/// `u32`: whether the stub sleeps.
pub(crate) const STUB_WAITS: u64 = 0x80;
/// `u32`: the processor that the stub was last on.
pub(crate) const STUB_CPU: u64 = 0x84;

pub(crate) const STATE_RUN: u32 = 0;
pub(crate) const STATE_REQUEST: u32 = 1;
pub(crate) const STATE_RESPONSE: u32 = 2;

/// Go on in the guest.
pub(crate) const COMMAND_RESUME: u32 = 0;
/// End the host thread.
pub(crate) const COMMAND_EXIT: u32 = 1;
/// Only for a rewritten call: make a signal frame, so that everything can be read and set.
pub(crate) const COMMAND_TRAP: u32 = 2;

/// The guest stopped at a rewritten call site; its registers are below.
pub(crate) const KIND_CALL: u32 = 0x100;

/// `u32`: set by the handler when an interrupt came during a rewritten call.
pub(crate) const INTERRUPTED: u64 = 0x88;

// Read by rewritten call sites through `gs`.

/// `u64`: address of the entry for rewritten calls.
pub(crate) const CALL_ENTRY: u64 = 0xa0;
// The registers of a rewritten call.

pub(crate) const RAX: u64 = 0xc0;
pub(crate) const RBX: u64 = 0xc8;
pub(crate) const RDI: u64 = 0xd0;
pub(crate) const RSI: u64 = 0xd8;
pub(crate) const RDX: u64 = 0xe0;
pub(crate) const RBP: u64 = 0xe8;
pub(crate) const RSP: u64 = 0xf0;
pub(crate) const R8: u64 = 0xf8;
pub(crate) const R9: u64 = 0x100;
pub(crate) const R10: u64 = 0x108;
pub(crate) const R12: u64 = 0x110;
pub(crate) const R13: u64 = 0x118;
pub(crate) const R14: u64 = 0x120;
pub(crate) const R15: u64 = 0x128;
pub(crate) const RIP: u64 = 0x130;
/// `u32`: the overflow flag in bit 0, the other status flags in bits 8 to 15 as in `lahf`.
pub(crate) const FLAGS: u64 = 0x138;

// Answers that rewritten call sites read through `gs`. The sentry writes them; a guest that does fools only itself.

/// `u32`: what `getpid(2)` returns, or [`UNPUBLISHED`].
pub(crate) const PID: u64 = 0x140;
/// `u32`: what `gettid(2)` returns, likewise.
pub(crate) const TID: u64 = 0x144;
/// [`ID_NUMBERS`] times `u32`: what the calls from [`FIRST_ID`] on return, likewise.
pub(crate) const IDS: u64 = 0x148;
/// `getuid(2)`, the first of the calls that user and group ids are read with, which are close together.
pub(crate) const FIRST_ID: libc::c_long = libc::SYS_getuid;
/// Up to `getegid(2)`. Those between that return other things are never published.
pub(crate) const ID_NUMBERS: u64 = (libc::SYS_getegid - FIRST_ID + 1).cast_unsigned();
/// The sentry is to be asked. No process, user or group has this id (`chown(2)`: it means no change).
pub(crate) const UNPUBLISHED: u32 = u32::MAX;

/// Where the answer to one of the calls that return a user or group id is.
pub(crate) const fn id_of(number: libc::c_long) -> u64 {
    IDS + 4 * (number - FIRST_ID).cast_unsigned()
}

/// Offset of `rip` in the kernel's `struct ucontext`.
pub(crate) const UCONTEXT_RIP: u64 = 168;
