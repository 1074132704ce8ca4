//! From rules as they are written to rules as they are run: names become numbers, and what makes no sense is refused.

use std::ops::RangeInclusive;
use std::time::Duration;

use netstack_wire::ip::Protocol;
use netstack_wire::{icmpv4, icmpv6};

use super::rule::{
    Chain, ChainName, Counters, Hook, MssTarget, NatRange, Policy, RejectWith, Rule, Ruleset, Table, Target,
    Test,
};
use super::state::SharedStates;
use super::test::CompiledTest;
use crate::options::Family;
use crate::stats::Counter;

/// Why rules were not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesetError {
    /// A table has two chains of one name.
    #[error("chain {0} is there twice")]
    DuplicateChain(String),
    /// A table has no such built-in chain.
    #[error("table {0:?} has no chain for {1:?}")]
    NoSuchHook(Table, Hook),
    /// A rule jumps to a chain that is not there.
    #[error("no chain {0}")]
    NoSuchChain(String),
    /// Chains jump in a circle.
    #[error("chain {0} leads to itself")]
    Loop(String),
    /// Chains lead to each other through too many others.
    #[error("chains jump too deep")]
    TooDeep,
    /// A target is not for the table.
    #[error("a target is not for table {0:?}")]
    TargetNotForTable(Table),
    /// A target is not for packets at a hook that leads to it.
    #[error("a target is not for {0:?}")]
    TargetNotForHook(Hook),
    /// A way to reject that the family does not have.
    #[error("{0:?} is not for this family")]
    RejectNotForFamily(RejectWith),
    /// A reset answers TCP only.
    #[error("a TCP reset needs a test for TCP")]
    ResetWithoutTcp,
    /// Proxies take TCP and UDP only.
    #[error("a proxy needs a test for TCP or UDP")]
    ProxyWithoutProtocol,
    /// A test or target has an address of the other family.
    #[error("an address of the other family")]
    FamilyMismatch,
    /// A range without anything in it, or a rate of nothing.
    #[error("an empty range")]
    EmptyRange,
}

/// The rules of a family.
#[derive(Debug)]
pub(super) struct Compiled {
    tables: [CompiledTable; TABLES.len()],
    /// Some rule looks at flows or translates.
    pub(super) needs_tracking: bool,
    /// Some rule translates.
    pub(super) translates: bool,
}

/// A table's chains.
#[derive(Debug, Default)]
pub(super) struct CompiledTable {
    pub(super) chains: Vec<CompiledChain>,
    hooks: [Option<usize>; 5],
}

/// A chain.
#[derive(Debug)]
pub(super) struct CompiledChain {
    name: ChainName,
    pub(super) policy: Policy,
    pub(super) fell_through: LiveCounters,
    pub(super) rules: Vec<CompiledRule>,
}

/// A rule.
#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) tests: Vec<CompiledTest>,
    pub(super) target: Target,
    /// For a jump: where to.
    pub(super) jump: usize,
    pub(super) counters: LiveCounters,
}

/// Counters that packets count up.
#[derive(Debug, Default)]
pub(super) struct LiveCounters {
    packets: Counter,
    bytes: Counter,
}

impl LiveCounters {
    fn new(start: Counters) -> Self {
        let live = Self::default();
        live.packets.add(start.packets);
        live.bytes.add(start.bytes);
        live
    }

    pub(super) fn count(&self, len: usize) {
        self.packets.increment();
        // A packet is at most 64 KiB long.
        self.bytes.add(len as u64);
    }

    fn snapshot(&self) -> Counters {
        Counters { packets: self.packets.get(), bytes: self.bytes.get() }
    }
}

impl Compiled {
    pub(super) fn table(&self, table: Table) -> &CompiledTable {
        &self.tables[table as usize]
    }

    /// The rules as they were written, with what was counted.
    pub(super) fn describe(&self) -> Ruleset {
        let mut ruleset = Ruleset::new();
        for table in TABLES {
            for chain in &self.table(table).chains {
                let rules = chain.rules.iter().map(|rule| Rule {
                    tests: rule.tests.iter().map(|test| (test.test.clone(), test.is_inverted)).collect(),
                    target: rule.target.clone(),
                    counters: rule.counters.snapshot(),
                });
                ruleset.chains.push(Chain {
                    table,
                    name: chain.name.clone(),
                    rules: rules.collect(),
                    counters: chain.fell_through.snapshot(),
                });
            }
        }
        ruleset
    }
}

