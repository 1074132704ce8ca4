//! The shell of multicast memberships: the members of each NIC's groups, and the messages to and from routers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::sync::{Mutex, RwLock};
use bytes::Bytes;
use netstack_wire::checksum;
use netstack_wire::ethernet::{EtherType, MacAddr};
use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::{self, Ipv4Repr};
use netstack_wire::ipv6::{self, Ipv6Repr};
use netstack_wire::membership::{CHECKSUM_OFFSET, MembershipRepr};

use crate::interface::Interface;
use crate::ip::{IpMeta, Rx, edge, icmp, source};
use crate::link::Medium;
use crate::multicast::{GroupMachine, SourceFilter};
use crate::nic::NicId;
use crate::outbox::Outbox;
use crate::packet::{Body, Packet};
use crate::stack::Core;
use crate::time::Instant;
use crate::timer::{TimerSlot, TimerTarget};

/// The groups of a NIC.
pub(crate) struct Groups {
    members: RwLock<HashMap<IpAddr, Vec<(MemberId, SourceFilter)>>>,
    reporter: Arc<Reporter>,
}

/// Tells the members of a group apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct MemberId(pub(crate) u64);

impl MemberId {
    /// The stack itself, which may be a member several times.
    const STACK: Self = Self(0);
}

/// The membership machines of a NIC with their lock and timer.
struct Reporter {
    nic: NicId,
    v4: Mutex<GroupMachine>,
    v6: Mutex<GroupMachine>,
    slot: TimerSlot,
}

impl Groups {
    pub(crate) fn new(nic: NicId) -> Self {
        // RFC 1112 section 7.2: every host is a member of the all-hosts group on every interface.
        let members =
            HashMap::from([(IpAddr::V4(ALL_SYSTEMS), vec![(MemberId::STACK, SourceFilter::any())])]);
        let machine = || Mutex::new(GroupMachine::new());
        let reporter = Reporter { nic, v4: machine(), v6: machine(), slot: TimerSlot::default() };
        Self { members: RwLock::new(members), reporter: Arc::new(reporter) }
    }

    /// Tells whether packets to `group` are wanted by somebody.
    pub(crate) fn contains(&self, group: IpAddr) -> bool {
        self.members.read().contains_key(&group)
    }
}

/// The stack itself becomes a member of a group on a NIC.
pub(crate) fn join_group(core: &Core, interface: &Arc<Interface>, group: IpAddr, outbox: &mut Outbox) {
    change(core, interface, group, outbox, |members| members.push((MemberId::STACK, SourceFilter::any())));
}

/// The stack itself is no member of a group any more.
pub(crate) fn leave_group(core: &Core, interface: &Arc<Interface>, group: IpAddr, outbox: &mut Outbox) {
    change(core, interface, group, outbox, |members| {
        if let Some(at) = members.iter().position(|(id, _)| *id == MemberId::STACK) {
            members.remove(at);
        }
    });
}

/// A socket wants these sources of a group; none at all ends its membership.
pub(crate) fn set_membership(
    core: &Core,
    interface: &Arc<Interface>,
    group: IpAddr,
    member: MemberId,
    filter: SourceFilter,
    outbox: &mut Outbox,
) {
    change(core, interface, group, outbox, |members| {
        members.retain(|(id, _)| *id != member);
        if !filter.is_none() {
            members.push((member, filter));
        }
    });
}

fn change(
    core: &Core,
    interface: &Arc<Interface>,
    group: IpAddr,
    outbox: &mut Outbox,
    change: impl FnOnce(&mut Vec<(MemberId, SourceFilter)>),
) {
    let reporter = &interface.groups.reporter;
    let (now, random) = (core.clock.now(), core.secrets.random());
    let (messages, deadline) = {
        let mut groups = interface.groups.members.write();
        let members = groups.entry(group).or_default();
        change(members);
        let merged = SourceFilter::merged(members.iter().map(|(_, filter)| filter));
        if members.is_empty() {
            groups.remove(&group);
        }
        if !is_reported(interface, group) {
            return;
        }
        // With the members locked, so that the machine sees the changes in their order.
        let mut machine = reporter.machine(group.is_ipv4()).lock();
        let messages = machine.set_filter(now, group, merged, random);
        (messages, machine.next_deadline())
    };
    send_all(core, interface, group.is_ipv4(), messages, outbox);
    core.timers.arm(reporter, deadline);
}

