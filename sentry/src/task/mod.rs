//! Guest threads: identity, state, the run loop, blocking.

mod current;

pub use current::CurrentTask;
