#![forbid(unsafe_code)]
//! An OCI runtime that runs containers on the sentry.
mod network;

fn main() {}
