//! The packet filter, connection tracking and address translation on a router and on a host, in virtual time.

mod common;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use common::{Triple, Wire, pattern, read_available, recv};
use netstack::error::{RecvError, SendError, SocketError};
use netstack::filter::{
    Chain, ConnState, Hook, NatRange, Policy, Ports, RejectWith, Rule, Ruleset, RulesetError, Table, Target,
    TcpState, Test,
};
use netstack::options::{Family, RecvFlags, SendMeta, Shutdown};
use netstack::route::MarkMatch;
use netstack::wire::ip::Protocol;
use netstack::wire::tcp::TcpFlags;
use netstack::{PingSocket, Stack, TcpSocket, UdpSocket};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const FAR: [&str; 2] = ["10.2.0.2", "fd02::2"];
const NEAR: [&str; 2] = ["10.1.0.2", "fd01::2"];
/// The router's addresses on the right.
const OUTSIDE: [&str; 2] = ["10.2.0.1", "fd02::1"];
/// And on the left.
const INSIDE: [&str; 2] = ["10.1.0.1", "fd01::1"];

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

fn to(address: &str, port: u16) -> SendMeta {
    SendMeta { to: Some(at(address, port)), ..SendMeta::default() }
}

fn rules(chains: impl IntoIterator<Item = Chain>) -> Ruleset {
    Ruleset { chains: chains.into_iter().collect() }
}

fn masquerade() -> Ruleset {
    let rule = Rule::new(Target::Masquerade { ports: None, choice: Ports::Near })
        .when(Test::OutputNic("lan2".into()));
    rules([Chain::builtin(Table::Nat, Hook::Postrouting, Policy::Accept).rule(rule)])
}

fn filter_chain(hook: Hook, rule: Rule) -> Ruleset {
    rules([Chain::builtin(Table::Filter, hook, Policy::Accept).rule(rule)])
}

fn any(family: Family) -> &'static str {
    if family == Family::V4 { "0.0.0.0" } else { "::" }
}

fn udp(stack: &Stack, family: Family, port: u16) -> UdpSocket {
    let socket = UdpSocket::new(stack, family);
    socket.bind(at(any(family), port)).unwrap();
    socket
}

fn got(socket: &UdpSocket) -> Option<SocketAddr> {
    socket.try_recv(&mut Vec::new(), RecvFlags::default()).ok().map(|datagram| datagram.from)
}

#[test]
fn masqueraded_datagrams_come_back() {
    for ((family, far), outside) in FAMILIES.into_iter().zip(FAR).zip(OUTSIDE) {
        let mut net = Triple::new();
        net.router.set_filter(family, masquerade()).unwrap();
        let server = udp(&net.right.stack, family, 7);
        let client = udp(&net.left.stack, family, 5000);
        for round in 0..3 {
            client.try_send(&mut &b"question"[..], &to(far, 7)).unwrap();
            net.settle();
            let (data, datagram) = recv(&server);
            assert_eq!((&data[..], datagram.from), (&b"question"[..], at(outside, 5000)), "round {round}");
            let back = SendMeta { to: Some(datagram.from), ..SendMeta::default() };
            server.try_send(&mut &b"answer"[..], &back).unwrap();
            net.settle();
            let (data, datagram) = recv(&client);
            assert_eq!((&data[..], datagram.from), (&b"answer"[..], at(far, 7)));
        }
        let flows = net.router.tracked_flows();
        assert_eq!(flows.len(), 1);
        assert_eq!((flows[0].packets, flows[0].has_reply), ([3, 3], true));
        // The flow ends by itself.
        net.run(Duration::from_secs(150));
        assert!(net.router.tracked_flows().is_empty());
    }
}

#[test]
fn clashing_ports_are_told_apart() {
    for ((family, far), outside) in FAMILIES.into_iter().zip(FAR).zip(OUTSIDE) {
        let mut net = Triple::new();
        net.router.set_filter(family, masquerade()).unwrap();
        let server = udp(&net.right.stack, family, 7);
        // Two hosts inside with the same port, and the router itself with it.
        let second = if family == Family::V4 { "10.1.0.9/24" } else { "fd01::9/64" };
        net.left.stack.add_address(net.left.nic, second.parse().unwrap()).unwrap();
        let second = second.split('/').next().unwrap();
        let clients: Vec<UdpSocket> = [NEAR[usize::from(family == Family::V6)], second]
            .iter()
            .map(|own| {
                let socket = UdpSocket::new(&net.left.stack, family);
                socket.bind(at(own, 5000)).unwrap();
                socket
            })
            .collect();
        let own = udp(&net.router, family, 5000);
        for client in clients.iter().chain([&own]) {
            client.try_send(&mut &b"x"[..], &to(far, 7)).unwrap();
            net.settle();
        }
        let seen: Vec<SocketAddr> = (0..3).map(|_| recv(&server).1.from).collect();
        assert!(seen.iter().all(|from| from.ip().to_string() == outside), "{seen:?}");
        assert!(seen[0].port() == 5000 && seen[1] != seen[0] && seen[2] != seen[0] && seen[2] != seen[1]);
        for (client, from) in clients.iter().chain([&own]).zip(seen) {
            let back = SendMeta { to: Some(from), ..SendMeta::default() };
            server.try_send(&mut &b"y"[..], &back).unwrap();
            net.settle();
            assert_eq!(got(client), Some(at(far, 7)), "{from}");
        }
    }
}

