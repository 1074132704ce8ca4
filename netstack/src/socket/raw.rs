//! Raw IP sockets.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use crate::sync::{Mutex, RwLock};
use bytes::Bytes;
use netstack_wire::checksum::{self, Accumulator};
use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::{self, Ipv4Repr};

use crate::buffer::Source;
use crate::error::{BindError, ConnectError, SendError};
use crate::ip::icmp::{Notice, Quote};
use crate::ip::{Cast, IpMeta, Rx, Transit, send_with_header};
use crate::nic::NicId;
use crate::options::{Family, SendMeta};
use crate::outbox::Outbox;
use crate::packet::{Body, Packet};
use crate::socket::datagram::{DatagramEndpoint, Enqueued, Outgoing, Queued, gather};
use crate::socket::front::{datagram_front, membership_front};
use crate::socket::membership;
use crate::socket::udp::check_local;
use crate::stack::{Core, Stack};

/// A raw socket. IPv4 ones receive whole IP packets, IPv6 ones the payload after the headers, as in Linux.
#[derive(Debug)]
pub struct RawSocket {
    core: Arc<Core>,
    endpoint: Arc<DatagramEndpoint>,
    raw: Arc<RawEndpoint>,
}

/// Which ICMPv6 or ICMP types a raw socket does not want (`ICMP6_FILTER`, `ICMP_FILTER`): bit N of word N/32 set blocks type N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Icmp6Filter(pub [u32; 8]);

impl Icmp6Filter {
    fn blocks(&self, kind: u8) -> bool {
        self.0[usize::from(kind / 32)] & (1 << (kind % 32)) != 0
    }
}

/// What the receive path sees of a raw socket.
#[derive(Debug)]
pub(crate) struct RawEndpoint {
    protocol: Protocol,
    endpoint: Arc<DatagramEndpoint>,
    settings: Mutex<Settings>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Settings {
    icmp6_filter: Icmp6Filter,
    checksum_offset: Option<u16>,
    /// Packets that ask routers to look at them come here (`IP_ROUTER_ALERT`).
    takes_alerts: bool,
}

/// The raw sockets of a stack.
#[derive(Default)]
pub(crate) struct RawSockets {
    /// The number of sockets, so that packets need not take the lock when there is none.
    count: AtomicUsize,
    sockets: RwLock<Vec<Arc<RawEndpoint>>>,
}

impl RawSocket {
    /// Makes a socket for one IP protocol number. `IPPROTO_RAW` (255) only sends, with the header supplied.
    pub fn new(stack: &Stack, family: Family, protocol: u8) -> Self {
        let endpoint = Arc::new(DatagramEndpoint::new(family));
        endpoint.set_options(|options| {
            options.only_v6 = true;
            options.header_included = protocol == IPPROTO_RAW;
        });
        // RFC 3542 section 3.1: the checksum of ICMPv6 is always the stack's business.
        let checksum_offset = (family == Family::V6 && Protocol(protocol) == Protocol::ICMPV6).then_some(2);
        let settings = Mutex::new(Settings { checksum_offset, ..Settings::default() });
        let raw = RawEndpoint { protocol: Protocol(protocol), endpoint: Arc::clone(&endpoint), settings };
        let raw = Arc::new(raw);
        stack.core.raw.add(&raw);
        Self { core: Arc::clone(&stack.core), endpoint, raw }
    }

    /// Sets the ICMPv6 filter.
    pub fn set_icmp6_filter(&self, filter: Icmp6Filter) {
        self.raw.settings.lock().icmp6_filter = filter;
    }

    /// The ICMPv6 filter.
    pub fn icmp6_filter(&self) -> Icmp6Filter {
        self.raw.settings.lock().icmp6_filter
    }

    /// Where the stack computes and checks a checksum (`IPV6_CHECKSUM`), counted from the payload's start.
    pub fn set_checksum_offset(&self, offset: Option<u16>) {
        self.raw.settings.lock().checksum_offset = offset;
    }

    /// Sets whether packets of the protocol that pass by and ask routers to look at them (RFC 2113) come to this socket
    /// instead of being routed on. Here those for groups do, while a
    /// [`MulticastRouter`](crate::multicast_route::MulticastRouter) is there.
    pub fn set_router_alert(&self, takes: bool) {
        self.raw.settings.lock().takes_alerts = takes;
    }

    /// A way to put messages into the receive queue that came over no link.
    pub fn inlet(&self) -> RawInlet {
        RawInlet { core: Arc::downgrade(&self.core), raw: Arc::downgrade(&self.raw) }
    }

    /// Binds to a local address; only packets to it are received, and sent packets carry it.
    pub fn bind(&self, local: SocketAddr) -> Result<(), BindError> {
        let parsed = self.endpoint.parse(local).ok_or(BindError::FamilyMismatch)?;
        let address = (!parsed.address.is_unspecified()).then_some(parsed.address);
        let mut state = self.endpoint.lock();
        if let Some(address) = address {
            check_local(&self.core, address, &state.options)?;
        }
        state.bound = address;
        Ok(())
    }

