//! The first page of a thread area: how a guest thread and its sentry thread take turns.
//!
//! `state` says whose turn it is: RUN while guest code runs, REQUEST when the stub gave everything else in the page to
//! the sentry, RESPONSE when the sentry gave it back. The page is writable by the guest: the sentry copies what it
//! needs once and checks it, and never waits on it without a timeout.

/// `u32`; both sides sleep on it.
pub(crate) const STATE: u64 = 0;
/// `u32`: the signal that stopped the guest.
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
