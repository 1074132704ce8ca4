//! Packet sockets: whole frames, past the protocols.

use std::net::{IpAddr, SocketAddr};

use crate::buffer::{Sink, Source};
use crate::error::{
    AcceptError, BindError, ConnectError, ListenError, MembershipError, RecvError, SendError, ShutdownError,
    SocketError,
};
use crate::nic::NicId;
use crate::options::{Datagram, Family, QueuedError, RecvFlags, SendMeta, Shutdown, SocketOptions};
use crate::packet::{AddressedTo, Checksum};
use crate::stack::Stack;
use crate::time::Instant;
use crate::wait::{Readiness, WaitQueue};
use netstack_wire::ethernet::{EtherType, MacAddr};

/// A packet socket.
#[derive(Debug)]
pub struct PacketSocket {}

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

impl PacketSocket {
    /// Makes a socket that receives frames of `protocol` from all NICs: [`EtherType`] 3 (`ETH_P_ALL`) is all
    /// protocols, 0 none until bound.
    pub fn new(stack: &Stack, mode: PacketMode, protocol: EtherType) -> Self {
        todo!()
    }

    /// Restricts the socket to a NIC and sets the protocol.
    pub fn bind(&self, nic: Option<NicId>, protocol: EtherType) -> Result<(), BindError> {
        todo!()
    }

    /// What the socket is bound to.
    pub fn local(&self) -> LinkAddress {
        todo!()
    }

    /// Sends all that is left of `data` as one frame. A raw socket's data has its link header; `to` names the NIC
    /// (else the bound one is used) and for a cooked socket the destination.
    pub fn try_send(&self, data: &mut dyn Source, to: Option<LinkAddress>) -> Result<usize, SendError> {
        todo!()
    }

    /// Receives one frame; what exceeds the room is cut off. The second value is the frame's full length.
    pub fn try_recv(&self, out: &mut dyn Sink, flags: RecvFlags) -> Result<ReceivedFrame, RecvError> {
        todo!()
    }

    /// The counters since the last call.
    pub fn take_stats(&self) -> PacketStats {
        todo!()
    }

    /// Sets whether the socket also receives frames for other stations and those the stack sends are marked
    /// (`PACKET_IGNORE_OUTGOING` inverted).
    pub fn set_receive_outgoing(&self, receive: bool) {
        todo!()
    }

    /// What can be done now.
    pub fn readiness(&self) -> Readiness {
        todo!()
    }

    /// Where to wait for changes of the readiness.
    pub fn wait_queue(&self) -> &WaitQueue {
        todo!()
    }

    /// The options.
    pub fn options(&self) -> SocketOptions {
        todo!()
    }

    /// Changes options; the new ones take effect at once.
    pub fn set_options(&self, change: impl FnOnce(&mut SocketOptions)) {
        todo!()
    }

    /// Takes the pending error, if there is one (`SO_ERROR`).
    pub fn take_error(&self) -> Option<SocketError> {
        todo!()
    }
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
