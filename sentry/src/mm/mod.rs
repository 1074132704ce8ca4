//! Guest memory: what is mapped (VMAs), what is behind it (PMAs), and copying in and out.

mod addr;

pub use addr::UserAddr;
