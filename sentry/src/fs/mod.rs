//! File systems and the kinds of files that they and the kernel provide.

pub(crate) mod aio;
pub mod dev;
pub mod event;
pub mod gofer;
pub mod host;
pub(crate) mod mqueue;
pub(crate) mod nsfs;
pub mod overlay;
pub mod pipe;
pub mod proc;
mod pseudo;
pub mod registry;
mod ring;
pub mod sysfs;
pub mod tmpfs;
pub mod tty;
