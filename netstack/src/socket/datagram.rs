//! What the datagram sockets (UDP, ping, raw) share: the receive queue, errors, options and readiness.

mod outgoing;
mod queue;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::sync::{BriefGuard, BriefMutex};
use bytes::Bytes;
use netstack_wire::ip::Protocol;
use smallvec::SmallVec;

use crate::bpf;
use crate::buffer::{Sink, Source};
use crate::error::{ConnectError, RecvError, RouteError, SendError, ShutdownError, SocketError};
use crate::ip::{Delivery, Egress, IpExtra, Origin, OutputError, RouteQuery, flow_label, unmapped};
use crate::nic::NicId;
use crate::options::{
    Datagram, Family, PmtuDiscovery, QueuedError, RecvFlags, RecvMessage, SentStamp, Shutdown, SocketOptions,
    StampKind, StampRequest,
};
use crate::outbox::Outbox;
use crate::packet::{Body, Packet};
use crate::route::PacketFacts;
use crate::socket::membership::Membership;
use crate::socket::udp::{Corked, may_send_from};
use crate::stack::Core;
use crate::time::Instant;
use crate::wait::{Readiness, WaitQueue};

pub(crate) use outgoing::{Express, Outgoing, Way};
use queue::ReceiveQueue;
pub(crate) use queue::{Enqueued, Queued};

/// The common part of a datagram endpoint.
#[derive(Debug)]
pub(crate) struct DatagramEndpoint {
    pub(crate) family: Family,
    pub(crate) waiters: WaitQueue,
    /// What the user wants of what arrives (`SO_ATTACH_FILTER`).
    pub(crate) filter: bpf::Slot,
    /// Calls have put a datagram together, or may be about to.
    pub(crate) was_corked: AtomicBool,
    state: BriefMutex<State>,
}

/// What the lock protects.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) options: SocketOptions,
    /// The address it is bound to; any if not set.
    pub(crate) bound: Option<IpAddr>,
    /// The address that connecting chose.
    pub(crate) connected_from: Option<IpAddr>,
    pub(crate) local_port: u16,
    pub(crate) peer: Option<Peer>,
    pub(crate) memberships: Vec<Membership>,
    /// For the group of sockets that the socket begins, once bound.
    pub(crate) group_filter: Option<bpf::Program>,
    pub(crate) corked: Option<Box<Corked>>,
    queue: ReceiveQueue,
    /// How many datagrams found no room or were not wanted by the filter, modulo 2^32.
    dropped: u32,
    error: Option<SocketError>,
    errors: VecDeque<QueuedError>,
    #[expect(clippy::box_collection, reason = "hardly a socket has them: a quarter of the bytes")]
    stamps: Option<Box<VecDeque<SentStamp>>>,
    read_is_shut: bool,
    write_is_shut: bool,
    way: Option<Way>,
    /// What the last datagram was sent with, for more of the same.
    express: Option<Arc<Express>>,
    /// Counts what makes the two above invalid.
    changes: u32,
}

/// The other end of a connected socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    /// For link-local addresses.
    pub(crate) nic: Option<NicId>,
    /// Of IPv6; zero if none was asked for.
    pub(crate) flow_label: u32,
}

impl DatagramEndpoint {
    pub(crate) fn new(family: Family) -> Self {
        let state = State {
            options: SocketOptions::default(),
            bound: None,
            connected_from: None,
            local_port: 0,
            peer: None,
            memberships: Vec::new(),
            group_filter: None,
            corked: None,
            queue: ReceiveQueue::default(),
            dropped: 0,
            error: None,
            errors: VecDeque::new(),
            stamps: None,
            read_is_shut: false,
            write_is_shut: false,
            way: None,
            express: None,
            changes: 0,
        };
        Self {
            family,
            waiters: WaitQueue::new(),
            filter: bpf::Slot::default(),
            was_corked: AtomicBool::new(false),
            state: BriefMutex::new(state),
        }
    }

