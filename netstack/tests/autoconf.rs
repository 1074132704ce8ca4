//! IPv6 autoconfiguration and IPv4 address conflicts, frame by frame.

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use common::{Host, Wire};
use netstack::advertise::AdvertiseOptions;
use netstack::autoconf::{AutoconfOptions, TemporaryAddresses};
use netstack::error::ConfigError;
use netstack::nic::{AddressOrigin, AddressState};
use netstack::options::{Family, SendMeta};
use netstack::packet::Packet;
use netstack::route::RouteOrigin;
use netstack::wire::arp::{ArpRepr, Operation};
use netstack::wire::checksum::{Accumulator, pseudo_header};
use netstack::wire::ethernet::MacAddr;
use netstack::wire::ip::Protocol;
use netstack::wire::ipv6::Ipv6Repr;
use netstack::wire::ndp::{NdpRepr, Preference, PrefixInformation, RouteInformation, RouterAdvertisement};
use netstack::{Stack, UdpSocket};

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xffff);
const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xff]);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A host without addresses.
fn bare(seed: u64) -> Host {
    let mut host = Host::new(9, 1500, Default::default());
    let stack = Stack::builder().manual_clock().deterministic(seed).build();
    host.nic = stack.add_nic("eth0", host.link.clone()).unwrap();
    host.stack = stack;
    host
}

fn ndp_frame(source: Ipv6Addr, destination: Ipv6Addr, hop_limit: u8, repr: &NdpRepr) -> Vec<u8> {
    let mut message = repr.to_vec();
    let len = message.len() as u32;
    let mut sum = Accumulator::new(pseudo_header(source.into(), destination.into(), 58, len));
    sum.add(&message);
    message[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
    let header = Ipv6Repr {
        source,
        destination,
        next_header: Protocol::ICMPV6,
        hop_limit,
        traffic_class: 0,
        flow_label: 0,
        payload_len: message.len() as u16,
    };
    let mut frame = vec![0x33, 0x33, 0, 0, 0, 1];
    frame.extend(ROUTER_MAC.0);
    frame.extend([0x86, 0xdd]);
    let start = frame.len();
    frame.resize(start + 40, 0);
    header.emit(&mut frame[start..]);
    frame.extend(message);
    frame
}

fn advertisement() -> RouterAdvertisement {
    RouterAdvertisement {
        hop_limit: 44,
        is_managed: false,
        has_other_config: true,
        lifetime_s: 1800,
        reachable_ms: 0,
        retransmit_ms: 0,
        source_mac: Some(ROUTER_MAC),
        mtu: Some(1400),
        preference: Preference::High,
        prefixes: vec![PrefixInformation {
            prefix: "2001:db8:5::".parse().unwrap(),
            prefix_len: 64,
            is_on_link: true,
            is_autonomous: true,
            valid_s: 3600,
            preferred_s: 1800,
        }],
        routes: vec![RouteInformation {
            prefix: "2001:db8:77::".parse().unwrap(),
            prefix_len: 48,
            preference: Preference::Medium,
            lifetime_s: 600,
        }],
        dns_servers: vec![("2001:db8::53".parse().unwrap(), 600)],
        dns_search: vec![("lan".to_owned(), 600)],
    }
}

fn advertise(host: &Host, advertisement: &RouterAdvertisement) {
    let repr = NdpRepr::RouterAdvertisement(advertisement.clone());
    host.stack.inject(host.nic, ndp_frame(ROUTER, ALL_NODES, 255, &repr));
}

/// The NDP messages among sent frames, with their IPv6 source.
fn sent(frames: &[Packet]) -> Vec<(Ipv6Addr, NdpRepr)> {
    let parse = |frame: &Packet| {
        let bytes = frame.to_vec();
        let header = Ipv6Repr::parse(bytes.get(14..)?).ok()?;
        let message = bytes.get(54..).filter(|_| header.next_header == Protocol::ICMPV6)?;
        Some((header.source, NdpRepr::parse(message)?))
    };
    frames.iter().filter_map(parse).collect()
}

fn advance(host: &Host, by: Duration) -> Vec<Packet> {
    host.stack.advance_to(host.stack.now() + by);
    host.link.take()
}

fn addresses(host: &Host) -> Vec<(Ipv6Addr, AddressState, AddressOrigin)> {
    let info = host.stack.nic(host.nic).unwrap();
    let v6 = |address: IpAddr| match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    };
    info.addresses.iter().filter_map(|own| Some((v6(own.address())?, own.state, own.origin))).collect()
}

