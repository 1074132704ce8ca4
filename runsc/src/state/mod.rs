//! What is known about containers between one command and the next: a directory per container.

mod process_ref;
mod record;
mod status;
mod store;
mod time;

pub(crate) use process_ref::ProcessRef;
pub(crate) use record::{HostTraces, Record};
pub(crate) use status::{Event, IllegalTransition, Status};
pub(crate) use store::{Entry, StateError, Store};
pub(crate) use time::{now_secs, rfc3339};
