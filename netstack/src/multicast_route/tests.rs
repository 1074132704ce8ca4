//! The table as rows.

use std::net::IpAddr;

use super::table::{Arrival, Decision, Replace, Table};
use super::{Entrance, MulticastRoute, MulticastRouteError, Thresholds, Vif, VifId};
use crate::nic::NicId;
use crate::options::Family;
use crate::time::Instant;

const ANY: &str = "0.0.0.0";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn vif(number: usize) -> VifId {
    VifId::new(number).unwrap()
}

/// Source, group, parent, and outputs with their thresholds.
type Row<'a> = (&'a str, &'a str, usize, &'a [(usize, u8)]);

/// Virtual interfaces 0 to 3 on NICs 1 to 4, and the routes.
fn table(routes: &[Row<'_>]) -> Table {
    let mut table = Table::new(Family::V4);
    for number in 0..4 {
        let nic = NicId::from_index(number + 1).unwrap();
        table.add_vif(vif(number as usize), Vif::Nic(nic)).unwrap();
    }
    for &(source, group, parent, outputs) in routes {
        let ways = outputs.iter().fold(Thresholds::default(), |all, &(id, ttl)| all.with(vif(id), ttl));
        let route =
            MulticastRoute { source: ip(source), group: ip(group), parent: vif(parent), outputs: ways };
        table.add_route(route, Replace::SameParent).unwrap();
    }
    table
}

fn arrival(on: u32, source: &str, group: &str, ttl: u8) -> Arrival {
    let nic = NicId::from_index(on + 1).unwrap();
    let (source, group, now) = (ip(source), ip(group), Instant::from_millis(1));
    Arrival { nic, source, group, ttl, len: 100, entrance: Entrance::Link, now }
}

/// The numbers of the virtual interfaces that a packet leaves through.
#[track_caller]
fn ways(decision: Decision) -> Vec<u8> {
    match decision {
        Decision::Forward(out) => out.iter().map(|(id, _)| id.number()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn thresholds_decide_and_the_parent_must_be_right() {
    let table = table(&[("10.0.0.1", "239.1.1.1", 0, &[(1, 1), (2, 16), (3, 255)])]);
    for (ttl, expected) in [(1, vec![]), (2, vec![1]), (16, vec![1]), (17, vec![1, 2])] {
        assert_eq!(ways(table.decide(&arrival(0, "10.0.0.1", "239.1.1.1", ttl))), expected, "{ttl}");
    }
    let wrong = table.decide(&arrival(1, "10.0.0.1", "239.1.1.1", 64));
    assert_eq!(wrong, Decision::WrongVif { report: None });
    assert_eq!(table.decide(&arrival(0, "10.0.0.2", "239.1.1.1", 64)), Decision::NoRoute(vif(0)));
    assert_eq!(table.decide(&arrival(9, "10.0.0.2", "239.1.1.1", 64)), Decision::Ignored);
    let info = table.routes()[0].counts;
    assert_eq!((info.packets, info.bytes, info.wrong_vif), (5, 500, 1));
    assert_eq!(table.vif(vif(0)).unwrap().counts.packets_in, 4);
}

#[test]
fn a_route_of_all_sources_does_not_lead_back() {
    let table = table(&[(ANY, "239.1.1.1", 0, &[(0, 1), (1, 1), (2, 1)])]);
    assert_eq!(ways(table.decide(&arrival(0, "10.0.0.1", "239.1.1.1", 9))), [1, 2]);
    // It hangs on no tree, so packets must come in at its parent.
    let from_branch = table.decide(&arrival(1, "10.0.0.1", "239.1.1.1", 9));
    assert_eq!(from_branch, Decision::WrongVif { report: None });
    assert_eq!(table.decide(&arrival(3, "10.0.0.1", "239.1.1.1", 9)), Decision::NoRoute(vif(3)));
}

/// RFC 5015's trees, as `ipmr_cache_find_any` has them: a route for all groups leads up, those of a group hang on it.
#[test]
fn a_tree_for_all_groups_leads_up_and_feeds_the_routes_of_groups() {
    let up = (ANY, ANY, 0, &[(0, 1), (1, 1), (2, 1)][..]);
    let tree = table(&[up]);
    assert_eq!(ways(tree.decide(&arrival(1, "10.0.0.1", "239.1.1.1", 9))), [0]);
    assert!(ways(tree.decide(&arrival(0, "10.0.0.1", "239.1.1.1", 9))).is_empty());
    assert_eq!(tree.decide(&arrival(3, "10.0.0.1", "239.1.1.1", 9)), Decision::NoRoute(vif(3)));
    let with_group = table(&[up, (ANY, "239.1.1.1", 0, &[(0, 1), (1, 1)])]);
    assert_eq!(ways(with_group.decide(&arrival(2, "10.0.0.1", "239.1.1.1", 9))), [0, 1]);
    assert_eq!(ways(with_group.decide(&arrival(0, "10.0.0.1", "239.1.1.1", 9))), [1]);
}

#[test]
fn reports_of_the_wrong_way_are_seconds_apart() {
    let mut table = table(&[("10.0.0.1", "239.1.1.1", 0, &[(1, 1)])]);
    table.reports_wrong_vif = true;
    let at = |on, seconds: u64| Arrival {
        now: Instant::from_millis(seconds * 1000),
        ..arrival(on, "10.0.0.1", "239.1.1.1", 9)
    };
    let report = |on| Decision::WrongVif { report: Some(vif(on)) };
    let silent = Decision::WrongVif { report: None };
    // Not where it does not lead out, unless all are wanted.
    assert_eq!(table.decide(&at(2, 1)), silent);
    assert_eq!(table.decide(&at(1, 1)), report(1));
    assert_eq!(table.decide(&at(1, 4)), silent);
    assert_eq!(table.decide(&at(1, 5)), report(1));
    table.reports_any_vif = true;
    assert_eq!(table.decide(&at(2, 9)), report(2));
    let own = Arrival { entrance: Entrance::Own, ..at(2, 20) };
    assert_eq!(table.decide(&own), Decision::Ignored);
    assert_eq!(table.routes()[0].counts.wrong_vif, 5);
}

#[test]
fn changes_fail_as_said() {
    let mut table = table(&[]);
    let route = |source: &str, group: &str| MulticastRoute {
        source: ip(source),
        group: ip(group),
        parent: vif(0),
        outputs: Thresholds::default(),
    };
    let mut add = |source, group| table.add_route(route(source, group), Replace::Any);
    assert_eq!(add("10.0.0.1", "10.0.0.2"), Err(MulticastRouteError::NotMulticast));
    assert_eq!(add("fd00::1", "ff1e::1"), Err(MulticastRouteError::NotMulticast));
    assert_eq!(add("10.0.0.1", "239.0.0.1"), Ok(()));
    assert_eq!(add("10.0.0.1", "239.0.0.1"), Ok(()));
    assert_eq!(table.routes().len(), 1);
    let nic = Vif::Nic(NicId::from_index(9).unwrap());
    assert_eq!(table.add_vif(vif(3), nic), Err(MulticastRouteError::InUse));
    assert_eq!(table.add_vif(vif(4), Vif::Register), Ok(()));
    assert_eq!(table.add_vif(vif(5), Vif::Register), Err(MulticastRouteError::InUse));
    assert_eq!(table.remove_vif(vif(6)), Err(MulticastRouteError::NoSuchVif));
    let (source, group) = (ip("10.0.0.1"), ip("239.0.0.1"));
    assert_eq!(table.remove_route(source, group, Some(vif(1))), Err(MulticastRouteError::NotFound));
    assert_eq!(table.remove_route(source, group, None), Ok(()));
    assert_eq!(table.remove_route(source, group, None), Err(MulticastRouteError::NotFound));
}
