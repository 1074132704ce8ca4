//! The host's side of a sandbox's network: interfaces to hand over, veth pairs, NAT.

mod nat;
mod netlink;
mod scrape;
mod veth;

pub(crate) use nat::{Nat, Outcome as NatOutcome, default_device};
pub(crate) use scrape::{Donated, Restore, ScrapeError, TakenOver, take_over};
pub(crate) use veth::{Veth, VethError, VethRequest, remove_by_name};