#[test]
fn streams_cross_a_translating_router() {
    for (family, far) in FAMILIES.into_iter().zip(FAR) {
        let mut net = Triple::new();
        net.router.set_filter(family, masquerade()).unwrap();
        let listener = net.right.listen(&at(far, 80).to_string(), 8);
        let client = net.left.connect(&at(far, 80).to_string());
        net.settle();
        let (server, peer) = listener.try_accept().unwrap();
        assert_eq!(peer.ip().to_string(), OUTSIDE[usize::from(family == Family::V6)]);
        let data = pattern(300_000);
        let (mut sent, mut received) = (0, Vec::new());
        while received.len() < data.len() {
            sent += client.try_send(&mut &data[sent..]).unwrap_or(0);
            net.run(Duration::from_millis(20));
            received.extend(read_available(&server));
        }
        assert!(received == data, "other bytes came");
        assert_eq!(net.router.tracked_flows()[0].tcp_state, Some(TcpState::Established));
        assert_eq!(net.router.stats().conntrack_invalid, 0);
        client.shutdown(Shutdown::Write).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        net.run(Duration::from_millis(300));
        assert_eq!(net.router.tracked_flows()[0].tcp_state, Some(TcpState::TimeWait));
        net.run(Duration::from_secs(140));
        assert!(net.router.tracked_flows().is_empty());
    }
}

#[test]
fn pings_and_errors_are_translated() {
    for ((family, far), request) in FAMILIES.into_iter().zip(FAR).zip([8_u8, 128]) {
        let mut net = Triple::new();
        net.router.set_filter(family, masquerade()).unwrap();
        let socket = PingSocket::new(&net.left.stack, family);
        let message = [request, 0, 0, 0, 0, 0, 0, 1, 9, 9];
        socket.try_send(&mut &message[..], &to(far, 0)).unwrap();
        net.settle();
        let datagram = socket.try_recv(&mut Vec::new(), RecvFlags::default()).unwrap();
        assert_eq!(datagram.from.ip().to_string(), far);
        // A closed port's answer quotes what the router made of the packet; the client understands it.
        let client = udp(&net.left.stack, family, 5000);
        client.set_options(|options| (options.error_queue, options.error_queue_v6) = (true, true));
        client.connect(at(far, 9)).unwrap();
        client.try_send(&mut &b"anybody?"[..], &SendMeta::default()).unwrap();
        net.settle();
        let error = client.try_recv(&mut Vec::new(), RecvFlags::default());
        assert_eq!(error, Err(RecvError::Pending(SocketError::ConnectionRefused)), "{far}");
        let queued = client.take_queued_error().unwrap();
        assert_eq!((queued.destination, &queued.payload[..]), (at(far, 9), &b"anybody?"[..]));
        assert_eq!(queued.offender.unwrap().to_string(), far);
    }
}

#[test]
fn destinations_are_translated_for_those_outside() {
    for (index, family) in FAMILIES.into_iter().enumerate() {
        let mut net = Triple::new();
        let inner: IpAddr = NEAR[index].parse().unwrap();
        let rule = |protocol| {
            Rule::new(Target::DestinationNat(NatRange::to_port(inner, 8080)))
                .when(Test::InputNic("lan2".into()))
                .when(Test::Protocol(protocol))
                .when(Test::DestinationPort(vec![80..=80]))
        };
        let chain = Chain::builtin(Table::Nat, Hook::Prerouting, Policy::Accept)
            .rule(rule(Protocol::TCP))
            .rule(rule(Protocol::UDP));
        net.router.set_filter(family, rules([chain])).unwrap();
        let listener = net.left.listen(&at(NEAR[index], 8080).to_string(), 8);
        let client = net.right.connect(&at(OUTSIDE[index], 80).to_string());
        net.settle();
        let (server, peer) = listener.try_accept().unwrap();
        assert_eq!(peer, client.local_addr(), "the source is not touched");
        assert_eq!(client.peer_addr(), Some(at(OUTSIDE[index], 80)));
        server.try_send(&mut &b"welcome"[..]).unwrap();
        net.settle();
        assert_eq!(read_available(&client), b"welcome");
        // A closed port inside looks like one of the router.
        let client = udp(&net.right.stack, family, 0);
        client.connect(at(OUTSIDE[index], 80)).unwrap();
        client.try_send(&mut &b"x"[..], &SendMeta::default()).unwrap();
        net.settle();
        assert_eq!(client.take_error(), Some(SocketError::ConnectionRefused));
    }
}

