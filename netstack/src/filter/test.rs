//! Whether a packet passes a test.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use netstack_wire::ip::Protocol;
use netstack_wire::tcp::{self, TcpFlags};

use super::rule::{
    ConnTest, HashLimit, HashLimitKey, OwnerTest, PacketKind, Side, SocketTest, StatisticMode, Test,
};
use super::state::{SharedStates, TestState, is_nth, masked, take_quota};
use super::subject::Subject;
use super::words;
use super::{measure, owner};
use crate::cidr::IpCidr;
use crate::conntrack::{Direction, Tuple};
use crate::packet::AddressedTo;

/// A test of a rule, with what it remembers.
#[derive(Debug)]
pub(super) struct CompiledTest {
    pub(super) test: Test,
    pub(super) is_inverted: bool,
    state: TestState,
}

impl CompiledTest {
    pub(super) fn new((test, is_inverted): (Test, bool), shared: &SharedStates) -> Self {
        let state = TestState::of(&test, shared);
        Self { test, is_inverted, state }
    }

    /// Tells whether a packet passes.
    pub(super) fn passes(&self, subject: &mut Subject<'_>) -> bool {
        let passes = match (&self.test, &self.state) {
            (Test::Socket(wanted), _) => has_socket(*wanted, subject),
            (test, TestState::None) => passes(test, subject),
            (_, TestState::Limit(limit)) => limit.allow(subject.now),
            (Test::HashLimit(limit), TestState::HashLimit(table)) => {
                hash_limit_key(limit, subject).is_some_and(|key| table.allow(limit, key, subject.now))
            }
            (Test::Statistic(StatisticMode::Nth { every, .. }), TestState::Statistic(count)) => {
                is_nth(count, *every)
            }
            (_, TestState::Quota(left)) => take_quota(left, subject.transit.len()),
            (Test::Recent(recent), TestState::Recent(list)) => {
                let address = subject.address(recent.side);
                list.ask(recent, address, subject.transit.ttl(), subject.now)
            }
            (Test::ConnLimit(limit), TestState::ConnCounts(counts)) => subject
                .tracking
                .is_some_and(|tracking| counts.is_above(limit, subject.address(limit.side), tracking)),
            _ => false,
        };
        passes != self.is_inverted
    }
}

/// Tells whether a packet passes all tests. They are asked in order: a packet that fails before a limit takes no token
/// of it.
pub(super) fn all_pass(tests: &[CompiledTest], subject: &mut Subject<'_>) -> bool {
    tests.iter().all(|test| test.passes(subject))
}

fn passes(test: &Test, subject: &Subject<'_>) -> bool {
    let transit = &*subject.transit;
    match test {
        Test::Source(network) => network.contains(transit.source),
        Test::Destination(network) => network.contains(transit.destination),
        Test::MaskedSource(value, mask) => masked(transit.source, *mask) == *value,
        Test::MaskedDestination(value, mask) => masked(transit.destination, *mask) == *value,
        Test::SourceRange(range) => range.contains(&transit.source),
        Test::DestinationRange(range) => range.contains(&transit.destination),
        Test::InputNic(name) => is_named(name, subject.input_name().as_deref().unwrap_or_default()),
        Test::OutputNic(name) => is_named(name, subject.output_name().as_deref().unwrap_or_default()),
        Test::Protocol(protocol) => transit.protocol == *protocol,
        Test::LaterFragment => transit.is_later_fragment,
        Test::SourcePort(ranges) => ports(subject).is_some_and(|(source, _)| is_in(ranges, source)),
        Test::DestinationPort(ranges) => ports(subject).is_some_and(|(_, to)| is_in(ranges, to)),
        Test::EitherPort(ranges) => {
            ports(subject).is_some_and(|(source, to)| is_in(ranges, source) || is_in(ranges, to))
        }
        Test::TcpFlags { mask, set } => {
            let flags =
                transit.transport().get(TCP_FLAGS_OFFSET).map(|&byte| TcpFlags::from_bits_retain(byte));
            transit.protocol == Protocol::TCP && flags.is_some_and(|flags| flags & *mask == *set)
        }
        Test::TcpOption(kind) => tcp_option(subject, *kind).is_some(),
        Test::Mss(range) => {
            let mss = tcp_option(subject, OPTION_MSS).and_then(|data| data.try_into().ok());
            mss.is_some_and(|mss| range.contains(&u16::from_be_bytes(mss)))
        }
        Test::Icmp { kind, codes } => {
            let is_icmp = matches!(transit.protocol, Protocol::ICMP | Protocol::ICMPV6);
            let header = transit.transport();
            is_icmp
                && header.first() == Some(kind)
                && header.get(1).map_or(*codes == (0..=u8::MAX), |code| codes.contains(code))
        }
        Test::State(states) => states.intersects(subject.state),
        Test::Flow(flow) => is_flow(flow, subject),
        Test::ConnMark(mark) => subject.tracking.is_some_and(|tracking| mark.matches(tracking.conn.mark())),
        Test::Mark(mark) => mark.matches(transit.packet.meta.mark),
        Test::Owner(owner) => is_owned(owner, subject),
        Test::AddressKind { side, kinds, limited_to } => {
            let nic = limited_to.map(|end| subject.nic(end));
            kinds.intersects(subject.address_kinds(subject.address(*side), nic))
        }
        Test::Kind(kind) => packet_kind(subject) == *kind,
        Test::SourceMac(address) => transit.link_source == Some(*address),
        Test::Length(range) => u16::try_from(transit.len()).is_ok_and(|len| range.contains(&len)),
        Test::Tos { value, mask } => transit.tos() & mask == *value,
        Test::Ttl(range) => range.contains(&transit.ttl()),
        // The top of 2^31 is certainty.
        Test::Statistic(StatisticMode::Random(probability)) => {
            subject.core.secrets.random_below(1 << 31) < *probability
        }
        Test::U32(tests) => words::all_in(tests, transit),
        Test::Content(content) => measure::contains(content, transit),
        Test::Carried(carried) => {
            subject.tracking.is_some_and(|tracking| measure::has_carried(carried, tracking))
        }
        Test::Time(time) => measure::is_time(time, subject.core.clock.since_1970().as_secs()),
        // Asked by the caller, who has the state, or changes the mark.
        Test::Socket(_)
        | Test::Limit { .. }
        | Test::HashLimit(_)
        | Test::Statistic(StatisticMode::Nth { .. })
        | Test::Quota(_)
        | Test::ConnLimit(_)
        | Test::Recent(_) => false,
    }
}

