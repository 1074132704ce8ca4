//! Guest memory: what is mapped (VMAs), what is behind it (PMAs), and copying in and out.

mod addr;
mod manager;
mod user_io;

pub use addr::UserAddr;
pub use manager::MemoryManager;
pub use user_io::{IoVec, UserIo};

/// The size of a guest page in bytes.
pub const PAGE_SIZE: u64 = 4096;
