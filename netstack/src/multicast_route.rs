//! Multicast routing: packets for groups go from one NIC to others, as a routing program says.
//!
//! A [`MulticastRouter`] makes a stack forward packets for groups in one family, as `MRT_INIT` does in Linux. NICs that
//! take part are [virtual interfaces](VifId); a [`MulticastRoute`] says where the packets of a source and group come in
//! and where they leave. A packet without a route waits for one, and the program hears of it by an [`Upcall`].
//!
//! The rules are those of Linux's `ipmr.c` and `ip6mr.c`. Groups of the link (224.0.0.0/24, ff02::/16) never leave it.
//! What our own sockets send through a virtual interface is routed as if it had come in there, if it is looped back.

mod pending;
mod router;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use pending::{Added, Entrance, LIFETIME, Pending, Waiting};
pub use router::{MulticastRouter, Refused, Reporting, Upcall, UpcallKind, UpcallSink};
pub(crate) use table::{Arrival, Decision, Replace, Table};
pub use table::{
    MAX_VIFS, MulticastRoute, MulticastRouteError, RouteCounts, RouteInfo, Thresholds, Vif, VifCounts, VifId,
    VifInfo,
};
