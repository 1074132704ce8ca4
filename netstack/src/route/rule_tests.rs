//! Tests of the rules that choose routing tables.

use super::*;

fn nic(index: u32) -> NicId {
    NicId::from_index(index).unwrap()
}

/// There are the NICs "nic1" to "nic9".
fn named(name: &str) -> Option<NicId> {
    name.strip_prefix("nic")?.parse().ok().and_then(NicId::from_index)
}

fn add(list: &mut RuleList, rule: Rule) {
    list.add(rule, named).unwrap();
}

fn key(destination: &str) -> RouteKey {
    RouteKey {
        destination: destination.parse().unwrap(),
        source: None,
        input_nic: None,
        output_nic: None,
        mark: 0,
        packet: PacketFacts::default(),
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
        packet: PacketFacts { protocol: 17, source_port: 5000, destination_port: 53, user: 1000, tos: 0xb9 },
        ..key("192.0.2.1")
    };
    let rules = [
        Rule { from: Some("10.0.0.0/8".parse().unwrap()), ..base.clone() },
        Rule { to: Some("192.0.2.0/24".parse().unwrap()), ..base.clone() },
        Rule { input_nic: Some(RuleNic::named("nic7")), ..base.clone() },
        Rule { output_nic: Some(RuleNic::named("nic8")), ..base.clone() },
        Rule { mark: Some(MarkMatch { value: 5, mask: 0xff }), ..base.clone() },
        Rule { protocol: Some(17), ..base.clone() },
        Rule { source_port: Some(PortMatch::range(4000, 5000)), ..base.clone() },
        Rule { destination_port: Some(PortMatch::range(53, 53)), ..base.clone() },
        Rule { destination_port: Some(PortMatch { first: 0x30, last: 0x30, mask: 0xf0 }), ..base.clone() },
        Rule { users: Some(1000..=1999), ..base.clone() },
        // The upper three bits do not count, nor do those of ECN.
        Rule { tos: Some(TosMatch::Tos(0x18)), ..base.clone() },
        Rule { tos: Some(TosMatch::Dscp { value: 46, mask: 0x3f }), ..base.clone() },
        Rule { tos: Some(TosMatch::Dscp { value: 32, mask: 0x20 }), ..base.clone() },
    ];
    let miss = RouteKey { mark: 0x106, ..key("198.51.100.1") };
    for rule in rules {
        let mut list = RuleList::default();
        assert_eq!(list.add(rule.clone(), named), Ok(()));
        assert_eq!(list.add(rule.clone(), named), Err(ConfigError::Exists));
        assert_eq!((found(&list, &hit), found(&list, &miss)), (Some(2), Some(1)), "{rule:?}");
        let mut list = RuleList::default();
        add(&mut list, Rule { is_inverted: true, ..rule.clone() });
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
    add(&mut list, Rule { suppress_prefix_len: Some(0), ..main });
    add(&mut list, Rule::new(Family::V4, 60, RuleAction::Lookup(TableId(100))));
    let found = |destination| match list.lookup(&tables, &key(destination), |_| true) {
        Some(Found::Route(route)) => route.nic.index(),
        other => panic!("{other:?}"),
    };
    assert_eq!((found("192.0.2.1"), found("198.51.100.1")), (9, 2));
}

#[test]
fn priorities_order_the_rules_around_the_main_table() {
    let mut list = RuleList::default();
    add(&mut list, Rule::new(Family::V4, 200, RuleAction::Lookup(TableId(101))));
    add(&mut list, Rule::new(Family::V4, 40_000, RuleAction::Prohibit));
    add(&mut list, Rule::new(Family::V4, 100, RuleAction::Lookup(TableId(9))));
    assert_eq!(found(&list, &key("192.0.2.1")), Some(3));
    assert!(list.remove(&Rule::new(Family::V4, 200, RuleAction::Lookup(TableId(101)))));
    assert_eq!(found(&list, &key("192.0.2.1")), Some(1));
    let empty = RouteTable::default();
    let nothing = list.lookup(&empty, &key("192.0.2.1"), |_| true);
    assert_eq!(nothing, Some(Found::Refused(RuleAction::Prohibit)));
    add(&mut list, Rule::new(Family::V4, 50, RuleAction::Unreachable));
    assert_eq!(found(&list, &key("192.0.2.1")), Some(0));
}

#[test]
fn goto_jumps_to_rules_that_exist() {
    // The main table leads to 1, table 100 to 2, table 101 to 3.
    let lookup = |priority, table| Rule::new(Family::V4, priority, RuleAction::Lookup(TableId(table)));
    let goto = |priority, target| Rule::new(Family::V4, priority, RuleAction::Goto(target));
    let outcome = |rules: &[Rule]| {
        let mut list = RuleList::default();
        rules.iter().for_each(|rule| add(&mut list, rule.clone()));
        found(&list, &key("192.0.2.1"))
    };
    assert_eq!(outcome(&[goto(10, 30), lookup(20, 100), lookup(30, 101)]), Some(3));
    assert_eq!(outcome(&[goto(10, 25), lookup(20, 100), lookup(30, 101)]), Some(2));
    assert_eq!(outcome(&[goto(10, 32_766), lookup(20, 100)]), Some(1));
    assert_eq!(outcome(&[goto(10, 32_767), lookup(20, 100), lookup(40_000, 101)]), Some(3));
    assert_eq!(outcome(&[goto(10, 40_000), lookup(40_000, 101)]), Some(3));
    assert_eq!(outcome(&[goto(10, u32::MAX), lookup(u32::MAX, 100)]), Some(2));
    assert_eq!(outcome(&[goto(32_766, 50_000), lookup(50_000, 101)]), Some(1));
    // A rule of the other family is none to go to.
    let other = Rule::new(Family::V6, 30, RuleAction::Nop);
    assert_eq!(outcome(&[goto(10, 30), lookup(20, 100), other]), Some(2));
    // The target is asked whether it matches.
    let for_others = Rule { mark: Some(MarkMatch::exactly(7)), ..lookup(30, 101) };
    assert_eq!(outcome(&[goto(10, 30), lookup(20, 100), for_others]), Some(1));
    assert_eq!(outcome(&[Rule::new(Family::V4, 10, RuleAction::Nop), lookup(20, 100)]), Some(2));
    let mut list = RuleList::default();
    assert_eq!(list.add(goto(10, 10), named), Err(ConfigError::Invalid));
    assert_eq!(list.add(goto(10, 9), named), Err(ConfigError::Invalid));
}

#[test]
fn rules_wait_for_the_nics_that_they_name() {
    let rule = Rule {
        input_nic: Some(RuleNic::named("later")),
        ..Rule::new(Family::V4, 10, RuleAction::Lookup(TableId(100)))
    };
    let mut list = RuleList::default();
    add(&mut list, rule);
    let from_7 = RouteKey { input_nic: Some(nic(7)), ..key("192.0.2.1") };
    assert_eq!((found(&list, &from_7), found(&list, &key("192.0.2.1"))), (Some(1), Some(1)));
    list.attach(nic(7), "later");
    assert_eq!((found(&list, &from_7), found(&list, &key("192.0.2.1"))), (Some(2), Some(1)));
    list.attach(nic(7), "renamed");
    assert_eq!(found(&list, &from_7), Some(1));
    list.attach(nic(7), "later");
    list.detach(nic(7));
    assert_eq!((found(&list, &from_7), list.rules()[0].input_nic.as_ref().unwrap().id()), (Some(1), None));
}

#[test]
fn the_whole_traffic_class_counts_in_ipv6() {
    let is_found = |wanted: u8, tos: u8| TosMatch::Tos(wanted).matches(tos, false);
    assert!(is_found(0xb8, 0xb9));
    assert!(!is_found(0x18, 0xb9));
}

#[test]
fn rules_are_particular_as_long_as_one_of_them_is() {
    let base = Rule::new(Family::V4, 100, RuleAction::Lookup(TableId(100)));
    let (plain, by_user) =
        (Rule { mark: Some(MarkMatch::exactly(1)), ..base.clone() }, Rule { users: Some(0..=9), ..base });
    let mut list = RuleList::default();
    add(&mut list, plain.clone());
    assert!(!list.are_particular());
    add(&mut list, by_user.clone());
    assert!(list.remove(&plain) && list.are_particular());
    assert!(list.remove(&by_user) && !list.are_particular());
}
