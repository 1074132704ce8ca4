//! Loading: from the packet, and what is known of it, into registers.

use std::net::IpAddr;

use netstack_wire::ip::Protocol;

use super::Register;
use super::expression::{
    ConnField, FibInput, FibResult, FlowDirection, MetaField, Payload, PayloadBase, RouteField, SocketField,
};
use super::run::Registers;
use crate::NicId;
use crate::conntrack::{ConnState, Direction};
use crate::filter::owner;
use crate::filter::rule::{AddressKinds, PacketKind, Side};
use crate::filter::subject::Subject;
use crate::filter::test::packet_kind;
use crate::interface::Interface;
use crate::ip::{Egress, Origin, RouteQuery};
use crate::link::Medium;
use crate::route::PacketFacts;

/// Loads bytes of the packet. `None` if they are not all there.
pub(super) fn payload(
    from: Payload,
    to: Register,
    subject: &Subject<'_>,
    registers: &mut Registers,
) -> Option<()> {
    let Payload { base, offset, len } = from;
    let offset = usize::try_from(offset).ok()?;
    let transit = &*subject.transit;
    let mut bytes = [0; super::REGISTER_BYTES];
    let room = bytes.get_mut(..usize::from(len))?;
    let count = match base {
        PayloadBase::Network => transit.copy_to(offset, room),
        PayloadBase::Transport if !transit.is_later_fragment => transit.packet.copy_to(offset, room),
        PayloadBase::Inner if !transit.is_later_fragment => {
            transit.packet.copy_to(offset.checked_add(inner_offset(subject)?)?, room)
        }
        PayloadBase::Link => {
            let header = link_header(subject)?;
            let there = header.get(offset..offset.checked_add(room.len())?)?;
            room.copy_from_slice(there);
            room.len()
        }
        PayloadBase::Transport | PayloadBase::Inner => return None,
    };
    if count < room.len() {
        return None;
    }
    registers.put(to, room);
    Some(())
}

/// Where the data of TCP and UDP begins.
fn inner_offset(subject: &Subject<'_>) -> Option<usize> {
    let header = subject.transit.transport();
    match subject.transit.protocol {
        Protocol::TCP => Some(usize::from(header.get(12)? >> 4) * 4),
        Protocol::UDP => Some(8),
        _ => None,
    }
}

/// The Ethernet header that the packet came with, as far as it is remembered: to us, from its sender.
fn link_header(subject: &Subject<'_>) -> Option<[u8; 14]> {
    let source = subject.transit.link_source?;
    let own = match packet_kind(subject) {
        PacketKind::Broadcast => [0xff; 6],
        _ => subject.input.and_then(|input| input.mac())?.0,
    };
    let mut header = [0; 14];
    header[..6].copy_from_slice(&own);
    header[6..12].copy_from_slice(&source.0);
    header[12..].copy_from_slice(&ethertype(subject).to_be_bytes());
    Some(header)
}

fn ethertype(subject: &Subject<'_>) -> u16 {
    if subject.transit.is_v4() { 0x0800 } else { 0x86dd }
}

/// Loads what is known of the packet. `None` if that is not known.
pub(super) fn meta(
    field: MetaField,
    to: Register,
    subject: &Subject<'_>,
    registers: &mut Registers,
) -> Option<()> {
    let transit = &*subject.transit;
    let owner = transit.packet.meta.owner;
    let number = match field {
        MetaField::Length => u32::try_from(transit.len()).unwrap_or(u32::MAX),
        MetaField::Protocol => {
            registers.put(to, &ethertype(subject).to_be_bytes());
            return Some(());
        }
        MetaField::Mark => transit.packet.meta.mark,
        MetaField::InputIndex => index(subject.input.map(|input| input.id)),
        MetaField::OutputIndex => index(subject.output.map(|output| output.id)),
        MetaField::InputName | MetaField::OutputName => {
            let name = match field {
                MetaField::InputName => subject.input_name(),
                _ => subject.output_name(),
            };
            registers.put(to, &padded(name.as_deref().unwrap_or_default()));
            return Some(());
        }
        MetaField::InputType => hardware(subject.input?),
        MetaField::OutputType => hardware(subject.output?),
        MetaField::User => owner?.user,
        MetaField::Group => owner?.group,
        MetaField::Family => u32::from(family(subject)),
        MetaField::TransportProtocol => u32::from(transit.protocol.0),
        MetaField::PacketKind => match packet_kind(subject) {
            PacketKind::Unicast => 0,
            PacketKind::Broadcast => 1,
            PacketKind::Multicast => 2,
        },
        MetaField::Priority | MetaField::Processor | MetaField::InterfaceGroup => 0,
        // Half of 64 random bits.
        MetaField::Random => (subject.core.secrets.random() >> 32) as u32,
        MetaField::Calendar => return None,
    };
    registers.put_number(to, number);
    Some(())
}

/// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
fn family(subject: &Subject<'_>) -> u8 {
    if subject.transit.is_v4() { 2 } else { 10 }
}

fn index(nic: Option<NicId>) -> u32 {
    nic.map_or(0, NicId::index)
}

/// `ARPHRD_*`.
fn hardware(interface: &Interface) -> u32 {
    match interface.medium() {
        Medium::Loopback => 772,
        Medium::Ethernet(_) => 1,
        _ => 65534,
    }
}

/// A name in the 16 bytes that names have.
fn padded(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let len = name.len().min(15);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    bytes
}

/// Loads what is known of the flow. `None` if there is none.
pub(super) fn flow(
    field: ConnField,
    direction: Option<FlowDirection>,
    to: Register,
    subject: &Subject<'_>,
    registers: &mut Registers,
) -> Option<()> {
    if field == ConnField::State {
        registers.put_number(to, state_bit(subject.state));
        return Some(());
    }
    let tracking = subject.tracking?;
    let conn = &tracking.conn;
    let given = direction.map(Direction::from);
    let tuple = conn.tuple(given.unwrap_or(tracking.direction));
    let number = match field {
        ConnField::State | ConnField::Direction => u32::from(tracking.direction == Direction::Reply),
        ConnField::Status => conn.status().bits(),
        ConnField::Mark => conn.mark(),
        ConnField::Expiration => u32::try_from(conn.remaining(subject.now).as_millis()).unwrap_or(u32::MAX),
        ConnField::Family => u32::from(family(subject)),
        ConnField::Protocol => u32::from(tuple.protocol.0),
        ConnField::Source => return put_address(to, tuple.source, registers),
        ConnField::Destination => return put_address(to, tuple.destination, registers),
        ConnField::SourcePort => {
            registers.put(to, &tuple.source_id.to_be_bytes());
            return Some(());
        }
        ConnField::DestinationPort => {
            registers.put(to, &tuple.destination_id.to_be_bytes());
            return Some(());
        }
        ConnField::Packets => {
            let packets = match given {
                Some(direction) => conn.packets(direction),
                None => conn.packets(Direction::Original) + conn.packets(Direction::Reply),
            };
            registers.put(to, &packets.to_ne_bytes());
            return Some(());
        }
        ConnField::Nothing(len) => {
            registers.put(to, &[0; super::REGISTER_BYTES][..usize::from(len).min(super::REGISTER_BYTES)]);
            return Some(());
        }
    };
    registers.put_number(to, number);
    Some(())
}

/// The bit of a state (`NF_CT_STATE_BIT`).
fn state_bit(state: ConnState) -> u32 {
    [
        (ConnState::UNTRACKED, 64),
        (ConnState::INVALID, 1),
        (ConnState::ESTABLISHED, 2),
        (ConnState::RELATED, 4),
        (ConnState::NEW, 8),
    ]
    .into_iter()
    .find(|(found, _)| state.contains(*found))
    .map_or(1, |(_, bit)| bit)
}

fn put_address(to: Register, address: IpAddr, registers: &mut Registers) -> Option<()> {
    match address {
        IpAddr::V4(address) => registers.put(to, &address.octets()),
        IpAddr::V6(address) => registers.put(to, &address.octets()),
    }
    Some(())
}