#[test]
fn redirected_flows_end_at_the_router() {
    for (index, family) in FAMILIES.into_iter().enumerate() {
        let mut net = Triple::new();
        let rule = Rule::new(Target::Redirect { ports: Some(3128..=3128), choice: Ports::Near })
            .when(Test::Protocol(Protocol::TCP))
            .when(Test::DestinationPort(vec![80..=80]));
        let chain = Chain::builtin(Table::Nat, Hook::Prerouting, Policy::Accept).rule(rule);
        net.router.set_filter(family, rules([chain])).unwrap();
        let proxy = TcpSocket::new(&net.router, family);
        proxy.bind(at(any(family), 3128)).unwrap();
        proxy.listen(8).unwrap();
        let client = net.left.connect(&at(FAR[index], 80).to_string());
        net.settle();
        let (server, _) = proxy.try_accept().unwrap();
        assert_eq!(server.local_addr(), at(INSIDE[index], 3128));
        server.try_send(&mut &b"proxied"[..]).unwrap();
        net.settle();
        assert_eq!(read_available(&client), b"proxied");
    }
}

#[test]
fn own_packets_can_be_led_elsewhere() {
    for (index, family) in FAMILIES.into_iter().enumerate() {
        let mut wire = Wire::new();
        let peer = ["10.0.0.2", "fd00::2"][index];
        let nowhere = ["192.0.2.1", "2001:db8::1"][index];
        let chain = Chain::builtin(Table::Nat, Hook::Output, Policy::Accept)
            .rule(Rule::new(Target::DestinationNat(NatRange::to_port(peer.parse().unwrap(), 7))));
        wire.a.stack.set_filter(family, rules([chain])).unwrap();
        // There is no route to that address; a route is looked for before rules see the packet.
        let everywhere = if family == Family::V4 { "0.0.0.0/0" } else { "::/0" };
        let route =
            netstack::route::Route::via(everywhere.parse().unwrap(), peer.parse().unwrap(), wire.a.nic);
        wire.a.stack.add_route(route).unwrap();
        let server = udp(&wire.b.stack, family, 7);
        let client = udp(&wire.a.stack, family, 0);
        client.connect(at(nowhere, 53)).unwrap();
        client.try_send(&mut &b"x"[..], &SendMeta::default()).unwrap();
        wire.settle();
        let (_, datagram) = recv(&server);
        server
            .try_send(&mut &b"y"[..], &SendMeta { to: Some(datagram.from), ..SendMeta::default() })
            .unwrap();
        wire.settle();
        assert_eq!(got(&client), Some(at(nowhere, 53)), "the answer comes from where the question went");
    }
}

#[test]
fn a_stateful_firewall_lets_answers_in() {
    for (index, family) in FAMILIES.into_iter().enumerate() {
        let mut net = Triple::new();
        let established = Test::State(ConnState::ESTABLISHED | ConnState::RELATED);
        let chain = Chain::builtin(Table::Filter, Hook::Forward, Policy::Drop)
            .rule(Rule::new(Target::Accept).when(established))
            .rule(
                Rule::new(Target::Accept)
                    .when(Test::InputNic("lan1".into()))
                    .when(Test::State(ConnState::NEW)),
            );
        net.router.set_filter(family, rules([chain])).unwrap();
        let inside = udp(&net.left.stack, family, 5000);
        let outside = udp(&net.right.stack, family, 7);
        outside.try_send(&mut &b"scan"[..], &to(NEAR[index], 5000)).unwrap();
        net.settle();
        assert_eq!(got(&inside), None);
        assert_eq!(net.router.stats().filter_dropped, 1);
        inside.try_send(&mut &b"question"[..], &to(FAR[index], 7)).unwrap();
        net.settle();
        let (_, datagram) = recv(&outside);
        let back = SendMeta { to: Some(datagram.from), ..SendMeta::default() };
        outside.try_send(&mut &b"answer"[..], &back).unwrap();
        net.settle();
        assert_eq!(got(&inside), Some(at(FAR[index], 7)));
        // An error about it is related, and gets in as well.
        let other = udp(&net.left.stack, family, 0);
        other.connect(at(FAR[index], 9)).unwrap();
        other.try_send(&mut &b"x"[..], &SendMeta::default()).unwrap();
        net.settle();
        assert_eq!(other.take_error(), Some(SocketError::ConnectionRefused));
        // A segment that belongs to no connection is not new.
        let stray = net.right.connect(&at(NEAR[index], 80).to_string());
        net.settle();
        assert!(stray.take_error().is_none());
        let counted = &net.router.filter(family).chains[0];
        assert!(counted.rules[0].counters.packets >= 2 && counted.rules[1].counters.packets >= 2);
        assert_eq!(counted.counters.packets, 2, "what fell to the policy");
    }
}