#[test]
fn a_host_configures_itself_from_scratch() {
    let host = bare(1);
    host.stack.start_autoconf(host.nic, AutoconfOptions::default()).unwrap();
    // Duplicate detection of the link-local address.
    let frames = sent(&host.link.take());
    let [(Ipv6Addr::UNSPECIFIED, NdpRepr::NeighbourSolicitation { target, source_mac: None })] = frames[..]
    else {
        panic!("{frames:?}")
    };
    assert_eq!(addresses(&host), [(target, AddressState::Tentative, AddressOrigin::LinkLocal)]);
    // Then the question for routers, from it.
    let frames = sent(&advance(&host, Duration::from_secs(3)));
    let question = NdpRepr::RouterSolicitation { source_mac: Some(MacAddr([2, 0, 0, 0, 0, 9])) };
    assert!(frames.contains(&(target, question)), "{frames:?}");
    advertise(&host, &advertisement());
    advance(&host, Duration::from_secs(2));
    let own = addresses(&host);
    assert_eq!(own.len(), 2, "{own:?}");
    assert_eq!((own[1].1, own[1].2), (AddressState::Preferred, AddressOrigin::Autoconf));
    let routes = host.stack.routes();
    let learned: Vec<_> = routes
        .iter()
        .filter(|route| route.origin == RouteOrigin::RouterAdvertisement)
        .map(|route| (route.destination.to_string(), route.gateway, route.metric))
        .collect();
    let gateway = Some(IpAddr::V6(ROUTER));
    let expected = [
        ("::/0".to_owned(), gateway, 1023),
        ("2001:db8:5::/64".to_owned(), None, 256),
        ("2001:db8:77::/48".to_owned(), gateway, 1024),
    ];
    assert_eq!(learned, expected);
    let info = host.stack.autoconf(host.nic).unwrap();
    assert_eq!(info.dns_servers, ["2001:db8::53".parse::<Ipv6Addr>().unwrap()]);
    assert_eq!((&info.dns_search[..], info.has_other_config), (&["lan".to_owned()][..], true));
    // What it sends uses the new address, the hop limit, and the router's station without asking for it.
    let socket = UdpSocket::new(&host.stack, Family::V6);
    let meta = SendMeta { to: Some("[2600::1]:7".parse().unwrap()), ..SendMeta::default() };
    socket.try_send(&mut &b"x"[..], &meta).unwrap();
    let frames = host.link.take();
    let frame = frames.last().unwrap().to_vec();
    let header = Ipv6Repr::parse(&frame[14..]).unwrap();
    assert_eq!((header.source, header.hop_limit, &frame[..6]), (own[1].0, 44, &ROUTER_MAC.0[..]));
    // The MTU too: 1400 bytes leave 1352 for a datagram's data.
    socket.try_send(&mut &[0; 1353][..], &meta).unwrap();
    assert_eq!(host.link.take().len(), 2);
    // After its end, nothing is left.
    host.stack.stop_autoconf(host.nic).unwrap();
    assert!(addresses(&host).is_empty());
    assert!(host.stack.routes().iter().all(|route| route.nic != host.nic));
}

#[test]
fn two_stacks_with_one_secret_get_one_address_and_others_do_not() {
    let address_of = |seed: u64, stable_secret| {
        let host = bare(seed);
        let options = AutoconfOptions { stable_secret, ..AutoconfOptions::default() };
        host.stack.start_autoconf(host.nic, options).unwrap();
        addresses(&host)[0].0
    };
    assert_eq!(address_of(1, Some([7, 8])), address_of(2, Some([7, 8])));
    assert_ne!(address_of(1, None), address_of(2, None));
}

#[test]
fn a_duplicate_gets_another_address() {
    let host = bare(1);
    host.stack.start_autoconf(host.nic, AutoconfOptions::default()).unwrap();
    let first = addresses(&host)[0].0;
    let reply = NdpRepr::NeighbourAdvertisement {
        target: first,
        target_mac: Some(ROUTER_MAC),
        is_router: false,
        is_solicited: false,
        is_override: true,
    };
    host.stack.inject(host.nic, ndp_frame(first, ALL_NODES, 255, &reply));
    let own = addresses(&host);
    assert!(own.len() == 1 && own[0].0 != first, "{own:?}");
    assert_eq!(host.stack.stats().duplicate_addresses, 1);
    advance(&host, Duration::from_secs(2));
    assert_eq!(addresses(&host)[0].1, AddressState::Preferred);
}

