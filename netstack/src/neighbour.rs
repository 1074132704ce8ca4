//! Neighbours: from IP addresses to station addresses, for ARP and NDP alike.
//!
//! [`Nud`] is the state machine of RFC 4861 section 7.3, a plain value; [`NeighbourCache`] keeps one per address together
//! with the packets that wait for it.

mod cache;
mod conflict;
mod nud;

pub(crate) use cache::{Neighbour, NeighbourCache, Resolution};
pub(crate) use conflict::{ConflictAction, ConflictDetection, PROBE_SPREAD, PROBE_WAIT};
pub(crate) use nud::{Advertisement, Nud, NudAction, NudTimers};
