//! Guest threads: identity, state, the run loop, blocking.

mod block;
mod cred;
mod current;
mod limit;
mod thread;
mod waiter;

pub use block::BlockError;
pub use cred::{Capabilities, Credentials, Gid, Uid};
pub use current::CurrentTask;
pub use limit::{Limit, Limits, Resource};
pub use thread::{Task, ThreadGroup, Tid};
pub use waiter::TaskWaiter;
