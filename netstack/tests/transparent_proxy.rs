//! A transparent proxy on a router: rules give the flows of others to sockets of its own, and routes keep them here.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{Triple, read_available, recv};
use netstack::filter::machine::{self, AddressFamily, Base, ChainKind, Comparison, CounterState, Expression};
use netstack::filter::{
    Chain, Hook, Policy, ProxyTarget, Rule, Ruleset, RulesetError, SocketTest, Table, Target, Test,
};
use netstack::options::{Family, SendMeta, Shutdown};
use netstack::route::{MarkMatch, Route, Rule as RouteRule, RuleAction, TableId};
use netstack::wire::ip::Protocol;
use netstack::{IpCidr, TcpSocket, UdpSocket};

const FAMILIES: [(Family, &str, &str); 2] =
    [(Family::V4, "10.2.0.2", "0.0.0.0"), (Family::V6, "fd02::2", "::")];
const MARK: u32 = 7;

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// A network whose router keeps packets with the mark.
fn net() -> Triple {
    let net = Triple::new();
    let loopback = net.router.nics().into_iter().find(|nic| nic.name == "lo").unwrap().id;
    for (family, everything) in [(Family::V4, IpCidr::DEFAULT_V4), (Family::V6, IpCidr::DEFAULT_V6)] {
        let table = TableId(100);
        net.router.add_route(Route { table, ..Route::local(everything, loopback) }).unwrap();
        let mark = Some(MarkMatch::exactly(MARK));
        let rule = RouteRule { mark, ..RouteRule::new(family, 100, RuleAction::Lookup(table)) };
        net.router.add_rule(rule).unwrap();
    }
    net
}

fn proxy(protocol: Protocol) -> Rule {
    let target = ProxyTarget { address: None, port: 50_080, mark: MARK, mask: u32::MAX };
    Rule::new(Target::Proxy(target)).when(Test::Protocol(protocol))
}

fn rules(rules: impl IntoIterator<Item = Rule>) -> Ruleset {
    let chain = Chain::builtin(Table::Mangle, Hook::Prerouting, Policy::Accept);
    Ruleset::new().chain(rules.into_iter().fold(chain, Chain::rule))
}

fn listen(net: &Triple, family: Family, any: &str) -> TcpSocket {
    let socket = TcpSocket::new(&net.router, family);
    socket.set_options(|options| options.transparent = true);
    socket.bind(at(any, 50_080)).unwrap();
    socket.listen(8).unwrap();
    socket
}

/// A connection from the left to the right that the router answers, data both ways, and its end.
#[track_caller]
fn is_answered(net: &mut Triple, listener: &TcpSocket, far: &str) {
    let client = net.left.connect(&at(far, 80).to_string());
    net.settle();
    let (server, peer) = listener.try_accept().expect("a connection");
    assert_eq!((server.local_addr(), server.peer_addr()), (at(far, 80), Some(client.local_addr())));
    assert_eq!((peer, client.peer_addr()), (client.local_addr(), Some(at(far, 80))));
    client.try_send(&mut &b"question"[..]).unwrap();
    net.settle();
    assert_eq!(read_available(&server), b"question");
    server.try_send(&mut &b"answer"[..]).unwrap();
    net.settle();
    assert_eq!(read_available(&client), b"answer");
    client.shutdown(Shutdown::Write).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    net.settle();
}

#[test]
fn connections_to_others_are_accepted_and_answered_in_their_name() {
    for (family, far, any) in FAMILIES {
        let mut net = net();
        net.router.set_filter(family, rules([proxy(Protocol::TCP)])).unwrap();
        let listener = listen(&net, family, any);
        is_answered(&mut net, &listener, far);
        assert!(
            net.seen.iter().all(|(lan, frame)| *lan != common::Lan::Right
                || frame[12..14] == [8, 6]
                || frame[12] == 0x86)
        );
    }
}

#[test]
fn the_socket_test_finds_connections_and_handshakes() {
    for (family, far, any) in FAMILIES {
        let mut net = net();
        // As the manual of Linux has it: what a socket knows is marked, and only what opens goes to the listener.
        let known = SocketTest { transparent: true, ..SocketTest::default() };
        let mark = Target::Mark { value: MARK, mask: u32::MAX };
        let divert = Rule::new(mark).when(Test::Protocol(Protocol::TCP)).when(Test::Socket(known));
        let open = proxy(Protocol::TCP).when(Test::TcpFlags {
            mask: netstack::wire::tcp::TcpFlags::SYN | netstack::wire::tcp::TcpFlags::ACK,
            set: netstack::wire::tcp::TcpFlags::SYN,
        });
        net.router.set_filter(family, rules([divert, open])).unwrap();
        let listener = listen(&net, family, any);
        is_answered(&mut net, &listener, far);
        let chains = net.router.filter(family).chains;
        // The SYN alone went to the listener.
        assert_eq!(chains[0].rules[1].counters.packets, 1);
        assert!(chains[0].rules[0].counters.packets >= 4);
    }
}