impl CompiledTable {
    /// Where packets start at a hook.
    pub(super) fn start(&self, hook: Hook) -> Option<usize> {
        self.hooks[hook as usize]
    }
}

/// Checks and compiles the rules of a family.
pub(super) fn compile(
    family: Family,
    ruleset: Ruleset,
    shared: &SharedStates,
) -> Result<Compiled, RulesetError> {
    let mut tables: [CompiledTable; TABLES.len()] = Default::default();
    let (mut needs_tracking, mut translates) = (false, false);
    for table in TABLES {
        let chains: Vec<Chain> =
            ruleset.chains.iter().filter(|chain| chain.table == table).cloned().collect();
        for rule in chains.iter().flat_map(|chain| &chain.rules) {
            check_rule(family, table, rule)?;
            let looks = rule.tests.iter().any(|(test, _)| looks_at_flows(test));
            let maps = translates_flows(&rule.target);
            needs_tracking |= looks || maps || matches!(rule.target, Target::ConnMark(_));
            translates |= maps;
        }
        tables[table as usize] = compile_table(table, chains, shared)?;
    }
    Ok(Compiled { tables, needs_tracking, translates })
}

/// Whether a test needs tracking.
pub(super) fn looks_at_flows(test: &Test) -> bool {
    matches!(test, Test::State(_) | Test::Flow(_) | Test::ConnMark(_) | Test::ConnLimit(_) | Test::Carried(_))
}

/// Whether a target translates.
pub(super) fn translates_flows(target: &Target) -> bool {
    matches!(
        target,
        Target::SourceNat(_)
            | Target::DestinationNat(_)
            | Target::NetMap(_)
            | Target::Masquerade { .. }
            | Target::Redirect { .. }
    )
}

fn compile_table(
    table: Table,
    chains: Vec<Chain>,
    shared: &SharedStates,
) -> Result<CompiledTable, RulesetError> {
    let names: Vec<String> = chains.iter().map(|chain| label(&chain.name)).collect();
    let mut compiled = CompiledTable::default();
    for (index, chain) in chains.into_iter().enumerate() {
        if names[..index].contains(&names[index]) {
            return Err(RulesetError::DuplicateChain(names[index].clone()));
        }
        let policy = match &chain.name {
            ChainName::Builtin(hook, policy) => {
                if !hooks_of(table).contains(hook) {
                    return Err(RulesetError::NoSuchHook(table, *hook));
                }
                compiled.hooks[*hook as usize] = Some(index);
                *policy
            }
            ChainName::User(_) => Policy::Accept,
        };
        let mut rules = Vec::with_capacity(chain.rules.len());
        for rule in chain.rules {
            let jump = match &rule.target {
                Target::Jump(name) | Target::Goto(name) => names
                    .iter()
                    .position(|other| other == name)
                    .ok_or_else(|| RulesetError::NoSuchChain(name.clone()))?,
                _ => 0,
            };
            let counters = LiveCounters::new(rule.counters);
            let tests = rule.tests.into_iter().map(|test| CompiledTest::new(test, shared)).collect();
            rules.push(CompiledRule { tests, target: rule.target, jump, counters });
        }
        let fell_through = LiveCounters::new(chain.counters);
        compiled.chains.push(CompiledChain { name: chain.name, policy, fell_through, rules });
    }
    check_ways(&compiled)?;
    Ok(compiled)
}

/// Walks from each hook along the jumps: no circle, and no target where it makes no sense.
fn check_ways(table: &CompiledTable) -> Result<(), RulesetError> {
    for hook in HOOKS {
        if let Some(start) = table.start(hook) {
            check_way(table, hook, start)?;
        }
    }
    // Circles that no hook leads to yet.
    let mut walk = Walk::new(table);
    (0..table.chains.len()).try_for_each(|index| walk.chain(index, &mut |_| Ok(())))
}