    pub(crate) fn lock(&self) -> BriefGuard<'_, State> {
        self.state.lock()
    }

    /// Puts a received datagram into the queue.
    pub(crate) fn enqueue(&self, mut datagram: Queued) -> Enqueued {
        {
            let mut state = self.state.lock();
            if state.read_is_shut || !state.has_room() {
                state.dropped = state.dropped.wrapping_add(1);
                return Enqueued::Full;
            }
            datagram.dropped_before = state.dropped;
            state.queue.push(datagram);
        }
        self.waiters.notify(Readiness::IN);
        Enqueued::Yes
    }

    /// Puts datagrams into the queue that one sender sent in a row. Returns how many were taken and how many found no
    /// room.
    pub(crate) fn enqueue_run(&self, run: impl Iterator<Item = Queued>) -> (u64, u64) {
        let (mut taken, mut dropped) = (0, 0);
        {
            let mut state = self.state.lock();
            let coalesces = state.options.coalesce;
            let mut take = |mut datagram: Queued| {
                if state.read_is_shut || !state.has_room() {
                    state.dropped = state.dropped.wrapping_add(1);
                    dropped += 1;
                    return;
                }
                datagram.dropped_before = state.dropped;
                match coalesces && taken > 0 {
                    true => state.queue.push_or_merge(datagram),
                    false => state.queue.push(datagram),
                }
                taken += 1;
            };
            for datagram in run {
                match datagram.segment_size {
                    Some(size) if !coalesces => datagram.parts(size).for_each(&mut take),
                    _ => take(datagram),
                }
            }
        }
        if taken > 0 {
            self.waiters.notify(Readiness::IN);
        }
        (taken, dropped)
    }

    /// Receives the oldest datagram.
    pub(crate) fn receive(&self, out: &mut dyn Sink, flags: RecvFlags) -> Result<Datagram, RecvError> {
        let (datagram, skip) = {
            let mut state = self.state.lock();
            if let Some(error) = state.error.take() {
                return Err(RecvError::Pending(error));
            }
            let next = match flags.peek {
                true => state.queue.look(flags.skip).map(|(datagram, skip)| (datagram.clone(), skip)),
                false => state.queue.pop().map(|datagram| (datagram, 0)),
            };
            match next {
                Some(found) => found,
                None if state.read_is_shut => return Ok(self.nothing()),
                None => return Err(RecvError::WouldBlock),
            }
        };
        self.copy_out(&datagram, skip, out)
    }

    /// Receives the oldest datagrams, one for each message, and returns how many there were: at least one.
    pub(crate) fn receive_many(&self, messages: &mut [RecvMessage<'_>]) -> Result<usize, RecvError> {
        let mut received = 0;
        while received < messages.len() {
            let mut batch: SmallVec<[Queued; AT_ONCE]> = SmallVec::new();
            {
                let mut state = self.state.lock();
                if let Some(error) = state.error.take_if(|_| received == 0) {
                    return Err(RecvError::Pending(error));
                }
                let wanted = AT_ONCE.min(messages.len() - received);
                batch.extend(std::iter::from_fn(|| state.queue.pop()).take(wanted));
                if batch.is_empty() && received == 0 {
                    if !state.read_is_shut {
                        return Err(RecvError::WouldBlock);
                    }
                    drop(state);
                    if let Some(first) = messages.first_mut() {
                        first.datagram = Some(self.nothing());
                    }
                    return Ok(1);
                }
            }
            let count = batch.len();
            let mut rest = batch.into_iter();
            while let Some(datagram) = rest.next() {
                let message = &mut messages[received];
                match self.copy_out(&datagram, 0, message.out) {
                    Ok(copied) => message.datagram = Some(copied),
                    Err(error) => {
                        // As recvmmsg(2): the datagram that met the fault is lost, the others are not.
                        self.state.lock().queue.unread(rest);
                        return if received > 0 { Ok(received) } else { Err(error) };
                    }
                }
                received += 1;
            }
            if count < AT_ONCE {
                break;
            }
        }
        Ok(received)
    }

    fn copy_out(&self, datagram: &Queued, skip: usize, out: &mut dyn Sink) -> Result<Datagram, RecvError> {
        let copied = match skip {
            0 => copy_out(&datagram.data, out)?,
            skip => copy_out(&behind(&datagram.data, skip), out)?,
        };
        Ok(Datagram {
            copied,
            len: datagram.len,
            from: self.socket_addr(datagram.source, datagram.source_port, Some(datagram.nic)),
            to: self.socket_addr(datagram.destination, datagram.destination_port, Some(datagram.nic)),
            nic: datagram.nic,
            ttl: datagram.ttl,
            tos: datagram.tos,
            flow_label: datagram.flow_label,
            arrival: datagram.arrival,
            dropped_before: datagram.dropped_before,
            mark: datagram.mark,
            priority: datagram.priority,
            segment_size: datagram.segment_size,
            ip_options: match datagram.extra.as_deref() {
                Some(IpExtra::V4(options)) => Some(*options),
                Some(IpExtra::V6(_)) | None => None,
            },
            extensions: match datagram.extra.as_deref() {
                Some(IpExtra::V6(extensions)) => Some(Arc::clone(extensions)),
                Some(IpExtra::V4(_)) | None => None,
            },
        })
    }

    /// What a receiver gets after the direction was shut: no data from nowhere.
    fn nothing(&self) -> Datagram {
        let nowhere = self.unspecified();
        Datagram {
            copied: 0,
            len: 0,
            from: nowhere,
            to: nowhere,
            nic: NO_NIC,
            ttl: 0,
            tos: 0,
            flow_label: 0,
            arrival: Instant::ZERO,
            dropped_before: 0,
            mark: 0,
            priority: 0,
            segment_size: None,
            ip_options: None,
            extensions: None,
        }
    }

    /// A datagram was not wanted.
    pub(crate) fn count_drop(&self) {
        let mut state = self.state.lock();
        state.dropped = state.dropped.wrapping_add(1);
    }

    pub(crate) fn dropped(&self) -> u32 {
        self.state.lock().dropped
    }

    /// The memory that waiting datagrams take of the receive buffer.
    pub(crate) fn receive_queued(&self) -> usize {
        self.state.lock().queue.charged()
    }

    pub(crate) fn next_len(&self) -> Option<usize> {
        self.state.lock().queue.front().map(|datagram| datagram.len)
    }

    pub(crate) fn readiness(&self) -> Readiness {
        let state = self.state.lock();
        let mut ready = Readiness::empty();
        // Sending is done before the call returns, so there is always room.
        ready.set(Readiness::OUT, true);
        ready.set(Readiness::IN, !state.queue.is_empty() || state.read_is_shut || state.error.is_some());
        ready.set(Readiness::RDHUP, state.read_is_shut);
        ready.set(Readiness::HUP, state.read_is_shut && state.write_is_shut);
        let has_errors = state.error.is_some() || !state.errors.is_empty() || state.has_stamps();
        ready.set(Readiness::ERR, has_errors);
        ready
    }

    pub(crate) fn take_error(&self) -> Option<SocketError> {
        self.state.lock().error.take()
    }

    pub(crate) fn take_queued_error(&self) -> Option<QueuedError> {
        self.state.lock().errors.pop_front()
    }

    pub(crate) fn take_sent_stamp(&self) -> Option<SentStamp> {
        self.state.lock().stamps.as_mut()?.pop_front()
    }

    /// Sends a datagram on its way, and notes when, if the socket wants to know.
    pub(crate) fn dispatch(
        &self,
        core: &Arc<Core>,
        outgoing: &mut Outgoing,
        packet: Packet,
        outbox: &mut Outbox,
    ) -> Result<(), OutputError> {
        match outgoing.stamp {
            None => outgoing.send(core, packet, outbox),
            Some(request) => self.dispatch_stamped(core, outgoing, packet, request, outbox),
        }
    }

    #[cold]
    fn dispatch_stamped(
        &self,
        core: &Arc<Core>,
        outgoing: &mut Outgoing,
        packet: Packet,
        request: StampRequest,
        outbox: &mut Outbox,
    ) -> Result<(), OutputError> {
        let shown = if request.with_packet { outgoing.show(&packet) } else { Bytes::new() };
        let scheduled = core.clock.now();
        outgoing.send(core, packet, outbox)?;
        let kinds = [
            (request.scheduled, StampKind::Scheduled, scheduled),
            (request.sent, StampKind::Sent, core.clock.now()),
        ];
        {
            let mut state = self.state.lock();
            let stamps = state.stamps.get_or_insert_default();
            for (_, kind, at) in kinds.into_iter().filter(|(is_wanted, ..)| *is_wanted) {
                if stamps.len() < MAX_STAMPS {
                    stamps.push_back(SentStamp { kind, id: request.id, at, packet: shown.clone() });
                }
            }
        }
        self.waiters.notify(Readiness::ERR);
        Ok(())
    }

    pub(crate) fn options(&self) -> SocketOptions {
        self.state.lock().options.clone()
    }

    pub(crate) fn set_options(&self, change: impl FnOnce(&mut SocketOptions)) {
        let mut state = self.state.lock();
        change(&mut state.options);
        state.forget_way();
    }

    /// Notes an ICMP error about a datagram to `destination`.
    pub(crate) fn on_icmp(
        &self,
        notice: &crate::ip::icmp::Notice,
        destination: (IpAddr, u16),
        payload: &[u8],
    ) {
        {
            let mut state = self.state.lock();
            let wants_queue = match destination.0 {
                IpAddr::V4(_) => state.options.error_queue || state.options.error_queue_v6,
                IpAddr::V6(_) => state.options.error_queue_v6,
            };
            // Linux: path MTU news are no error for those who let the network layer fragment.
            let is_ignored_mtu = notice.error == SocketError::MessageTooLong
                && !matches!(state.options.pmtu_discovery, PmtuDiscovery::Do | PmtuDiscovery::Probe);
            if wants_queue {
                let to = self.socket_addr(destination.0, destination.1, None);
                state.push_error(notice, to, payload);
            } else if state.peer.is_none() || !notice.is_hard || is_ignored_mtu {
                return;
            }
            state.error = Some(notice.error);
        }
        self.waiters.notify(Readiness::ERR | Readiness::IN | Readiness::OUT);
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        let (address, port) = {
            let state = self.state.lock();
            (state.bound.or(state.connected_from), state.local_port)
        };
        match address {
            Some(address) => self.socket_addr(address, port, None),
            None => {
                let mut any = self.unspecified();
                any.set_port(port);
                any
            }
        }
    }

    pub(crate) fn peer_addr(&self) -> Option<SocketAddr> {
        let peer = self.state.lock().peer?;
        Some(self.socket_addr(peer.address, peer.port, peer.nic))
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> Result<(), ShutdownError> {
        let is_connected = {
            let mut state = self.state.lock();
            // Linux shuts an unconnected datagram socket too, and says ENOTCONN nevertheless.
            state.read_is_shut |= matches!(how, Shutdown::Read | Shutdown::Both);
            state.write_is_shut |= matches!(how, Shutdown::Write | Shutdown::Both);
            state.peer.is_some()
        };
        self.waiters.notify(Readiness::IN | Readiness::OUT | Readiness::RDHUP | Readiness::HUP);
        if is_connected { Ok(()) } else { Err(ShutdownError::NotConnected) }
    }

    /// Reads a destination or peer given by the user.
    pub(crate) fn parse(&self, address: SocketAddr) -> Option<Peer> {
        let ip = unmapped(address.ip());
        let fits = match (self.family, address.ip()) {
            (Family::V4, IpAddr::V4(_)) | (Family::V6, _) => true,
            (Family::V4, IpAddr::V6(_)) => false,
        };
        let (nic, flow_label) = match address {
            SocketAddr::V6(address) => {
                (NicId::from_index(address.scope_id()), address.flowinfo() & flow_label::MASK)
            }
            SocketAddr::V4(_) => (None, 0),
        };
        fits.then_some(Peer { address: ip, port: address.port(), nic, flow_label })
    }

    /// An address as the socket's user writes it.
    pub(crate) fn socket_addr(&self, address: IpAddr, port: u16, nic: Option<NicId>) -> SocketAddr {
        socket_addr(self.family, address, port, nic)
    }

    fn unspecified(&self) -> SocketAddr {
        match self.family {
            Family::V4 => SocketAddr::V4(SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0)),
            Family::V6 => SocketAddr::V6(SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, 0, 0, 0)),
        }
    }

    /// Fixes the peer and finds the local address to use with it.
    pub(crate) fn connect(
        &self,
        core: &Core,
        protocol: Protocol,
        peer: Peer,
    ) -> Result<IpAddr, ConnectError> {
        let mut state = self.state.lock();
        if self.family == Family::V6 && state.options.only_v6 && peer.address.is_ipv4() {
            return Err(ConnectError::NetworkUnreachable);
        }
        if state.bound.is_some_and(|bound| !may_send_from(core, bound, &state.options)) {
            return Err(ConnectError::NetworkUnreachable);
        }
        let nic = state.options.bound_nic.or(peer.nic).or(state.multicast_nic(peer.address));
        let query = RouteQuery { destination: peer.address, source: state.bound, nic };
        let packet = state.facts(protocol, &peer);
        let origin = Origin { mark: state.options.mark, arrived_on: None, packet };
        let egress = Egress::resolve_for(core, query, origin).map_err(|error| match error {
            RouteError::Unreachable => ConnectError::Pending(SocketError::HostUnreachable),
            RouteError::Prohibited => ConnectError::Pending(SocketError::Prohibited),
            RouteError::Blackhole => ConnectError::InvalidAddress,
            RouteError::NetworkUnreachable | RouteError::NoSource | RouteError::NetworkDown => {
                ConnectError::NetworkUnreachable
            }
        })?;
        if egress.delivery == Delivery::Broadcast && !state.options.broadcast {
            return Err(ConnectError::BroadcastNotPermitted);
        }
        let source = egress.source;
        // Connecting to the unspecified address means ourselves, and says so.
        let address = if peer.address.is_unspecified() { egress.next_hop } else { peer.address };
        state.peer = Some(Peer { address, ..peer });
        state.connected_from = Some(source);
        state.forget_way();
        state.read_is_shut = false;
        state.write_is_shut = false;
        Ok(source)
    }

    pub(crate) fn disconnect(&self) {
        let mut state = self.state.lock();
        state.peer = None;
        state.connected_from = None;
        state.forget_way();
    }
}

