//! Rules that choose routes by protocol, port, user and type of service.

mod common;

use common::{Triple, recv};
use netstack::error::{ConnectError, RouteError, SendError, SocketError};
use netstack::options::{Family, RecvFlags, SendMeta};
use netstack::packet::Owner;
use netstack::route::{
    PacketFacts, PortMatch, Route, RouteKind, RouteLookup, Rule, RuleAction, TableId, TosMatch,
};
use netstack::tcp::State;
use netstack::{IpCidr, PingSocket, Stack, TcpSocket};

/// The far host's addresses, and those that a socket of the family is bound to by default.
const ENDS: [(Family, &str, &str); 2] =
    [(Family::V4, "10.2.0.2", "0.0.0.0:0"), (Family::V6, "[fd02::2]", "[::]:0")];

const PROHIBITED: SendError = SendError::Pending(SocketError::Prohibited);

fn to(host: &str, port: u16) -> SendMeta {
    SendMeta { to: Some(format!("{host}:{port}").parse().unwrap()), ..SendMeta::default() }
}

/// A rule without selectors for a table that prohibits everything.
fn prohibiting(stack: &Stack, family: Family) -> Rule {
    let everything = if family == Family::V4 { IpCidr::DEFAULT_V4 } else { IpCidr::DEFAULT_V6 };
    let route = Route::rejecting(everything, RouteKind::Prohibit, stack.nic_by_name("lo").unwrap());
    stack.add_route(Route { table: TableId(7), ..route }).unwrap();
    Rule::new(family, 10, RuleAction::Lookup(TableId(7)))
}

#[test]
fn each_datagram_of_a_socket_is_ruled_by_its_port() {
    for (family, far, any) in ENDS {
        let net = Triple::new();
        let stack = &net.left.stack;
        let socket = net.left.udp(any);
        assert_eq!(socket.try_send(&mut &b"x"[..], &to(far, 53)), Ok(1));
        let rule = Rule { destination_port: Some(PortMatch::range(50, 59)), ..prohibiting(stack, family) };
        stack.add_rule(rule.clone()).unwrap();
        for _ in 0..2 {
            assert_eq!(socket.try_send(&mut &b"x"[..], &to(far, 53)), Err(PROHIBITED));
            for _ in 0..3 {
                assert_eq!(socket.try_send(&mut &b"x"[..], &to(far, 7)), Ok(1));
            }
        }
        stack.remove_rule(&rule).unwrap();
        assert_eq!(socket.try_send(&mut &b"x"[..], &to(far, 53)), Ok(1));
    }
}

#[test]
fn a_socket_without_a_port_gets_one_before_rules_look() {
    for (family, far, any) in ENDS {
        let net = Triple::new();
        let stack = &net.left.stack;
        let base = prohibiting(stack, family);
        stack.add_rule(Rule { source_port: Some(PortMatch::range(1024, 65534)), ..base }).unwrap();
        assert_eq!(net.left.udp(any).try_send(&mut &b"x"[..], &to(far, 53)), Err(PROHIBITED));
        let refused = net.left.udp(any).connect(to(far, 53).to.unwrap());
        assert_eq!(refused, Err(ConnectError::Pending(SocketError::Prohibited)));
    }
}

#[test]
fn a_connection_is_ruled_by_the_port_that_it_gets() {
    for (family, far, _) in ENDS {
        let net = Triple::new();
        let stack = &net.left.stack;
        let base = prohibiting(stack, family);
        stack.add_rule(Rule { source_port: Some(PortMatch::range(1024, 65534)), ..base }).unwrap();
        let connected = TcpSocket::new(stack, family).connect(to(far, 80).to.unwrap());
        // As on Linux, where IPv6 asks the rules before there is a port only.
        match family {
            Family::V4 => assert_eq!(connected, Err(ConnectError::Pending(SocketError::Prohibited))),
            Family::V6 => assert_eq!(connected, Ok(())),
        }
    }
}

