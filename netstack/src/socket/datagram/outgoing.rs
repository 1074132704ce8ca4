//! Where a datagram goes: the socket's and the message's wishes, the route, and the header that follows from them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use netstack_wire::ethernet::{self, EtherType};
use netstack_wire::ip::Protocol;

use crate::error::{SendError, SocketError};
use crate::ip::{
    Delivery, Egress, Fragmenting, IpOutput, Origin, OutputError, RouteQuery, Template, flow_label, send,
    send_with_extensions, send_with_options, unmapped,
};
use crate::nic::NicId;
use crate::options::{
    ErrorOrigin, Family, Ipv4Options, Ipv6Extensions, PmtuDiscovery, SendMeta, SocketOptions, StampRequest,
};
use crate::outbox::Outbox;
use crate::packet::Packet;
use crate::route::PacketFacts;
use crate::socket::datagram::{DatagramEndpoint, Peer, State};
use crate::socket::udp::may_send_from;
use crate::stack::Core;

/// Where a datagram goes, after socket and message were asked.
///
/// It takes the socket's resolved way along; [`DatagramEndpoint::keep`] brings it back for the next one.
pub(crate) struct Outgoing {
    pub(crate) way: Way,
    pub(crate) output: IpOutput,
    /// Zero if the socket has none yet.
    pub(crate) local_port: u16,
    pub(crate) port: u16,
    pub(crate) no_checksum: bool,
    pub(crate) mark: u32,
    pub(crate) priority: u32,
    pub(crate) owner: Option<crate::packet::Owner>,
    /// The size to cut the data to, if it is to be cut.
    pub(crate) segment_size: Option<u16>,
    /// The datagram before this one went the same way.
    pub(crate) is_repeated: bool,
    /// The options of IPv4.
    pub(crate) ip_options: Option<Ipv4Options>,
    /// The extension headers of IPv6.
    extensions: Option<Arc<Ipv6Extensions>>,
    /// The times that the socket wants to be told.
    pub(crate) stamp: Option<StampRequest>,
    auto_flow_label: Option<bool>,
    /// Of the socket's settings, up to now.
    changes: u32,
}

impl Outgoing {
    /// Sends a transport packet this way.
    pub(crate) fn send(
        &mut self,
        core: &Arc<Core>,
        packet: Packet,
        outbox: &mut Outbox,
    ) -> Result<(), OutputError> {
        let egress = &mut self.way.egress;
        match (&self.ip_options, &self.extensions) {
            (Some(options), _) if self.output.destination.is_ipv4() => {
                send_with_options(core, egress, &self.output, options.as_slice(), packet, outbox)
            }
            (_, Some(extensions)) => {
                send_with_extensions(core, egress, &self.output, extensions, packet, outbox)
            }
            _ => send(core, egress, &self.output, packet, outbox),
        }
    }

    /// A transport packet as it leaves, with headers in front of it.
    pub(crate) fn show(&self, packet: &Packet) -> Bytes {
        let header_len = self.output.header_len();
        let mut bytes = vec![0; ethernet::HEADER_LEN + header_len];
        let kind = if self.output.destination.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
        bytes[ethernet::HEADER_LEN - 2..ethernet::HEADER_LEN].copy_from_slice(&kind.0.to_be_bytes());
        self.output.emit_header(0, packet.len(), &mut bytes[ethernet::HEADER_LEN..]);
        packet.slices().for_each(|slice| bytes.extend_from_slice(slice));
        bytes.into()
    }

    /// Notes on a packet what rules and receivers look at besides its bytes.
    pub(crate) fn tag(&self, packet: &mut Packet) {
        packet.meta.mark = self.mark;
        packet.meta.priority = self.priority;
        packet.meta.owner = self.owner;
    }

    /// Whether its IP header is longer than others.
    pub(crate) fn has_extensions(&self) -> bool {
        self.ip_options.is_some() || self.extensions.is_some()
    }

