//! A router between two hosts, in virtual time.

mod common;

use std::time::Duration;

use common::{Lan, Triple, pattern, recv};
use netstack::error::{ConnectError, SendError, SocketError};
use netstack::link::Capabilities;
use netstack::nic::ReversePath;
use netstack::options::{ErrorOrigin, Family, PmtuDiscovery, RecvFlags, SendMeta, Shutdown};
use netstack::route::{MarkMatch, Route, RouteKind, RouteOrigin, Rule, RuleAction, RuleNic, TableId};
use netstack::{IpCidr, PingSocket, RawSocket, UdpSocket};

fn to(address: &str) -> SendMeta {
    SendMeta { to: Some(address.parse().unwrap()), ..SendMeta::default() }
}

/// The far host's addresses.
const FAR: [&str; 2] = ["10.2.0.2:7", "[fd02::2]:7"];
const ANY: [&str; 2] = ["0.0.0.0:0", "[::]:0"];

#[test]
fn datagrams_cross_with_one_hop_less() {
    for (far, any) in FAR.into_iter().zip(ANY) {
        let mut net = Triple::new();
        let server = net.right.udp(far);
        let client = net.left.udp(any);
        client.try_send(&mut &b"hello"[..], &to(far)).unwrap();
        net.settle();
        let (data, from) = recv(&server);
        assert_eq!((&data[..], from.ttl), (&b"hello"[..], 63), "{far}");
        server.try_send(&mut &b"back"[..], &SendMeta { to: Some(from.from), ..SendMeta::default() }).unwrap();
        net.settle();
        assert_eq!(recv(&client).0, b"back");
        assert_eq!(net.router.stats().ip_forw_datagrams, 2);
    }
}

#[test]
fn nothing_crosses_where_forwarding_is_off() {
    for (far, any) in FAR.into_iter().zip(ANY) {
        let mut net = Triple::new();
        net.router
            .set_nic_options(net.router_nics[0], |options| {
                (options.forwards_v4, options.forwards_v6) = (false, false);
            })
            .unwrap();
        let server = net.right.udp(far);
        net.left.udp(any).try_send(&mut &b"hello"[..], &to(far)).unwrap();
        net.settle();
        assert!(server.try_recv(&mut Vec::new(), RecvFlags::default()).is_err());
        assert_eq!(net.router.stats().ip_in_not_ours, 1);
    }
}

/// The error that a connected sender hears of, with type, code and information.
fn error_for(net: &mut Triple, far: &str, any: &str, len: usize, ttl: Option<u8>) -> (u8, u8, u32) {
    let client = net.left.udp(any);
    client.set_options(|options| {
        (options.error_queue, options.error_queue_v6) = (true, true);
        options.pmtu_discovery = PmtuDiscovery::Do;
    });
    let meta = SendMeta { ttl, ..to(far) };
    client.try_send(&mut &pattern(len)[..], &meta).unwrap();
    net.settle();
    net.run(Duration::from_secs(4));
    let error = client.take_queued_error().expect("no error came");
    assert_ne!(error.origin, ErrorOrigin::Local);
    (error.icmp_type, error.icmp_code, error.info)
}

#[test]
fn the_sender_is_told_why_a_packet_ends_here() {
    for (far, any, expired, too_big, no_route, host, prohibited) in [
        (FAR[0], ANY[0], (11, 0, 0), (3, 4, 1300), (3, 0, 0), (3, 1, 0), (3, 13, 0)),
        (FAR[1], ANY[1], (3, 0, 0), (2, 0, 1300), (1, 0, 0), (1, 3, 0), (1, 1, 0)),
    ] {
        let mut net = Triple::new();
        assert_eq!(error_for(&mut net, far, any, 10, Some(1)), expired, "{far}");
        net.router.set_nic_mtu(net.router_nics[1], 1300).unwrap();
        assert_eq!(error_for(&mut net, far, any, 1400, None), too_big, "{far}");
        // Nobody has that address.
        let absent = far.replace("2]", "99]").replace("0.2:", "0.99:");
        assert_eq!(error_for(&mut net, &absent, any, 10, None), host, "{absent}");
        let elsewhere = if any == ANY[0] { "192.0.2.1:7" } else { "[2001:db8::1]:7" };
        assert_eq!(error_for(&mut net, elsewhere, any, 10, None), no_route, "{far}");
        let lo = net.router.nic_by_name("lo").unwrap();
        let network = IpCidr::host(elsewhere.parse::<std::net::SocketAddr>().unwrap().ip());
        for (kind, expected) in [(RouteKind::Unreachable, host), (RouteKind::Prohibit, prohibited)] {
            net.router.add_route(Route::rejecting(network, kind, lo)).unwrap();
            assert_eq!(error_for(&mut net, elsewhere, any, 10, None), expected, "{kind:?}");
            net.router.remove_route(network, None, None).unwrap();
        }
        net.router.add_route(Route::rejecting(network, RouteKind::Blackhole, lo)).unwrap();
        let before = net.router.stats();
        net.left.udp(any).try_send(&mut &b"x"[..], &to(elsewhere)).unwrap();
        net.settle();
        let after = net.router.stats();
        assert_eq!(after.ip_in_no_routes, before.ip_in_no_routes + 1);
        assert_eq!(after.icmp_out_errors, before.icmp_out_errors, "a black hole is silent");
    }
}

