//! The autoconfiguration machine, step by step.

use std::net::Ipv6Addr;
use std::time::Duration;

use netstack_wire::ndp::{Preference, PrefixInformation, RouteInformation, RouterAdvertisement};

use super::{Action, AutoconfOptions, Identity, Machine, TemporaryAddresses};
use crate::cidr::IpCidr;
use crate::time::Instant;

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

fn machine(temporary: TemporaryAddresses) -> Machine {
    let identity = Identity { secret: [1, 2], interface: 7, random: 0 };
    Machine::new(AutoconfOptions { temporary, ..AutoconfOptions::default() }, identity)
}

fn advertisement(valid_s: u32, preferred_s: u32) -> RouterAdvertisement {
    RouterAdvertisement {
        hop_limit: 0,
        is_managed: false,
        has_other_config: true,
        lifetime_s: 1800,
        reachable_ms: 0,
        retransmit_ms: 0,
        source_mac: None,
        mtu: None,
        preference: Preference::Medium,
        prefixes: vec![PrefixInformation {
            prefix: "2001:db8::".parse().unwrap(),
            prefix_len: 64,
            is_on_link: true,
            is_autonomous: true,
            valid_s,
            preferred_s,
        }],
        routes: Vec::new(),
        dns_servers: Vec::new(),
        dns_search: Vec::new(),
    }
}

fn made(actions: &[Action]) -> Vec<(Ipv6Addr, bool)> {
    let address = |action: &Action| match *action {
        Action::AddAddress { address, is_temporary } => Some((address, is_temporary)),
        _ => None,
    };
    actions.iter().filter_map(address).collect()
}

