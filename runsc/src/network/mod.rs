//! The host's side of a sandbox's network: interfaces to hand over, veth pairs, NAT.

mod forwarding;
mod nat;
mod netlink;
mod publish;
mod scrape;
mod subnet;
mod veth;

pub(crate) use nat::{Nat, Outcome as NatOutcome, default_mtu};
pub(crate) use publish::Publisher;
pub(crate) use scrape::{Donated, Restore, TakenOver, bring_loopback_up, take_over};
pub(crate) use subnet::{PREFIX_LEN, Pair};
pub(crate) use veth::{Veth, VethRequest, remove_by_name};