    /// Whether it goes to a multicast group.
    pub(crate) fn is_to_group(&self) -> bool {
        self.way.egress.delivery == Delivery::Multicast
    }

    /// Gives the flow a label if nobody asked for one, now that its port is known.
    pub(crate) fn label(&mut self, core: &Core, local_port: u16) {
        let IpOutput { source, destination, protocol, flow_label, .. } = &mut self.output;
        if *flow_label == 0 {
            let (from, to) = ((*source, local_port), (*destination, self.port));
            *flow_label = flow_label::of_datagram(core, self.auto_flow_label, from, to, *protocol);
        }
    }
}

/// A resolved way out and what it was resolved for.
pub(crate) struct Way {
    query: RouteQuery,
    mark: u32,
    pub(crate) egress: Egress,
}

/// What datagrams to one place are sent with, one like the other.
#[derive(Debug)]
pub(crate) struct Express {
    pub(crate) template: Template,
    /// What a message must say for it; `None` is the connected peer.
    to: Option<SocketAddr>,
    pub(crate) local_port: u16,
    pub(crate) port: u16,
    pub(crate) no_checksum: bool,
    pub(crate) mark: u32,
    pub(crate) priority: u32,
    pub(crate) owner: Option<crate::packet::Owner>,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Way({})", self.query.destination)
    }
}

impl DatagramEndpoint {
    /// Finds out where a datagram goes, and how.
    pub(crate) fn outgoing(
        &self,
        core: &Core,
        protocol: Protocol,
        meta: &SendMeta,
    ) -> Result<Outgoing, SendError> {
        let to = match meta.to {
            Some(to) => Some(self.parse(to).ok_or(SendError::FamilyMismatch)?),
            None => None,
        };
        let mut state = self.state.lock();
        if state.write_is_shut {
            return Err(SendError::Shutdown);
        }
        if let Some(error) = state.error.take() {
            return Err(SendError::Pending(error));
        }
        let peer = to.or(state.peer).ok_or(SendError::NotConnected)?;
        if self.family == Family::V6 && state.options.only_v6 && peer.address.is_ipv4() {
            return Err(SendError::NetworkUnreachable);
        }
        if let Some(source) = meta.source {
            check_source(core, unmapped(source), &state.options)?;
        }
        let extensions = meta.extensions.as_ref().or(state.options.extensions.as_ref());
        let extensions = extensions.filter(|_| peer.address.is_ipv6()).cloned();
        let (way, is_repeated) = match extensions.as_deref().and_then(Ipv6Extensions::first_hop) {
            Some(hop) => state.resolve(core, protocol, &Peer { address: IpAddr::V6(hop), ..peer }, meta)?,
            None => state.resolve(core, protocol, &peer, meta)?,
        };
        let egress = &way.egress;
        if egress.delivery == Delivery::Broadcast && !state.options.broadcast {
            return Err(SendError::BroadcastNotPermitted);
        }
        let destination = if peer.address.is_unspecified() { egress.next_hop } else { peer.address };
        let options = &state.options;
        let is_group = egress.delivery == Delivery::Multicast;
        let (ttl, tos, loops) = match destination {
            IpAddr::V4(_) if is_group => (Some(options.multicast_ttl), options.tos, options.multicast_loop),
            IpAddr::V4(_) => (options.ttl, options.tos, true),
            IpAddr::V6(_) if is_group => {
                (Some(options.multicast_hop_limit), options.traffic_class, options.multicast_loop_v6)
            }
            IpAddr::V6(_) => (options.hop_limit, options.traffic_class, true),
        };
        let output = IpOutput {
            source: meta.source.map(unmapped).or(state.bound).unwrap_or(egress.source),
            destination,
            protocol,
            ttl: meta.ttl.or(ttl).unwrap_or_else(|| egress.default_ttl(core)),
            tos: meta.tos.unwrap_or(tos),
            flow_label: meta.flow_label.unwrap_or(peer.flow_label) & flow_label::MASK,
            fragmenting: if options.dont_fragment_v6 && destination.is_ipv6() {
                Fragmenting::Forbidden
            } else {
                fragmenting(options.pmtu_discovery, egress)
            },
            loops,
        };
        Ok(Outgoing {
            output,
            local_port: state.local_port,
            port: peer.port,
            no_checksum: options.no_checksum,
            mark: meta.mark.unwrap_or(options.mark),
            priority: meta.priority.unwrap_or(options.priority),
            owner: options.owner,
            auto_flow_label: options.auto_flow_label,
            segment_size: meta.segment_size.or(Some(options.segment_size)).filter(|&size| size > 0),
            is_repeated,
            ip_options: meta.ip_options.or(options.ip_options),
            extensions,
            stamp: meta.stamp,
            changes: state.changes,
            way,
        })
    }

