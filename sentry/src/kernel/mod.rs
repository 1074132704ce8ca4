//! The sandbox-wide kernel: clocks, processes, timers, host names.

mod clock;
mod instance;

pub use clock::{Clocks, KTime};
pub use instance::Kernel;
