//! Stacks and their time.

use std::collections::HashMap;
use std::sync::Arc;

use libc::c_int;
use netstack::time::Instant;
use netstack::{Driver, NicId, Stack};
use parking_lot::Mutex;

use crate::descriptor::Descriptors;
use crate::errno::Errno;
use crate::frame::Outgoing;
use crate::interface::Runner;

/// A TCP/IP stack with its sockets.
///
/// Made by `ns_stack_new`, ended by `ns_stack_free`.
pub struct ns_stack {
    pub(crate) stack: Stack,
    pub(crate) sockets: Descriptors,
    pub(crate) channels: Mutex<HashMap<NicId, Arc<Outgoing>>>,
    /// Who runs the timers.
    pub(crate) runner: Mutex<Runner>,
    /// Time moves by `ns_stack_advance_to`, and nothing waits.
    pub(crate) is_manual: bool,
}

/// How to make a stack. All zeros is a stack with a real clock and loopback.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ns_config {
    /// Time moves by `ns_stack_advance_to` only, and no call waits.
    pub manual_clock: bool,
    /// Secrets (initial sequence numbers, ports) follow from `seed`: for tests that must repeat.
    pub deterministic: bool,
    /// See `deterministic`.
    pub seed: u64,
    /// No loopback interface.
    pub without_loopback: bool,
}

impl ns_stack {
    /// The handle behind a C pointer.
    ///
    /// # Safety
    /// `stack` is null or came from [`ns_stack_new`] and was not freed, and stays so for `'a`.
    pub(crate) unsafe fn from_raw<'a>(stack: *const Self) -> Result<&'a Self, Errno> {
        // SAFETY: the caller says that a pointer that is not null is valid, and only shared references are ever made.
        unsafe { stack.as_ref() }.ok_or(Errno(libc::EFAULT))
    }
}

/// Makes a stack; `config` may be null. Null if the operating system gives no thread for the timers.
///
/// # Safety
/// `config` is null or points to a configuration.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_stack_new(config: *const ns_config) -> *mut ns_stack {
    // SAFETY: the caller says that it is null or valid; it is copied at once.
    let config = unsafe { config.as_ref() }.copied().unwrap_or_default();
    let ns_config { manual_clock, deterministic, seed, without_loopback } = config;
    let mut builder = Stack::builder();
    if manual_clock {
        builder = builder.manual_clock();
    }
    if deterministic {
        builder = builder.deterministic(seed);
    }
    if without_loopback {
        builder = builder.without_loopback();
    }
    let stack = builder.build();
    let runner = if manual_clock {
        Runner::Manual
    } else {
        let Ok(driver) = Driver::start(&stack) else { return std::ptr::null_mut() };
        Runner::Timers { _driver: driver }
    };
    let handle = ns_stack {
        stack,
        sockets: Descriptors::default(),
        channels: Mutex::default(),
        runner: Mutex::new(runner),
        is_manual: manual_clock,
    };
    Box::into_raw(Box::new(handle))
}

/// Ends a stack: closes its sockets, stops its threads and frees it. Null is ignored.
///
/// # Safety
/// `stack` came from `ns_stack_new`, was not freed yet, and no other call on it is under way or follows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_stack_free(stack: *mut ns_stack) {
    if !stack.is_null() {
        // SAFETY: the caller hands over the only pointer that is in use; it was made by `Box::into_raw`.
        drop(unsafe { Box::from_raw(stack) });
    }
}

/// The stack's time in nanoseconds since an origin of its own; zero when a stack with a manual clock is made.
///
/// # Safety
/// `stack` is a valid stack.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_stack_now(stack: *const ns_stack) -> u64 {
    // SAFETY: as required of the caller.
    unsafe { ns_stack::from_raw(stack) }.map_or(0, |handle| handle.stack.now().as_nanos())
}

/// When the next timer is due, on the scale of `ns_stack_now`; `UINT64_MAX` if none is set.
///
/// # Safety
/// `stack` is a valid stack.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_stack_next_deadline(stack: *const ns_stack) -> u64 {
    // SAFETY: as required of the caller.
    let deadline = unsafe { ns_stack::from_raw(stack) }.ok().and_then(|handle| handle.stack.next_deadline());
    deadline.map_or(u64::MAX, Instant::as_nanos)
}

/// Moves a manual clock forward, running each timer on the way. `-EINVAL` if the clock is real; earlier times are ignored.
///
/// # Safety
/// `stack` is a valid stack.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_stack_advance_to(stack: *const ns_stack, nanoseconds: u64) -> c_int {
    // SAFETY: as required of the caller.
    match unsafe { ns_stack::from_raw(stack) } {
        Err(Errno(number)) => -number,
        Ok(handle) if !handle.is_manual => -libc::EINVAL,
        Ok(handle) => {
            handle.stack.advance_to(Instant::from_nanos(nanoseconds));
            0
        }
    }
}
