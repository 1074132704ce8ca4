//! Tests of the machines as a whole: two ends and a simulated network in virtual time, and hand-played peers.

mod brief;
mod hostile;
mod listen;
mod network;
mod peer;
mod plain;
mod recovery;
mod rest;
mod rows;
mod segments;
mod shutdown;
mod transfer;
mod user;

/// For the tests of single parts that want the same randomness.
pub(in crate::tcp) use network::Rng;
