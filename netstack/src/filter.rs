//! The packet filter: tables, chains and rules with the semantics of iptables, connection tracking and address
//! translation, for IPv4 and IPv6.
//!
//! A family's rules are set as a whole ([`Stack::set_filter`]); packets on their way see either the old rules or the new
//! ones. While no rules are set a packet costs one relaxed load at each of the places where it could be looked at.
//!
//! ```
//! use netstack::filter::{Chain, Hook, Policy, Rule, Ruleset, Table, Target, Test};
//! use netstack::options::Family;
//! use netstack::wire::ip::Protocol;
//!
//! let stack = netstack::Stack::builder().manual_clock().build();
//! let ssh_only = Chain::builtin(Table::Filter, Hook::Input, Policy::Drop)
//!     .rule(Rule::new(Target::Accept).when(Test::InputNic("lo".into())))
//!     .rule(Rule::new(Target::Accept).when(Test::Protocol(Protocol::TCP)).when(Test::DestinationPort(vec![22..=22])));
//! stack.set_filter(Family::V4, Ruleset::new().chain(ssh_only)).unwrap();
//! ```
//!
//! # Order
//! As in Linux: raw, tracking, mangle, nat for destinations and filter where packets arrive or are made; mangle and nat
//! for sources where they leave. Translation looks at the first packet of a flow; the others follow it.
//!
//! ARP is not looked at. What the stack says to its link by itself (neighbour discovery, membership reports) meets the rules for
//! what it sends, but is neither tracked nor translated.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::sync::RwLock;
use netstack_wire::ip::Protocol;

use crate::conntrack::{ConntrackCell, Direction, Tuple};
use crate::error::ConfigError;
use crate::options::Family;
use crate::stack::Stack;

mod compile;
mod hook;
mod icmp;
mod nat;
mod reject;
mod rewrite;
mod rule;
mod subject;
mod test;
mod traverse;

pub use compile::RulesetError;
pub(crate) use hook::{Passage, forward, input, output, passes_link_control, prerouting, transit_of};
pub use rule::{
    Chain, ChainName, Counters, Hook, NatRange, Policy, RejectWith, Rule, Ruleset, Table, Target, Test,
};

pub use crate::conntrack::{ConnInfo, ConnState, TcpState};

/// The rules of a stack and its flows.
pub(crate) struct FilterCell {
    /// One bit per family that has rules.
    active: AtomicU8,
    rules: RwLock<[Option<Arc<compile::Compiled>>; 2]>,
    pub(crate) conntrack: Arc<ConntrackCell>,
}

impl FilterCell {
    pub(crate) fn new(key: [u64; 2]) -> Self {
        Self {
            active: AtomicU8::new(0),
            rules: RwLock::default(),
            conntrack: Arc::new(ConntrackCell::new(key)),
        }
    }

    /// Whether packets of a family have to be shown to rules. Relaxed: a packet that is on its way while rules are set
    /// may miss them.
    #[inline]
    pub(crate) fn is_active(&self, family: Family) -> bool {
        self.active.load(Ordering::Relaxed) & bit(family) != 0
    }

    /// Whether there are rules at all.
    #[inline]
    pub(crate) fn is_any_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) != 0
    }

    fn rules(&self, family: Family) -> Option<Arc<compile::Compiled>> {
        self.rules.read()[index(family)].clone()
    }

    fn set(&self, family: Family, rules: Option<Arc<compile::Compiled>>) {
        let mut current = self.rules.write();
        let is_active = rules.is_some();
        current[index(family)] = rules;
        match is_active {
            true => self.active.fetch_or(bit(family), Ordering::Relaxed),
            false => self.active.fetch_and(!bit(family), Ordering::Relaxed),
        };
        if current.iter().all(Option::is_none) {
            self.conntrack.table.clear();
        }
    }
}

/// An IPv4 address as a socket of the other family writes it is still one.
fn without_mapping(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(crate::ip::unmapped(address.ip()), address.port())
}

const fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

const fn bit(family: Family) -> u8 {
    1 << index(family)
}

impl Stack {
    /// Replaces the rules of a family. Those without any chain turn the filter off for the family.
    pub fn set_filter(&self, family: Family, ruleset: Ruleset) -> Result<(), RulesetError> {
        let compiled = match ruleset.chains.is_empty() {
            true => None,
            false => Some(Arc::new(compile::compile(family, ruleset)?)),
        };
        self.core.filter.set(family, compiled);
        Ok(())
    }

    /// The rules of a family, with what they have counted so far.
    pub fn filter(&self, family: Family) -> Ruleset {
        self.core.filter.rules(family).map(|rules| rules.describe()).unwrap_or_default()
    }

    /// The flows that are tracked, in no order.
    pub fn tracked_flows(&self) -> Vec<ConnInfo> {
        self.core.filter.conntrack.table.list()
    }

    /// Where the first packet of a socket's flow was going before its destination was translated (`SO_ORIGINAL_DST`): for the
    /// one that accepted, not to `local`. `None` if the flow is not tracked.
    pub fn original_destination(
        &self,
        protocol: Protocol,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Option<SocketAddr> {
        let (local, remote) = (without_mapping(local), without_mapping(remote));
        let sent = Tuple {
            source: local.ip(),
            destination: remote.ip(),
            protocol,
            source_id: local.port(),
            destination_id: remote.port(),
        };
        let core = &self.core;
        let (conn, _) = core.filter.conntrack.table.find(&sent, core.clock.now())?;
        let original = conn.tuple(Direction::Original);
        Some(SocketAddr::new(original.destination, original.destination_id))
    }

    /// Limits how many flows are tracked.
    pub fn set_tracking_limit(&self, limit: usize) -> Result<(), ConfigError> {
        if limit == 0 {
            return Err(ConfigError::Invalid);
        }
        self.core.filter.conntrack.table.set_limit(limit);
        Ok(())
    }
}