/// RFC 3376 section 6 and RFC 3810 section 6: groups that never leave the node, or that everybody is in, are not
/// reported.
fn is_reported(interface: &Interface, group: IpAddr) -> bool {
    let has_routers = matches!(interface.medium(), Medium::Ethernet(_));
    has_routers
        && match group {
            IpAddr::V4(group) => group != ALL_SYSTEMS,
            IpAddr::V6(group) => group != ipv6::ALL_NODES && group.octets()[1] & 0xf >= 2,
        }
}

/// Takes an IGMP message.
pub(super) fn input_igmp(rx: &mut Rx<'_>, ip: &IpMeta, packet: &Packet) {
    let message = icmp::message_bytes(ip, packet);
    let parsed = match checksum::sum(&message) {
        0xffff => MembershipRepr::parse_igmp(&message),
        _ => None,
    };
    input(rx, true, parsed);
}

/// Takes an MLD message, its checksum verified.
pub(super) fn input_mld(rx: &mut Rx<'_>, ip: &IpMeta, message: &Bytes) {
    // RFC 3810 section 5.1.14: "the Source Address [...] MUST be a valid link-local address", or the message is dropped.
    let is_local = matches!(ip.source, IpAddr::V6(source) if source.is_unicast_link_local());
    let parsed = if is_local { MembershipRepr::parse_mld(message) } else { None };
    input(rx, false, parsed);
}

fn input(rx: &mut Rx<'_>, is_v4: bool, message: Option<MembershipRepr>) {
    let (core, now) = (rx.core, rx.now);
    let reporter = &rx.interface.groups.reporter;
    let deadline = {
        let mut machine = reporter.machine(is_v4).lock();
        match message {
            Some(MembershipRepr::Query(query)) => {
                core.counters.membership_in_queries.increment();
                machine.on_query(now, &query, core.secrets.random());
            }
            Some(MembershipRepr::Report { group, .. }) => machine.on_other_report(now, group),
            // For routers.
            Some(MembershipRepr::Leave { .. } | MembershipRepr::Records(_)) => return,
            None => return core.counters.membership_in_errors.increment(),
        }
        machine.next_deadline()
    };
    core.timers.arm(reporter, deadline);
}

impl Reporter {
    fn machine(&self, is_v4: bool) -> &Mutex<GroupMachine> {
        if is_v4 { &self.v4 } else { &self.v6 }
    }
}

impl TimerTarget for Reporter {
    fn slot(&self) -> &TimerSlot {
        &self.slot
    }

    fn on_timer(self: Arc<Self>, core: &Arc<Core>, now: Instant, outbox: &mut Outbox) {
        let topology = core.topology.load();
        let Some(interface) = topology.interface(self.nic) else { return };
        for is_v4 in [true, false] {
            let (messages, deadline) = {
                let mut machine = self.machine(is_v4).lock();
                (machine.on_timer(now, core.secrets.random()), machine.next_deadline())
            };
            send_all(core, interface, is_v4, messages, outbox);
            core.timers.arm(&self, deadline);
        }
    }
}

fn send_all(
    core: &Core,
    interface: &Arc<Interface>,
    is_v4: bool,
    messages: Vec<MembershipRepr>,
    outbox: &mut Outbox,
) {
    for message in messages {
        core.counters.membership_out_reports.increment();
        match is_v4 {
            true => send_igmp(core, interface, &message, outbox),
            false => send_mld(core, interface, &message, outbox),
        }
    }
}

