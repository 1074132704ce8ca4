//! The guest's own system call filters (`seccomp(2)`).

mod allowed;
mod enter;
mod filter;
mod state;

pub(crate) use enter::{CallPlace, Verdict};
pub(crate) use filter::{Filter, FilterError, Logging};
pub(crate) use state::{Seccomp, SyncError};
