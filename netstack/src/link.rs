//! Links: what the stack needs from the thing that carries frames, and the links that need no operating system.
//!
//! A link is passive on the way down: the stack calls [`Link::send_batch`] on whatever thread produced the packets. On
//! the way up the link's owner reads frames (usually on a thread of its own) and hands them to
//! [`Stack::deliver`](crate::Stack::deliver), which carries each of them to its socket before it returns.

use netstack_wire::ethernet::MacAddr;

use crate::packet::Packet;

pub(crate) use capability_cell::CapabilityCell;

pub mod bridge;
mod capability_cell;
pub mod channel;
pub mod fault;
mod inbox;
pub mod local;
pub mod qdisc;
pub mod sniffer;
pub mod veth;
pub mod vlan;

/// Carries packets out of the stack.
///
/// Implementations are called from many threads at once, with no lock of the stack held unless they are
/// [queues](Self::is_queue).
pub trait Link: Send + Sync {
    /// What the link carries.
    fn medium(&self) -> Medium;

    /// The largest IP packet the link carries, without link-layer header, in bytes. Asked when the NIC is made.
    fn mtu(&self) -> usize;

    /// What the link does beyond carrying frames of at most the MTU. Asked when the NIC is made; who changes it later tells the
    /// stack ([`Stack::set_nic_capabilities`](crate::Stack::set_nic_capabilities)).
    fn capabilities(&self) -> Capabilities;

    /// Sends packets in order and returns how many of them were taken, counted from the front.
    ///
    /// Each packet is complete: head first (with the Ethernet header on an Ethernet medium), then the body. Packets
    /// carry [`Checksum::Partial`](crate::packet::Checksum) only if [`Capabilities::tx_checksum`] is set, and
    /// [`Gso`](crate::packet::Gso) only within the announced maxima. The link may take the packets out of the slice.
    ///
    /// Must not wait for longer than a queue takes to drain; what was not taken is dropped and counted by the stack.
    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError>;

    /// Sends one packet, which is what most calls into a stack come to. A link that keeps packets saves moves with a form of
    /// its own, which does the same as a batch of one.
    fn send(&self, packet: Packet) -> Result<(), LinkError> {
        match self.send_batch(&mut [packet])? {
            0 => Err(LinkError::Full),
            1.. => Ok(()),
        }
    }

    /// Whether sending does nothing but put packets into a queue, from which somebody takes them later. Such a link never waits and never calls into a stack, so the stack may call it with its own locks held, which
    /// spares packets a detour. Asked when the NIC is made.
    fn is_queue(&self) -> bool {
        false
    }
}

/// Takes frames that a NIC received before its stack sees them: a bridge that the NIC is a port of, or the virtual NICs on
/// top of it. See [`Stack::set_frame_tap`](crate::Stack::set_frame_tap).
pub trait FrameTap: Send + Sync {
    /// Whether it takes a frame, which has its Ethernet header at the front. Others go to the stack.
    fn wants(&self, frame: &Packet) -> bool;

    /// Takes frames that it wants. Called on the thread that delivers, with no lock held.
    fn receive(&self, frames: &mut Vec<Packet>);
}

/// What a link carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// Ethernet frames without checksum; neighbours are resolved. The address is the station's own.
    Ethernet(MacAddr),
    /// Bare IP packets to a single peer, as a tun device; nothing is resolved.
    Ip,
    /// Bare IP packets that come straight back. Only the stack's own loopback NIC uses it.
    Loopback,
}

/// What a link does beyond carrying frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// The link finishes partial checksums of TCP and UDP.
    pub tx_checksum: bool,
    /// Frames that the link delivers as [`Checksum::Plain`](crate::packet::Checksum) are known to be good.
    pub rx_checksum_trusted: bool,
    /// The largest IPv4 packet (IP header included) that the link segments by itself; zero if it cannot.
    pub gso_max_v4: u32,
    /// The same for IPv6.
    pub gso_max_v6: u32,
    /// The same for UDP datagrams that are to be segmented.
    pub gso_max_udp: u32,
}

impl Capabilities {
    /// Those of a link between stacks of one process: super-segments and unfinished checksums pass as they are.
    pub const IN_PROCESS: Self = Self {
        tx_checksum: true,
        rx_checksum_trusted: false,
        gso_max_v4: 65_535,
        gso_max_v6: 65_535,
        gso_max_udp: 0,
    };
}

/// Why a link did not take a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The transmit queue is full.
    #[error("the transmit queue is full")]
    Full,
    /// The device is down or has no carrier.
    #[error("the link is down")]
    Down,
    /// The first packet is larger than the link carries.
    #[error("the packet exceeds the link's size limit")]
    TooLarge,
    /// The device is gone for good.
    #[error("the link is gone")]
    Gone,
}

/// What stands behind the loopback NIC: nothing, since its packets never leave the stack.
pub(crate) struct LoopbackLink;

impl Link for LoopbackLink {
    fn medium(&self) -> Medium {
        Medium::Loopback
    }

    /// As Linux's `lo`.
    fn mtu(&self) -> usize {
        65_536
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { rx_checksum_trusted: true, ..Capabilities::IN_PROCESS }
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        Ok(packets.len())
    }
}