#[test]
fn rejected_senders_are_told() {
    for (index, family) in FAMILIES.into_iter().enumerate() {
        let expected = [
            (RejectWith::PortUnreachable, SocketError::ConnectionRefused),
            (RejectWith::HostUnreachable, SocketError::HostUnreachable),
            (RejectWith::NetUnreachable, SocketError::NetworkUnreachable),
            (RejectWith::AdminProhibited, [SocketError::HostUnreachable, SocketError::Prohibited][index]),
        ];
        for (with, error) in expected {
            let mut net = Triple::new();
            net.router
                .set_filter(family, filter_chain(Hook::Forward, Rule::new(Target::Reject(with))))
                .unwrap();
            let client = udp(&net.left.stack, family, 0);
            client.set_options(|options| (options.error_queue, options.error_queue_v6) = (true, true));
            client.connect(at(FAR[index], 7)).unwrap();
            client.try_send(&mut &b"x"[..], &SendMeta::default()).unwrap();
            net.settle();
            let queued = client.take_queued_error().unwrap_or_else(|| panic!("{with:?}: no error"));
            assert_eq!(queued.error, error, "{with:?}");
        }
        let mut net = Triple::new();
        let rule = Rule::new(Target::Reject(RejectWith::TcpReset)).when(Test::Protocol(Protocol::TCP));
        net.router.set_filter(family, filter_chain(Hook::Forward, rule)).unwrap();
        let client = net.left.connect(&at(FAR[index], 80).to_string());
        net.settle();
        assert_eq!(client.take_error(), Some(SocketError::ConnectionRefused));
    }
}

#[test]
fn each_test_selects() {
    let mut wire = Wire::new();
    let server = udp(&wire.b.stack, Family::V4, 7);
    let port = |range| Test::DestinationPort(vec![range]);
    let cases = [
        (Test::Source("10.0.0.0/24".parse().unwrap()), Test::Source("10.0.0.2/32".parse().unwrap())),
        (
            Test::Destination("10.0.0.2/32".parse().unwrap()),
            Test::Destination("10.9.0.0/16".parse().unwrap()),
        ),
        (Test::InputNic("eth0".into()), Test::InputNic("lo".into())),
        (Test::InputNic("eth+".into()), Test::InputNic("wlan+".into())),
        (Test::Protocol(Protocol::UDP), Test::Protocol(Protocol::TCP)),
        (port(1..=7), port(8..=9)),
        (Test::SourcePort(vec![1..=2, 5000..=5000]), Test::SourcePort(vec![7..=7])),
        (Test::EitherPort(vec![7..=7]), Test::EitherPort(vec![8..=8])),
        (Test::State(ConnState::NEW | ConnState::INVALID), Test::State(ConnState::RELATED)),
        (Test::Mark(MarkMatch::exactly(0)), Test::Mark(MarkMatch::exactly(1))),
        (Test::Ttl(60..=64), Test::Ttl(65..=255)),
        (Test::Limit { interval: Duration::from_secs(1), burst: 1 }, Test::Icmp { kind: 8, codes: 0..=255 }),
    ];
    for (index, (hits, misses)) in cases.into_iter().enumerate() {
        // A new flow each time, lest it be established.
        wire.a.stack.advance_to(wire.a.stack.now() + Duration::from_secs(60));
        wire.b.stack.advance_to(wire.a.stack.now());
        let client = udp(&wire.a.stack, Family::V4, 5000);
        for (test, inverted, passes) in [
            (misses.clone(), false, true),
            (hits.clone(), true, !matches!(hits, Test::Limit { .. })),
            (misses, true, false),
            (hits, false, false),
        ] {
            wire.b.stack.set_filter(Family::V4, Ruleset::new()).unwrap();
            let mut rule = Rule::new(Target::Drop);
            rule.tests.push((test.clone(), inverted));
            let limit_inverted = inverted && matches!(test, Test::Limit { .. });
            wire.b.stack.set_filter(Family::V4, filter_chain(Hook::Input, rule)).unwrap();
            client.try_send(&mut &b"x"[..], &to("10.0.0.2", 7)).unwrap();
            wire.settle();
            let passed = got(&server).is_some();
            assert_eq!(passed, passes || limit_inverted, "case {index}: {test:?}, inverted {inverted}");
        }
    }
}

#[test]
fn tcp_flags_tell_openers() {
    let mut wire = Wire::new();
    let syn_only = Test::TcpFlags {
        mask: TcpFlags::SYN | TcpFlags::ACK | TcpFlags::RST | TcpFlags::FIN,
        set: TcpFlags::SYN,
    };
    let listener = wire.b.listen("10.0.0.2:80", 8);
    let first = wire.a.connect("10.0.0.2:80");
    wire.settle();
    wire.b
        .stack
        .set_filter(Family::V4, filter_chain(Hook::Input, Rule::new(Target::Drop).when(syn_only)))
        .unwrap();
    let (server, _) = listener.try_accept().unwrap();
    // The open connection goes on, a new one does not begin.
    first.try_send(&mut &b"still here"[..]).unwrap();
    let _second = wire.a.connect("10.0.0.2:80");
    wire.settle();
    assert_eq!(read_available(&server), b"still here");
    assert!(listener.try_accept().is_err());
}

