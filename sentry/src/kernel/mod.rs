//! The sandbox-wide kernel: clocks, processes, timers, futexes, host names.

mod clock;
mod freezer;
pub(crate) mod futex;
mod instance;
mod report;
mod session;
mod timer;
mod tree;
mod uts;
mod vdso_clock;

pub use clock::{Clocks, KTime};
pub use instance::{Kernel, KernelConfig};
pub use session::{Session, Terminal};
pub use timer::{TimerId, TimerTarget, Timers};
pub use tree::{Process, ProcessTree};
pub use uts::{RELEASE, UtsNamespace, VERSION};
