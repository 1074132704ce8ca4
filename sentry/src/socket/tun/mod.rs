//! `/dev/net/tun`: interfaces whose other end is a program (Linux's `Documentation/networking/tuntap.rst`).
//!
//! A device is a link of its namespace's stack. What the stack sends waits in the queue of one of the files that are
//! attached to the device; what is written to a file the stack receives on the writer's thread.

mod device;
mod file;
mod files;
mod filter;
mod header;
mod offload;
mod queue;
mod request;
mod steering;

pub use device::TunDetails;
pub(in crate::socket) use device::{TunDevice, TunKind};
pub(crate) use file::TunFile;
