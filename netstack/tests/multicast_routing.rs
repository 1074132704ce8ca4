//! A multicast router between two hosts, in virtual time.

mod common;

use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Lan, Triple, family_of, recv};
use netstack::error::RecvError;
use netstack::filter::{Chain, Hook, Policy, Rule, Ruleset, Table, Target, Test};
use netstack::link::channel::ChannelLink;
use netstack::link::{Capabilities, Medium};
use netstack::multicast_route::{
    MulticastRoute, MulticastRouteError, MulticastRouter, Refused, Reporting, Thresholds, Upcall, UpcallKind,
    Vif, VifId,
};
use netstack::options::{Family, PmtuDiscovery, RecvFlags, SendMeta};
use netstack::wire::checksum::{Accumulator, pseudo_header};
use netstack::wire::ip::Protocol;
use netstack::{RawSocket, Stack, UdpSocket};

const GROUPS: [&str; 2] = ["239.1.2.3", "ff1e::123"];
const LEFT: [&str; 2] = ["10.1.0.2", "fd01::2"];

type Calls = Arc<Mutex<Vec<(UpcallKind, u8, Vec<u8>)>>>;

fn vif(number: usize) -> VifId {
    VifId::new(number).unwrap()
}

fn router(stack: &Stack, family: Family) -> (MulticastRouter, Calls) {
    let calls = Calls::default();
    let sink = Arc::clone(&calls);
    let sink = move |upcall: &Upcall<'_>| {
        sink.lock().unwrap().push((upcall.kind, upcall.vif.number(), upcall.packet.to_vec()));
        Ok(())
    };
    (MulticastRouter::new(stack, family, Arc::new(sink)).unwrap(), calls)
}

struct Net {
    net: Triple,
    router: MulticastRouter,
    calls: Calls,
    group: String,
    source: &'static str,
}

/// A router with its two NICs as virtual interfaces 0 (left) and 1 (right), and a member on the right.
fn begin(index: usize) -> (Net, UdpSocket) {
    let net = Triple::new();
    let group = GROUPS[index];
    let family = family_of(format_socket(group).parse().unwrap());
    let (router, calls) = router(&net.router, family);
    for (number, nic) in net.router_nics.into_iter().enumerate() {
        router.add_vif(vif(number), Vif::Nic(nic)).unwrap();
    }
    let member = net.right.udp(if family == Family::V4 { "0.0.0.0:7" } else { "[::]:7" });
    member.join_group(group.parse().unwrap(), Some(net.right.nic)).unwrap();
    let mut net = Net { net, router, calls, group: format_socket(group), source: LEFT[index] };
    net.net.run(Duration::from_secs(3));
    net.net.seen.clear();
    (net, member)
}

fn format_socket(address: &str) -> String {
    if address.contains(':') { format!("[{address}]:7") } else { format!("{address}:7") }
}

impl Net {
    fn route(&self, outputs: &[(usize, u8)]) -> MulticastRoute {
        let group: std::net::SocketAddr = self.group.parse().unwrap();
        let outputs = outputs.iter().fold(Thresholds::default(), |all, &(id, ttl)| all.with(vif(id), ttl));
        MulticastRoute { source: self.source.parse().unwrap(), group: group.ip(), parent: vif(0), outputs }
    }

    fn send(&mut self, data: &[u8], ttl: u8) {
        let socket = self.net.left.udp(&format_socket(self.source).replace(":7", ":0"));
        socket.set_options(|options| options.pmtu_discovery = PmtuDiscovery::Dont);
        let meta = SendMeta { to: Some(self.group.parse().unwrap()), ttl: Some(ttl), ..SendMeta::default() };
        socket.try_send(&mut &data[..], &meta).unwrap();
        self.net.settle();
    }

    fn on_the_right(&self) -> usize {
        self.net.seen.iter().filter(|(lan, frame)| *lan == Lan::Right && frame[0] & 1 == 1).count()
    }

    fn calls(&self) -> Vec<(UpcallKind, u8)> {
        self.calls.lock().unwrap().drain(..).map(|(kind, vif, _)| (kind, vif)).collect()
    }
}

