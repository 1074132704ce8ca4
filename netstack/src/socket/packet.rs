//! Packet sockets: whole frames, past the protocols.

mod endpoint;
mod fanout;
mod frame;
mod offload;
mod table;

use std::sync::Arc;

use crate::sync::Mutex;
use netstack_wire::ethernet::{self, EtherType, EthernetRepr, MacAddr};
use smallvec::smallvec;

use crate::bpf::Program;
use crate::buffer::{Fault, Sink, Source};
use crate::error::{BindError, FanoutError, RecvError, SendError, SocketError};
use crate::interface::Interface;
use crate::link::Medium;
use crate::nic::NicId;
use crate::options::{RecvFlags, SocketOptions};
use crate::outbox::{Outbox, transmit};
use crate::packet::{AddressedTo, Body, Checksum, Gso, Packet};
use crate::socket::datagram::{body_len, copy_out, gather};
use crate::stack::{Core, Stack};
use crate::time::Instant;
use crate::wait::{Readiness, WaitQueue};

use endpoint::PacketEndpoint;
use fanout::FanoutGroup;
pub use fanout::FanoutMode;
pub use frame::{Frame, FrameSink, Taken};
pub use offload::Offload;
pub(crate) use offload::frames_for_link;
pub(crate) use table::PacketSockets;

/// A packet socket.
pub struct PacketSocket {
    core: Arc<Core>,
    endpoint: Arc<PacketEndpoint>,
    group: Mutex<Option<Arc<FanoutGroup>>>,
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
    /// Bytes that the socket's program wanted of the frame.
    pub len: usize,
    /// Bytes that the frame had.
    pub original_len: usize,
    /// The length of its link-layer header, which a cooked socket does not get.
    pub link_len: usize,
    /// Who sent it, where it arrived.
    pub from: LinkAddress,
    /// When it arrived.
    pub arrival: Instant,
    /// Its firewall mark.
    pub mark: u32,
    /// Its priority.
    pub priority: u32,
    /// Whether its transport checksum is unfinished or known to be good.
    pub checksum: Checksum,
    /// How a super-segment is to be cut.
    pub gso: Option<Gso>,
    /// The length of a super-segment's headers; zero for other frames.
    pub headers_len: usize,
    /// The first of a super-segment's segments carries CWR (RFC 3168 section 6.1.2).
    pub has_cwr: bool,
}

impl PacketSocket {
    /// Makes a socket that receives frames of `protocol` from all NICs: [`EtherType`] 3 (`ETH_P_ALL`) is all
    /// protocols, 0 none until bound.
    pub fn new(stack: &Stack, mode: PacketMode, protocol: EtherType) -> Self {
        let endpoint = Arc::new(PacketEndpoint::new(mode, protocol));
        stack.core.packet_sockets.add(&endpoint);
        Self { core: Arc::clone(&stack.core), endpoint, group: Mutex::default() }
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
        self.try_send_with(data, to, Offload::default())
    }

    /// The same for a frame whose checksum is not finished, or which is to be cut into segments. Those of a super-segment
    /// must not exceed what the link carries, it may.
    ///
    /// # Errors
    /// Also [`Invalid`](SendError::Invalid) for a frame that is not what `offload` says, or of a cooked socket.
    pub fn try_send_with(
        &self,
        data: &mut dyn Source,
        to: Option<LinkAddress>,
        offload: Offload,
    ) -> Result<usize, SendError> {
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
        let header_len = frame::header_len(interface.medium());
        let has_header = self.endpoint.mode == PacketMode::Raw;
        let payload_max = match offload.may_be_long() {
            true => MAX_SUPER_SEGMENT,
            false => usize::try_from(interface.mtu()).unwrap_or(usize::MAX),
        };
        if len > payload_max + if has_header { header_len } else { 0 } {
            return Err(SendError::MessageTooLong);
        }
        if has_header && len < header_len {
            return Err(SendError::Invalid);
        }
        let mut packets = match offload.is_any() {
            false => smallvec![Packet::from_body(Body::from_iter([gather(data)?]))],
            true if has_header => {
                offload.frames(&self.core, gather(data)?, header_len).ok_or(SendError::Invalid)?
            }
            true => return Err(SendError::Invalid),
        };
        if let (false, Medium::Ethernet(source)) = (has_header, interface.medium()) {
            let to = to.ok_or(SendError::NotConnected)?;
            let ether_type = if to.protocol.0 == 0 { bound_protocol } else { to.protocol };
            let header = EthernetRepr { destination: to.mac, source, ether_type };
            packets.iter_mut().for_each(|packet| header.emit(packet.push_header(ethernet::HEADER_LEN)));
        }
        packets.into_iter().for_each(|packet| self.put(interface, packet));
        Ok(len)
    }