fn send_igmp(core: &Core, interface: &Arc<Interface>, repr: &MembershipRepr, outbox: &mut Outbox) {
    let destination = match repr {
        MembershipRepr::Report { group: IpAddr::V4(group), .. } => *group,
        MembershipRepr::Leave { .. } => ALL_ROUTERS_V4,
        _ => ALL_IGMPV3_ROUTERS,
    };
    let mut message = repr.to_vec(true);
    let sum = !checksum::sum(&message);
    message[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&sum.to_be_bytes());
    let topology = core.topology.load();
    let addresses = topology.nics.get(&interface.id).map(|entry| &entry.addresses);
    let own = addresses.into_iter().flatten().find_map(|own| match own.address() {
        IpAddr::V4(address) if own.state.is_usable() => Some(address),
        _ => None,
    });
    let header = Ipv4Repr {
        source: own.unwrap_or(Ipv4Addr::UNSPECIFIED),
        destination,
        protocol: Protocol::IGMP,
        ttl: 1,
        // RFC 3376 section 4: "IP Precedence of Internetwork Control".
        tos: 0xc0,
        ident: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        options_len: 4,
        // Messages are split far below 64 KiB.
        payload_len: u16::try_from(message.len()).unwrap_or(u16::MAX),
    };
    let mut packet = Packet::from_body(Body::from_iter([Bytes::from(message)]));
    let out = packet.push_header(header.header_len());
    // Router alert (RFC 2113).
    out[ipv4::MIN_HEADER_LEN..].copy_from_slice(&[0x94, 4, 0, 0]);
    header.emit(out);
    packet.meta.is_link_control = true;
    edge::send_frame(interface, MacAddr::of_multicast_v4(destination), EtherType::IPV4, packet, outbox);
}

fn send_mld(core: &Core, interface: &Arc<Interface>, repr: &MembershipRepr, outbox: &mut Outbox) {
    let destination = match repr {
        MembershipRepr::Report { group: IpAddr::V6(group), .. } => *group,
        MembershipRepr::Leave { .. } => ALL_ROUTERS_V6,
        _ => ipv6::ALL_MLDV2_ROUTERS,
    };
    let message = repr.to_vec(false);
    let topology = core.topology.load();
    let to = IpAddr::V6(destination);
    // RFC 3810 section 5.2.13: a link-local source, or the unspecified address while there is none.
    let near = IpAddr::V6(ipv6::ALL_MLDV2_ROUTERS);
    let own = topology.nics.get(&interface.id).and_then(|entry| source::select(&topology, entry, near, near));
    let source = match own {
        Some(IpAddr::V6(address)) if address.is_unicast_link_local() => address,
        _ => Ipv6Addr::UNSPECIFIED,
    };
    let (head, rest) = message.split_at(message.len().min(8));
    let mut packet = Packet::from_body(Body::from_iter([Bytes::copy_from_slice(rest)]));
    packet.push_header(head.len()).copy_from_slice(head);
    icmp::fill_checksum(&mut packet, IpAddr::V6(source), to);
    // Hop-by-hop with router alert (RFC 2711) and two bytes of padding.
    let alert = [Protocol::ICMPV6.0, 0, ipv6::OPTION_ROUTER_ALERT, 2, 0, 0, ipv6::OPTION_PADN, 0];
    packet.push_header(alert.len()).copy_from_slice(&alert);
    let header = Ipv6Repr {
        source,
        destination,
        next_header: Protocol::HOP_BY_HOP,
        hop_limit: 1,
        traffic_class: 0,
        flow_label: 0,
        payload_len: u16::try_from(message.len() + alert.len()).unwrap_or(u16::MAX),
    };
    header.emit(packet.push_header(ipv6::HEADER_LEN));
    packet.meta.is_link_control = true;
    edge::send_frame(interface, MacAddr::of_multicast_v6(destination), EtherType::IPV6, packet, outbox);
}

const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const ALL_ROUTERS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
const ALL_IGMPV3_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
const ALL_ROUTERS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
