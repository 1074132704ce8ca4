//! Packet sockets: whole frames, past the protocols.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use netstack_wire::ethernet::{self, EtherType, EthernetRepr, MacAddr};
use parking_lot::{Mutex, RwLock};

use crate::buffer::{Sink, Source};
use crate::error::{BindError, RecvError, SendError, SocketError};
use crate::interface::Interface;
use crate::link::Medium;
use crate::nic::NicId;
use crate::options::{RecvFlags, SocketOptions};
use crate::outbox::Outbox;
use crate::packet::{AddressedTo, Body, Checksum, Packet};
use crate::socket::datagram::{body_len, copy_out, gather};
use crate::stack::{Core, Stack};
use crate::time::Instant;
use crate::wait::{Readiness, WaitQueue};

/// A packet socket.
#[derive(Debug)]
pub struct PacketSocket {
    core: Arc<Core>,
    endpoint: Arc<PacketEndpoint>,
}

/// Whether the application sees link-layer headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketMode {
    /// With the link-layer header (`SOCK_RAW`).
    Raw,
    /// Without (`SOCK_DGRAM`).
    Cooked,
}

/// A link-layer address (`sockaddr_ll`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkAddress {
    /// The NIC; any if not set.
    pub nic: Option<NicId>,
    /// The EtherType.
    pub protocol: EtherType,
    /// The station; ignored by `bind`.
    pub mac: MacAddr,
    /// Whom the frame was addressed to; ignored except on receive.
    pub addressed_to: AddressedTo,
}

/// What a packet socket counted since it was last asked (`PACKET_STATISTICS`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketStats {
    /// Frames that reached the socket, dropped ones included.
    pub packets: u64,
    /// Frames dropped because the receive buffer was full.
    pub drops: u64,
}

/// A received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedFrame {
    /// Bytes that were copied to the application.
    pub copied: usize,
    /// Bytes that the frame has.
    pub len: usize,
    /// Who sent it, where it arrived.
    pub from: LinkAddress,
    /// When it arrived.
    pub arrival: Instant,
    /// Whether its transport checksum is unfinished or known to be good.
    pub checksum: Checksum,
}

#[derive(Debug)]
pub(crate) struct PacketEndpoint {
    mode: PacketMode,
    waiters: WaitQueue,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    options: SocketOptions,
    nic: Option<NicId>,
    protocol: EtherType,
    receives_outgoing: bool,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    stats: PacketStats,
    error: Option<SocketError>,
}

#[derive(Debug, Clone)]
struct Queued {
    data: Body,
    from: LinkAddress,
    arrival: Instant,
    checksum: Checksum,
}

/// The packet sockets of a stack.
#[derive(Default)]
pub(crate) struct PacketSockets {
    /// The number of sockets, so that frames need not take the lock when there is none.
    count: AtomicUsize,
    sockets: RwLock<Vec<Arc<PacketEndpoint>>>,
}

impl PacketSocket {
    /// Makes a socket that receives frames of `protocol` from all NICs: [`EtherType`] 3 (`ETH_P_ALL`) is all
    /// protocols, 0 none until bound.
    pub fn new(stack: &Stack, mode: PacketMode, protocol: EtherType) -> Self {
        let state = State {
            options: SocketOptions::default(),
            nic: None,
            protocol,
            receives_outgoing: true,
            queue: VecDeque::new(),
            queued_bytes: 0,
            stats: PacketStats::default(),
            error: None,
        };
        let endpoint = PacketEndpoint { mode, waiters: WaitQueue::new(), state: Mutex::new(state) };
        let endpoint = Arc::new(endpoint);
        stack.core.packet_sockets.add(&endpoint);
        Self { core: Arc::clone(&stack.core), endpoint }
    }

    /// Restricts the socket to a NIC and sets the protocol.
    pub fn bind(&self, nic: Option<NicId>, protocol: EtherType) -> Result<(), BindError> {
        if let Some(nic) = nic
            && self.core.topology.load().interface(nic).is_none()
        {
            return Err(BindError::NoSuchNic);
        }
        let mut state = self.endpoint.state.lock();
        state.nic = nic;
        state.protocol = protocol;
        Ok(())
    }

