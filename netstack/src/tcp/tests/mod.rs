//! Tests of the machines as a whole: two ends and a simulated network in virtual time, and hand-played peers.

mod network;
mod transfer;
