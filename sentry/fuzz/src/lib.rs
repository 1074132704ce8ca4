//! What the fuzz targets of the sandbox do: what guests and bundles say. The targets in `fuzz/` are one line each; the tests here
//! replay their corpora.
//!
//! A body takes arbitrary bytes, gives them to the code that takes them from a guest, and panics if something is wrong.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod bundle;
mod elf;
mod iptables;
mod netlink;
mod network;

pub use bundle::config;
pub use elf::elf;
pub use iptables::iptables;
pub use netlink::{nftables, rtnetlink};

/// What a fuzz target runs.
pub type Body = fn(&[u8]);

/// All bodies by the names of their targets.
pub const TARGETS: [(&str, Body); 5] = [
    ("config", config),
    ("elf", elf),
    ("iptables", iptables),
    ("nftables", nftables),
    ("rtnetlink", rtnetlink),
];