    /// The same, with the port that `bind` gives to a socket that has none yet. Linux does that first; here it matters only
    /// where rules look at ports.
    pub(crate) fn outgoing_from<E>(
        &self,
        core: &Core,
        protocol: Protocol,
        meta: &SendMeta,
        bind: impl FnOnce() -> Result<u16, E>,
    ) -> Result<(Outgoing, u16), SendError> {
        let outgoing = self.outgoing(core, protocol, meta)?;
        if outgoing.local_port != 0 {
            let port = outgoing.local_port;
            return Ok((outgoing, port));
        }
        let port = bind().map_err(|_| SendError::NoFreePort)?;
        if !outgoing.way.egress.is_particular() {
            return Ok((outgoing, port));
        }
        Ok((self.outgoing(core, protocol, meta)?, port))
    }

    /// What is ready for a datagram with that destination; `None` if it has to be decided about anew.
    #[inline]
    pub(crate) fn express(&self, core: &Core, to: Option<SocketAddr>) -> Option<Arc<Express>> {
        let state = self.state.lock();
        let express = state.express.as_ref()?;
        // The length is what a plain send looks at; both kinds of segmentation take the long way.
        let is_usable = express.to == to
            && state.error.is_none()
            && !state.write_is_shut
            && state.options.segment_size == 0
            && express.template.is_current(core);
        is_usable.then(|| Arc::clone(express))
    }

    /// Has the next datagram to the same place go the short way, if there is one.
    pub(crate) fn prepare_express(
        &self,
        core: &Core,
        to: Option<SocketAddr>,
        local_port: u16,
        outgoing: &Outgoing,
    ) {
        // A socket that answers many hosts would make one for each datagram.
        if to.is_some() && !outgoing.is_repeated || outgoing.has_extensions() {
            return;
        }
        let Some(template) = Template::of(core, &outgoing.way.egress, &outgoing.output) else { return };
        let Outgoing { port, mark, priority, owner, .. } = *outgoing;
        let no_checksum = outgoing.no_checksum && outgoing.output.destination.is_ipv4();
        let express =
            Arc::new(Express { template, to, local_port, port, no_checksum, mark, priority, owner });
        let mut state = self.state.lock();
        // Otherwise somebody has changed something meanwhile, which the template knows nothing of.
        if state.changes == outgoing.changes {
            state.express = Some(express);
        }
    }

    /// Keeps a way for the next datagram. What has changed meanwhile shows when it is compared with what is wanted.
    #[inline]
    pub(crate) fn keep(&self, way: Way) {
        self.state.lock().way = Some(way);
    }

    /// Turns a failed output into the error of the call, and notes it where the socket keeps such things.
    pub(crate) fn output_failed(&self, error: OutputError, outgoing_to: (IpAddr, u16)) -> SendError {
        match error {
            OutputError::TooLarge { mtu } => {
                let mut state = self.state.lock();
                if state.options.error_queue || state.options.error_queue_v6 {
                    let notice = crate::ip::icmp::Notice {
                        error: SocketError::MessageTooLong,
                        origin: ErrorOrigin::Local,
                        icmp_type: 0,
                        icmp_code: 0,
                        info: mtu,
                        offender: None,
                        is_hard: true,
                    };
                    let to = self.socket_addr(outgoing_to.0, outgoing_to.1, None);
                    state.push_error(&notice, to, &[]);
                }
                SendError::MessageTooLong
            }
            OutputError::HostUnreachable => SendError::HostUnreachable,
            OutputError::NetworkDown => SendError::NetworkDown,
            OutputError::Filtered => SendError::Filtered,
        }
    }
}