impl State {
    /// Linux takes a datagram as long as the limit is not reached yet.
    fn has_room(&self) -> bool {
        self.queue.charged() < self.options.recv_buffer
    }

    fn has_stamps(&self) -> bool {
        self.stamps.as_ref().is_some_and(|stamps| !stamps.is_empty())
    }

    /// What rules may look at in a datagram to `peer`. Ports are UDP's; as Linux's raw_sendmsg and ping_v4_sendmsg, others have
    /// none.
    fn facts(&self, protocol: Protocol, peer: &Peer) -> PacketFacts {
        let ports = if protocol == Protocol::UDP { (self.local_port, peer.port) } else { (0, 0) };
        PacketFacts::of_socket(&self.options, protocol.0, ports, peer.address)
    }

    pub(crate) fn forget_way(&mut self) {
        self.way = None;
        self.express = None;
        self.changes = self.changes.wrapping_add(1);
    }

    fn push_error(&mut self, notice: &crate::ip::icmp::Notice, destination: SocketAddr, payload: &[u8]) {
        if self.errors.len() >= MAX_ERRORS {
            return;
        }
        self.errors.push_back(QueuedError {
            error: notice.error,
            origin: notice.origin,
            icmp_type: notice.icmp_type,
            icmp_code: notice.icmp_code,
            info: notice.info,
            offender: notice.offender,
            destination,
            payload: Bytes::copy_from_slice(payload),
        });
    }
}