fn seconds(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

/// Runs all timers up to `end` and returns what they did, with the second they did it in.
fn run(machine: &mut Machine, end: Instant) -> Vec<(u64, Action)> {
    let mut done = Vec::new();
    while let Some(at) = machine.next_deadline().filter(|&at| at <= end) {
        done.extend(machine.on_timer(at).into_iter().map(|action| (at.as_nanos() / 1_000_000_000, action)));
    }
    done
}

#[test]
fn solicitations_back_off_until_a_router_answers() {
    let mut machine = machine(TemporaryAddresses::Off);
    let start = machine.start(Instant::ZERO);
    assert!(made(&start)[0].0.is_unicast_link_local());
    let asked: Vec<u64> = run(&mut machine, seconds(200)).into_iter().map(|(at, _)| at).collect();
    assert_eq!(asked.len(), 6, "{asked:?}");
    let gaps: Vec<u64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (gap, expected) in gaps.iter().zip([4, 8, 16, 32, 64_u64]) {
        assert!(gap.abs_diff(expected) <= expected / 10 + 1, "{gaps:?}");
    }
    machine.on_advertisement(seconds(200), ROUTER, &advertisement(3600, 1800));
    assert!(run(&mut machine, seconds(1900)).iter().all(|(_, action)| *action != Action::Solicit));
}

#[test]
fn a_prefix_gives_a_route_and_an_address_that_ages() {
    let mut machine = machine(TemporaryAddresses::Off);
    let actions = machine.on_advertisement(Instant::ZERO, ROUTER, &advertisement(10_000, 5000));
    let network: IpCidr = "2001:db8::/64".parse().unwrap();
    let preference = Preference::Medium;
    assert!(actions.contains(&Action::AddRoute { network, router: None, preference }));
    let default = Action::AddRoute { network: IpCidr::DEFAULT_V6, router: Some(ROUTER), preference };
    assert!(actions.contains(&default));
    let [(address, false)] = made(&actions)[..] else { panic!("{actions:?}") };
    assert!(network.contains(address.into()));
    let done = run(&mut machine, seconds(20_000));
    let when = |wanted: &Action| done.iter().find(|(_, action)| action == wanted).map(|(at, _)| *at);
    assert_eq!(when(&Action::RemoveRoute { network: IpCidr::DEFAULT_V6, router: Some(ROUTER) }), Some(1800));
    assert_eq!(when(&Action::SetDeprecated { address, is_deprecated: true }), Some(5000));
    assert_eq!(when(&Action::RemoveAddress(address)), Some(10_000));
    assert_eq!(when(&Action::RemoveRoute { network, router: None }), Some(10_000));
    // The router's end makes the host ask again.
    assert!(when(&Action::Solicit).is_some());
}

#[test]
fn advertisements_renew_and_two_hours_are_kept() {
    let mut machine = machine(TemporaryAddresses::Off);
    let actions = machine.on_advertisement(Instant::ZERO, ROUTER, &advertisement(100_000, 50_000));
    let (address, _) = made(&actions)[0];
    // A forged end: two hours remain, but it is not preferred any more.
    let actions = machine.on_advertisement(seconds(1), ROUTER, &advertisement(0, 0));
    assert!(actions.contains(&Action::SetDeprecated { address, is_deprecated: true }));
    assert_eq!(machine.info().addresses[0].valid_until, Some(seconds(7201)));
    // Less than what remains, when that is below two hours, is ignored.
    machine.on_advertisement(seconds(3000), ROUTER, &advertisement(60, 60));
    assert_eq!(machine.info().addresses[0].valid_until, Some(seconds(7201)));
    let done = run(&mut machine, seconds(3100));
    assert!(done.contains(&(3060, Action::SetDeprecated { address, is_deprecated: true })), "{done:?}");
    // More is believed, and revives it.
    let actions = machine.on_advertisement(seconds(3100), ROUTER, &advertisement(u32::MAX, u32::MAX));
    assert!(actions.contains(&Action::SetDeprecated { address, is_deprecated: false }));
    assert_eq!(machine.info().addresses[0].valid_until, None);
    assert!(made(&actions).is_empty(), "the same address");
}

#[test]
fn senseless_prefixes_are_ignored() {
    let base = advertisement(3600, 1800).prefixes[0];
    for prefix in [
        PrefixInformation { prefix: "fe80::".parse().unwrap(), ..base },
        PrefixInformation { preferred_s: 7200, is_on_link: false, ..base },
        PrefixInformation { prefix_len: 63, is_on_link: false, ..base },
        PrefixInformation { prefix_len: 129, ..base },
        PrefixInformation { valid_s: 0, preferred_s: 0, ..base },
        PrefixInformation { prefix: "ff02::".parse().unwrap(), ..base },
    ] {
        let mut machine = machine(TemporaryAddresses::Off);
        let message =
            RouterAdvertisement { prefixes: vec![prefix], lifetime_s: 0, ..advertisement(3600, 1800) };
        assert_eq!(machine.on_advertisement(Instant::ZERO, ROUTER, &message), [], "{prefix:?}");
    }
}

#[test]
fn temporary_addresses_change_every_day() {
    let mut machine = machine(TemporaryAddresses::Prefer);
    let forever = advertisement(u32::MAX, u32::MAX);
    let actions = machine.on_advertisement(Instant::ZERO, ROUTER, &forever);
    let first = made(&actions);
    assert_eq!(first.iter().map(|(_, is_temporary)| *is_temporary).collect::<Vec<_>>(), [false, true]);
    let done = run(&mut machine, seconds(86_400 * 3));
    let made_later: Vec<_> =
        done.iter().filter(|(_, action)| matches!(action, Action::AddAddress { .. })).collect();
    assert!((3..=5).contains(&made_later.len()), "{made_later:?}");
    // The successor is there before the first is deprecated, and the first is gone after two days.
    let deprecated = Action::SetDeprecated { address: first[1].0, is_deprecated: true };
    let at = done.iter().find(|(_, action)| *action == deprecated).unwrap().0;
    assert!(made_later[0].0 < at && (86_400 * 6 / 10..=86_400).contains(&at), "{at}");
    let removed = done.iter().find(|(_, action)| *action == Action::RemoveAddress(first[1].0)).unwrap();
    assert_eq!(removed.0, 2 * 86_400);
    assert!(!done.iter().any(|(_, action)| *action == Action::RemoveAddress(first[0].0)));
}

#[test]
fn collisions_give_other_addresses_a_few_times() {
    let mut machine = machine(TemporaryAddresses::Off);
    let mut address = made(&machine.on_advertisement(Instant::ZERO, ROUTER, &advertisement(3600, 1800)))[0].0;
    for _ in 0..3 {
        let actions = machine.on_duplicate(Instant::ZERO, address).unwrap();
        assert_eq!(actions[0], Action::RemoveAddress(address));
        let next = made(&actions)[0].0;
        assert_ne!(next, address);
        address = next;
    }
    let actions = machine.on_duplicate(Instant::ZERO, address).unwrap();
    assert_eq!(actions, [Action::RemoveAddress(address)]);
    assert_eq!(machine.on_duplicate(Instant::ZERO, "2001:db8::1".parse().unwrap()), None);
}

#[test]
fn routes_servers_and_limits_are_learned() {
    let mut machine = machine(TemporaryAddresses::Off);
    let message = RouterAdvertisement {
        hop_limit: 37,
        mtu: Some(1400),
        lifetime_s: 0,
        prefixes: Vec::new(),
        routes: vec![RouteInformation {
            prefix: "2001:db8:9::".parse().unwrap(),
            prefix_len: 48,
            preference: Preference::High,
            lifetime_s: 100,
        }],
        dns_servers: vec![("2001:db8::53".parse().unwrap(), 60)],
        dns_search: vec![("lan".to_owned(), 90)],
        ..advertisement(0, 0)
    };
    let network: IpCidr = "2001:db8:9::/48".parse().unwrap();
    let expected = [
        Action::SetHopLimit(37),
        Action::SetMtu(1400),
        Action::AddRoute { network, router: Some(ROUTER), preference: Preference::High },
    ];
    assert_eq!(machine.on_advertisement(Instant::ZERO, ROUTER, &message), expected);
    let info = machine.info();
    assert_eq!((info.dns_servers.len(), &info.dns_search[..]), (1, &["lan".to_owned()][..]));
    let small = RouterAdvertisement { mtu: Some(1279), routes: Vec::new(), ..message };
    assert_eq!(machine.on_advertisement(Instant::ZERO, ROUTER, &small), [Action::SetHopLimit(37)]);
    let done = run(&mut machine, seconds(200));
    assert_eq!(done, [(100, Action::RemoveRoute { network, router: Some(ROUTER) })]);
    assert!(machine.info().dns_servers.is_empty() && machine.info().dns_search.is_empty());
}