#[test]
fn users_and_protocols_have_routes_of_their_own() {
    for (family, far, any) in ENDS {
        let mut net = Triple::new();
        let server = net.right.listen(&format!("{far}:80"), 8);
        let stack = &net.left.stack;
        let rule = Rule { users: Some(1000..=1999), protocol: Some(6), ..prohibiting(stack, family) };
        stack.add_rule(rule).unwrap();
        let user = |user: u32| Some(Owner { user, group: 0 });
        let connect = |owner: u32| {
            let socket = TcpSocket::new(stack, family);
            socket.set_options(|options| options.owner = user(owner));
            socket.connect(to(far, 80).to.unwrap()).map(|()| socket)
        };
        let refused = ConnectError::Pending(SocketError::Prohibited);
        // Neither takes the way that was found for the other.
        for _ in 0..2 {
            assert_eq!(connect(1000).err(), Some(refused));
            assert!(connect(999).is_ok());
        }
        let socket = net.left.udp(any);
        socket.set_options(|options| options.owner = user(1000));
        assert_eq!(socket.try_send(&mut &b"x"[..], &to(far, 80)), Ok(1));
        let given_away = TcpSocket::new(stack, family);
        given_away.set_options(|options| (options.owner, options.routed_for) = (user(999), Some(1001)));
        assert_eq!(given_away.connect(to(far, 80).to.unwrap()), Err(refused));
        let connected = connect(0).unwrap();
        net.settle();
        assert_eq!(connected.state(), State::Established);
        drop(server);
    }
}

#[test]
fn the_type_of_service_of_sockets_and_messages_counts() {
    let net = Triple::new();
    let stack = &net.left.stack;
    let base = prohibiting(stack, Family::V4);
    let tos = Some(TosMatch::Dscp { value: 46, mask: 0x3f });
    stack.add_rule(Rule { tos, protocol: Some(17), ..base.clone() }).unwrap();
    stack.add_rule(Rule { tos: Some(TosMatch::Tos(0x10)), protocol: Some(1), ..base }).unwrap();
    let socket = net.left.udp("0.0.0.0:0");
    let urgent = SendMeta { tos: Some(0xb8), ..to("10.2.0.2", 7) };
    assert_eq!(socket.try_send(&mut &b"x"[..], &to("10.2.0.2", 7)), Ok(1));
    assert_eq!(socket.try_send(&mut &b"x"[..], &urgent), Err(PROHIBITED));
    socket.set_options(|options| options.tos = 0xb8);
    assert_eq!(socket.try_send(&mut &b"x"[..], &to("10.2.0.2", 7)), Err(PROHIBITED));
    let ping = PingSocket::new(stack, Family::V4);
    let request = [8, 0, 0, 0, 0, 0, 0, 1];
    assert_eq!(ping.try_send(&mut &request[..], &to("10.2.0.2", 0)), Ok(8));
    ping.set_options(|options| options.tos = 0x30);
    assert_eq!(ping.try_send(&mut &request[..], &to("10.2.0.2", 0)), Err(PROHIBITED));
}

#[test]
fn packets_of_others_are_ruled_by_their_headers() {
    for (family, far, any) in ENDS {
        let mut net = Triple::new();
        let base = prohibiting(&net.router, family);
        let by_port = Rule { protocol: Some(17), destination_port: Some(PortMatch::range(53, 53)), ..base };
        net.router.add_rule(by_port).unwrap();
        let servers = [7, 53].map(|port| net.right.udp(&format!("{far}:{port}")));
        let client = net.left.udp(any);
        for port in [53, 7] {
            client.try_send(&mut &b"x"[..], &to(far, port)).unwrap();
        }
        net.settle();
        assert_eq!(recv(&servers[0]).0, b"x");
        assert!(servers[1].try_recv(&mut Vec::new(), RecvFlags::default()).is_err());
        // They belong to nobody, which is user 0.
        let base = Rule::new(family, 11, RuleAction::Prohibit);
        net.router.add_rule(Rule { users: Some(1..=u32::MAX), ..base.clone() }).unwrap();
        client.try_send(&mut &b"y"[..], &to(far, 7)).unwrap();
        net.settle();
        assert_eq!(recv(&servers[0]).0, b"y");
        net.router.add_rule(Rule { users: Some(0..=0), ..base }).unwrap();
        client.try_send(&mut &b"z"[..], &to(far, 7)).unwrap();
        net.settle();
        assert!(servers[0].try_recv(&mut Vec::new(), RecvFlags::default()).is_err());
    }
}

#[test]
fn ways_are_told_for_packets_of_a_kind() {
    let net = Triple::new();
    let stack = &net.left.stack;
    let rule = Rule { protocol: Some(6), users: Some(5..=5), ..prohibiting(stack, Family::V4) };
    stack.add_rule(rule).unwrap();
    let ask = |protocol: u8, user: u32| {
        let packet = PacketFacts { protocol, user, ..PacketFacts::default() };
        stack.find_way(&RouteLookup { packet, ..RouteLookup::to("10.2.0.2".parse().unwrap()) }).err()
    };
    assert_eq!(ask(6, 5), Some(RouteError::Prohibited));
    assert_eq!((ask(6, 4), ask(17, 5)), (None, None));
}
