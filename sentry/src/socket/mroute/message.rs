//! What routing programs read: upcalls in the guise of packets (`struct igmpmsg`, `struct mrt6msg`).

use std::net::IpAddr;
use std::sync::{Arc, Weak};

use netstack::multicast_route::{Refused, Upcall, UpcallKind, UpcallSink};
use netstack::socket::RawInlet;
use sentry_abi::mroute::{IGMPMSG_NOCACHE, IGMPMSG_WHOLEPKT, IGMPMSG_WRONGVIF, IGMPMSG_WRVIFWHOLE, Mrt6Msg};
use zerocopy::IntoBytes;

use crate::socket::mroute::shown::ShownRoute;
use crate::socket::netlink::MulticastReport;
use crate::socket::{NetNamespace, netlink};

/// Puts upcalls into the receive queue of a program's raw socket.
pub(super) struct GuestSink {
    inlet: RawInlet,
    namespace: Weak<NetNamespace>,
    table: u32,
}

impl GuestSink {
    pub(super) fn new(inlet: RawInlet, namespace: &Arc<NetNamespace>, table: u32) -> Self {
        Self { inlet, namespace: Arc::downgrade(namespace), table }
    }
}

impl UpcallSink for GuestSink {
    fn upcall(&self, upcall: &Upcall<'_>) -> Result<(), Refused> {
        let message = encode(upcall).ok_or(Refused)?;
        let Upcall { kind, vif, source, group, nic, .. } = *upcall;
        let (namespace, table) = (self.namespace.upgrade(), self.table);
        if let Some(namespace) = &namespace {
            let (kind, vif) = (kind_of(kind), vif.number());
            let own = if group.is_ipv4() { V4_HEADER } else { size_of::<Mrt6Msg>() };
            let packet = message.get(own..).unwrap_or_default();
            let report = MulticastReport { kind, vif, source, group, table, packet };
            netlink::announce_multicast_report(namespace, &report);
        }
        let is_taken = self.inlet.push(source, group, nic, message.into());
        if is_taken
            && kind == UpcallKind::NoRoute
            && let Some(namespace) = namespace
        {
            netlink::announce_multicast(&namespace, &ShownRoute { table, source, group, way: None });
        }
        if is_taken { Ok(()) } else { Err(Refused) }
    }
}

fn kind_of(kind: UpcallKind) -> u8 {
    match kind {
        UpcallKind::NoRoute => IGMPMSG_NOCACHE,
        UpcallKind::WrongVif => IGMPMSG_WRONGVIF,
        UpcallKind::WholePacket => IGMPMSG_WHOLEPKT,
        UpcallKind::WholeWrongVif => IGMPMSG_WRVIFWHOLE,
    }
}

fn encode(upcall: &Upcall<'_>) -> Option<Vec<u8>> {
    let is_whole = matches!(upcall.kind, UpcallKind::WholePacket | UpcallKind::WholeWrongVif);
    let packet = upcall.packet.to_vec();
    match (upcall.source, upcall.group) {
        (IpAddr::V4(_), IpAddr::V4(_)) => encode_v4(upcall, &packet, is_whole),
        (IpAddr::V6(source), IpAddr::V6(group)) => {
            let message = Mrt6Msg {
                zero: 0,
                kind: kind_of(upcall.kind),
                mif: upcall.vif.number().into(),
                padding: 0,
                source: source.octets(),
                group: group.octets(),
            };
            let mut bytes = message.as_bytes().to_vec();
            match is_whole {
                true => bytes.extend(packet),
                // Room for a second header that Linux makes and leaves empty.
                false => bytes.resize(2 * V6_HEADER, 0),
            }
            Some(bytes)
        }
        _ => None,
    }
}

/// The packet's IP header, of which the protocol is zero, as no packet's is that arrives; the kind is where the TTL was
/// and the virtual interface where the checksum was. Behind it the whole packet, or a header of IGMP with the kind.
fn encode_v4(upcall: &Upcall<'_>, packet: &[u8], is_whole: bool) -> Option<Vec<u8>> {
    let header_len = if is_whole { V4_HEADER } else { usize::from(packet.first()? & 0xf) * 4 };
    let mut bytes = packet.get(..header_len)?.to_vec();
    let kind = kind_of(upcall.kind);
    if is_whole {
        bytes.extend(packet);
        *bytes.first_mut()? = 0x45;
    } else {
        bytes.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
    }
    let len = u16::try_from(bytes.len()).ok()?;
    bytes.get_mut(2..4)?.copy_from_slice(&len.to_be_bytes());
    bytes.get_mut(8..12)?.copy_from_slice(&[kind, 0, upcall.vif.number(), 0]);
    Some(bytes)
}

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
