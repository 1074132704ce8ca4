//! Policy rules (`ip rule`): which tables are asked for which packets, in which order.

use std::net::IpAddr;

use crate::cidr::IpCidr;
use crate::nic::NicId;
use crate::options::Family;
use crate::route::{Route, RouteTable, TableId};

/// One rule. A selector that is not set matches everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    pub input_nic: Option<NicId>,
    /// The NIC that the socket is bound to.
    pub output_nic: Option<NicId>,
    /// The firewall mark.
    pub mark: Option<MarkMatch>,
    /// Matches what the selectors do not match (`ip rule add not ...`).
    pub is_inverted: bool,
    /// Routes of the table whose prefix has this length or a shorter one do not count (`suppress_prefixlength`): 0 leaves
    /// the default route to later rules.
    pub suppress_prefix_len: Option<u8>,
    /// What to do with the packets.
    pub action: RuleAction,
}

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
            is_inverted: false,
            suppress_prefix_len: None,
            action,
        }
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
            is_inverted,
            suppress_prefix_len: _,
            action: _,
        } = self;
        let is_family = match key.destination {
            IpAddr::V4(_) => *family == Family::V4,
            IpAddr::V6(_) => *family == Family::V6,
        };
        let selected = from.is_none_or(|from| key.source.is_some_and(|source| from.contains(source)))
            && to.is_none_or(|to| to.contains(key.destination))
            && input_nic.is_none_or(|nic| key.input_nic == Some(nic))
            && output_nic.is_none_or(|nic| key.output_nic == Some(nic))
            && mark.is_none_or(|mark| mark.matches(key.mark));
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
}

impl RuleList {
    /// What the user added.
    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Adds a rule behind those of the same priority; false if it exists.
    pub(crate) fn add(&mut self, rule: Rule) -> bool {
        if self.rules.contains(&rule) {
            return false;
        }
        let at = self.rules.partition_point(|other| other.priority <= rule.priority);
        self.rules.insert(at, rule);
        true
    }

    /// Removes a rule; false if there is none.
    pub(crate) fn remove(&mut self, rule: &Rule) -> bool {
        let at = self.rules.iter().position(|other| other == rule);
        at.map(|at| self.rules.remove(at)).is_some()
    }

    /// Asks the tables that the rules name, in order, for the first route that `is_usable`.
    pub(crate) fn lookup<'a>(
        &self,
        tables: &'a RouteTable,
        key: &RouteKey,
        is_usable: impl Fn(&Route) -> bool,
    ) -> Option<Found<'a>> {
        let ask = |table| tables.lookup_in(table, key.destination).find(|route| is_usable(route));
        let mut rules = self.rules.iter().filter(|rule| rule.matches(key)).peekable();
        let mut step = |until: u32| {
            while let Some(rule) = rules.next_if(|rule| rule.priority < until) {
                match rule.action {
                    RuleAction::Lookup(table) => {
                        // The first has the longest prefix: where it does not count, none does.
                        if let Some(route) = ask(table).filter(|route| rule.takes(route)) {
                            return Some(Found::Route(route));
                        }
                    }
                    refused => return Some(Found::Refused(refused)),
                }
            }
            None
        };
        let main = || ask(TableId::MAIN).map(Found::Route);
        let default = || ask(TableId::DEFAULT).map(Found::Route);
        step(MAIN_PRIORITY)
            .or_else(main)
            .or_else(|| step(DEFAULT_PRIORITY))
            .or_else(default)
            .or_else(|| step(u32::MAX))
    }
}