#[test]
fn datagrams_to_others_tell_where_they_went() {
    for (family, far, any) in FAMILIES {
        let mut net = net();
        net.router.set_filter(family, rules([proxy(Protocol::UDP)])).unwrap();
        let server = UdpSocket::new(&net.router, family);
        server.set_options(|options| options.transparent = true);
        server.bind(at(any, 50_080)).unwrap();
        let client = net.left.udp(&at(any, 5000).to_string());
        let meta = SendMeta { to: Some(at(far, 53)), ..SendMeta::default() };
        client.try_send(&mut &b"question"[..], &meta).unwrap();
        net.settle();
        let (data, datagram) = recv(&server);
        assert_eq!((&data[..], datagram.to), (&b"question"[..], at(far, 53)));
        // The answer comes from where the question went.
        let answer = UdpSocket::new(&net.router, family);
        answer.set_options(|options| options.transparent = true);
        answer.bind(at(far, 53)).unwrap();
        answer.connect(datagram.from).unwrap();
        answer.try_send(&mut &b"answer"[..], &SendMeta::default()).unwrap();
        net.settle();
        let (data, from) = recv(&client);
        assert_eq!((&data[..], from.from), (&b"answer"[..], at(far, 53)));
        // What comes now is for the connected socket.
        client.try_send(&mut &b"more"[..], &meta).unwrap();
        net.settle();
        assert_eq!(recv(&answer).0, b"more");
    }
}

#[test]
fn packets_that_no_transparent_socket_wants_are_dropped() {
    let mut net = net();
    net.router.set_filter(Family::V4, rules([proxy(Protocol::TCP)])).unwrap();
    let ordinary = TcpSocket::new(&net.router, Family::V4);
    ordinary.bind(at("0.0.0.0", 50_080)).unwrap();
    ordinary.listen(8).unwrap();
    let _right = net.right.listen("10.2.0.2:80", 8);
    let client = net.left.connect("10.2.0.2:80");
    net.run(Duration::from_millis(10));
    assert_eq!(client.state(), netstack::tcp::State::SynSent);
    assert_eq!(net.router.stats().filter_dropped, 1);
}

#[test]
fn a_route_alone_keeps_packets_here() {
    for (family, far, any) in FAMILIES {
        let mut net = Triple::new();
        let loopback = net.router.nics().into_iter().find(|nic| nic.name == "lo").unwrap().id;
        let route = Route::local(
            IpCidr::new(far.parse().unwrap(), if family == Family::V4 { 32 } else { 128 }).unwrap(),
            loopback,
        );
        net.router.add_route(route).unwrap();
        let listener = TcpSocket::new(&net.router, family);
        listener.bind(at(any, 80)).unwrap();
        listener.listen(8).unwrap();
        is_answered(&mut net, &listener, far);
        net.router.remove_route(route.destination, None, None).unwrap();
        let _right = net.right.listen(&at(far, 80).to_string(), 8);
        let client = net.left.connect(&at(far, 80).to_string());
        net.settle();
        assert!(listener.try_accept().is_err() && client.state() == netstack::tcp::State::Established);
    }
}

#[test]
fn the_machine_gives_flows_to_proxies_and_knows_their_sockets() {
    for (family, far, any) in FAMILIES {
        let mut net = net();
        let register = |word| machine::Register::at_word(word).unwrap();
        let counter = Arc::new(CounterState::default());
        let mark = || {
            [
                Expression::Immediate { to: register(0), bytes: MARK.to_ne_bytes().to_vec() },
                Expression::SetMark(register(0)),
            ]
        };
        let is = |word, byte: u8| Expression::Compare {
            register: register(word),
            comparison: Comparison::Equal,
            bytes: vec![byte],
        };
        let mut known = vec![
            Expression::Socket { field: machine::SocketField::Transparent, to: register(0) },
            is(0, 1),
            Expression::Socket { field: machine::SocketField::Wildcard, to: register(0) },
            is(0, 0),
            Expression::Counter(Arc::clone(&counter)),
        ];
        known.extend(mark());
        known.push(Expression::Verdict(machine::Verdict::Accept));
        let mut given = vec![
            Expression::Immediate { to: register(1), bytes: 50_080_u16.to_be_bytes().to_vec() },
            Expression::Proxy(machine::ProxyRule {
                family: AddressFamily::Both,
                address: None,
                port: Some(register(1)),
            }),
        ];
        given.extend(mark());
        let rule = |expressions| Arc::new(machine::Rule { expressions });
        let base = Base {
            family: AddressFamily::Both,
            hook: Hook::Prerouting,
            priority: -150,
            kind: ChainKind::Filter,
            policy: Policy::Accept,
        };
        let chain = machine::Chain { base: Some(base), rules: vec![rule(known), rule(given)], counter: None };
        let chains = vec![Some(Arc::new(chain))];
        net.router.set_filter_program(machine::Program { chains, sets: Vec::new() }).unwrap();
        let listener = listen(&net, family, any);
        is_answered(&mut net, &listener, far);
        assert!(counter.get().0 >= 3);
    }
}

#[test]
fn proxies_have_their_place() {
    let net = net();
    let set = |ruleset| net.router.set_filter(Family::V4, ruleset);
    let anything = Rule { tests: Vec::new(), ..proxy(Protocol::TCP) };
    assert_eq!(set(rules([anything])), Err(RulesetError::ProxyWithoutProtocol));
    let filter = Chain::builtin(Table::Filter, Hook::Input, Policy::Accept).rule(proxy(Protocol::TCP));
    assert_eq!(set(Ruleset::new().chain(filter)), Err(RulesetError::TargetNotForTable(Table::Filter)));
    let input = Chain::builtin(Table::Mangle, Hook::Input, Policy::Accept).rule(proxy(Protocol::TCP));
    assert_eq!(set(Ruleset::new().chain(input)), Err(RulesetError::TargetNotForHook(Hook::Input)));
}
