//! Files of the host, behind a separate process (the gofer) that alone can name them.
//!
//! The protocol is stateless: every request carries a path from the root of its tree, and the server walks it beneath
//! that root without following symbolic links. Opening donates a descriptor; reads, writes and mappings then go
//! straight to the host. With *directfs* the same requests are executed in the sentry on a donated directory.

mod client;
mod directory;
mod early;
mod file;
mod fs;
mod node;
mod protocol;
mod server;

pub use client::Connection;
pub use fs::{Caching, GoferFs, GoferOptions};
pub use server::{Access, ServedTree, execute, serve};

#[cfg(test)]
#[path = "gofer_tests.rs"]
mod tests;