/// Loads what is known of the way that the packet takes. `None` if it has none yet.
pub(super) fn route(
    field: RouteField,
    to: Register,
    subject: &Subject<'_>,
    registers: &mut Registers,
) -> Option<()> {
    let query = RouteQuery { destination: subject.transit.destination, source: None, nic: None };
    let resolve = || Egress::resolve(subject.core, query).ok();
    match field {
        RouteField::Realm => registers.put_number(to, 0),
        RouteField::NextHopV4 | RouteField::NextHopV6 => {
            let next_hop = resolve()?.next_hop;
            if next_hop.is_ipv4() != (field == RouteField::NextHopV4) {
                return None;
            }
            put_address(to, next_hop, registers)?;
        }
        RouteField::Mss => {
            let mtu = subject.path_mtu.or_else(|| resolve().map(|egress| egress.mtu))?;
            let back = subject.input.map_or(mtu, |input| input.mtu());
            let headers = if subject.transit.is_v4() { 40 } else { 60 };
            let mss = u16::try_from(mtu.min(back).saturating_sub(headers)).unwrap_or(u16::MAX);
            registers.put(to, &mss.to_be_bytes());
        }
    }
    Some(())
}

/// Loads what is known of the packet's socket. `None` if there is none, or none that is complete.
pub(super) fn socket(
    field: SocketField,
    to: Register,
    subject: &Subject<'_>,
    registers: &mut Registers,
) -> Option<()> {
    let facts = owner::facts(subject)?;
    match field {
        SocketField::Transparent => registers.put(to, &[u8::from(facts.is_transparent)]),
        SocketField::Mark => registers.put_number(to, facts.full?.1),
        SocketField::Wildcard => registers.put(to, &[u8::from(facts.full?.0)]),
    }
    Some(())
}

/// Asks the routing tables.
pub(super) fn fib(
    input: FibInput,
    result: FibResult,
    to: Register,
    subject: &Subject<'_>,
    registers: &mut Registers,
) {
    let side = if input.is_source { Side::Source } else { Side::Destination };
    let address = subject.address(side);
    let limited_to = match input {
        FibInput { with_input: true, .. } => Some(subject.nic(Side::Source)),
        FibInput { with_output: true, .. } => Some(subject.nic(Side::Destination)),
        _ => None,
    };
    if result == FibResult::Kind {
        let kinds = subject.address_kinds(address, limited_to);
        return registers.put_number(to, route_type(kinds));
    }
    let mark = if input.with_mark { subject.transit.packet.meta.mark } else { 0 };
    // nft_fib4_eval asks for the type of service, nft_fib6_eval also for the protocol.
    let protocol = if address.is_ipv4() { 0 } else { subject.transit.protocol.0 };
    let packet = PacketFacts { protocol, tos: subject.transit.tos(), ..PacketFacts::default() };
    let origin = Origin { mark, arrived_on: None, packet };
    let query = RouteQuery { destination: address, source: None, nic: limited_to.flatten() };
    let found = Egress::resolve_for(subject.core, query, origin).ok().map(|egress| egress.interface);
    match result {
        FibResult::Name => {
            registers
                .put(to, &padded(found.as_ref().map(|found| found.name()).as_deref().unwrap_or_default()));
        }
        FibResult::Presence => registers.put(to, &[u8::from(found.is_some())]),
        FibResult::Index | FibResult::Kind => registers.put_number(to, index(found.map(|found| found.id))),
    }
}

/// `RTN_*`: the most particular of what an address is.
fn route_type(kinds: AddressKinds) -> u32 {
    [
        (AddressKinds::LOCAL, 2),
        (AddressKinds::BROADCAST, 3),
        (AddressKinds::ANYCAST, 4),
        (AddressKinds::MULTICAST, 5),
        (AddressKinds::BLACKHOLE, 6),
        (AddressKinds::UNREACHABLE, 7),
        (AddressKinds::PROHIBIT, 8),
        (AddressKinds::UNICAST, 1),
    ]
    .into_iter()
    .find(|(kind, _)| kinds.contains(*kind))
    .map_or(0, |(_, number)| number)
}
