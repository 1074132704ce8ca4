//! The guest's own system call filters (`seccomp(2)`).

mod allowed;
mod enter;
mod filter;
mod listener;
mod state;

pub(crate) use enter::{CallPlace, Verdict};
pub(crate) use filter::{Decision, Filter, FilterError, Logging};
pub(crate) use listener::{Answer, Listener};
pub(crate) use state::{Seccomp, SyncError};
