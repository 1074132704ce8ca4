//! Memberships with source filters, and what routers hear of them.

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use common::{Host, Wire};
use netstack::error::MembershipError;
use netstack::multicast::{FilterMode, SourceFilter};
use netstack::options::{Family, RecvFlags, SendMeta};
use netstack::packet::Packet;
use netstack::wire::checksum::{self, Accumulator, pseudo_header};
use netstack::wire::ip::Protocol;
use netstack::wire::ipv4::Ipv4Repr;
use netstack::wire::ipv6::{Extensions, Ipv6Repr};
use netstack::wire::membership::{GroupRecord, MembershipQuery, MembershipRepr, RecordKind};

const GROUPS: [&str; 2] = ["239.1.1.1", "ff15::77"];
/// The other host's addresses, and more.
const SENDERS: [[&str; 2]; 2] = [["10.0.0.1", "10.0.0.77"], ["fd00::1", "fd00::77"]];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host() -> Host {
    Host::new(2, 1500, Default::default())
}

/// The membership messages among sent frames, with where they went.
fn reports(frames: &[Packet]) -> Vec<(IpAddr, MembershipRepr)> {
    frames.iter().filter_map(|frame| report(&frame.to_vec())).collect()
}

fn report(frame: &[u8]) -> Option<(IpAddr, MembershipRepr)> {
    let packet = &frame[14..];
    if packet[0] >> 4 == 4 {
        let header = Ipv4Repr::parse(packet).unwrap();
        let message = &packet[header.header_len()..];
        if header.protocol != Protocol::IGMP {
            return None;
        }
        // RFC 3376 section 4: TTL 1 and the router alert option.
        assert_eq!((header.ttl, &packet[20..24], checksum::sum(message)), (1, &[0x94, 4, 0, 0][..], 0xffff));
        return Some((header.destination.into(), MembershipRepr::parse_igmp(message).unwrap()));
    }
    let header = Ipv6Repr::parse(packet).unwrap();
    let mut chain = Extensions::new(header.next_header, &packet[40..]);
    let is_alert = chain.next()?.ok()?.kind == Protocol::HOP_BY_HOP;
    let message = &packet[40 + chain.offset()..];
    let parsed = MembershipRepr::parse_mld(message)?;
    let pseudo = pseudo_header(header.source.into(), header.destination.into(), 58, message.len() as u32);
    let mut sum = Accumulator::new(pseudo);
    sum.add(message);
    assert!(is_alert && sum.is_valid() && header.hop_limit == 1 && header.source.is_unicast_link_local());
    Some((header.destination.into(), parsed))
}