/// Whether there is such a socket (`socket_match`).
fn has_socket(wanted: SocketTest, subject: &mut Subject<'_>) -> bool {
    let SocketTest { transparent, even_anywhere, takes_mark } = wanted;
    let Some(facts) = owner::facts(subject) else { return false };
    let is_anywhere = facts.full.is_some_and(|(is_anywhere, _)| is_anywhere);
    let is_one = (even_anywhere || !is_anywhere) && (!transparent || facts.is_transparent);
    if let Some((_, mark)) = facts.full
        && is_one
        && takes_mark
    {
        subject.transit.packet.meta.mark = mark;
    }
    is_one
}

/// A name, or the beginning of one before a `+`.
fn is_named(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('+') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

pub(super) fn ports(subject: &Subject<'_>) -> Option<(u16, u16)> {
    let has_ports = matches!(
        subject.transit.protocol,
        Protocol::TCP | Protocol::UDP | Protocol(PROTOCOL_DCCP | PROTOCOL_SCTP | PROTOCOL_UDPLITE)
    );
    let [a, b, c, d, ..] = *subject.transit.transport() else { return None };
    has_ports.then(|| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

fn is_in(ranges: &[RangeInclusive<u16>], port: u16) -> bool {
    ranges.iter().any(|range| range.contains(&port))
}

/// What a TCP option of a segment holds.
fn tcp_option<'a>(subject: &'a Subject<'_>, kind: u8) -> Option<&'a [u8]> {
    let is_tcp = subject.transit.protocol == Protocol::TCP;
    let options = subject.transit.transport().get(tcp::MIN_HEADER_LEN..).filter(|_| is_tcp)?;
    let (at, len) = find_option(options, kind)?;
    options.get(at..at + len)?.get(2..)
}

/// Where an option is among a segment's options, and how long it is.
pub(super) fn find_option(options: &[u8], kind: u8) -> Option<(usize, usize)> {
    let mut at = 0;
    loop {
        let found = *options.get(at)?;
        let len = match found {
            // The list ends, whatever follows.
            0 if kind != 0 => return None,
            0 | 1 => 1,
            _ => usize::from(*options.get(at + 1)?),
        };
        if len == 0 || at + len > options.len() {
            return None;
        }
        if found == kind {
            return Some((at, len));
        }
        at += len;
    }
}

fn is_flow(test: &ConnTest, subject: &Subject<'_>) -> bool {
    let ConnTest { protocol, ends, status, expires, is_original } = test;
    let Some(tracking) = subject.tracking else { return false };
    let conn = &tracking.conn;
    let agrees = |inverted: bool, holds: bool| holds != inverted;
    let tuples = [Direction::Original, Direction::Reply].map(|direction| conn.tuple(direction));
    let end_agrees = |tuple: &Tuple, side: usize| {
        let (address, port) = match side {
            0 => (tuple.source, tuple.source_id),
            _ => (tuple.destination, tuple.destination_id),
        };
        (address, port)
    };
    let all_ends = tuples.iter().zip(ends).all(|(tuple, ends)| {
        ends.iter().enumerate().all(|(side, end)| {
            let (address, port) = end_agrees(tuple, side);
            end.address.as_ref().is_none_or(|(network, not)| agrees(*not, network.contains(address)))
                && end.ports.as_ref().is_none_or(|(ports, not)| agrees(*not, ports.contains(&port)))
        })
    });
    all_ends
        && protocol.is_none_or(|(protocol, not)| agrees(not, tuples[0].protocol == protocol))
        && status.is_none_or(|(status, not)| {
            let current = conn.status();
            agrees(not, if status.is_empty() { current.is_empty() } else { current.intersects(status) })
        })
        && expires.as_ref().is_none_or(|(range, not)| {
            let left = conn.remaining(subject.now).as_secs();
            agrees(*not, u32::try_from(left).is_ok_and(|left| range.contains(&left)))
        })
        && is_original.is_none_or(|original| (tracking.direction == Direction::Original) == original)
}

fn is_owned(test: &OwnerTest, subject: &Subject<'_>) -> bool {
    let OwnerTest { exists, users, groups } = test;
    let owner = subject.transit.packet.meta.owner;
    if exists.is_some_and(|exists| exists != owner.is_some()) {
        return false;
    }
    let Some(owner) = owner else { return users.is_none() && groups.is_none() };
    users.as_ref().is_none_or(|(users, not)| users.contains(&owner.user) != *not)
        && groups.as_ref().is_none_or(|(groups, not)| groups.contains(&owner.group) != *not)
}

/// Whom a packet is for, on the link: what we send is for one host, unless it loops back.
pub(super) fn packet_kind(subject: &Subject<'_>) -> PacketKind {
    match subject.transit.packet.meta.addressed_to {
        AddressedTo::Broadcast => return PacketKind::Broadcast,
        AddressedTo::Multicast => return PacketKind::Multicast,
        _ if subject.input.is_some_and(|input| input.is_loopback()) => {}
        _ => return PacketKind::Unicast,
    }
    match subject.transit.destination {
        IpAddr::V4(to) if to.is_broadcast() => PacketKind::Broadcast,
        to if to.is_multicast() => PacketKind::Multicast,
        _ => PacketKind::Unicast,
    }
}

fn hash_limit_key(limit: &HashLimit, subject: &Subject<'_>) -> Option<super::state::HashLimitEntry> {
    let wants = |key| limit.key.contains(key);
    let network = |address: IpAddr, bits: u8| IpCidr::new(address, bits).map(|cidr| cidr.network().address());
    let source = network(subject.transit.source, limit.source_bits).filter(|_| wants(HashLimitKey::SOURCE));
    let destination = network(subject.transit.destination, limit.destination_bits)
        .filter(|_| wants(HashLimitKey::DESTINATION));
    // Packets without ports count as those of port 0.
    let (from, to) = ports(subject).unwrap_or_default();
    let from = if wants(HashLimitKey::SOURCE_PORT) { from } else { 0 };
    let to = if wants(HashLimitKey::DESTINATION_PORT) { to } else { 0 };
    Some((source, destination, from, to))
}

impl Subject<'_> {
    pub(super) fn address(&self, side: Side) -> IpAddr {
        match side {
            Side::Source => self.transit.source,
            Side::Destination => self.transit.destination,
        }
    }
}

const TCP_FLAGS_OFFSET: usize = 13;
pub(super) const OPTION_MSS: u8 = 2;
const PROTOCOL_DCCP: u8 = 33;
const PROTOCOL_SCTP: u8 = 132;
const PROTOCOL_UDPLITE: u8 = 136;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_end_in_anything() {
        assert!(is_named("eth0", "eth0") && is_named("eth+", "eth12") && is_named("+", "lo"));
        assert!(!is_named("eth0", "eth01") && !is_named("eth+", "wlan0"));
    }

    #[test]
    fn options_are_found_and_broken_ones_end_the_list() {
        let options = [1, 3, 3, 7, 2, 4, 5, 180, 0, 8];
        assert_eq!(find_option(&options, 2), Some((4, 4)));
        assert_eq!(find_option(&options, 3), Some((1, 3)));
        assert_eq!(find_option(&options, 8), None);
        assert_eq!(find_option(&[3, 0, 2, 4, 1, 1], 2), None);
        assert_eq!(find_option(&[2, 9, 1], 2), None);
        assert_eq!(find_option(&[2], 2), None);
    }
}