#[test]
fn chains_jump_and_return() {
    let mut wire = Wire::new();
    let server = udp(&wire.b.stack, Family::V4, 7);
    let client = udp(&wire.a.stack, Family::V4, 5000);
    let inner = Chain::user(Table::Filter, "inner")
        .rule(Rule::new(Target::Return).when(Test::SourcePort(vec![5000..=5000])))
        .rule(Rule::new(Target::Drop));
    let outer = Chain::user(Table::Filter, "outer")
        .rule(Rule::new(Target::Continue))
        .rule(Rule::new(Target::Jump("inner".into())))
        .rule(Rule::new(Target::Accept).when(Test::Mark(MarkMatch::exactly(0x15))));
    let mark = Chain::builtin(Table::Mangle, Hook::Prerouting, Policy::Accept)
        .rule(Rule::new(Target::Mark { value: 0xff, mask: 0x0f }))
        .rule(Rule::new(Target::Mark { value: 0x10, mask: 0xfa }));
    let input = Chain::builtin(Table::Filter, Hook::Input, Policy::Drop)
        .rule(Rule::new(Target::Jump("outer".into())));
    wire.b.stack.set_filter(Family::V4, rules([mark, input, inner, outer])).unwrap();
    client.try_send(&mut &b"x"[..], &to("10.0.0.2", 7)).unwrap();
    wire.settle();
    assert!(got(&server).is_some());
    let other = udp(&wire.a.stack, Family::V4, 5001);
    other.try_send(&mut &b"x"[..], &to("10.0.0.2", 7)).unwrap();
    wire.settle();
    assert!(got(&server).is_none());
    let ruleset = wire.b.stack.filter(Family::V4);
    let outer = ruleset.chains.iter().find(|chain| chain.rules.len() == 3).unwrap();
    let counted: Vec<u64> = outer.rules.iter().map(|rule| rule.counters.packets).collect();
    assert_eq!(counted, [2, 2, 1]);
    assert_eq!(outer.rules[0].counters.bytes, 2 * 29);
    // What was read can be set again, and goes on counting.
    wire.b.stack.set_filter(Family::V4, ruleset.clone()).unwrap();
    assert_eq!(wire.b.stack.filter(Family::V4), ruleset);
}

#[test]
fn untracked_packets_are_not_translated() {
    let mut net = Triple::new();
    let mut ruleset = masquerade();
    ruleset.chains.push(
        Chain::builtin(Table::Raw, Hook::Prerouting, Policy::Accept)
            .rule(Rule::new(Target::NoTrack).when(Test::DestinationPort(vec![7..=7]))),
    );
    net.router.set_filter(Family::V4, ruleset).unwrap();
    let server = udp(&net.right.stack, Family::V4, 7);
    udp(&net.left.stack, Family::V4, 5000).try_send(&mut &b"x"[..], &to(FAR[0], 7)).unwrap();
    net.settle();
    assert_eq!(recv(&server).1.from, at(NEAR[0], 5000));
    assert!(net.router.tracked_flows().is_empty());
}

#[test]
fn a_full_table_refuses_new_flows_and_keeps_the_old() {
    let mut net = Triple::new();
    net.router.set_filter(Family::V4, masquerade()).unwrap();
    net.router.set_tracking_limit(4).unwrap();
    let server = udp(&net.right.stack, Family::V4, 7);
    let client = udp(&net.left.stack, Family::V4, 5000);
    // A flow that is worth something.
    for _ in 0..2 {
        client.try_send(&mut &b"x"[..], &to(FAR[0], 7)).unwrap();
        net.settle();
        let from = recv(&server).1.from;
        server.try_send(&mut &b"y"[..], &SendMeta { to: Some(from), ..SendMeta::default() }).unwrap();
        net.run(Duration::from_secs(3));
    }
    let flood: Vec<UdpSocket> = (0..20).map(|index| udp(&net.left.stack, Family::V4, 6000 + index)).collect();
    for socket in &flood {
        socket.try_send(&mut &b"x"[..], &to(FAR[0], 7)).unwrap();
    }
    net.settle();
    assert!(net.router.tracked_flows().len() <= 4);
    assert!(net.router.stats().conntrack_early_drops > 0);
    assert!(net.router.tracked_flows().iter().any(|flow| flow.original.0.port() == 5000 && flow.is_assured));
}

#[test]
fn damaged_and_senseless_packets_are_invalid() {
    let mut net = Triple::new();
    let rule = Rule::new(Target::Drop).when(Test::State(ConnState::INVALID));
    net.router.set_filter(Family::V4, filter_chain(Hook::Forward, rule)).unwrap();
    let server = udp(&net.right.stack, Family::V4, 7);
    // A wrong checksum.
    let mut packet = common::udp_packet("10.1.0.2", "10.2.0.2");
    packet[26] = 0x12;
    net.inject(&packet, 0x0800);
    // An echo reply that nobody asked for.
    let mut packet = common::udp_packet("10.1.0.2", "10.2.0.2");
    packet[9] = 1;
    packet[10..12].fill(0);
    let sum = !netstack::wire::checksum::sum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[20..28].copy_from_slice(&[0, 0, 0, 0, 0, 1, 0, 1]);
    packet[22..24].fill(0);
    let sum = !netstack::wire::checksum::sum(&packet[20..]);
    packet[22..24].copy_from_slice(&sum.to_be_bytes());
    net.inject(&packet, 0x0800);
    net.settle();
    assert_eq!((net.router.stats().conntrack_invalid, net.router.stats().filter_dropped), (2, 2));
    assert!(got(&server).is_none() && net.router.tracked_flows().is_empty());
    // The same without a checksum is fine.
    net.inject_udp("10.1.0.2", "10.2.0.2");
    net.settle();
    assert!(got(&server).is_some());
}

