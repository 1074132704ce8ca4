//! Stub processes: the host processes whose memory is guest memory.
//!
//! - A stub is forked from a small template that was forked from the sentry early. High in its address space, out of
//!   the guest's range, it has the stub text and a few pages of control memory; everything else is the guest's.
//! - One trusted thread per stub, the *system call thread*, performs host calls for the sentry. It runs only stub text,
//!   has no stack, keeps its state in registers, takes its commands from a page that is read-only in the stub and
//!   answers through the descriptor of a page that is read-only, too.
//! - Guest threads are further threads of the stub. Two seccomp programs guard them: calls are only let through from the
//!   stub text, and guest threads can make none from there that matter (futex wait and wake, `rt_sigreturn`,
//!   `sched_yield`, `exit`). A guest that loses its tracer or its handlers can do nothing either.
//!
//! Stubs share the sentry's descriptor table (`CLONE_FILES`), so that a donated host file can be mapped into a guest
//! without passing a descriptor first. That gives a guest nothing: it cannot make host system calls, and what the
//! system call thread executes cannot be written from inside the stub.
//!
//! What a hostile guest can do to the stub text and its pages ends in its own death or delay: forge a signal frame, jump
//! into the text, scribble over its thread areas, never answer.

mod clock;
pub(crate) mod command_page;
pub(crate) mod control;
mod filter;
pub(crate) mod hand_over;
pub(crate) mod layout;
pub(crate) mod mapping;
pub(crate) mod process;
mod read_only;
mod template;
pub(crate) mod text;

pub(crate) use clock::ThreadClock;
pub(crate) use layout::{GUEST_END, GUEST_START};
pub(crate) use process::StubProcess;
pub(crate) use template::{Signals, Template};

/// The signal that stops a running guest thread. Guests never see it: their signals are the sentry's business.
pub(crate) const INTERRUPT_SIGNAL: i32 = libc::SIGURG;