    /// Fixes the peer: only its packets are received, and sends need no destination.
    pub fn connect(&self, remote: SocketAddr) -> Result<(), ConnectError> {
        let peer = self.endpoint.parse(remote).ok_or(ConnectError::FamilyMismatch)?;
        self.endpoint.connect(&self.core, self.raw.protocol, peer)?;
        Ok(())
    }

    /// Undoes [`connect`](Self::connect).
    pub fn disconnect(&self) {
        self.endpoint.disconnect();
    }

    /// Sends all that is left of `data` as one packet and returns its length.
    pub fn try_send(&self, data: &mut dyn Source, meta: &SendMeta) -> Result<usize, SendError> {
        let len = data.remaining();
        if len > ipv4::MAX_PACKET_LEN {
            return Err(SendError::MessageTooLong);
        }
        let mut outgoing = self.endpoint.outgoing(&self.core, self.raw.protocol, meta)?;
        outgoing.label(&self.core, 0);
        let payload = gather(data)?;
        let mut outbox = Outbox::default();
        let has_header = self.endpoint.lock().options.header_included;
        let sent = if has_header && self.endpoint.family == Family::V4 {
            let mut packet = with_header(&self.core, &outgoing, &payload).ok_or(SendError::Invalid)?;
            outgoing.tag(&mut packet);
            send_with_header(&self.core, &mut outgoing.way.egress, &outgoing.output, packet, &mut outbox)
        } else if has_header {
            let mut packet = Packet::from_frame(payload);
            outgoing.tag(&mut packet);
            send_with_header(&self.core, &mut outgoing.way.egress, &outgoing.output, packet, &mut outbox)
        } else {
            let offset = self.raw.settings.lock().checksum_offset;
            let packet = with_checksum(&outgoing, payload, offset).ok_or(SendError::Invalid)?;
            self.endpoint.dispatch(&self.core, &mut outgoing, packet, &mut outbox)
        };
        outbox.flush(&self.core);
        self.endpoint.keep(outgoing.way);
        match sent {
            Ok(()) => Ok(len),
            Err(error) => Err(self.endpoint.output_failed(error, (outgoing.output.destination, 0))),
        }
    }
}

datagram_front!(RawSocket);
membership_front!(RawSocket);

impl Drop for RawSocket {
    fn drop(&mut self) {
        membership::leave_all(&self.core, &self.endpoint);
        self.core.raw.remove(&self.raw);
    }
}

/// Puts messages into a raw socket's receive queue.
#[derive(Debug, Clone)]
pub struct RawInlet {
    core: Weak<Core>,
    raw: Weak<RawEndpoint>,
}

impl RawInlet {
    /// Puts a message into the queue, as if `from` had sent it to `to` and it had come in on `nic`; false if the queue is
    /// full or the socket gone.
    pub fn push(&self, from: IpAddr, to: IpAddr, nic: NicId, message: Bytes) -> bool {
        let (Some(core), Some(raw)) = (self.core.upgrade(), self.raw.upgrade()) else { return false };
        let meta = IpMeta {
            source: from,
            destination: to,
            protocol: raw.protocol,
            ttl: 0,
            tos: 0,
            flow_label: 0,
            nic,
            cast: Cast::Multicast,
            offset: 0,
            len: message.len(),
            arrival: core.clock.now(),
        };
        let queued = Queued::new(&meta, 0, 0, Body::from_iter([message]));
        raw.endpoint.enqueue(queued) == Enqueued::Yes
    }
}

/// raw(7): with `IP_HDRINCL` the checksum and the total length are always filled in, the source address and the
/// identification when they are zero.
fn with_header(core: &Core, outgoing: &Outgoing, bytes: &Bytes) -> Option<Packet> {
    let mut bytes = bytes.to_vec();
    let total = u16::try_from(bytes.len()).ok()?;
    bytes.get_mut(2..4)?.copy_from_slice(&total.to_be_bytes());
    let mut repr = Ipv4Repr::parse_unchecked(&bytes).ok()?;
    if bytes.len() < repr.header_len() {
        return None;
    }
    if let (true, IpAddr::V4(source)) = (repr.source.is_unspecified(), outgoing.output.source) {
        repr.source = source;
    }
    if repr.ident == 0 {
        repr.ident = core.next_ident(&outgoing.output);
    }
    repr.emit(&mut bytes);
    Some(Packet::from_frame(bytes.into()))
}

/// RFC 3542 section 3.1: the checksum with the IPv6 pseudo-header at the offset that the user gave.
fn with_checksum(outgoing: &Outgoing, payload: Bytes, offset: Option<u16>) -> Option<Packet> {
    let payload = match offset {
        None => payload,
        Some(offset) => {
            let mut bytes = payload.to_vec();
            let offset = usize::from(offset);
            bytes.get_mut(offset..offset + 2)?.fill(0);
            let output = &outgoing.output;
            let len = u32::try_from(bytes.len()).ok()?;
            let pseudo = checksum::pseudo_header(output.source, output.destination, output.protocol.0, len);
            let mut total = Accumulator::new(pseudo);
            total.add(&bytes);
            bytes.get_mut(offset..offset + 2)?.copy_from_slice(&total.checksum().to_be_bytes());
            Bytes::from(bytes)
        }
    };
    let mut packet = Packet::from_body(Body::from_iter([payload]));
    outgoing.tag(&mut packet);
    Some(packet)
}

impl RawSockets {
    fn add(&self, raw: &Arc<RawEndpoint>) {
        let mut sockets = self.sockets.write();
        sockets.push(Arc::clone(raw));
        self.count.store(sockets.len(), Ordering::Release);
    }