fn is_empty(socket: &UdpSocket) -> bool {
    matches!(socket.try_recv(&mut Vec::new(), RecvFlags::default()), Err(RecvError::WouldBlock))
}

#[test]
fn packets_wait_for_their_route_and_then_follow_it() {
    for index in [0, 1] {
        let (mut net, member) = begin(index);
        for data in [b"one", b"two"] {
            net.send(data, 8);
        }
        assert!(is_empty(&member));
        // Told once.
        assert_eq!(net.calls(), [(UpcallKind::NoRoute, 0)]);
        assert_eq!(net.router.unresolved().len(), 1);
        net.router.add_route(net.route(&[(1, 1)])).unwrap();
        net.net.settle();
        net.send(b"three", 2);
        for data in [&b"one"[..], b"two", b"three"] {
            let (received, datagram) = recv(&member);
            assert_eq!((&received[..], datagram.from.ip()), (data, net.source.parse().unwrap()));
            assert_eq!(datagram.ttl, if data == b"three" { 1 } else { 7 });
        }
        // The threshold is not exceeded.
        net.send(b"four", 1);
        assert!(is_empty(&member) && net.calls().is_empty() && net.router.unresolved().is_empty());
        let counts = net.router.routes()[0].counts;
        assert_eq!((counts.packets, counts.wrong_vif), (4, 0));
        assert_eq!(net.router.vif(vif(0)).unwrap().counts.packets_in, 4);
        assert_eq!(net.router.vif(vif(1)).unwrap().counts.packets_out, 3);
        assert_eq!(net.on_the_right(), 3);
    }
}

#[test]
fn what_waits_is_bounded_in_number_and_time() {
    for index in [0, 1] {
        let (mut net, member) = begin(index);
        for number in 0..6 {
            net.send(&[number], 8);
        }
        let drops = |net: &Net| net.net.router.stats().multicast_unresolved_drops;
        assert_eq!(drops(&net), 2);
        net.net.run(Duration::from_secs(11));
        assert_eq!((drops(&net), net.router.unresolved().len()), (6, 0));
        net.router.add_route(net.route(&[(1, 1)])).unwrap();
        net.net.settle();
        assert!(is_empty(&member));
    }
}

