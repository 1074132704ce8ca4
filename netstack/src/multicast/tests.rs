//! The membership machine, step by step.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn include(sources: &[&str]) -> SourceFilter {
    SourceFilter { mode: FilterMode::Include, sources: sources.iter().map(|source| ip(source)).collect() }
}

fn exclude(sources: &[&str]) -> SourceFilter {
    SourceFilter { mode: FilterMode::Exclude, ..include(sources) }
}

const GROUP: &str = "239.1.1.1";

fn record(kind: RecordKind, sources: &[&str]) -> MembershipRepr {
    let sources = sources.iter().map(|source| ip(source)).collect();
    report_of(GroupRecord { kind, group: ip(GROUP), sources })
}

fn run(machine: &mut GroupMachine, until: Instant) -> Vec<MembershipRepr> {
    let mut sent = Vec::new();
    while let Some(at) = machine.next_deadline().filter(|&at| at <= until) {
        sent.extend(machine.on_timer(at, 12_345));
    }
    sent
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn query(version: u8, group: Option<&str>, sources: &[&str]) -> MembershipQuery {
    MembershipQuery {
        version,
        max_response: Duration::from_secs(10),
        group: group.map(ip),
        sources: sources.iter().map(|source| ip(source)).collect(),
        robustness: None,
        interval: None,
    }
}

#[test]
fn changes_are_told_as_often_as_robustness_says() {
    use RecordKind::*;
    let steps = [
        (exclude(&[]), vec![record(ToExclude, &[])]),
        (exclude(&["10.0.0.1"]), vec![record(Block, &["10.0.0.1"])]),
        (exclude(&["10.0.0.2"]), vec![record(Allow, &["10.0.0.1"]), record(Block, &["10.0.0.2"])]),
        (include(&["10.0.0.3"]), vec![record(ToInclude, &["10.0.0.3"])]),
        (include(&["10.0.0.3", "10.0.0.4"]), vec![record(Allow, &["10.0.0.4"])]),
        (include(&["10.0.0.4"]), vec![record(Block, &["10.0.0.3"])]),
        (exclude(&["10.0.0.9"]), vec![record(ToExclude, &["10.0.0.9"])]),
        (SourceFilter::none(), vec![record(ToInclude, &[])]),
    ];
    let mut machine = GroupMachine::new();
    let mut now = at(0);
    for (filter, expected) in steps {
        assert_eq!(machine.set_filter(now, ip(GROUP), filter.clone(), 7), expected, "{filter:?}");
        assert_eq!(machine.set_filter(now, ip(GROUP), filter.clone(), 7), [], "{filter:?}, again");
        // Once more, within a second.
        assert_eq!(run(&mut machine, now + Duration::from_secs(1)), expected, "{filter:?}, repeated");
        now += Duration::from_secs(5);
        assert_eq!(run(&mut machine, now), []);
    }
    assert!(machine.groups.is_empty());
}

#[test]
fn queries_are_answered_in_time() {
    use RecordKind::*;
    let mut machine = GroupMachine::new();
    machine.set_filter(at(0), ip(GROUP), include(&["10.0.0.1", "10.0.0.2"]), 7);
    run(&mut machine, at(2000));
    for (asked, expected) in [
        (query(3, None, &[]), vec![record(IsInclude, &["10.0.0.1", "10.0.0.2"])]),
        (query(3, Some(GROUP), &[]), vec![record(IsInclude, &["10.0.0.1", "10.0.0.2"])]),
        (query(3, Some(GROUP), &["10.0.0.2", "10.0.0.3"]), vec![record(IsInclude, &["10.0.0.2"])]),
        (query(3, Some(GROUP), &["10.0.0.3"]), vec![]),
        (query(3, Some("239.9.9.9"), &[]), vec![]),
    ] {
        machine.on_query(at(10_000), &asked, 5_000_000);
        assert_eq!(machine.on_timer(at(14_999), 0), [], "too early");
        assert_eq!(run(&mut machine, at(20_000)), expected, "{asked:?}");
    }
    // A question for the group is not forgotten over one for a source; a sooner answer to all covers both.
    machine.on_query(at(30_000), &query(3, Some(GROUP), &[]), 5_000_000);
    machine.on_query(at(30_000), &query(3, Some(GROUP), &["10.0.0.9"]), 1_000_000);
    assert_eq!(run(&mut machine, at(31_001)), [record(IsInclude, &["10.0.0.1", "10.0.0.2"])]);
    machine.on_query(at(40_000), &query(3, None, &[]), 1_000_000);
    machine.on_query(at(40_000), &query(3, Some(GROUP), &[]), 2_000_000);
    assert_eq!(run(&mut machine, at(50_000)).len(), 1);
}

#[test]
fn old_queriers_get_old_reports_for_a_while() {
    let mut machine = GroupMachine::new();
    machine.set_filter(at(0), ip(GROUP), exclude(&[]), 7);
    run(&mut machine, at(2000));
    machine.on_query(at(10_000), &query(2, None, &[]), 1_000_000);
    let report = MembershipRepr::Report { version: 2, group: ip(GROUP) };
    assert_eq!(run(&mut machine, at(20_000)), std::slice::from_ref(&report));
    // Another host's report spares ours, and then a leave as well.
    machine.on_query(at(30_000), &query(2, Some(GROUP), &[]), 1_000_000);
    machine.on_other_report(at(30_500), ip(GROUP));
    assert_eq!(run(&mut machine, at(40_000)), []);
    assert_eq!(machine.set_filter(at(41_000), ip(GROUP), SourceFilter::none(), 7), []);
    // Joining and leaving in version 2.
    assert_eq!(
        machine.set_filter(at(42_000), ip(GROUP), include(&["10.0.0.1"]), 7),
        std::slice::from_ref(&report)
    );
    assert_eq!(run(&mut machine, at(53_000)), [report]);
    let leave = MembershipRepr::Leave { group: ip(GROUP) };
    assert_eq!(machine.set_filter(at(54_000), ip(GROUP), SourceFilter::none(), 7), [leave]);
    // A version 1 querier is not told about leaving.
    machine.on_query(at(55_000), &query(1, None, &[]), 1_000_000);
    let report = MembershipRepr::Report { version: 1, group: ip(GROUP) };
    assert_eq!(machine.set_filter(at(56_000), ip(GROUP), exclude(&[]), 7), [report]);
    assert_eq!(machine.set_filter(at(57_000), ip(GROUP), SourceFilter::none(), 7), []);
    // 2 x 125 s + 10 s later it is version 3 again.
    assert_eq!(
        machine.set_filter(at(315_001), ip(GROUP), exclude(&[]), 7),
        [record(RecordKind::ToExclude, &[])]
    );
}

#[test]
fn members_are_merged() {
    let merge = |filters: &[SourceFilter]| SourceFilter::merged(filters.iter());
    assert_eq!(merge(&[]), SourceFilter::none());
    assert_eq!(merge(&[include(&["10.0.0.1"]), include(&["10.0.0.2"])]), include(&["10.0.0.1", "10.0.0.2"]));
    // The example of RFC 3376 section 3.2.
    let [a, b, c, d, e] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"];
    let members = [exclude(&[a, b, c, d]), exclude(&[b, c, d, e]), include(&[d, e])];
    assert_eq!(merge(&members), exclude(&[b, c]));
    assert!(merge(&members).allows(ip(d)) && !merge(&members).allows(ip(b)));
}