#[test]
fn temporary_addresses_are_preferred_as_sources() {
    let host = bare(1);
    let options = AutoconfOptions { temporary: TemporaryAddresses::Prefer, ..AutoconfOptions::default() };
    host.stack.start_autoconf(host.nic, options).unwrap();
    advertise(&host, &advertisement());
    advance(&host, Duration::from_secs(2));
    let socket = UdpSocket::new(&host.stack, Family::V6);
    socket.connect("[2600::1]:7".parse().unwrap()).unwrap();
    let temporary = addresses(&host).into_iter().find(|own| own.2 == AddressOrigin::Temporary).unwrap();
    assert_eq!(socket.local_addr().ip(), IpAddr::V6(temporary.0));
}

#[test]
fn lifetimes_deprecate_and_remove() {
    let host = bare(1);
    host.stack.start_autoconf(host.nic, AutoconfOptions::default()).unwrap();
    advertise(&host, &advertisement());
    advance(&host, Duration::from_secs(2));
    let state = |host: &Host| addresses(host).get(1).map(|own| own.1);
    assert_eq!(state(&host), Some(AddressState::Preferred));
    advance(&host, Duration::from_secs(1800));
    assert_eq!(state(&host), Some(AddressState::Deprecated));
    advance(&host, Duration::from_secs(1800));
    assert_eq!(state(&host), None);
}

#[test]
fn advertisements_from_elsewhere_are_not_believed() {
    let host = bare(1);
    host.stack.start_autoconf(host.nic, AutoconfOptions::default()).unwrap();
    let repr = NdpRepr::RouterAdvertisement(advertisement());
    // Through a router; from an address that is not link-local.
    let global = "2001:db8::1".parse().unwrap();
    for (source, hop_limit) in [(ROUTER, 254), (global, 255)] {
        host.stack.inject(host.nic, ndp_frame(source, ALL_NODES, hop_limit, &repr));
        assert!(host.stack.autoconf(host.nic).unwrap().routers.is_empty());
    }
    assert_eq!(host.stack.stats().icmp_in_errors, 2);
    // A router takes none at all.
    host.stack.set_nic_options(host.nic, |options| options.forwards_v6 = true).unwrap();
    advertise(&host, &advertisement());
    assert!(host.stack.autoconf(host.nic).unwrap().routers.is_empty());
    assert_eq!(host.stack.stats().router_advertisements_ignored, 1);
}

fn arp(frames: &[Packet]) -> Vec<ArpRepr> {
    frames.iter().filter_map(|frame| ArpRepr::parse(frame.to_vec().get(14..)?)).collect()
}

#[test]
fn an_ipv4_address_is_probed_for_and_announced() {
    let host = bare(1);
    host.stack.add_tentative_address(host.nic, "192.0.2.9/24".parse().unwrap()).unwrap();
    let own: Ipv4Addr = "192.0.2.9".parse().unwrap();
    let mut frames = arp(&advance(&host, Duration::from_secs(3)));
    assert_eq!(host.stack.nic(host.nic).unwrap().addresses[0].state, AddressState::Tentative);
    frames.extend(arp(&advance(&host, Duration::from_secs(7))));
    let probed = |repr: &ArpRepr| repr.sender_ip.is_unspecified() && repr.target_ip == own;
    let announced = |repr: &ArpRepr| repr.sender_ip == own && repr.target_ip == own;
    assert_eq!(frames.len(), 5, "{frames:?}");
    assert!(frames[..3].iter().all(probed) && frames[3..].iter().all(announced), "{frames:?}");
    assert_eq!(host.stack.nic(host.nic).unwrap().addresses[0].state, AddressState::Preferred);
    // Somebody takes it: it is defended, once in a while.
    let thief = ArpRepr {
        operation: Operation::Reply,
        sender_mac: ROUTER_MAC,
        sender_ip: own,
        target_mac: MacAddr::BROADCAST,
        target_ip: own,
    };
    let mut frame = [&[0xff; 6][..], &ROUTER_MAC.0, &[8, 6], &[0; 28]].concat();
    thief.emit(&mut frame[14..]);
    host.stack.inject(host.nic, frame.clone());
    host.stack.inject(host.nic, frame);
    assert_eq!(arp(&host.link.take()).iter().filter(|repr| announced(repr)).count(), 1);
    assert_eq!(host.stack.stats().arp_conflicts, 2);
}