#[test]
fn a_program_without_room_is_asked_again() {
    let (mut net, _member) = begin(0);
    let stack = net.net.router.clone();
    assert_eq!(
        MulticastRouter::new(&stack, Family::V4, Arc::new(|_: &Upcall<'_>| Ok(()))).err(),
        Some(MulticastRouteError::InUse)
    );
    let asked = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&asked);
    let full = move |_: &Upcall<'_>| {
        *counter.lock().unwrap() += 1;
        Err(Refused)
    };
    net.router = MulticastRouter::new(&stack, Family::V6, Arc::new(|_: &Upcall<'_>| Ok(()))).unwrap();
    net.router = MulticastRouter::new(&stack, Family::V4, Arc::new(full)).unwrap();
    net.router.add_vif(vif(0), Vif::Nic(net.net.router_nics[0])).unwrap();
    net.send(b"a", 8);
    net.send(b"b", 8);
    assert_eq!((*asked.lock().unwrap(), net.router.unresolved().len()), (2, 0));
}

#[test]
fn groups_of_the_link_stay_there() {
    for (index, group) in ["224.0.0.77", "ff02::77"].into_iter().enumerate() {
        let (mut net, _member) = begin(index);
        net.group = format_socket(group);
        if index == 1 {
            net.group = "[ff02::77%2]:7".to_owned();
        }
        net.send(b"here", 8);
        assert!(net.calls().is_empty() && net.on_the_right() == 0);
    }
}

#[test]
fn what_comes_the_wrong_way_is_reported_if_wanted() {
    for index in [0, 1] {
        let (mut net, member) = begin(index);
        let route = MulticastRoute { parent: vif(1), ..net.route(&[(0, 1)]) };
        net.router.add_route(route).unwrap();
        net.send(b"x", 8);
        assert!(net.calls().is_empty());
        net.router.report_wrong_vif(Reporting { is_on: true, with_packet: true, ..Reporting::default() });
        net.send(b"x", 8);
        net.send(b"x", 8);
        assert_eq!(net.calls(), [(UpcallKind::WrongVif, 0), (UpcallKind::WholeWrongVif, 0)]);
        assert!(is_empty(&member));
        assert_eq!(net.router.routes()[0].counts.wrong_vif, 3);
        assert_eq!(net.net.router.stats().multicast_wrong_vif, 3);
    }
}

#[test]
fn the_register_interface_brings_packets_whole() {
    for index in [0, 1] {
        let (mut net, member) = begin(index);
        net.router.add_vif(vif(5), Vif::Register).unwrap();
        net.router.add_route(net.route(&[(1, 1), (5, 1)])).unwrap();
        net.send(b"payload", 8);
        assert_eq!(recv(&member).0, b"payload");
        let calls = net.calls.lock().unwrap();
        let [(UpcallKind::WholePacket, 5, packet)] = &calls[..] else { panic!("{calls:?}") };
        assert!(packet.ends_with(b"payload"));
    }
}

/// Our own senders are routed as if they had come in where they leave; members of ours on the way out get a copy.
#[test]
fn our_own_packets_are_routed_and_our_members_hear() {
    for index in [0, 1] {
        let (mut net, member) = begin(index);
        let stack = net.net.router.clone();
        let own = UdpSocket::new(&stack, if index == 0 { Family::V4 } else { Family::V6 });
        let local = ["10.1.0.1:0", "[fd01::1]:0"][index];
        own.bind(local.parse().unwrap()).unwrap();
        own.set_options(|options| {
            options.multicast_nic = Some(net.net.router_nics[0]);
            options.multicast_nic_v6 = Some(net.net.router_nics[0]);
            (options.multicast_ttl, options.multicast_hop_limit) = (8, 8);
        });
        let listener = UdpSocket::new(&stack, if index == 0 { Family::V4 } else { Family::V6 });
        listener.bind(["0.0.0.0:7", "[::]:7"][index].parse().unwrap()).unwrap();
        listener.join_group(GROUPS[index].parse().unwrap(), Some(net.net.router_nics[1])).unwrap();
        let to = SendMeta { to: Some(net.group.parse().unwrap()), ..SendMeta::default() };
        own.try_send(&mut &b"mine"[..], &to).unwrap();
        net.net.settle();
        assert_eq!(net.calls(), [(UpcallKind::NoRoute, 0)]);
        let route = net.route(&[(1, 1)]);
        let source = local.parse::<std::net::SocketAddr>().unwrap().ip();
        net.router.add_route(MulticastRoute { source, ..route }).unwrap();
        net.net.settle();
        assert_eq!(recv(&member).0, b"mine");
        // Once: what was routed is not routed again.
        assert_eq!(recv(&listener).0, b"mine");
        assert!(is_empty(&listener) && net.router.routes()[0].counts.packets == 1);
    }
}

/// An IP packet with a datagram for the group from somewhere else, as the router that is next to its sender has it.
fn datagram_from_elsewhere(index: usize, data: &[u8]) -> Vec<u8> {
    let udp_len = u16::try_from(8 + data.len()).unwrap();
    let mut packet = match index {
        0 => {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 9, 17, 0, 0, 10, 9, 0, 9, 239, 1, 2, 3];
            header[2..4].copy_from_slice(&(20 + udp_len).to_be_bytes());
            let sum = !netstack::wire::checksum::sum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        }
        _ => {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, 17, 9];
            header[4..6].copy_from_slice(&udp_len.to_be_bytes());
            let addresses: [Ipv6Addr; 2] = ["fd09::9".parse().unwrap(), GROUPS[1].parse().unwrap()];
            header.extend(addresses.iter().flat_map(Ipv6Addr::octets));
            header
        }
    };
    let (source, group) = (ELSEWHERE[index].parse().unwrap(), GROUPS[index].parse().unwrap());
    let mut udp = [5000_u16, 7, udp_len, 0].map(u16::to_be_bytes).concat();
    udp.extend(data);
    let mut sum = Accumulator::new(pseudo_header(source, group, 17, udp_len.into()));
    sum.add(&udp);
    udp[6..8].copy_from_slice(&sum.checksum().to_be_bytes());
    packet.extend(udp);
    packet
}