#[test]
fn datagrams_that_may_be_are_fragmented_on_the_way() {
    let mut net = Triple::new();
    net.router.set_nic_mtu(net.router_nics[1], 600).unwrap();
    let server = net.right.udp(FAR[0]);
    let client = net.left.udp(ANY[0]);
    client.set_options(|options| options.pmtu_discovery = PmtuDiscovery::Dont);
    let data = pattern(4000);
    client.try_send(&mut &data[..], &to(FAR[0])).unwrap();
    net.settle();
    assert_eq!(recv(&server).0, data);
    // Three fragments came, two of them of 1500 bytes, cut into three each.
    assert_eq!(net.router.stats().ip_frag_creates, 8);
}

#[test]
fn path_mtu_is_learned_through_the_router() {
    for (far, any) in FAR.into_iter().zip(ANY) {
        let mut net = Triple::new();
        net.router.set_nic_mtu(net.router_nics[1], 1300).unwrap();
        let listener = net.right.listen(far, 8);
        let client = net.left.connect(far);
        net.settle();
        let (server, _) = listener.try_accept().unwrap();
        let data = pattern(20_000);
        client.try_send(&mut &data[..]).unwrap();
        net.run(Duration::from_secs(3));
        assert_eq!(common::read_available(&server), data, "{any}");
        assert!(net.router.stats().ip_forward_too_big > 0);
    }
}

#[test]
fn super_segments_cross_whole_or_cut() {
    let offloads = Capabilities {
        tx_checksum: true,
        gso_max_v4: 65_535,
        gso_max_v6: 65_535,
        gso_max_udp: 65_535,
        ..Capabilities::default()
    };
    for (far, whole) in [(FAR[0], true), (FAR[1], true), (FAR[0], false), (FAR[1], false)] {
        let right = if whole { offloads } else { Capabilities::default() };
        let mut net = Triple::with(1500, offloads, right);
        let listener = net.right.listen(far, 8);
        let client = net.left.connect(far);
        net.settle();
        let (server, _) = listener.try_accept().unwrap();
        let data = pattern(200_000);
        let (mut sent, mut received) = (0, Vec::new());
        while received.len() < data.len() {
            sent += client.try_send(&mut &data[sent..]).unwrap_or(0);
            net.run(Duration::from_millis(20));
            received.extend(common::read_available(&server));
        }
        assert!(received == data, "{far}: other bytes came");
        let largest =
            net.seen.iter().filter(|(lan, _)| *lan == Lan::Right).map(|(_, frame)| frame.len()).max();
        assert_eq!(largest > Some(1514), whole, "{far}: {largest:?}");
        client.shutdown(Shutdown::Both).unwrap();
    }
}

#[test]
fn segmented_datagrams_are_cut_for_a_link_that_cannot() {
    let offloads = Capabilities { tx_checksum: true, gso_max_udp: 65_535, ..Capabilities::default() };
    for (far, any) in FAR.into_iter().zip(ANY) {
        let mut net = Triple::with(1500, offloads, Capabilities::default());
        let server = net.right.udp(far);
        let data = pattern(2500);
        let meta = SendMeta { segment_size: Some(1000), ..to(far) };
        net.left.udp(any).try_send(&mut &data[..], &meta).unwrap();
        net.settle();
        let parts: Vec<_> = (0..3).map(|_| recv(&server).0).collect();
        assert_eq!(parts.concat(), data);
        assert_eq!(parts[2].len(), 500);
    }
}