fn check_way(table: &CompiledTable, hook: Hook, start: usize) -> Result<(), RulesetError> {
    Walk::new(table).chain(start, &mut |rule| {
        let fits = match &rule.target {
            Target::SourceNat(_) => matches!(hook, Hook::Postrouting | Hook::Input),
            Target::Masquerade { .. } => hook == Hook::Postrouting,
            Target::Proxy(_) => hook == Hook::Prerouting,
            Target::DestinationNat(_) | Target::Redirect { .. } => {
                matches!(hook, Hook::Prerouting | Hook::Output)
            }
            Target::Reject(_) => matches!(hook, Hook::Input | Hook::Forward | Hook::Output),
            Target::Mss(MssTarget::ClampToPath) => {
                matches!(hook, Hook::Forward | Hook::Output | Hook::Postrouting)
            }
            _ => true,
        };
        let knows_way_in = !matches!(hook, Hook::Output | Hook::Postrouting);
        let knows_way_out = !matches!(hook, Hook::Prerouting | Hook::Input);
        // As iptables refuses `-o` in INPUT; a packet of our own that leaves has come in nowhere, which just never
        // matches.
        let tests_fit = rule.tests.iter().all(|test| match &test.test {
            Test::InputNic(_) => knows_way_in,
            Test::OutputNic(_) => knows_way_out,
            // Only what is sent has a socket that sent it.
            Test::Owner(_) => !knows_way_in,
            Test::Socket(_) => matches!(hook, Hook::Prerouting | Hook::Input),
            _ => true,
        });
        if fits && tests_fit { Ok(()) } else { Err(RulesetError::TargetNotForHook(hook)) }
    })
}

/// A walk along the jumps of a table. Each chain is looked at once, however many ways lead to it.
struct Walk<'a> {
    table: &'a CompiledTable,
    /// The chains from the start to here.
    path: Vec<usize>,
    is_done: Vec<bool>,
}

impl<'a> Walk<'a> {
    fn new(table: &'a CompiledTable) -> Self {
        Self { table, path: Vec::new(), is_done: vec![false; table.chains.len()] }
    }

    fn chain(
        &mut self,
        index: usize,
        visit: &mut dyn FnMut(&CompiledRule) -> Result<(), RulesetError>,
    ) -> Result<(), RulesetError> {
        if self.path.contains(&index) {
            return Err(RulesetError::Loop(label(&self.table.chains[index].name)));
        }
        if self.is_done[index] {
            return Ok(());
        }
        if self.path.len() >= MAX_DEPTH {
            return Err(RulesetError::TooDeep);
        }
        self.path.push(index);
        let table = self.table;
        for rule in &table.chains[index].rules {
            visit(rule)?;
            if let Target::Jump(_) | Target::Goto(_) = rule.target {
                self.chain(rule.jump, visit)?;
            }
        }
        self.path.pop();
        self.is_done[index] = true;
        Ok(())
    }
}

/// How deep chains may lead into chains: the walk takes a stack frame for each.
const MAX_DEPTH: usize = 256;

fn check_rule(family: Family, table: Table, rule: &Rule) -> Result<(), RulesetError> {
    let is_tcp = rule.tests.iter().any(|(test, inverted)| {
        matches!(test, Test::Protocol(protocol) if *protocol == Protocol::TCP && !inverted)
    });
    match &rule.target {
        Target::Reject(with) => {
            if table != Table::Filter {
                return Err(RulesetError::TargetNotForTable(table));
            }
            if *with == RejectWith::TcpReset && !is_tcp {
                return Err(RulesetError::ResetWithoutTcp);
            }
            if *with != RejectWith::TcpReset && with.code(family).is_none() {
                return Err(RulesetError::RejectNotForFamily(*with));
            }
        }
        Target::Tos { .. } | Target::Ttl(_) if table != Table::Mangle => {
            return Err(RulesetError::TargetNotForTable(table));
        }
        Target::NetMap(range) => check_nat(family, table, Some(range), None)?,
        Target::Proxy(proxy) => {
            let is_right = |(test, inverted): &(Test, bool)| matches!(test, Test::Protocol(Protocol::TCP | Protocol::UDP) if !inverted);
            if table != Table::Mangle {
                return Err(RulesetError::TargetNotForTable(table));
            }
            if !rule.tests.iter().any(is_right) {
                return Err(RulesetError::ProxyWithoutProtocol);
            }
            if proxy.address.is_some_and(|address| crate::cidr::family_of(address) != family) {
                return Err(RulesetError::FamilyMismatch);
            }
        }
        Target::NoTrack if table != Table::Raw => return Err(RulesetError::TargetNotForTable(table)),
        Target::SourceNat(range) | Target::DestinationNat(range) => {
            check_nat(family, table, range.addresses.as_ref(), range.ports.as_ref())?;
        }
        Target::Masquerade { ports, .. } | Target::Redirect { ports, .. } => {
            check_nat(family, table, None, ports.as_ref())?;
        }
        _ => {}
    }
    rule.tests.iter().try_for_each(|(test, _)| check_test(family, test))
}