#[test]
fn an_ipv4_address_in_use_is_not_taken() {
    let mut wire = Wire::new();
    wire.a.stack.add_tentative_address(wire.a.nic, "10.0.0.2/24".parse().unwrap()).unwrap();
    wire.run(Duration::from_secs(8));
    let own = wire.a.stack.nic(wire.a.nic).unwrap().addresses;
    let tried = own.iter().find(|own| own.address().to_string() == "10.0.0.2").unwrap();
    assert_eq!(tried.state, AddressState::Duplicated);
    // Two that want the same at the same time both find out.
    for host in [&wire.a, &wire.b] {
        host.stack.add_tentative_address(host.nic, "10.0.0.77/24".parse().unwrap()).unwrap();
    }
    wire.run(Duration::from_secs(8));
    let states = [&wire.a, &wire.b].map(|host| {
        let own = host.stack.nic(host.nic).unwrap().addresses;
        own.iter().find(|own| own.address().to_string() == "10.0.0.77").unwrap().state
    });
    assert!(states.contains(&AddressState::Duplicated), "{states:?}");
}

/// What the router in the next test says.
fn of_router() -> AdvertiseOptions {
    let prefix = PrefixInformation {
        prefix: "2001:db8:6::".parse().unwrap(),
        prefix_len: 64,
        is_on_link: true,
        is_autonomous: true,
        valid_s: 3600,
        preferred_s: 1800,
    };
    let mut options = AdvertiseOptions::new(RouterAdvertisement {
        hop_limit: 33,
        prefixes: vec![prefix],
        dns_servers: vec![("2001:db8:6::53".parse().unwrap(), 600)],
        ..RouterAdvertisement::default()
    });
    options.min_interval = Duration::from_secs(3);
    options.max_interval = Duration::from_secs(4);
    options
}

#[test]
fn a_router_advertises_itself_and_takes_itself_back() {
    let mut wire = Wire::new();
    let (router, host) = (wire.a.nic, wire.b.nic);
    wire.b.stack.start_autoconf(host, AutoconfOptions::default()).unwrap();
    wire.run(Duration::from_secs(3));
    wire.a.stack.set_nic_options(router, |options| options.forwards_v6 = true).unwrap();
    let mut senseless = of_router();
    senseless.max_interval = Duration::from_secs(2);
    assert_eq!(wire.a.stack.start_advertising(router, senseless), Err(ConfigError::Invalid));
    wire.a.stack.start_advertising(router, of_router()).unwrap();
    wire.run(Duration::from_secs(3));
    let made =
        |wire: &Wire| addresses(&wire.b).into_iter().filter(|own| own.2 == AddressOrigin::Autoconf).count();
    assert_eq!(made(&wire), 1);
    let info = wire.b.stack.autoconf(host).unwrap();
    assert_eq!(info.routers.len(), 1);
    assert_eq!(info.routers[0].address, "fe80::1".parse::<Ipv6Addr>().unwrap());
    assert_eq!(info.dns_servers.len(), 1);
    // Every three to four seconds.
    let before = wire.a.stack.stats().router_advertisements_sent;
    wire.run(Duration::from_secs(40));
    let count = wire.a.stack.stats().router_advertisements_sent - before;
    assert!((10..=14).contains(&count), "{count}");
    // Who is no router is not believed to be one, but for its prefixes.
    wire.a.stack.set_nic_options(router, |options| options.forwards_v6 = false).unwrap();
    wire.run(Duration::from_secs(5));
    assert!(wire.b.stack.autoconf(host).unwrap().routers.is_empty());
    wire.a.stack.set_nic_options(router, |options| options.forwards_v6 = true).unwrap();
    wire.run(Duration::from_secs(5));
    assert_eq!(wire.b.stack.autoconf(host).unwrap().routers.len(), 1);
    wire.a.stack.stop_advertising(router).unwrap();
    wire.settle();
    assert!(wire.b.stack.autoconf(host).unwrap().routers.is_empty());
    assert_eq!(wire.a.stack.stop_advertising(router), Err(ConfigError::NotFound));
}

