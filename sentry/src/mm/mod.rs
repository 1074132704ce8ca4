//! Guest memory: what is mapped (VMAs), what is behind it (PMAs), and copying in and out.

mod addr;
mod advise;
mod ahead;
mod detach;
mod fault;
mod forced;
mod fork;
mod frames;
mod layout;
mod manager;
mod map;
mod pma;
mod range_map;
mod remap;
mod report;
mod rewrite;
mod shared;
mod shrink;
mod user_io;
mod vma;

pub use addr::UserAddr;
pub use fault::FaultError;
pub(crate) use forced::Debugged;
pub use fork::Writers;
pub use frames::Frames;
pub(crate) use layout::ProcessImage;
pub use manager::MemoryManager;
pub use map::{MapFile, MapRequest, Placement};
pub use remap::Move;
pub use report::{AreaReport, MemoryUsage};
pub use shared::{FutexKey, SharedMemory};
pub use user_io::{IoVec, UserIo};
pub use vma::{Prot, VmaFlags};

/// The size of a guest page in bytes.
pub const PAGE_SIZE: u64 = 4096;
