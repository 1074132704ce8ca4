//! The tables of iptables(8), as its legacy interface edits them: `getsockopt` and `setsockopt` of raw sockets with the
//! whole table as one blob (`<linux/netfilter_ipv4/ip_tables.h>`, `<linux/netfilter_ipv6/ip6_tables.h>`).
//!
//! The blob is kept as the guest wrote it and given back so; what it means is translated to the rules of the stack's packet
//! filter, one rule per entry, so that the counters can be put back into the blob. A match or target that the filter does
//! not have is refused: no rule is accepted that does nothing.

mod blob;
mod matches;
mod option;
mod replace;
mod table;
mod tables;
mod targets;
mod translate;

pub(in crate::socket) use blob::Extension;
pub(in crate::socket) use matches::{MATCHES, hash_limit_prefix, one as match_of};
pub(crate) use option::ROWS;
pub(crate) use tables::IpTables;
pub(in crate::socket) use targets::{TARGETS, target as target_of};
