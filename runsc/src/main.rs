#![forbid(unsafe_code)]
//! An OCI runtime that runs containers on the sentry.
mod bundle;
mod cgroup;
mod log;
mod network;
mod state;

fn main() {}
