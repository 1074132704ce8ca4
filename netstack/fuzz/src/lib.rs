//! What the fuzz targets do. The targets in `fuzz/` are one line each; the tests here replay their corpora.
//!
//! A body takes arbitrary bytes, makes of them what its subject takes, and panics if something is wrong.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod bpf;
mod connection;
mod filter;
mod fragments;
mod input;
mod listener;
mod machine;
mod packets;
pub mod replay;
mod snapshot;
mod stack;
mod usernet;
mod wire;

pub use bpf::bpf;
pub use connection::connection;
pub use filter::filter;
pub use fragments::fragments;
pub use listener::listener;
pub use machine::machine;
pub use snapshot::snapshot;
pub use stack::stack;
pub use usernet::{usernet, usernet_is_possible};
pub use wire::{arp, checksum, ethernet, icmpv4, icmpv6, igmp, ipv4, ipv6, mld, ndp, tcp, udp};

/// What a fuzz target runs.
pub type Body = fn(&[u8]);

/// All bodies by the names of their targets.
pub const TARGETS: [(&str, Body); 21] = [
    ("arp", arp),
    ("bpf", bpf),
    ("checksum", checksum),
    ("connection", connection),
    ("ethernet", ethernet),
    ("filter", filter),
    ("fragments", fragments),
    ("icmpv4", icmpv4),
    ("icmpv6", icmpv6),
    ("igmp", igmp),
    ("ipv4", ipv4),
    ("ipv6", ipv6),
    ("listener", listener),
    ("machine", machine),
    ("mld", mld),
    ("ndp", ndp),
    ("snapshot", snapshot),
    ("stack", stack),
    ("tcp", tcp),
    ("udp", udp),
    ("usernet", usernet),
];