const ELSEWHERE: [&str; 2] = ["10.9.0.9", "fd09::9"];

#[test]
fn packets_in_pim_registers_are_routed() {
    for index in [0, 1] {
        let (mut net, member) = begin(index);
        let family = [Family::V4, Family::V6][index];
        let router_address: std::net::IpAddr = ["10.1.0.1", "fd01::1"][index].parse().unwrap();
        let source: std::net::IpAddr = LEFT[index].parse().unwrap();
        let raw = RawSocket::new(&net.net.left.stack, family, 103);
        let send = |net: &mut Net, flags: u8, whole: bool, packet: &[u8], spoil: usize| {
            let mut message = vec![0x21, 0, 0, 0, flags, 0, 0, 0];
            message.extend(packet);
            let covered = if whole { message.len() } else { 8 };
            let mut sum = match family {
                Family::V4 => Accumulator::default(),
                _ => Accumulator::new(pseudo_header(
                    source,
                    router_address,
                    103,
                    u32::try_from(covered).unwrap(),
                )),
            };
            sum.add(&message[..covered]);
            message[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
            message[spoil] ^= u8::from(spoil > 0);
            let meta = SendMeta { to: Some((router_address, 0).into()), ..SendMeta::default() };
            raw.try_send(&mut &message[..], &meta).unwrap();
            net.net.settle();
        };
        let errors = |net: &Net| net.net.router.stats().multicast_register_errors;
        // Without the virtual interface nobody is asked for a route.
        let packet = datagram_from_elsewhere(index, b"first");
        send(&mut net, 0, false, &packet, 0);
        assert_eq!((net.calls(), errors(&net)), (vec![], 0));
        net.router.add_vif(vif(5), Vif::Register).unwrap();
        send(&mut net, 0, false, &packet, 0);
        assert_eq!(net.calls(), [(UpcallKind::NoRoute, 5)]);
        let route = MulticastRoute {
            source: ELSEWHERE[index].parse().unwrap(),
            parent: vif(5),
            ..net.route(&[(1, 1)])
        };
        net.router.add_route(route).unwrap();
        net.net.settle();
        send(&mut net, 0, true, &datagram_from_elsewhere(index, b"second"), 0);
        for data in [&b"first"[..], b"second"] {
            let (received, datagram) = recv(&member);
            assert_eq!((&received[..], datagram.from.ip(), datagram.ttl), (data, route.source, 8));
        }
        assert_eq!(net.router.vif(vif(5)).unwrap().counts.packets_in, 2);
        // A question, a damaged header, a packet that is cut off, and one that is not for a group.
        send(&mut net, 0x40, false, &packet, 0);
        send(&mut net, 0, false, &packet, 5);
        send(&mut net, 0, false, &packet[..packet.len() - 1], 0);
        let mut alone = packet.clone();
        alone[if index == 0 { 16 } else { 24 }] = 0x0a;
        send(&mut net, 0, false, &alone, 0);
        assert_eq!((errors(&net), is_empty(&member)), (4, true));
        // Rules see what is inside.
        let chain = Chain::builtin(Table::Filter, Hook::Forward, Policy::Drop);
        net.net.router.set_filter(family, Ruleset::new().chain(chain)).unwrap();
        send(&mut net, 0, false, &packet, 0);
        assert!(is_empty(&member));
        // As one that came in through the device of registers, if there is one.
        let link = ChannelLink::new(Medium::Ip, 1472, Capabilities::default(), 1);
        let device = net.net.router.add_nic("pimreg", link).unwrap();
        net.router.set_register_nic(Some(device));
        for (name, passes) in [("lan1", false), ("pimreg", true)] {
            let rule = Rule::new(Target::Accept).when(Test::InputNic(name.into()));
            let inner = Rule::new(Target::Accept).when(Test::Protocol(Protocol::PIM));
            let chains = [Hook::Prerouting, Hook::Forward].map(|hook| {
                let chain = Chain::builtin(Table::Mangle, hook, Policy::Drop).rule(rule.clone());
                // The messages themselves come in through their link.
                if hook == Hook::Prerouting { chain.rule(inner.clone()) } else { chain }
            });
            net.net
                .router
                .set_filter(family, chains.into_iter().fold(Ruleset::new(), Ruleset::chain))
                .unwrap();
            send(&mut net, 0, false, &packet, 0);
            assert_eq!(is_empty(&member), !passes, "{name}");
            while !is_empty(&member) {
                recv(&member);
            }
        }
    }
}

#[test]
fn reports_of_others_reach_the_routing_program() {
    let (mut net, _member) = begin(0);
    let v4 = RawSocket::new(&net.net.router, Family::V4, 2);
    v4.set_router_alert(true);
    let (_router6, _) = router(&net.net.router, Family::V6);
    let v6 = RawSocket::new(&net.net.router, Family::V6, 58);
    // IGMPv3 and MLDv2 reports go to groups of the link, which a routing program joins; older ones to the group itself.
    let report = [0x16, 0, 0x07, 0xf5, 239, 1, 2, 9];
    let header = [0x46, 0, 0, 32, 0, 0, 0, 0, 1, 2, 0, 0, 10, 1, 0, 2, 239, 1, 2, 9, 0x94, 4, 0, 0];
    let mut packet = header.to_vec();
    let sum = !netstack::wire::checksum::sum(&header);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(report);
    net.net.inject(&packet, 0x0800);
    let mut got = Vec::new();
    v4.try_recv(&mut got, RecvFlags::default()).unwrap();
    assert_eq!(got, packet);
    assert!(net.calls().is_empty(), "it is not routed");
    let (source, group): (Ipv6Addr, Ipv6Addr) = ("fe80::9".parse().unwrap(), "ff1e::9".parse().unwrap());
    let mut report = vec![131, 0, 0, 0, 0, 0, 0, 0];
    report.extend(group.octets());
    let mut sum = Accumulator::new(pseudo_header(source.into(), group.into(), 58, 24));
    sum.add(&report);
    report[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0, 0, 32, 0, 1];
    packet.extend([source.octets(), group.octets()].concat());
    packet.extend([58, 0, 5, 2, 0, 0, 1, 0]);
    packet.extend(&report);
    net.net.inject(&packet, 0x86dd);
    let mut message = Vec::new();
    v6.try_recv(&mut message, RecvFlags::default()).unwrap();
    assert_eq!(message, report);
}

#[test]
fn too_big_is_told_to_senders_of_ipv6_only() {
    for index in [0, 1] {
        let (mut net, _member) = begin(index);
        net.router.add_route(net.route(&[(1, 1)])).unwrap();
        net.net.router.set_nic_mtu(net.net.router_nics[1], 1300).unwrap();
        net.send(&[7; 1400], 8);
        let stats = net.net.router.stats();
        // IPv4 without DF is fragmented.
        assert_eq!(stats.ip_forward_too_big, index as u64);
        assert_eq!(stats.icmp_out_errors, index as u64);
        assert_eq!(net.on_the_right(), [2, 0][index]);
    }
}

#[test]
fn rules_see_each_copy() {
    for index in [0, 1] {
        let (mut net, member) = begin(index);
        net.router.add_route(net.route(&[(1, 1)])).unwrap();
        let drop = Rule::new(Target::Drop).when(Test::OutputNic("lan2".into()));
        let chain = Chain::builtin(Table::Filter, Hook::Forward, Policy::Accept).rule(drop);
        let family = [Family::V4, Family::V6][index];
        net.net.router.set_filter(family, Ruleset { chains: vec![chain] }).unwrap();
        net.send(b"x", 8);
        assert!(is_empty(&member));
        assert_eq!(net.net.router.stats().filter_dropped, 1);
        let open = Chain::builtin(Table::Filter, Hook::Forward, Policy::Accept);
        net.net.router.set_filter(family, Ruleset { chains: vec![open] }).unwrap();
        net.send(b"y", 8);
        assert_eq!(recv(&member).0, b"y");
    }
}
