//! Debugging by other guests (`ptrace(2)`): who traces whom, stops, what tracers may do.

mod access;
mod call;
mod link;
mod state;
mod stop;
mod watch;

pub(crate) use access::{AccessMode, check_access};
pub(crate) use link::{LinkError, Tracee};
pub(crate) use state::{LinkKind, Reason, Resume, ResumeMode, Stop, Trace, TraceOptions};
pub(crate) use watch::{DebugRegisters, Watch};
