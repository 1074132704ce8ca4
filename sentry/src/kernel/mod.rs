//! The sandbox-wide kernel: clocks, processes, timers, futexes, host names.

mod clock;
mod container;
mod freezer;
pub(crate) mod futex;
pub(crate) mod id_map;
mod instance;
pub(crate) mod namespace;
mod pid_namespace;
mod report;
mod session;
mod timer;
mod tree;
pub(crate) mod user_namespace;
mod uts;
mod vdso_clock;

pub use clock::{Clocks, KTime};
pub use container::ContainerId;
pub use instance::{Kernel, KernelConfig};
pub use namespace::{CgroupNamespace, NamespaceBase, NamespaceKind, Namespaces};
pub use pid_namespace::PidNamespace;
pub use session::{Session, Terminal};
pub use timer::{TimerId, TimerTarget, Timers};
pub use tree::{Process, ProcessTree};
pub use user_namespace::{OVERFLOW_ID, UserNamespace};
pub use uts::{RELEASE, UtsNamespace, VERSION};