    fn remove(&self, raw: &Arc<RawEndpoint>) {
        let mut sockets = self.sockets.write();
        sockets.retain(|other| !Arc::ptr_eq(other, raw));
        self.count.store(sockets.len(), Ordering::Release);
    }
}

impl RawSockets {
    /// Whether there are any.
    #[inline]
    pub(crate) fn is_any(&self) -> bool {
        self.count.load(Ordering::Acquire) != 0
    }
}

/// Shows a packet for us to the raw sockets of its protocol. True if there was one.
pub(crate) fn deliver(rx: &mut Rx<'_>, ip: &IpMeta, packet: &Packet) -> bool {
    if !rx.core.raw.is_any() {
        return false;
    }
    let matching: Vec<_> = {
        let sockets = rx.core.raw.sockets.read();
        sockets.iter().filter(|raw| raw.wants(ip, packet)).cloned().collect()
    };
    for raw in &matching {
        let mut packet = packet.clone();
        // raw(7): "the IP header is always included" for IPv4; RFC 3542 section 3: never for IPv6.
        let start = match ip.source {
            IpAddr::V4(_) => usize::from(packet.meta.l3_offset),
            IpAddr::V6(_) => ip.offset,
        };
        if raw.endpoint.filter.admits(rx, ip, &mut packet, start, 0) {
            let (options, tags) = (ip.options(&packet), packet.meta.tags());
            let queued = Queued::new(ip, 0, 0, packet.into_payload(start));
            raw.endpoint.enqueue(queued.with_options(options).with_tags(tags));
        } else {
            raw.endpoint.count_drop();
        }
    }
    !matching.is_empty()
}

/// Gives a packet that asks routers to look at it to the sockets that want such. True if there was one.
pub(crate) fn deliver_alert(rx: &mut Rx<'_>, transit: &Transit, packet: &Packet) -> bool {
    if !rx.core.raw.is_any() {
        return false;
    }
    let start = usize::from(packet.meta.l3_offset);
    let offset = start + transit.l3().len();
    let ip = IpMeta {
        source: transit.source,
        destination: transit.destination,
        protocol: transit.protocol,
        ttl: transit.ttl(),
        tos: 0,
        flow_label: 0,
        nic: rx.interface.id,
        cast: Cast::Multicast,
        offset,
        len: packet.len() - offset,
        arrival: packet.meta.arrival.unwrap_or(rx.now),
    };
    let sockets = rx.core.raw.sockets.read().clone();
    let mut is_taken = false;
    for raw in &sockets {
        if !raw.settings.lock().takes_alerts || !raw.wants(&ip, packet) {
            continue;
        }
        let mut packet = packet.clone();
        if raw.endpoint.filter.admits(rx, &ip, &mut packet, start, 0) {
            raw.endpoint.enqueue(Queued::new(&ip, 0, 0, packet.into_payload(start)));
        }
        is_taken = true;
    }
    is_taken
}

impl RawEndpoint {
    fn wants(&self, ip: &IpMeta, packet: &Packet) -> bool {
        let family = crate::cidr::family_of(ip.source);
        if self.protocol != ip.protocol || self.endpoint.family != family {
            return false;
        }
        let has_types = match family {
            Family::V4 => ip.protocol == Protocol::ICMP,
            Family::V6 => ip.protocol == Protocol::ICMPV6,
        };
        if has_types {
            let kind = packet.contiguous(ip.offset).first().copied().unwrap_or_default();
            if self.settings.lock().icmp6_filter.blocks(kind) {
                return false;
            }
        }
        let state = self.endpoint.lock();
        state.bound.is_none_or(|bound| bound == ip.destination)
            && state.peer.is_none_or(|peer| peer.address == ip.source)
            && state.options.bound_nic.is_none_or(|nic| nic == ip.nic)
    }
}

/// An ICMP error about a packet of ours.
pub(crate) fn on_icmp(core: &Core, quote: &Quote<'_>, notice: &Notice) -> bool {
    if core.raw.count.load(Ordering::Acquire) == 0 {
        return false;
    }
    let sockets = core.raw.sockets.read().clone();
    let mut is_known = false;
    for raw in sockets.iter().filter(|raw| raw.protocol == quote.protocol) {
        if raw.endpoint.family == crate::cidr::family_of(quote.source) {
            raw.endpoint.on_icmp(notice, (quote.destination, 0), quote.bytes);
            is_known = true;
        }
    }
    is_known
}

/// Linux's protocol number for "any, header supplied".
const IPPROTO_RAW: u8 = 255;