impl State {
    pub(super) fn multicast_nic(&self, destination: IpAddr) -> Option<NicId> {
        match destination {
            IpAddr::V4(address) if address.is_multicast() || address.is_broadcast() => {
                self.options.multicast_nic
            }
            IpAddr::V6(address) if address.is_multicast() => self.options.multicast_nic_v6,
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }

    /// Takes the way that the last datagram took, if it leads there, or finds one. The flag says which.
    fn resolve(
        &mut self,
        core: &Core,
        protocol: Protocol,
        peer: &Peer,
        meta: &SendMeta,
    ) -> Result<(Way, bool), SendError> {
        let nic = self.options.bound_nic.or(meta.nic).or(peer.nic).or(self.multicast_nic(peer.address));
        let hint = match peer.address {
            IpAddr::V4(address) if address.is_multicast() => self.options.multicast_source.map(IpAddr::V4),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        };
        let source = meta.source.map(unmapped).filter(|source| !source.is_unspecified());
        let source = source.or(self.bound).or(self.connected_from.filter(|_| meta.to.is_none())).or(hint);
        let query = RouteQuery { destination: peer.address, source, nic };
        // Where rules look at ports, each datagram may have another way.
        let mark = meta.mark.unwrap_or(self.options.mark);
        let leads_there = |way: &Way| {
            (way.query, way.mark) == (query, mark)
                && !way.egress.is_particular()
                && way.egress.is_current(core)
        };
        if let Some(way) = self.way.take().filter(leads_there) {
            return Ok((way, true));
        }
        if self.bound.is_some_and(|bound| source == Some(bound) && !may_send_from(core, bound, &self.options))
        {
            return Err(SendError::NetworkUnreachable);
        }
        let facts = self.facts(protocol, peer);
        let packet = PacketFacts { tos: meta.tos.unwrap_or(facts.tos), ..facts };
        let origin = Origin { mark, arrived_on: None, packet };
        let egress = Egress::resolve_for(core, query, origin)?;
        Ok((Way { query, mark, egress }, false))
    }
}

/// A message's source must be ours, unless the socket may have others. The errors are Linux's (`ip_route_output_key_hash_rcu`,
/// `ip6_datagram_send_ctl`).
fn check_source(core: &Core, source: IpAddr, options: &SocketOptions) -> Result<(), SendError> {
    let is_never = source.is_multicast() || source == IpAddr::V4(Ipv4Addr::BROADCAST);
    if is_never {
        return Err(SendError::Invalid);
    }
    let is_fine = source.is_unspecified()
        || options.transparent
        || (options.free_bind && source.is_ipv6())
        || options.header_included
        || core.topology.load().local_address(source).is_some();
    match source {
        _ if is_fine => Ok(()),
        IpAddr::V4(_) => Err(SendError::NetworkUnreachable),
        IpAddr::V6(_) => Err(SendError::Invalid),
    }
}

fn fragmenting(discovery: PmtuDiscovery, egress: &Egress) -> Fragmenting {
    match discovery {
        PmtuDiscovery::Want if egress.is_mtu_locked => Fragmenting::Allowed,
        PmtuDiscovery::Do | PmtuDiscovery::Probe => Fragmenting::Forbidden,
        PmtuDiscovery::Want => Fragmenting::IfNeeded,
        PmtuDiscovery::Dont | PmtuDiscovery::Interface | PmtuDiscovery::Omit => Fragmenting::Allowed,
    }
}
