//! Netlink (`netlink(7)`, `rtnetlink(7)`, `sock_diag(7)`): the kernel's side, answering requests from the stack's
//! state. Messages between processes are not carried.

mod address;
mod diag;
mod link;
mod link_change;
mod local_table;
mod message;
mod multicast;
mod namespace_id;
mod neighbour;
mod netfilter;
mod next_hop;
mod refusal;
mod route;
mod route_get;
mod rtnetlink;
mod rule;
mod socket;
mod subscribers;

pub(in crate::socket) use address::{
    OnExisting, announce_gone as announce_address_gone, announce_new as announce_address,
    delete as remove_address, insert as add_address,
};
pub(in crate::socket) use diag::inet_state;
pub(in crate::socket) use link::{announce as announce_link, gone as link_gone};
pub(in crate::socket) use multicast::{
    Report as MulticastReport, announce as announce_multicast, announce_gone as announce_multicast_gone,
    announce_report as announce_multicast_report,
};
pub(crate) use netfilter::NfTables;
pub(in crate::socket) use netfilter::conntrack_text;
pub(in crate::socket) use route::{
    OldRoute, add_old as add_route, listing_order, remove_old as remove_route,
};
pub use socket::{NetlinkSocket, Privilege};
pub(crate) use subscribers::Subscribers;