    /// What the socket is bound to.
    pub fn local(&self) -> LinkAddress {
        let (nic, protocol) = {
            let state = self.endpoint.state.lock();
            (state.nic, state.protocol)
        };
        let topology = self.core.topology.load();
        let mac = nic.and_then(|nic| topology.interface(nic)).and_then(|interface| interface.mac());
        LinkAddress { nic, protocol, mac: mac.unwrap_or_default(), addressed_to: AddressedTo::Host }
    }

    /// Sends all that is left of `data` as one frame. A raw socket's data has its link header; `to` names the NIC
    /// (else the bound one is used) and for a cooked socket the destination.
    pub fn try_send(&self, data: &mut dyn Source, to: Option<LinkAddress>) -> Result<usize, SendError> {
        let (bound, bound_protocol) = {
            let state = self.endpoint.state.lock();
            (state.nic, state.protocol)
        };
        let nic = to.and_then(|to| to.nic).or(bound).ok_or(SendError::NotConnected)?;
        let topology = self.core.topology.load();
        let interface = topology.interface(nic).ok_or(SendError::NetworkDown)?;
        if !interface.is_up() {
            return Err(SendError::NetworkDown);
        }
        let len = data.remaining();
        let header_len = match interface.medium {
            Medium::Ethernet(_) => ethernet::HEADER_LEN,
            Medium::Ip | Medium::Loopback => 0,
        };
        let has_header = self.endpoint.mode == PacketMode::Raw;
        let max =
            usize::try_from(interface.mtu()).unwrap_or(usize::MAX) + if has_header { header_len } else { 0 };
        if len > max {
            return Err(SendError::MessageTooLong);
        }
        if has_header && len < header_len {
            return Err(SendError::Invalid);
        }
        let mut packet = Packet::from_body(Body::from_iter([gather(data)?]));
        if let (false, Medium::Ethernet(source)) = (has_header, interface.medium) {
            let to = to.ok_or(SendError::NotConnected)?;
            let ether_type = if to.protocol.0 == 0 { bound_protocol } else { to.protocol };
            let header = EthernetRepr { destination: to.mac, source, ether_type };
            header.emit(packet.push_header(ethernet::HEADER_LEN));
        }
        let mut outbox = Outbox::default();
        match interface.medium {
            Medium::Loopback => outbox.loop_back(nic, packet),
            Medium::Ethernet(_) | Medium::Ip => outbox.send(interface, packet),
        }
        outbox.flush(&self.core);
        Ok(len)
    }

    /// Receives one frame; what exceeds the room is cut off.
    pub fn try_recv(&self, out: &mut dyn Sink, flags: RecvFlags) -> Result<ReceivedFrame, RecvError> {
        let frame = {
            let mut state = self.endpoint.state.lock();
            if let Some(error) = state.error.take() {
                return Err(RecvError::Pending(error));
            }
            let next = match flags.peek {
                true => state.queue.front().cloned(),
                false => state.queue.pop_front(),
            };
            let frame = next.ok_or(RecvError::WouldBlock)?;
            if !flags.peek {
                state.queued_bytes -= body_len(&frame.data) + QUEUE_OVERHEAD;
            }
            frame
        };
        let copied = copy_out(&frame.data, out)?;
        let Queued { data, from, arrival, checksum } = frame;
        Ok(ReceivedFrame { copied, len: body_len(&data), from, arrival, checksum })
    }

    /// The length of the next frame, if there is one (`FIONREAD`).
    pub fn next_frame_len(&self) -> Option<usize> {
        self.endpoint.state.lock().queue.front().map(|frame| body_len(&frame.data))
    }

    /// The counters since the last call.
    pub fn take_stats(&self) -> PacketStats {
        std::mem::take(&mut self.endpoint.state.lock().stats)
    }

    /// Sets whether the socket also receives what the stack sends (`PACKET_IGNORE_OUTGOING` turned round).
    pub fn set_receive_outgoing(&self, receive: bool) {
        self.endpoint.state.lock().receives_outgoing = receive;
    }

