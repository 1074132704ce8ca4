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
//! As in Linux: raw, tracking, mangle, nat for destinations, filter and security where packets arrive or are made; mangle and
//! nat for sources where they leave. The chains of the [`machine`] come in between, where their priorities say. Translation
//! looks at the first packet of a flow; the others follow it.
//!
//! ARP is not looked at. What the stack says to its link by itself (neighbour discovery, membership reports) meets the rules for
//! what it sends, but is neither tracked nor translated.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::sync::RwLock;
use netstack_wire::ip::Protocol;

use self::compile::Compiled;
use self::machine::CompiledProgram;
use self::state::SharedStates;

use crate::conntrack::{ConntrackCell, Direction, Tuple};
use crate::error::ConfigError;
use crate::options::Family;
use crate::stack::Stack;

mod change;
mod compile;
mod hook;
mod icmp;
mod log;
pub mod machine;
mod measure;
mod nat;
mod owner;
mod reject;
mod rewrite;
mod rule;
mod state;
mod subject;
mod test;
mod track;
mod translate;
mod traverse;
mod words;

pub use compile::RulesetError;

/// An address of a list, its TTL, and when it was seen.
pub type RecentAddress = (std::net::IpAddr, u8, Vec<crate::time::Instant>);

pub(crate) use hook::{
    Passage, forward, input, output, passes_link_control, prerouting, prerouting_on, transit_of,
};
pub use log::FilterLog;
pub(crate) use owner::{AssignedSocket, Proxies};
pub use rule::{
    AddressKinds, Carried, CarriedTest, Chain, ChainName, ConnLimit, ConnMarkAction, ConnTest, ContentTest,
    Counters, EndTest, HashLimit, HashLimitKey, Hook, LogPrefix, MssTarget, NatRange, OwnerTest, PacketKind,
    Policy, Ports, ProxyTarget, RecentAction, RecentTest, RejectWith, Rule, Ruleset, Side, SocketTest,
    StatisticMode, Table, Target, Test, TimeTest, TtlAction, U32Step, U32Test,
};
pub use state::HashLimitInfo;

pub use crate::conntrack::{ConnInfo, ConnState, ConnStatus, TcpState};

/// The rules of a stack and its flows.
pub(crate) struct FilterCell {
    /// One bit per family that has rules.
    active: AtomicU8,
    rules: RwLock<Rules>,
    shared: SharedStates,
    log: RwLock<Option<Arc<dyn FilterLog>>>,
    pub(crate) proxies: Proxies,
    pub(crate) conntrack: Arc<ConntrackCell>,
}

#[derive(Default)]
struct Rules {
    tables: [Option<Arc<Compiled>>; 2],
    program: Option<Arc<CompiledProgram>>,
    /// What packets of each family meet.
    snapshots: [Option<Arc<Snapshot>>; 2],
}

/// The rules that a packet of a family meets.
struct Snapshot {
    tables: Option<Arc<Compiled>>,
    program: Option<Arc<CompiledProgram>>,
}

impl FilterCell {
    pub(crate) fn new(key: [u64; 2]) -> Self {
        Self {
            active: AtomicU8::new(0),
            rules: RwLock::default(),
            shared: SharedStates::default(),
            log: RwLock::default(),
            proxies: Proxies::default(),
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

    /// The rules of a family, if it has any.
    fn rules(&self, family: Family) -> Option<Arc<Snapshot>> {
        self.rules.read().snapshots[index(family)].clone()
    }

    fn tables(&self, family: Family) -> Option<Arc<Compiled>> {
        self.rules.read().tables[index(family)].clone()
    }

    fn set(&self, change: impl FnOnce(&mut Rules)) {
        let mut current = self.rules.write();
        change(&mut current);
        let mut active = 0;
        for family in [Family::V4, Family::V6] {
            let tables = current.tables[index(family)].clone();
            let program = current.program.clone().filter(|program| program.is_for(family));
            let is_any = tables.is_some() || program.is_some();
            current.snapshots[index(family)] = is_any.then(|| Arc::new(Snapshot { tables, program }));
            active |= if is_any { bit(family) } else { 0 };
        }
        self.active.store(active, Ordering::Relaxed);
        if active == 0 {
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
            false => Some(Arc::new(compile::compile(family, ruleset, &self.core.filter.shared)?)),
        };
        self.core.filter.set(|rules| rules.tables[index(family)] = compiled);
        Ok(())
    }

    /// Replaces the program of the [`machine`]. One without any base chain is none.
    pub fn set_filter_program(&self, program: machine::Program) -> Result<(), machine::ProgramError> {
        let is_idle = !program.chains.iter().flatten().any(|chain| chain.base.is_some());
        let compiled = CompiledProgram::new(program, self.core.clock.now())?;
        self.core.filter.set(|rules| rules.program = (!is_idle).then(|| Arc::new(compiled)));
        Ok(())
    }

    /// Tells whether a program would be taken.
    pub fn check_filter_program(&self, program: machine::Program) -> Result<(), machine::ProgramError> {
        CompiledProgram::new(program, self.core.clock.now()).map(drop)
    }

    /// Sets who takes the lines that rules write.
    pub fn set_filter_log(&self, log: Option<Arc<dyn FilterLog>>) {
        *self.core.filter.log.write() = log;
    }

    /// The names of the lists of addresses that rules keep ([`Test::Recent`]).
    pub fn recent_lists(&self) -> Vec<String> {
        self.core.filter.shared.recent_names()
    }

    /// A list of addresses that rules keep: each with its TTL and the times at which it was seen.
    pub fn recent_addresses(&self, name: &str) -> Option<Vec<RecentAddress>> {
        Some(self.core.filter.shared.recent_list(name)?.list())
    }

    /// Enters an address into a list that rules keep, or removes it; removes all for `None`. False if there is no such list.
    pub fn set_recent_address(&self, name: &str, address: Option<std::net::IpAddr>, is_there: bool) -> bool {
        let list = self.core.filter.shared.recent_list(name);
        list.map(|list| list.set(address, is_there, self.core.clock.now())).is_some()
    }

    /// The names of the tables of limits per flow that rules keep ([`Test::HashLimit`]).
    pub fn hash_limits(&self) -> Vec<String> {
        self.core.filter.shared.hash_limit_names()
    }

    /// What a table of limits per flow knows.
    pub fn hash_limit_entries(&self, name: &str) -> Option<Vec<HashLimitInfo>> {
        Some(self.core.filter.shared.hash_limit_table(name)?.list(self.core.clock.now()))
    }

    /// Forgets the flows that `is_unwanted`; returns how many.
    pub fn forget_flows(&self, is_unwanted: impl Fn(&ConnInfo) -> bool) -> usize {
        self.core.filter.conntrack.table.remove_if(is_unwanted)
    }

    /// The rules of a family, with what they have counted so far.
    pub fn filter(&self, family: Family) -> Ruleset {
        self.core.filter.tables(family).map(|rules| rules.describe()).unwrap_or_default()
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