#[test]
fn fragments_pass_rules_whole() {
    for (index, family) in FAMILIES.into_iter().enumerate() {
        let mut net = Triple::new();
        net.router.set_filter(family, masquerade()).unwrap();
        let server = udp(&net.right.stack, family, 7);
        let client = udp(&net.left.stack, family, 5000);
        let data = pattern(5000);
        client.try_send(&mut &data[..], &to(FAR[index], 7)).unwrap();
        net.settle();
        let (received, datagram) = recv(&server);
        assert!(received == data, "{family:?}");
        assert_eq!(datagram.from, at(OUTSIDE[index], 5000));
        server
            .try_send(&mut &data[..], &SendMeta { to: Some(datagram.from), ..SendMeta::default() })
            .unwrap();
        net.settle();
        assert!(recv(&client).0 == data, "{family:?}, back");
    }
}

#[test]
fn a_sender_learns_that_its_packet_was_dropped() {
    for family in FAMILIES {
        for (table, hook) in [(Table::Filter, Hook::Output), (Table::Mangle, Hook::Postrouting)] {
            let stack = Stack::builder().manual_clock().deterministic(1).build();
            let loopback = if family == Family::V4 { "127.0.0.1" } else { "::1" };
            let chain = Chain::builtin(table, hook, Policy::Accept)
                .rule(Rule::new(Target::Drop).when(Test::DestinationPort(vec![9..=9])));
            stack.set_filter(family, rules([chain])).unwrap();
            let socket = udp(&stack, family, 0);
            let to = |port| SendMeta { to: Some(at(loopback, port)), ..SendMeta::default() };
            assert_eq!(socket.try_send(&mut &b"x"[..], &to(9)), Err(SendError::Filtered));
            assert_eq!(socket.try_send(&mut &b"x"[..], &to(7)), Ok(1));
            assert_eq!(stack.stats().filter_dropped, 1);
        }
    }
}

#[test]
fn the_original_destination_is_known() {
    for family in FAMILIES {
        let stack = Stack::builder().manual_clock().deterministic(1).build();
        let loopback = if family == Family::V4 { "127.0.0.1" } else { "::1" };
        let chain = Chain::builtin(Table::Nat, Hook::Output, Policy::Accept).rule(
            Rule::new(Target::Redirect { ports: Some(80..=80), choice: Ports::Near })
                .when(Test::DestinationPort(vec![8000..=8000])),
        );
        stack.set_filter(family, rules([chain])).unwrap();
        let listener = TcpSocket::new(&stack, family);
        listener.bind(at(any(family), 80)).unwrap();
        listener.listen(8).unwrap();
        let client = TcpSocket::new(&stack, family);
        client.connect(at(loopback, 8000)).unwrap();
        let (server, peer) = listener.try_accept().unwrap();
        let original = stack.original_destination(Protocol::TCP, server.local_addr(), peer);
        assert_eq!(original, Some(at(loopback, 8000)));
        let of_client = stack.original_destination(Protocol::TCP, client.local_addr(), at(loopback, 8000));
        assert_eq!(of_client, original);
        assert_eq!(stack.original_destination(Protocol::TCP, at(loopback, 1), peer), None);
    }
}

#[test]
fn neighbour_discovery_meets_the_rules_for_what_is_sent() {
    let mut wire = Wire::new();
    let chain = Chain::builtin(Table::Filter, Hook::Output, Policy::Accept)
        .rule(Rule::new(Target::Drop).when(Test::Icmp { kind: 135, codes: 0..=255 }));
    wire.a.stack.set_filter(Family::V6, rules([chain])).unwrap();
    let client = udp(&wire.a.stack, Family::V6, 0);
    let to = SendMeta { to: Some(at("fd00::2", 7)), ..SendMeta::default() };
    client.try_send(&mut &b"x"[..], &to).unwrap();
    wire.settle();
    assert!(wire.seen.is_empty(), "{:02x?}", wire.seen);
    wire.a.stack.set_filter(Family::V6, Ruleset::new()).unwrap();
    wire.run(Duration::from_secs(2));
    assert!(!wire.seen.is_empty(), "asked again");
}