    /// What can be done now.
    pub fn readiness(&self) -> Readiness {
        let state = self.endpoint.state.lock();
        let mut ready = Readiness::OUT;
        ready.set(Readiness::IN, !state.queue.is_empty() || state.error.is_some());
        ready.set(Readiness::ERR, state.error.is_some());
        ready
    }

    /// Where to wait for changes of the readiness.
    pub fn wait_queue(&self) -> &WaitQueue {
        &self.endpoint.waiters
    }

    /// The options.
    pub fn options(&self) -> SocketOptions {
        self.endpoint.state.lock().options.clone()
    }

    /// Changes options; the new ones take effect at once.
    pub fn set_options(&self, change: impl FnOnce(&mut SocketOptions)) {
        change(&mut self.endpoint.state.lock().options);
    }

    /// Takes the pending error, if there is one (`SO_ERROR`).
    pub fn take_error(&self) -> Option<SocketError> {
        self.endpoint.state.lock().error.take()
    }
}

impl Drop for PacketSocket {
    fn drop(&mut self) {
        self.core.packet_sockets.remove(&self.endpoint);
    }
}

impl PacketSockets {
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    fn add(&self, endpoint: &Arc<PacketEndpoint>) {
        let mut sockets = self.sockets.write();
        sockets.push(Arc::clone(endpoint));
        self.count.store(sockets.len(), Ordering::Release);
    }

    fn remove(&self, endpoint: &Arc<PacketEndpoint>) {
        let mut sockets = self.sockets.write();
        sockets.retain(|other| !Arc::ptr_eq(other, endpoint));
        self.count.store(sockets.len(), Ordering::Release);
    }

    /// Shows a frame to the sockets that want it.
    pub(crate) fn deliver(
        &self,
        interface: &Interface,
        packet: &Packet,
        addressed_to: AddressedTo,
        now: Instant,
    ) {
        let (from, header_len) = match interface.medium {
            Medium::Ethernet(_) => {
                let mut header = [0; ethernet::HEADER_LEN];
                packet.copy_to(0, &mut header);
                let Some(header) = EthernetRepr::parse(&header) else { return };
                ((header.ether_type, header.source), ethernet::HEADER_LEN)
            }
            Medium::Ip | Medium::Loopback => {
                let is_v6 = packet.contiguous(0).first().is_some_and(|byte| byte >> 4 == 6);
                let protocol = if is_v6 { EtherType::IPV6 } else { EtherType::IPV4 };
                ((protocol, MacAddr::ZERO), 0)
            }
        };
        let (protocol, mac) = from;
        let from = LinkAddress { nic: Some(interface.id), protocol, mac, addressed_to };
        let sockets = self.sockets.read().clone();
        for endpoint in &sockets {
            endpoint.take(packet, from, header_len, now);
        }
    }
}

impl PacketEndpoint {
    fn take(&self, packet: &Packet, from: LinkAddress, header_len: usize, now: Instant) {
        {
            let mut state = self.state.lock();
            let wants = (state.protocol == ALL_PROTOCOLS
                || (state.protocol == from.protocol && from.addressed_to != AddressedTo::Outgoing))
                && state.nic.is_none_or(|nic| Some(nic) == from.nic)
                && (state.receives_outgoing || from.addressed_to != AddressedTo::Outgoing);
            if !wants {
                return;
            }
            state.stats.packets += 1;
            if state.queued_bytes >= state.options.recv_buffer {
                state.stats.drops += 1;
                return;
            }
            let skip = if self.mode == PacketMode::Cooked { header_len } else { 0 };
            let data = packet.clone().into_payload(skip);
            state.queued_bytes += body_len(&data) + QUEUE_OVERHEAD;
            let arrival = packet.meta.arrival.unwrap_or(now);
            state.queue.push_back(Queued { data, from, arrival, checksum: packet.meta.checksum });
        }
        self.waiters.notify(Readiness::IN);
    }
}

/// `ETH_P_ALL`.
const ALL_PROTOCOLS: EtherType = EtherType(3);
/// See the datagram sockets.
const QUEUE_OVERHEAD: usize = 512;