#[test]
fn solicitations_are_answered() {
    let mut wire = Wire::new();
    let (router, host) = (wire.a.nic, wire.b.nic);
    wire.a.stack.set_nic_options(router, |options| options.forwards_v6 = true).unwrap();
    let options = AdvertiseOptions::new(of_router().advertisement);
    wire.a.stack.start_advertising(router, options).unwrap();
    // Past the first ones: the next is minutes away.
    wire.run(Duration::from_secs(60));
    wire.b.stack.start_autoconf(host, AutoconfOptions::default()).unwrap();
    wire.run(Duration::from_secs(4));
    assert_eq!(wire.b.stack.autoconf(host).unwrap().routers.len(), 1);
}

#[test]
fn fragmented_discovery_is_ignored() {
    let host = Host::new(9, 1500, Default::default());
    let target = "fe80::9".parse().unwrap();
    let question = NdpRepr::NeighbourSolicitation { target, source_mac: Some(ROUTER_MAC) };
    let whole = ndp_frame(ROUTER, ALL_NODES, 255, &question);
    // The same behind a fragment header that says that this is all.
    let mut frame = whole.clone();
    frame[14 + 4..14 + 6].copy_from_slice(&(u16::try_from(whole.len() - 54 + 8).unwrap()).to_be_bytes());
    frame[14 + 6] = 44;
    frame.splice(54..54, [58, 0, 0, 0, 0, 0, 0, 1]);
    host.stack.inject(host.nic, frame);
    assert!(host.link.take().is_empty());
    assert_eq!(host.stack.stats().ndp_fragmented, 1);
    host.stack.inject(host.nic, whole);
    assert_eq!(sent(&host.link.take()).len(), 1);
}

#[test]
fn routers_say_how_long_to_wait_for_neighbours() {
    let host = bare(1);
    host.stack.start_autoconf(host.nic, AutoconfOptions::default()).unwrap();
    let said = RouterAdvertisement { retransmit_ms: 100, reachable_ms: 5000, ..advertisement() };
    advertise(&host, &said);
    advance(&host, Duration::from_secs(3));
    let socket = UdpSocket::new(&host.stack, Family::V6);
    let meta = SendMeta { to: Some("[2001:db8:5::77]:7".parse().unwrap()), ..SendMeta::default() };
    socket.try_send(&mut &b"x"[..], &meta).unwrap();
    let mut asked = 0;
    for _ in 0..40 {
        let frames = sent(&advance(&host, Duration::from_millis(10)));
        asked +=
            frames.iter().filter(|(_, repr)| matches!(repr, NdpRepr::NeighbourSolicitation { .. })).count();
    }
    // The first one is among the frames of the first step.
    assert_eq!(asked, 3);
    assert_eq!(host.stack.nic(host.nic).unwrap().stats.neighbour_failures, 1);
}

#[test]
fn a_silent_router_is_left_for_one_that_answers() {
    const OTHER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xeeee);
    const OTHER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xee]);
    let host = bare(1);
    host.stack.start_autoconf(host.nic, AutoconfOptions::default()).unwrap();
    advertise(&host, &advertisement());
    let second = RouterAdvertisement {
        preference: Preference::Low,
        source_mac: Some(OTHER_MAC),
        prefixes: Vec::new(),
        ..advertisement()
    };
    let second = NdpRepr::RouterAdvertisement(second);
    host.stack.inject(host.nic, ndp_frame(OTHER, ALL_NODES, 255, &second));
    advance(&host, Duration::from_secs(3));
    let socket = UdpSocket::new(&host.stack, Family::V6);
    let meta = SendMeta { to: Some("[2600::1]:7".parse().unwrap()), ..SendMeta::default() };
    let through = || {
        socket.try_send(&mut &b"x"[..], &meta).unwrap();
        let frames = host.link.take();
        MacAddr(frames.last().unwrap().to_vec()[..6].try_into().unwrap())
    };
    assert_eq!(through(), ROUTER_MAC);
    // Neither answers; the second has not been asked yet.
    advance(&host, Duration::from_secs(10));
    assert_eq!(through(), OTHER_MAC);
    advance(&host, Duration::from_secs(1));
    advertise(&host, &advertisement());
    assert_eq!(through(), ROUTER_MAC);
}