#[test]
fn many_ways_through_chains_are_looked_at_once() {
    let stack = Stack::builder().manual_clock().build();
    let mut ruleset = rules([Chain::builtin(Table::Filter, Hook::Input, Policy::Accept)
        .rule(Rule::new(Target::Jump("c0".into())).when(Test::SourcePort(vec![1..=1])))]);
    for number in 0..60 {
        let next = || Rule::new(Target::Jump(format!("c{}", number + 1)));
        ruleset = ruleset.chain(Chain::user(Table::Filter, &format!("c{number}")).rule(next()).rule(next()));
    }
    ruleset = ruleset.chain(Chain::user(Table::Filter, "c60"));
    assert_eq!(stack.set_filter(Family::V4, ruleset), Ok(()));
    let mut deep = Ruleset::new();
    for number in 0..1000 {
        let chain = Chain::user(Table::Filter, &format!("c{number}"));
        deep = deep.chain(chain.rule(Rule::new(Target::Jump(format!("c{}", number + 1)))));
    }
    deep = deep.chain(Chain::user(Table::Filter, "c1000"));
    assert_eq!(stack.set_filter(Family::V4, deep), Err(RulesetError::TooDeep));
}

#[test]
fn loopback_is_filtered_too() {
    for family in FAMILIES {
        let stack = Stack::builder().manual_clock().deterministic(1).build();
        let loopback = if family == Family::V4 { "127.0.0.1" } else { "::1" };
        let chain = Chain::builtin(Table::Filter, Hook::Input, Policy::Drop)
            .rule(Rule::new(Target::Accept).when(Test::State(ConnState::ESTABLISHED)))
            .rule(Rule::new(Target::Accept).when(Test::DestinationPort(vec![80..=80])));
        let redirect = Chain::builtin(Table::Nat, Hook::Output, Policy::Accept).rule(
            Rule::new(Target::Redirect { ports: Some(80..=80), choice: Ports::Near })
                .when(Test::DestinationPort(vec![8000..=8000])),
        );
        stack.set_filter(family, rules([chain, redirect])).unwrap();
        let listener = TcpSocket::new(&stack, family);
        listener.bind(at(any(family), 80)).unwrap();
        listener.listen(8).unwrap();
        for port in [80, 8000] {
            let client = TcpSocket::new(&stack, family);
            client.connect(at(loopback, port)).unwrap();
            let (server, _) = listener.try_accept().unwrap_or_else(|error| panic!("{port}: {error}"));
            server.try_send(&mut &b"hello"[..]).unwrap();
            assert_eq!(read_available(&client), b"hello", "{port}");
        }
        let client = TcpSocket::new(&stack, family);
        client.connect(at(loopback, 81)).unwrap();
        assert!(client.take_error().is_none(), "dropped, not refused");
    }
}

#[test]
fn a_refused_connection_is_not_remembered() {
    for (index, family) in FAMILIES.into_iter().enumerate() {
        // Over loopback each packet meets the rules twice, and is counted once.
        let stack = Stack::builder().manual_clock().deterministic(1).build();
        let loopback = if family == Family::V4 { "127.0.0.1" } else { "::1" };
        let new = |port: u16| {
            Rule::new(Target::Accept)
                .when(Test::State(ConnState::NEW))
                .when(Test::DestinationPort(vec![port..=port]))
        };
        let chain = Chain::builtin(Table::Filter, Hook::Input, Policy::Drop)
            .rule(new(81))
            .rule(new(80))
            .rule(Rule::new(Target::Accept).when(Test::State(ConnState::ESTABLISHED)));
        stack.set_filter(family, rules([chain])).unwrap();
        let client = TcpSocket::new(&stack, family);
        client.connect(at(loopback, 81)).unwrap();
        assert_eq!(
            client.take_error(),
            Some(SocketError::ConnectionRefused),
            "the reset is part of the flow"
        );
        assert_eq!(stack.tracked_flows(), []);
        let listener = TcpSocket::new(&stack, family);
        listener.bind(at(any(family), 80)).unwrap();
        listener.listen(8).unwrap();
        let client = TcpSocket::new(&stack, family);
        client.connect(at(loopback, 80)).unwrap();
        let (server, _) = listener.try_accept().unwrap();
        server.abort();
        assert_eq!(client.take_error(), Some(SocketError::ConnectionReset));
        let flows = stack.tracked_flows();
        assert_eq!(flows.iter().map(|flow| flow.tcp_state).collect::<Vec<_>>(), [Some(TcpState::Closed)]);
        assert_eq!(flows[0].packets, [2, 2], "SYN, ACK; SYN-ACK, RST");

        let mut net = Triple::new();
        net.router.set_filter(family, masquerade()).unwrap();
        let client = TcpSocket::new(&net.left.stack, family);
        client.connect(at(FAR[index], 81)).unwrap();
        net.settle();
        assert_eq!(client.take_error(), Some(SocketError::ConnectionRefused));
        assert_eq!(net.router.tracked_flows(), []);
    }
}

#[test]
fn what_left_untracked_stays_so_when_it_comes_back() {
    for family in FAMILIES {
        let stack = Stack::builder().manual_clock().deterministic(1).build();
        let loopback = if family == Family::V4 { "127.0.0.1" } else { "::1" };
        let raw = |hook| Chain::builtin(Table::Raw, hook, Policy::Accept);
        let input = Chain::builtin(Table::Filter, Hook::Input, Policy::Drop)
            .rule(Rule::new(Target::Accept).when(Test::State(ConnState::UNTRACKED)));
        let output =
            raw(Hook::Output).rule(Rule::new(Target::NoTrack).when(Test::DestinationPort(vec![7..=7])));
        // Too late for what is tracked by now.
        let prerouting = raw(Hook::Prerouting).rule(Rule::new(Target::NoTrack));
        stack.set_filter(family, rules([output, prerouting, input])).unwrap();
        let (untracked, tracked) = (udp(&stack, family, 7), udp(&stack, family, 8));
        let client = udp(&stack, family, 5000);
        for port in [7, 8] {
            client.try_send(&mut &b"x"[..], &to(loopback, port)).unwrap();
        }
        assert!(got(&untracked).is_some() && got(&tracked).is_none());
    }
}

