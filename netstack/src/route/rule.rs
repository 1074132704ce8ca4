//! Policy rules (`ip rule`): which tables are asked for which packets, in which order.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::cidr::IpCidr;
use crate::error::ConfigError;
use crate::nic::NicId;
use crate::options::Family;
use crate::route::{PacketFacts, PortMatch, Route, RouteTable, TableId, TosMatch};

/// One rule. A selector that is not set matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Rules are tried from the lowest to the highest.
    pub priority: u32,
    /// The family it applies to.
    pub family: Family,
    /// The source address.
    pub from: Option<IpCidr>,
    /// The destination address.
    pub to: Option<IpCidr>,
    /// The NIC the packet arrived on; the loopback NIC stands for packets of this stack, as in Linux.
    pub input_nic: Option<RuleNic>,
    /// The NIC that the socket is bound to.
    pub output_nic: Option<RuleNic>,
    /// The firewall mark.
    pub mark: Option<MarkMatch>,
    /// The type of service or traffic class.
    pub tos: Option<TosMatch>,
    /// The number of the transport protocol.
    pub protocol: Option<u8>,
    /// The port that it comes from.
    pub source_port: Option<PortMatch>,
    /// The port that it goes to.
    pub destination_port: Option<PortMatch>,
    /// The user who owns the socket; what no socket has sent belongs to user 0.
    pub users: Option<RangeInclusive<u32>>,
    /// Matches what the selectors do not match (`ip rule add not ...`).
    pub is_inverted: bool,
    /// Routes of the table whose prefix has this length or a shorter one do not count (`suppress_prefixlength`): 0 leaves
    /// the default route to later rules.
    pub suppress_prefix_len: Option<u8>,
    /// The program that has set it, by its number (`/etc/iproute2/rt_protos`); 0 says nothing.
    pub set_by: u8,
    /// What to do with the packets.
    pub action: RuleAction,
}

/// A NIC that a rule names. It need not exist: until one has the name, no packet comes from there or leaves there.
#[derive(Debug, Clone)]
pub struct RuleNic {
    name: Arc<str>,
    id: Option<NicId>,
}

impl RuleNic {
    /// Whichever NIC has that name.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), id: None }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The NIC that has it, in rules of a stack ([`Stack::rules`](crate::Stack::rules)).
    pub fn id(&self) -> Option<NicId> {
        self.id
    }

    /// Tells whether a packet's NIC is this one.
    fn is(&self, nic: Option<NicId>) -> bool {
        self.id.is_some() && self.id == nic
    }
}

/// The name is what counts.
impl PartialEq for RuleNic {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for RuleNic {}

/// A firewall mark to compare with under a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkMatch {
    /// The value.
    pub value: u32,
    /// The bits that count.
    pub mask: u32,
}

impl MarkMatch {
    /// All 32 bits.
    pub const fn exactly(value: u32) -> Self {
        Self { value, mask: u32::MAX }
    }

    /// Tells whether a mark matches.
    pub const fn matches(self, mark: u32) -> bool {
        (mark ^ self.value) & self.mask == 0
    }
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleAction {
    /// Asks a table; goes on with the next rule if it has no route.
    Lookup(TableId),
    /// Goes on with the first rule that has this priority, which must be behind the rule's own, or with the next one if
    /// there is none.
    Goto(u32),
    /// Goes on with the next rule.
    Nop,
    /// Drops silently.
    Blackhole,
    /// Drops as unreachable.
    Unreachable,
    /// Drops as prohibited.
    Prohibit,
}

impl Rule {
    /// A rule without selectors.
    pub const fn new(family: Family, priority: u32, action: RuleAction) -> Self {
        Self {
            priority,
            family,
            from: None,
            to: None,
            input_nic: None,
            output_nic: None,
            mark: None,
            tos: None,
            protocol: None,
            source_port: None,
            destination_port: None,
            users: None,
            is_inverted: false,
            suppress_prefix_len: None,
            set_by: 0,
            action,
        }
    }

    /// The NICs that it names.
    fn nics_mut(&mut self) -> impl Iterator<Item = &mut RuleNic> {
        self.input_nic.iter_mut().chain(self.output_nic.iter_mut())
    }

    /// Whether it looks at what differs between packets of the same addresses, NICs and marks.
    fn is_particular(&self) -> bool {
        let Self { tos, protocol, source_port, destination_port, users, .. } = self;
        let has_port = source_port.is_some() || destination_port.is_some();
        tos.is_some() || protocol.is_some() || has_port || users.is_some()
    }

    /// Tells whether a route that its table has counts for it.
    fn takes(&self, route: &Route) -> bool {
        self.suppress_prefix_len.is_none_or(|len| route.destination.prefix_len() > len)
    }

    fn matches(&self, key: &RouteKey) -> bool {
        let Self {
            priority: _,
            family,
            from,
            to,
            input_nic,
            output_nic,
            mark,
            tos,
            protocol,
            source_port,
            destination_port,
            users,
            is_inverted,
            suppress_prefix_len: _,
            set_by: _,
            action: _,
        } = self;
        let facts = &key.packet;
        let is_family = match key.destination {
            IpAddr::V4(_) => *family == Family::V4,
            IpAddr::V6(_) => *family == Family::V6,
        };
        let selected = from.is_none_or(|from| key.source.is_some_and(|source| from.contains(source)))
            && to.is_none_or(|to| to.contains(key.destination))
            && input_nic.as_ref().is_none_or(|nic| nic.is(key.input_nic))
            && output_nic.as_ref().is_none_or(|nic| nic.is(key.output_nic))
            && mark.is_none_or(|mark| mark.matches(key.mark))
            && tos.is_none_or(|tos| tos.matches(facts.tos, key.destination.is_ipv4()))
            && protocol.is_none_or(|protocol| protocol == facts.protocol)
            && source_port.is_none_or(|ports| ports.matches(facts.source_port))
            && destination_port.is_none_or(|ports| ports.matches(facts.destination_port))
            && users.as_ref().is_none_or(|users| users.contains(&facts.user));
        is_family && selected != *is_inverted
    }
}

/// What rules look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RouteKey {
    pub(crate) destination: IpAddr,
    /// Not known yet for most packets of our own.
    pub(crate) source: Option<IpAddr>,
    pub(crate) input_nic: Option<NicId>,
    pub(crate) output_nic: Option<NicId>,
    pub(crate) mark: u32,
    pub(crate) packet: PacketFacts,
}

