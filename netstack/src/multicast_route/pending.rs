//! Packets for groups that wait until the routing program has made a route.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::filter::Passage;
use crate::ip::Transit;
use crate::nic::NicId;
use crate::time::Instant;

/// A packet that waits.
pub(crate) struct Waiting {
    pub(crate) transit: Transit,
    /// What rules know about it, if there are any.
    pub(crate) passage: Option<Passage>,
    /// Where it came in.
    pub(crate) nic: NicId,
    pub(crate) entrance: Entrance,
}

/// How a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// From a link.
    Link,
    /// A socket of ours sent it.
    Own,
    /// In a message to the routing program (a PIM register).
    Register,
}

/// What became of a packet without a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is the first of its source and group: the program is to be told.
    First,
    /// It waits with others.
    Queued,
    /// There is no room for it.
    Dropped,
}

/// All that waits, by source and group.
#[derive(Default)]
pub(crate) struct Pending {
    flows: HashMap<(IpAddr, IpAddr), Flow>,
}

struct Flow {
    packets: Vec<Waiting>,
    expires: Instant,
}

impl Pending {
    /// Keeps a packet.
    pub(crate) fn add(&mut self, now: Instant, source: IpAddr, group: IpAddr, packet: Waiting) -> Added {
        if let Some(flow) = self.flows.get_mut(&(source, group)) {
            if flow.packets.len() >= MAX_PACKETS {
                return Added::Dropped;
            }
            flow.packets.push(packet);
            return Added::Queued;
        }
        if self.flows.len() >= MAX_FLOWS {
            return Added::Dropped;
        }
        let flow = Flow { packets: vec![packet], expires: now + LIFETIME };
        self.flows.insert((source, group), flow);
        Added::First
    }

    /// Gives back what waits for a route.
    pub(crate) fn take(&mut self, source: IpAddr, group: IpAddr) -> Vec<Waiting> {
        self.flows.remove(&(source, group)).map(|flow| flow.packets).unwrap_or_default()
    }

    /// Takes out what waited too long.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Waiting> {
        let mut expired = Vec::new();
        self.flows.retain(|_, flow| {
            let stays = now < flow.expires;
            if !stays {
                expired.append(&mut flow.packets);
            }
            stays
        });
        expired
    }

    /// The sources and groups for which packets wait.
    pub(crate) fn flows(&self) -> Vec<(IpAddr, IpAddr)> {
        self.flows.keys().copied().collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        // Bounded by MAX_FLOWS, and asked for by the timer only.
        self.flows.values().map(|flow| flow.expires).min()
    }
}

/// How many packets of one source wait for a group's route (Linux's `ipmr_cache_unresolved`, which refuses the fifth).
const MAX_PACKETS: usize = 4;
/// Bounds the sources that can have us keep packets. Linux bounds them by the receive buffer of the program's socket, which
/// holds some three hundred upcalls.
const MAX_FLOWS: usize = 512;
/// Linux's lifetime of unresolved entries.
pub(crate) const LIFETIME: Duration = Duration::from_secs(10);