#[test]
fn martians_are_not_forwarded() {
    let mut net = Triple::new();
    for (source, destination) in [
        ("127.0.0.1", "10.2.0.2"),
        ("10.1.0.2", "127.0.0.1"),
        ("0.0.0.0", "10.2.0.2"),
        ("224.0.0.5", "10.2.0.2"),
        ("10.1.0.2", "240.0.0.1"),
        ("fe80::2", "fd02::2"),
        ("::1", "fd02::2"),
        ("ff02::1", "fd02::2"),
    ] {
        let before = net.router.stats();
        net.inject_udp(source, destination);
        let after = net.router.stats();
        assert_eq!(after.ip_in_martians, before.ip_in_martians + 1, "{source} -> {destination}");
        assert_eq!(after.ip_forw_datagrams, before.ip_forw_datagrams);
    }
}

#[test]
fn reverse_path_filter_drops_sources_from_the_wrong_side() {
    for (source, destination) in [("10.2.0.9", "10.2.0.2"), ("fd02::9", "fd02::2")] {
        let mut net = Triple::new();
        for (mode, unknown, wrong) in
            [(ReversePath::Off, 0, 0), (ReversePath::Loose, 1, 0), (ReversePath::Strict, 1, 1)]
        {
            net.router.set_nic_options(net.router_nics[0], |options| options.reverse_path = mode).unwrap();
            let count = |net: &Triple| net.router.stats().ip_reverse_path_filter;
            let before = count(&net);
            net.inject_udp(if source.contains(':') { "2001:db8::9" } else { "192.0.2.9" }, destination);
            assert_eq!(count(&net) - before, unknown, "{mode:?}: a source without a route");
            let before = count(&net);
            net.inject_udp(source, destination);
            assert_eq!(count(&net) - before, wrong, "{mode:?}: {source} from the left");
        }
    }
}

#[test]
fn hosts_follow_redirects() {
    // The left host sends everything to the router, though another gateway on its own network is the way.
    for (network, gateway, far) in
        [("192.0.2.0/24", "10.1.0.77", "192.0.2.1:7"), ("2001:db8::/32", "fe80::77", "[2001:db8::1]:7")]
    {
        let mut net = Triple::new();
        let nic = net.router_nics[0];
        net.router.add_route(Route::via(network.parse().unwrap(), gateway.parse().unwrap(), nic)).unwrap();
        let client = net.left.udp(if far.starts_with('[') { ANY[1] } else { ANY[0] });
        client.try_send(&mut &b"x"[..], &to(far)).unwrap();
        net.settle();
        assert_eq!(net.router.stats().icmp_out_redirects, 1, "{far}");
        let host = IpCidr::host(far.parse::<std::net::SocketAddr>().unwrap().ip());
        let routes = net.left.stack.routes();
        let made = routes.iter().find(|route| route.destination == host).expect("no route was made");
        assert_eq!((made.gateway, made.origin), (Some(gateway.parse().unwrap()), RouteOrigin::Redirect));
        // It does not last.
        net.run(Duration::from_secs(301));
        assert!(net.left.stack.routes().iter().all(|route| route.destination != host));
        // Nor is it followed where that is not wanted.
        net.left.stack.set_nic_options(net.left.nic, |options| options.accepts_redirects = false).unwrap();
        client.try_send(&mut &b"x"[..], &to(far)).unwrap();
        net.settle();
        assert!(net.left.stack.routes().iter().all(|route| route.destination != host));
        assert_eq!(net.left.stack.stats().icmp_in_redirects_ignored, 1);
    }
}

#[test]
fn marks_choose_the_table() {
    for (far, any, family) in [(FAR[0], ANY[0], Family::V4), (FAR[1], ANY[1], Family::V6)] {
        let net = Triple::new();
        let stack = &net.left.stack;
        let lo = stack.nic_by_name("lo").unwrap();
        let everything = if family == Family::V4 { IpCidr::DEFAULT_V4 } else { IpCidr::DEFAULT_V6 };
        let route = Route::rejecting(everything, RouteKind::Prohibit, lo);
        stack.add_route(Route { table: TableId(7), ..route }).unwrap();
        let rule = Rule {
            mark: Some(MarkMatch::exactly(9)),
            ..Rule::new(family, 10, RuleAction::Lookup(TableId(7)))
        };
        stack.add_rule(rule.clone()).unwrap();
        let socket = net.left.udp(any);
        assert_eq!(socket.try_send(&mut &b"x"[..], &to(far)), Ok(1));
        socket.set_options(|options| options.mark = 9);
        let refused = SendError::Pending(SocketError::Prohibited);
        assert_eq!(socket.try_send(&mut &b"x"[..], &to(far)), Err(refused));
        let connecting = UdpSocket::new(stack, family);
        connecting.set_options(|options| options.mark = 9);
        let refused = ConnectError::Pending(SocketError::Prohibited);
        assert_eq!(connecting.connect(far.parse().unwrap()), Err(refused));
        stack.remove_rule(&rule).unwrap();
        assert_eq!(socket.try_send(&mut &b"x"[..], &to(far)), Ok(1));
    }
}