/// What rules lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Route(&'a Route),
    /// A rule that says no.
    Refused(RuleAction),
}

/// The rules of a stack, sorted. Empty stands for Linux's default: the main table, then the default table.
#[derive(Debug, Clone, Default)]
pub(crate) struct RuleList {
    rules: Vec<Rule>,
    /// How many of them look at more than addresses, NICs and marks.
    particular: usize,
}

impl RuleList {
    /// What the user added.
    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether what was found for one packet may be wrong for others between the same addresses that have its mark.
    pub(crate) fn are_particular(&self) -> bool {
        self.particular > 0
    }

    /// Adds a rule behind those of the same priority. `find` says which NIC has a name.
    pub(crate) fn add(
        &mut self,
        mut rule: Rule,
        find: impl Fn(&str) -> Option<NicId>,
    ) -> Result<(), ConfigError> {
        // fib_nl_newrule: "Backward goto not supported", which could go round for ever.
        if matches!(rule.action, RuleAction::Goto(target) if target <= rule.priority) {
            return Err(ConfigError::Invalid);
        }
        if self.rules.contains(&rule) {
            return Err(ConfigError::Exists);
        }
        for nic in rule.nics_mut() {
            nic.id = find(&nic.name);
        }
        let at = self.rules.partition_point(|other| other.priority <= rule.priority);
        self.particular += usize::from(rule.is_particular());
        self.rules.insert(at, rule);
        Ok(())
    }

    /// A NIC has that name from now on, and no other one.
    pub(crate) fn attach(&mut self, id: NicId, name: &str) {
        self.detach(id);
        for nic in self.rules.iter_mut().flat_map(Rule::nics_mut).filter(|nic| *nic.name == *name) {
            nic.id = Some(id);
        }
    }

    /// A NIC is gone.
    pub(crate) fn detach(&mut self, id: NicId) {
        for nic in self.rules.iter_mut().flat_map(Rule::nics_mut).filter(|nic| nic.id == Some(id)) {
            nic.id = None;
        }
    }

    /// Whether a rule of the family has that priority, for others to go on there.
    pub(crate) fn has_priority(&self, family: Family, priority: u32) -> bool {
        let is_fixed = priority == MAIN_PRIORITY || (priority == DEFAULT_PRIORITY && family == Family::V4);
        is_fixed || self.rules.iter().any(|rule| rule.family == family && rule.priority == priority)
    }

    /// Removes a rule; false if there is none.
    pub(crate) fn remove(&mut self, rule: &Rule) -> bool {
        let at = self.rules.iter().position(|other| other == rule);
        let removed = at.map(|at| self.rules.remove(at));
        self.particular -= usize::from(removed.as_ref().is_some_and(Rule::is_particular));
        removed.is_some()
    }

    /// Asks the tables that the rules name, in order, for the first route that `is_usable`.
    pub(crate) fn lookup<'a>(
        &self,
        tables: &'a RouteTable,
        key: &RouteKey,
        is_usable: impl Fn(&Route) -> bool,
    ) -> Option<Found<'a>> {
        let ask = |table| tables.lookup_in(table, key.destination).find(|route| is_usable(route));
        let main = || ask(TableId::MAIN).map(Found::Route);
        let default = || ask(TableId::DEFAULT).map(Found::Route);
        if self.rules.is_empty() {
            return main().or_else(default);
        }
        // What is before this priority is jumped over.
        let mut begin = 0;
        let mut rules = self.rules.iter().filter(|rule| rule.matches(key)).peekable();
        let mut step = |last: u32| {
            while let Some(rule) = rules.next_if(|rule| rule.priority <= last) {
                if rule.priority < begin {
                    continue;
                }
                match rule.action {
                    RuleAction::Lookup(table) => {
                        // The first has the longest prefix: where it does not count, none does.
                        if let Some(route) = ask(table).filter(|route| rule.takes(route)) {
                            return (begin, Some(Found::Route(route)));
                        }
                    }
                    RuleAction::Goto(target) if self.has_priority(rule.family, target) => begin = target,
                    RuleAction::Goto(_) | RuleAction::Nop => {}
                    refused => return (begin, Some(Found::Refused(refused))),
                }
            }
            (begin, None)
        };
        let (begin, found) = step(MAIN_PRIORITY - 1);
        let found = found.or_else(|| if begin <= MAIN_PRIORITY { main() } else { None });
        if found.is_some() {
            return found;
        }
        let (begin, found) = step(DEFAULT_PRIORITY - 1);
        let found = found.or_else(|| if begin <= DEFAULT_PRIORITY { default() } else { None });
        found.or_else(|| step(u32::MAX).1)
    }
}

/// Where Linux has "from all lookup main" and "from all lookup default".
const MAIN_PRIORITY: u32 = 32_766;
const DEFAULT_PRIORITY: u32 = 32_767;

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
