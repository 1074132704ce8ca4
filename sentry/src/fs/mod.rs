//! File systems and the kinds of files that they and the kernel provide.

pub mod dev;
pub mod gofer;
pub mod host;
pub mod overlay;
pub mod pipe;
pub mod registry;
mod ring;
pub mod tmpfs;