/// Copies a source into one shared buffer: the only copy on the way out.
pub(crate) fn gather(data: &mut dyn Source) -> Result<Bytes, SendError> {
    let mut bytes = vec![0; data.remaining()];
    data.read_into(&mut bytes)?;
    Ok(Bytes::from(bytes))
}

/// Copies as much as fits and returns how much that was.
pub(crate) fn copy_out(data: &Body, out: &mut dyn Sink) -> Result<usize, RecvError> {
    let mut copied = 0;
    for range in data {
        let count = range.len().min(out.room());
        out.write_from(&range[..count])?;
        copied += count;
        if count < range.len() {
            break;
        }
    }
    Ok(copied)
}

/// What comes behind the first bytes.
fn behind(data: &Body, mut skip: usize) -> Body {
    let mut rest = Body::new();
    for range in data {
        let now = skip.min(range.len());
        skip -= now;
        rest.push(range.slice(now..));
    }
    rest
}

pub(crate) fn body_len(body: &Body) -> usize {
    body.iter().map(Bytes::len).sum()
}

/// An address as a user of that family writes it: IPv6 users see IPv4 addresses mapped.
pub(crate) fn socket_addr(family: Family, address: IpAddr, port: u16, nic: Option<NicId>) -> SocketAddr {
    match (family, address) {
        (Family::V4, IpAddr::V4(address)) => SocketAddr::V4(SocketAddrV4::new(address, port)),
        (_, IpAddr::V6(address)) => {
            let needs_scope = address.is_unicast_link_local()
                || (address.is_multicast() && matches!(address.octets()[1] & 0xf, 1 | 2));
            let scope = nic.filter(|_| needs_scope).map_or(0, NicId::index);
            SocketAddr::V6(SocketAddrV6::new(address, port, 0, scope))
        }
        (Family::V6, IpAddr::V4(address)) => {
            SocketAddr::V6(SocketAddrV6::new(address.to_ipv6_mapped(), port, 0, 0))
        }
    }
}

/// Datagrams that are taken out of the queue under one lock.
const AT_ONCE: usize = 16;
/// Bounds the memory of an error queue that nobody reads.
const MAX_ERRORS: usize = 64;
/// The same for times of what was sent.
const MAX_STAMPS: usize = 256;
/// Stands in where nothing was received.
const NO_NIC: NicId = match NicId::from_index(u32::MAX) {
    Some(nic) => nic,
    None => unreachable!(),
};