/// Where Linux has "from all lookup main" and "from all lookup default".
const MAIN_PRIORITY: u32 = 32_766;
const DEFAULT_PRIORITY: u32 = 32_767;

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(index: u32) -> NicId {
        NicId::from_index(index).unwrap()
    }

    fn key(destination: &str) -> RouteKey {
        RouteKey {
            destination: destination.parse().unwrap(),
            source: None,
            input_nic: None,
            output_nic: None,
            mark: 0,
        }
    }

    fn tables() -> RouteTable {
        let mut tables = RouteTable::default();
        for (table, index) in [(TableId::MAIN, 1), (TableId(100), 2), (TableId(101), 3)] {
            tables.add(Route { table, ..Route::connected(IpCidr::DEFAULT_V4, nic(index)) });
        }
        tables
    }

    fn found(rules: &RuleList, key: &RouteKey) -> Option<u32> {
        match rules.lookup(&tables(), key, |_| true)? {
            Found::Route(route) => Some(route.nic.index()),
            Found::Refused(_) => Some(0),
        }
    }

    #[test]
    fn without_rules_the_main_table_answers() {
        assert_eq!(found(&RuleList::default(), &key("192.0.2.1")), Some(1));
        assert_eq!(found(&RuleList::default(), &key("2001:db8::1")), None);
    }

    #[test]
    fn each_selector_counts() {
        let base = Rule::new(Family::V4, 100, RuleAction::Lookup(TableId(100)));
        let hit = RouteKey {
            source: Some("10.1.1.1".parse().unwrap()),
            input_nic: Some(nic(7)),
            output_nic: Some(nic(8)),
            mark: 0x105,
            ..key("192.0.2.1")
        };
        let rules = [
            Rule { from: Some("10.0.0.0/8".parse().unwrap()), ..base },
            Rule { to: Some("192.0.2.0/24".parse().unwrap()), ..base },
            Rule { input_nic: Some(nic(7)), ..base },
            Rule { output_nic: Some(nic(8)), ..base },
            Rule { mark: Some(MarkMatch { value: 5, mask: 0xff }), ..base },
        ];
        let miss = RouteKey { mark: 0x106, ..key("198.51.100.1") };
        for rule in rules {
            let mut list = RuleList::default();
            assert!(list.add(rule) && !list.add(rule));
            assert_eq!((found(&list, &hit), found(&list, &miss)), (Some(2), Some(1)), "{rule:?}");
            let mut list = RuleList::default();
            list.add(Rule { is_inverted: true, ..rule });
            assert_eq!((found(&list, &hit), found(&list, &miss)), (Some(1), Some(2)), "not {rule:?}");
        }
    }

    #[test]
    fn a_rule_may_leave_short_prefixes_to_others() {
        let mut tables = tables();
        let near = IpCidr::new("192.0.2.0".parse().unwrap(), 24).unwrap();
        tables.add(Route::connected(near, nic(9)));
        let mut list = RuleList::default();
        let main = Rule::new(Family::V4, 50, RuleAction::Lookup(TableId::MAIN));
        list.add(Rule { suppress_prefix_len: Some(0), ..main });
        list.add(Rule::new(Family::V4, 60, RuleAction::Lookup(TableId(100))));
        let found = |destination| match list.lookup(&tables, &key(destination), |_| true) {
            Some(Found::Route(route)) => route.nic.index(),
            other => panic!("{other:?}"),
        };
        assert_eq!((found("192.0.2.1"), found("198.51.100.1")), (9, 2));
    }

    #[test]
    fn priorities_order_the_rules_around_the_main_table() {
        let mut list = RuleList::default();
        list.add(Rule::new(Family::V4, 200, RuleAction::Lookup(TableId(101))));
        list.add(Rule::new(Family::V4, 40_000, RuleAction::Prohibit));
        list.add(Rule::new(Family::V4, 100, RuleAction::Lookup(TableId(9))));
        assert_eq!(found(&list, &key("192.0.2.1")), Some(3));
        assert!(list.remove(&Rule::new(Family::V4, 200, RuleAction::Lookup(TableId(101)))));
        assert_eq!(found(&list, &key("192.0.2.1")), Some(1));
        let empty = RouteTable::default();
        let nothing = list.lookup(&empty, &key("192.0.2.1"), |_| true);
        assert_eq!(nothing, Some(Found::Refused(RuleAction::Prohibit)));
        list.add(Rule::new(Family::V4, 50, RuleAction::Unreachable));
        assert_eq!(found(&list, &key("192.0.2.1")), Some(0));
    }
}