fn query_frame(group: Option<IpAddr>, is_v4: bool, version: u8) -> Vec<u8> {
    let query = MembershipQuery {
        version,
        max_response: Duration::from_secs(1),
        group,
        sources: Vec::new(),
        robustness: (version == 3).then_some(2),
        interval: (version == 3).then(|| Duration::from_secs(125)),
    };
    let mut message = MembershipRepr::Query(query).to_vec(is_v4);
    let mut frame = vec![1, 0, 0x5e, 0, 0, 1, 2, 0, 0, 0, 0, 0xee];
    if is_v4 {
        let sum = !checksum::sum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let header = Ipv4Repr {
            source: Ipv4Addr::new(10, 0, 0, 200),
            destination: Ipv4Addr::new(224, 0, 0, 1),
            protocol: Protocol::IGMP,
            ttl: 1,
            tos: 0,
            ident: 0,
            dont_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            options_len: 0,
            payload_len: message.len() as u16,
        };
        frame.extend([8, 0]);
        frame.resize(34, 0);
        header.emit(&mut frame[14..]);
    } else {
        let source: Ipv6Addr = "fe80::200".parse().unwrap();
        let destination: Ipv6Addr = "ff02::1".parse().unwrap();
        let len = message.len() as u32;
        let mut sum = Accumulator::new(pseudo_header(source.into(), destination.into(), 58, len));
        sum.add(&message);
        message[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
        let header = Ipv6Repr {
            source,
            destination,
            next_header: Protocol::ICMPV6,
            hop_limit: 1,
            traffic_class: 0,
            flow_label: 0,
            payload_len: message.len() as u16,
        };
        frame.extend([0x86, 0xdd]);
        frame.resize(54, 0);
        header.emit(&mut frame[14..]);
    }
    frame.extend(message);
    frame
}

fn advance(host: &Host, by: Duration) -> Vec<(IpAddr, MembershipRepr)> {
    host.stack.advance_to(host.stack.now() + by);
    reports(&host.link.take())
}

fn record(kind: RecordKind, group: &str, sources: &[&str]) -> MembershipRepr {
    let sources = sources.iter().map(|source| ip(source)).collect();
    MembershipRepr::Records(vec![GroupRecord { kind, group: ip(group), sources }])
}

fn family(index: usize) -> Family {
    [Family::V4, Family::V6][index]
}

#[test]
fn joining_and_leaving_is_told_twice() {
    for (index, group) in GROUPS.into_iter().enumerate() {
        let host = host();
        let socket = netstack::UdpSocket::new(&host.stack, family(index));
        let routers = ip(["224.0.0.22", "ff02::16"][index]);
        socket.join_group(ip(group), Some(host.nic)).unwrap();
        let joined = (routers, record(RecordKind::ToExclude, group, &[]));
        assert_eq!(reports(&host.link.take()), std::slice::from_ref(&joined));
        assert_eq!(advance(&host, Duration::from_secs(1)), [joined]);
        // A second member changes nothing; the last one does.
        let second = netstack::UdpSocket::new(&host.stack, family(index));
        second.join_group(ip(group), Some(host.nic)).unwrap();
        drop(socket);
        assert_eq!(reports(&host.link.take()), []);
        drop(second);
        let left = (routers, record(RecordKind::ToInclude, group, &[]));
        assert_eq!(reports(&host.link.take()), std::slice::from_ref(&left));
        assert_eq!(advance(&host, Duration::from_secs(1)), [left]);
    }
}

#[test]
fn sources_are_merged_over_sockets_and_told() {
    for (index, group) in GROUPS.into_iter().enumerate() {
        let host = host();
        let [a, b] = SENDERS[index];
        let sockets = [(); 2].map(|()| netstack::UdpSocket::new(&host.stack, family(index)));
        let told = |host: &Host| {
            let first: Vec<_> = reports(&host.link.take()).into_iter().map(|(_, repr)| repr).collect();
            let _ = advance(host, Duration::from_secs(2));
            first
        };
        sockets[0].add_source(ip(group), ip(a), Some(host.nic)).unwrap();
        assert_eq!(told(&host), [record(RecordKind::Allow, group, &[a])]);
        sockets[1].add_source(ip(group), ip(b), Some(host.nic)).unwrap();
        assert_eq!(told(&host), [record(RecordKind::Allow, group, &[b])]);
        sockets[1].drop_source(ip(group), ip(b), Some(host.nic)).unwrap();
        assert_eq!(told(&host), [record(RecordKind::Block, group, &[b])]);
        // Everything but one: the other socket still wants it.
        let all_but = SourceFilter { mode: FilterMode::Exclude, sources: [ip(a), ip(b)].into() };
        sockets[1].set_source_filter(ip(group), Some(host.nic), all_but.clone()).unwrap();
        assert_eq!(told(&host), [record(RecordKind::ToExclude, group, &[b])]);
        assert_eq!(sockets[1].source_filter(ip(group), Some(host.nic)), Ok(all_but));
        drop(sockets);
        assert!(told(&host).contains(&record(RecordKind::ToInclude, group, &[])));
    }
}

#[test]
fn only_wanted_sources_are_received() {
    for (index, group) in GROUPS.into_iter().enumerate() {
        let mut wire = Wire::new();
        let [a, other] = SENDERS[index];
        let bind = [group, &format!("[{group}]")][index].to_owned() + ":7";
        let receiver = || {
            let socket = netstack::UdpSocket::new(&wire.b.stack, family(index));
            socket.set_options(|options| {
                options.reuse_address = true;
                options.multicast_all = false;
                options.multicast_all_v6 = false;
            });
            socket.bind(bind.parse().unwrap()).unwrap();
            socket
        };
        let nic = Some(wire.b.nic);
        let (any, this, not_this, blocked) = (receiver(), receiver(), receiver(), receiver());
        any.join_group(ip(group), nic).unwrap();
        this.add_source(ip(group), ip(a), nic).unwrap();
        not_this.add_source(ip(group), ip(other), nic).unwrap();
        blocked.join_group(ip(group), nic).unwrap();
        blocked.block_source(ip(group), ip(a), nic).unwrap();
        let sender = wire.a.udp(["0.0.0.0:0", "[::]:0"][index]);
        let to = |a: &Host| SendMeta {
            to: Some(bind.parse().unwrap()),
            nic: Some(a.nic),
            source: Some(ip(SENDERS[index][0])),
            ..SendMeta::default()
        };
        sender.try_send(&mut &b"x"[..], &to(&wire.a)).unwrap();
        wire.settle();
        let got =
            |socket: &netstack::UdpSocket| socket.try_recv(&mut Vec::new(), RecvFlags::default()).is_ok();
        assert_eq!([&any, &this, &not_this, &blocked].map(got), [true, true, false, false], "{group}");
        blocked.unblock_source(ip(group), ip(a), nic).unwrap();
        not_this.leave_group(ip(group), nic).unwrap();
        sender.try_send(&mut &b"x"[..], &to(&wire.a)).unwrap();
        wire.settle();
        assert_eq!([&any, &this, &not_this, &blocked].map(got), [true, true, false, true], "{group}");
    }
}

#[test]
fn queries_are_answered_with_all_groups() {
    for (index, group) in GROUPS.into_iter().enumerate() {
        let host = host();
        let socket = netstack::UdpSocket::new(&host.stack, family(index));
        socket.add_source(ip(group), ip(SENDERS[index][0]), Some(host.nic)).unwrap();
        let _ = advance(&host, Duration::from_secs(2));
        host.stack.inject(host.nic, query_frame(None, index == 0, 3));
        let answers = advance(&host, Duration::from_secs(1));
        let [(_, MembershipRepr::Records(records))] = &answers[..] else { panic!("{answers:?}") };
        let wanted = GroupRecord {
            kind: RecordKind::IsInclude,
            group: ip(group),
            sources: vec![ip(SENDERS[index][0])],
        };
        assert!(records.contains(&wanted), "{records:?}");
        // An older querier gets the older report, sent to the group itself.
        host.stack.inject(host.nic, query_frame(Some(ip(group)), index == 0, 2));
        let answers = advance(&host, Duration::from_secs(1));
        assert_eq!(answers, [(ip(group), MembershipRepr::Report { version: 2, group: ip(group) })]);
        drop(socket);
        let routers = ip(["224.0.0.2", "ff02::2"][index]);
        assert_eq!(reports(&host.link.take()), [(routers, MembershipRepr::Leave { group: ip(group) })]);
        assert_eq!(host.stack.stats().membership_in_queries, 2);
    }
}

#[test]
fn senseless_changes_are_refused() {
    let host = host();
    let nic = Some(host.nic);
    let socket = netstack::UdpSocket::new(&host.stack, Family::V4);
    let (group, source) = (ip(GROUPS[0]), ip("10.0.0.1"));
    assert_eq!(socket.add_source(group, ip("fd00::1"), nic), Err(MembershipError::InvalidSource));
    assert_eq!(socket.add_source(group, ip("224.0.0.9"), nic), Err(MembershipError::InvalidSource));
    assert_eq!(socket.drop_source(group, source, nic), Err(MembershipError::NotMember));
    assert_eq!(socket.block_source(group, source, nic), Err(MembershipError::NotMember));
    socket.add_source(group, source, nic).unwrap();
    assert_eq!(socket.add_source(group, source, nic), Err(MembershipError::SourceExists));
    assert_eq!(socket.block_source(group, source, nic), Err(MembershipError::WrongMode));
    assert_eq!(socket.drop_source(group, ip("10.0.0.9"), nic), Err(MembershipError::NoSuchSource));
    assert_eq!(socket.join_group(group, nic), Err(MembershipError::AlreadyMember));
    // Taking the last source away ends the membership.
    socket.drop_source(group, source, nic).unwrap();
    assert_eq!(socket.source_filter(group, nic), Err(MembershipError::NotMember));
    for last in 1..=64 {
        socket.add_source(group, IpAddr::from([10, 1, 1, last]), nic).unwrap();
    }
    assert_eq!(socket.add_source(group, source, nic), Err(MembershipError::TooMany));
}
