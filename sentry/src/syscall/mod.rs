//! System calls: decoding, the table, dispatch.
//!
//! The rows of the table live in `table/`, one file per family; a row names the handler, what is supported and
//! what is missing. The handlers live in one file per call or natural pair under the family's folder.

mod args;
mod dispatch;
pub(crate) mod file;
mod ipc;
mod memory;
pub(crate) mod net;
mod process;
pub(crate) mod signal;
pub mod table;
mod time;

pub use args::Args;
pub use dispatch::dispatch;
pub use table::{Arg, Support, Syscall};
