//! Signals: dispositions, pending queues, sending, job control, delivery (`signal(7)`).
//!
//! Lock order: `Kernel::tree` -> `ThreadGroup::signals` -> `Task::signals` -> `SigHandlers`.

mod action;
mod deliver;
mod frame;
mod group;
mod pending;
mod send;
mod thread;

pub use action::{DefaultAction, SigHandlers};
pub(crate) use deliver::Delivery;
pub(crate) use group::{GroupSignals, JobState};
pub use pending::Pending;
pub(crate) use send::{Posted, signal_members};
pub use thread::TaskSignals;