#[test]
fn senseless_rules_are_refused() {
    let chain = |table, hook| Chain::builtin(table, hook, Policy::Accept);
    let jump = |name: &str| Rule::new(Target::Jump(name.to_owned()));
    let nat = || Target::DestinationNat(NatRange::to("10.0.0.1".parse().unwrap()));
    for (ruleset, expected) in [
        (
            rules([chain(Table::Filter, Hook::Prerouting)]),
            RulesetError::NoSuchHook(Table::Filter, Hook::Prerouting),
        ),
        (
            rules([chain(Table::Filter, Hook::Input), chain(Table::Filter, Hook::Input)]),
            RulesetError::DuplicateChain("INPUT".into()),
        ),
        (
            rules([chain(Table::Filter, Hook::Input).rule(jump("gone"))]),
            RulesetError::NoSuchChain("gone".into()),
        ),
        (
            rules([
                Chain::user(Table::Filter, "a").rule(jump("b")),
                Chain::user(Table::Filter, "b").rule(jump("a")),
            ]),
            RulesetError::Loop("a".into()),
        ),
        (
            rules([chain(Table::Filter, Hook::Input).rule(Rule::new(nat()))]),
            RulesetError::TargetNotForTable(Table::Filter),
        ),
        (
            rules([chain(Table::Nat, Hook::Postrouting).rule(Rule::new(nat()))]),
            RulesetError::TargetNotForHook(Hook::Postrouting),
        ),
        (
            rules([
                Chain::user(Table::Nat, "n").rule(Rule::new(nat())),
                chain(Table::Nat, Hook::Postrouting).rule(jump("n")),
            ]),
            RulesetError::TargetNotForHook(Hook::Postrouting),
        ),
        (
            rules([chain(Table::Filter, Hook::Input).rule(Rule::new(Target::Reject(RejectWith::TcpReset)))]),
            RulesetError::ResetWithoutTcp,
        ),
        (
            filter_chain(Hook::Input, Rule::new(Target::Reject(RejectWith::PolicyFailed))),
            RulesetError::RejectNotForFamily(RejectWith::PolicyFailed),
        ),
        (
            filter_chain(
                Hook::Input,
                Rule::new(Target::Drop).when(Test::Source("fd00::/8".parse().unwrap())),
            ),
            RulesetError::FamilyMismatch,
        ),
        (
            filter_chain(Hook::Input, Rule::new(Target::Drop).when(Test::OutputNic("eth0".into()))),
            RulesetError::TargetNotForHook(Hook::Input),
        ),
        (
            filter_chain(Hook::Input, Rule::new(Target::Drop).when(Test::DestinationPort(vec![]))),
            RulesetError::EmptyRange,
        ),
    ] {
        let stack = Stack::builder().manual_clock().build();
        assert_eq!(stack.set_filter(Family::V4, ruleset), Err(expected));
        assert!(stack.filter(Family::V4).chains.is_empty());
    }
}

#[test]
fn super_segments_are_translated_whole() {
    let offloads = netstack::link::Capabilities {
        tx_checksum: true,
        gso_max_v4: 65_535,
        gso_max_v6: 65_535,
        ..Default::default()
    };
    for (index, family) in FAMILIES.into_iter().enumerate() {
        for right in [offloads, Default::default()] {
            let mut net = Triple::with(1500, offloads, right);
            net.router.set_filter(family, masquerade()).unwrap();
            let listener = net.right.listen(&at(FAR[index], 80).to_string(), 8);
            let client = net.left.connect(&at(FAR[index], 80).to_string());
            net.settle();
            let (server, _) = listener.try_accept().unwrap();
            let data = pattern(200_000);
            let (mut sent, mut received) = (0, Vec::new());
            while received.len() < data.len() {
                sent += client.try_send(&mut &data[sent..]).unwrap_or(0);
                net.run(Duration::from_millis(20));
                received.extend(read_available(&server));
            }
            assert!(received == data, "other bytes came");
            assert_eq!(net.router.stats().conntrack_invalid, 0);
            let whole = right.gso_max_v4 > 0;
            let packets: u64 = net.router.tracked_flows()[0].packets[0];
            assert!(packets < 120, "{packets} packets for 200 kB");
            let largest = net.seen.iter().filter(|(lan, _)| *lan == common::Lan::Right);
            let largest = largest.map(|(_, frame)| frame.len()).max().unwrap();
            assert_eq!(largest > 1514, whole, "{largest}");
        }
    }
}