fn check_nat(
    family: Family,
    table: Table,
    addresses: Option<&RangeInclusive<std::net::IpAddr>>,
    ports: Option<&RangeInclusive<u16>>,
) -> Result<(), RulesetError> {
    if table != Table::Nat {
        return Err(RulesetError::TargetNotForTable(table));
    }
    if let Some(addresses) = addresses {
        let of_family = |address| crate::cidr::family_of(address) == family;
        if !of_family(*addresses.start()) || !of_family(*addresses.end()) {
            return Err(RulesetError::FamilyMismatch);
        }
        if addresses.is_empty() {
            return Err(RulesetError::EmptyRange);
        }
    }
    match ports.is_some_and(RangeInclusive::is_empty) {
        true => Err(RulesetError::EmptyRange),
        false => Ok(()),
    }
}

fn check_test(family: Family, test: &Test) -> Result<(), RulesetError> {
    let is_right = match test {
        Test::Source(network) | Test::Destination(network) => {
            if network.family() != family {
                return Err(RulesetError::FamilyMismatch);
            }
            true
        }
        Test::SourcePort(ranges) | Test::DestinationPort(ranges) | Test::EitherPort(ranges) => {
            !ranges.is_empty() && !ranges.iter().any(RangeInclusive::is_empty)
        }
        Test::SourceRange(range) | Test::DestinationRange(range) => {
            let of_family = |address| crate::cidr::family_of(address) == family;
            if !of_family(*range.start()) || !of_family(*range.end()) {
                return Err(RulesetError::FamilyMismatch);
            }
            // Linux takes a range that is the wrong way round; it never matches.
            true
        }
        Test::Limit { interval, burst } => *interval > Duration::ZERO && *burst > 0,
        Test::HashLimit(limit) => limit.interval > Duration::ZERO && limit.burst > 0 && limit.max > 0,
        Test::Ttl(range) => !range.is_empty(),
        _ => true,
    };
    if is_right { Ok(()) } else { Err(RulesetError::EmptyRange) }
}

impl RejectWith {
    /// The code of the family's "destination unreachable"; `None` if it has none, or it is a reset.
    pub(super) fn code(self, family: Family) -> Option<u8> {
        let (v4, v6) = match self {
            Self::PortUnreachable => (Some(icmpv4::PORT_UNREACHABLE), Some(icmpv6::PORT_UNREACHABLE)),
            Self::HostUnreachable => (Some(icmpv4::HOST_UNREACHABLE), Some(icmpv6::ADDRESS_UNREACHABLE)),
            Self::NetUnreachable => (Some(icmpv4::NET_UNREACHABLE), Some(icmpv6::NO_ROUTE)),
            Self::ProtocolUnreachable => (Some(icmpv4::PROTOCOL_UNREACHABLE), None),
            Self::NetProhibited => (Some(icmpv4::NET_PROHIBITED), None),
            Self::HostProhibited => (Some(icmpv4::HOST_PROHIBITED), None),
            Self::AdminProhibited => (Some(icmpv4::PROHIBITED), Some(icmpv6::PROHIBITED)),
            Self::PolicyFailed => (None, Some(icmpv6::POLICY_FAILED)),
            Self::RejectRoute => (None, Some(icmpv6::REJECT_ROUTE)),
            Self::TcpReset => (None, None),
        };
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }
}

impl NatRange {
    /// The range of a target that translates to some address of ours.
    pub(super) fn of_own(address: std::net::IpAddr, range: &Self) -> Self {
        Self { addresses: Some(address..=address), ..range.clone() }
    }
}

/// The built-in chains of a table.
fn hooks_of(table: Table) -> &'static [Hook] {
    match table {
        Table::Raw => &[Hook::Prerouting, Hook::Output],
        Table::Mangle => &HOOKS,
        Table::Nat => &[Hook::Prerouting, Hook::Input, Hook::Output, Hook::Postrouting],
        Table::Filter | Table::Security => &[Hook::Input, Hook::Forward, Hook::Output],
    }
}

fn label(name: &ChainName) -> String {
    match name {
        ChainName::Builtin(hook, _) => format!("{hook:?}").to_uppercase(),
        ChainName::User(name) => name.clone(),
    }
}

const TABLES: [Table; 5] = [Table::Raw, Table::Mangle, Table::Nat, Table::Filter, Table::Security];
const HOOKS: [Hook; 5] = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