    /// Gives a whole frame to its NIC.
    fn put(&self, interface: &Arc<Interface>, mut packet: Packet) {
        let has_header = self.endpoint.mode == PacketMode::Raw;
        let mut outbox = Outbox::default();
        match interface.medium() {
            Medium::Loopback => {
                if has_header {
                    let link_len = frame::header_len(interface.medium());
                    packet.trim_front(link_len);
                    if let Checksum::Partial { start, .. } = &mut packet.meta.checksum {
                        // An Ethernet header is short.
                        *start = start.saturating_sub(link_len as u16);
                    }
                }
                outbox.loop_back_frame(interface.id, packet);
            }
            Medium::Ethernet(_) | Medium::Ip => {
                let mut packets = offload::for_link(interface, packet);
                if !self.core.packet_sockets.is_empty() {
                    let (now, secrets) = (self.core.clock.now(), &self.core.secrets);
                    let sockets = &self.core.packet_sockets;
                    for packet in &packets {
                        let sender = Some(&self.endpoint);
                        sockets.deliver(interface, packet, AddressedTo::Outgoing, now, secrets, sender);
                    }
                }
                transmit(interface, &mut packets);
            }
        }
        outbox.flush(&self.core);
    }

    /// Receives one frame; what exceeds the room is cut off.
    pub fn try_recv(&self, out: &mut dyn Sink, flags: RecvFlags) -> Result<ReceivedFrame, RecvError> {
        self.try_recv_behind(out, flags, &mut |_, _| Ok(()))
    }

    /// The same behind what `lead` says of the frame, whose bytes were not copied yet.
    pub fn try_recv_behind(
        &self,
        out: &mut dyn Sink,
        flags: RecvFlags,
        lead: &mut dyn FnMut(&ReceivedFrame, &mut dyn Sink) -> Result<(), Fault>,
    ) -> Result<ReceivedFrame, RecvError> {
        let endpoint::Queued { data, mut frame } = {
            let mut state = self.endpoint.state.lock();
            if let Some(error) = state.error.take() {
                return Err(RecvError::Pending(error));
            }
            state.next(flags.peek).ok_or(RecvError::WouldBlock)?
        };
        lead(&frame, out)?;
        frame.copied = copy_out(&data, out)?;
        Ok(frame)
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

    /// Shows frames to a program first, which drops them or cuts them short (`SO_ATTACH_FILTER`).
    pub fn set_filter(&self, program: Option<Program>) {
        self.endpoint.filter.set(program);
    }

    /// The program that is shown what arrives.
    pub fn filter(&self) -> Option<Program> {
        self.endpoint.filter.get()
    }

    /// Puts frames into memory that the application shares instead of the queue (`PACKET_RX_RING`), or no longer. What
    /// is in the queue is dropped.
    pub fn set_sink(&self, sink: Option<Arc<dyn FrameSink>>) {
        let dropped = {
            let mut state = self.endpoint.state.lock();
            state.sink = sink;
            state.queued_bytes = 0;
            std::mem::take(&mut state.queue)
        };
        drop(dropped);
    }

    /// Shares the frames with the other sockets of a group (`PACKET_FANOUT`). Without an id it gets one that no group has.
    /// For good: a socket leaves its group when it goes.
    pub fn join_fanout(&self, id: Option<u16>, mode: FanoutMode) -> Result<u16, FanoutError> {
        let sockets = &self.core.packet_sockets;
        let id = match id {
            Some(id) => id,
            None => sockets.free_group_id(&self.core.secrets).ok_or(FanoutError::Full)?,
        };
        let group = sockets.join(&self.endpoint, id, mode)?;
        *self.group.lock() = Some(group);
        Ok(id)
    }

    /// The group and how it picks its members.
    pub fn fanout(&self) -> Option<(u16, FanoutMode)> {
        self.group.lock().as_ref().map(|group| (group.id, group.mode()))
    }

    /// Sets the program by which the group picks the member for a frame; false if it picks otherwise.
    pub fn set_fanout_program(&self, program: Option<Program>) -> bool {
        let group = self.group.lock();
        let group = group.as_ref().filter(|group| group.mode() == FanoutMode::Program);
        group.map(|group| group.set_program(program)).is_some()
    }

    /// Whether the socket also receives what the stack sends.
    pub fn receives_outgoing(&self) -> bool {
        self.endpoint.state.lock().receives_outgoing
    }

    /// What can be done now.
    pub fn readiness(&self) -> Readiness {
        let state = self.endpoint.state.lock();
        let mut ready = Readiness::OUT;
        ready.set(Readiness::IN, state.is_readable() || state.error.is_some());
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

impl std::fmt::Debug for PacketSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PacketSocket").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// The length field of an IPv4 packet has 16 bits (RFC 791 section 3.1).
const MAX_SUPER_SEGMENT: usize = 65_535;