#[test]
fn forwarded_packets_are_ruled_by_where_they_came_in() {
    let mut net = Triple::new();
    let rule = Rule {
        input_nic: Some(RuleNic::named(&net.router.nic(net.router_nics[0]).unwrap().name)),
        from: Some("10.1.0.0/24".parse().unwrap()),
        ..Rule::new(Family::V4, 10, RuleAction::Prohibit)
    };
    net.router.add_rule(rule).unwrap();
    assert_eq!(error_for(&mut net, FAR[0], ANY[0], 10, None), (3, 13, 0));
    // The other direction is not touched.
    let server = net.left.udp("10.1.0.2:7");
    net.right.udp(ANY[0]).try_send(&mut &b"x"[..], &to("10.1.0.2:7")).unwrap();
    net.settle();
    assert_eq!(recv(&server).0, b"x");
}

#[test]
fn equal_routes_share_the_flows_by_weight() {
    let net = Triple::new();
    let stack = &net.left.stack;
    for (gateway, weight) in [("10.1.0.101", 1), ("10.1.0.102", 3)] {
        let route = Route::via("198.18.0.0/15".parse().unwrap(), gateway.parse().unwrap(), net.left.nic);
        stack.add_route(Route { weight, ..route }).unwrap();
    }
    let socket = net.left.udp(ANY[0]);
    for host in 0..400_u32 {
        let address = std::net::Ipv4Addr::from_bits(0xc612_0001 + host);
        socket.try_send(&mut &b"x"[..], &to(&format!("{address}:7"))).unwrap();
    }
    // Each gateway is asked for once; what waits for it tells the share.
    net.left.link.take();
    let shares: Vec<u64> = ["10.1.0.101", "10.1.0.102"]
        .iter()
        .map(|gateway| {
            let mac = netstack::MacAddr([2, 0, 0, 0, 0, 0x55]);
            stack.add_neighbour(net.left.nic, gateway.parse().unwrap(), mac).unwrap();
            net.left.link.take().len() as u64
        })
        .collect();
    // At most 128 packets wait for a neighbour, so look at who has fewer.
    assert!((60..128).contains(&shares[0]) && shares[1] == 128, "{shares:?}");
}

#[test]
fn traceroute_sees_the_router() {
    for (far, request) in [("10.2.0.2:0", 8_u8), ("[fd02::2]:0", 128)] {
        let mut net = Triple::new();
        let family = if far.starts_with('[') { Family::V6 } else { Family::V4 };
        let socket = PingSocket::new(&net.left.stack, family);
        socket.set_options(|options| (options.error_queue, options.error_queue_v6) = (true, true));
        let message = [request, 0, 0, 0, 0, 0, 0, 1, 9, 9];
        socket.try_send(&mut &message[..], &SendMeta { ttl: Some(1), ..to(far) }).unwrap();
        net.settle();
        let offender = socket.take_queued_error().unwrap().offender.unwrap().to_string();
        assert_eq!(offender, if family == Family::V4 { "10.1.0.1" } else { "fd01::1" });
        let _ = socket.take_error();
        socket.try_send(&mut &message[..], &SendMeta { ttl: Some(2), ..to(far) }).unwrap();
        net.settle();
        assert!(socket.try_recv(&mut Vec::new(), RecvFlags::default()).is_ok());
    }
}

#[test]
fn unknown_hop_by_hop_options_are_answered_by_the_router() {
    let mut net = Triple::new();
    let sniffer = RawSocket::new(&net.left.stack, Family::V6, 58);
    // An option whose two highest bits ask for a report (10).
    let mut packet = common::udp_packet("fd01::2", "fd02::2");
    packet.splice(40..40, [17, 0, 0x9e, 4, 0, 0, 0, 0]);
    packet[6] = 0;
    packet[5] += 8;
    net.inject(&packet, 0x86dd);
    net.settle();
    let mut data = Vec::new();
    let reports = std::iter::from_fn(|| {
        data.clear();
        sniffer.try_recv(&mut data, RecvFlags::default()).ok().map(|_| data.clone())
    });
    let problem = reports.into_iter().find(|message| message[0] == 4).expect("no parameter problem");
    assert_eq!((problem[1], &problem[4..8]), (2, &[0, 0, 0, 42][..]));
}
