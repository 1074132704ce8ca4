#![forbid(unsafe_code)]
//! Packet capture and TCP analysis for netstack and ordinary interfaces.

fn main() {}
