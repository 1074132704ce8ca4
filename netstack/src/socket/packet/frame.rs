//! A frame on its way to packet sockets.

use netstack_wire::ethernet::{self, EtherType, EthernetRepr, MacAddr};

use super::LinkAddress;
use crate::bpf::Subject;
use crate::interface::Interface;
use crate::link::Medium;
use crate::packet::{AddressedTo, Checksum, Gso, Packet};
use crate::secret::Secrets;
use crate::time::Instant;

/// A frame as a packet socket gets it.
#[derive(Debug)]
pub struct Frame<'a> {
    pub(super) packet: &'a Packet,
    pub(super) medium: Medium,
    /// The length of the link-layer header.
    pub(super) link_len: usize,
    /// Where the socket's data begins.
    pub(super) start: usize,
    /// How much of it the socket's program wants.
    pub(super) captured: usize,
    pub(super) from: LinkAddress,
    pub(super) arrival: Instant,
}

/// Where a packet socket's frames go instead of its queue: memory that the application shares (`PACKET_RX_RING`).
pub trait FrameSink: Send + Sync {
    /// Takes a frame. Called with the socket locked: must neither wait nor call the socket.
    fn take(&self, frame: &Frame<'_>) -> Taken;

    /// Whether there is something for the application.
    fn is_readable(&self) -> bool;
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is there, and whoever waits is to know.
    Ready,
    /// It is there; the application learns of it with others.
    Held,
    /// There was no room.
    Full,
}

impl<'a> Frame<'a> {
    /// A frame as it is seen on a NIC; `None` if it is too short to be one.
    pub(super) fn parse(
        interface: &Interface,
        packet: &'a Packet,
        addressed_to: AddressedTo,
        now: Instant,
    ) -> Option<Self> {
        let (protocol, mac) = match interface.medium() {
            Medium::Ethernet(_) | Medium::Loopback => {
                let mut header = [0; ethernet::HEADER_LEN];
                packet.copy_to(0, &mut header);
                let header = EthernetRepr::parse(&header)?;
                (header.ether_type, header.source)
            }
            Medium::Ip => {
                let is_v6 = packet.contiguous(0).first().is_some_and(|byte| byte >> 4 == 6);
                (if is_v6 { EtherType::IPV6 } else { EtherType::IPV4 }, MacAddr::ZERO)
            }
        };
        Some(Self {
            packet,
            medium: interface.medium(),
            link_len: header_len(interface.medium()),
            start: 0,
            captured: packet.len(),
            from: LinkAddress { nic: Some(interface.id), protocol, mac, addressed_to },
            arrival: packet.meta.arrival.unwrap_or(now),
        })
    }

    /// The frame as a program sees it.
    pub(super) fn subject<'b>(&'b self, secrets: &'b Secrets) -> Subject<'b> {
        let link = (self.link_len > 0).then_some(0);
        let subject = Subject::new(self.packet, self.start)
            .of_protocol(self.from.protocol)
            .with_headers(link, self.link_len)
            .with_secrets(secrets);
        match self.from.nic {
            Some(nic) => subject.on(nic, self.medium, self.from.addressed_to),
            None => subject,
        }
    }

    /// The bytes that the socket would get were there no program.
    pub fn len(&self) -> usize {
        self.packet.len().saturating_sub(self.start)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that the socket's program wants.
    pub fn captured(&self) -> usize {
        self.captured
    }

    /// The length of the link-layer header, which is in front of what a cooked socket gets.
    pub fn link_len(&self) -> usize {
        self.link_len
    }

    /// What the link carries.
    pub fn medium(&self) -> Medium {
        self.medium
    }

    /// Copies the socket's bytes from `offset` on, and returns how many there were.
    pub fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize {
        let room = self.captured.saturating_sub(offset).min(out.len());
        self.packet.copy_to(self.start + offset, &mut out[..room])
    }

    /// Who sent it, where it arrived.
    pub fn from(&self) -> LinkAddress {
        self.from
    }

    /// When it arrived.
    pub fn arrival(&self) -> Instant {
        self.arrival
    }

    /// Whether its transport checksum is unfinished or known to be good.
    pub fn checksum(&self) -> Checksum {
        self.packet.meta.checksum
    }

    /// How a super-segment is to be cut.
    pub fn gso(&self) -> Option<Gso> {
        self.packet.meta.gso
    }

    /// See [`Packet::has_cwr`].
    pub fn has_cwr(&self) -> bool {
        self.packet.has_cwr()
    }

    /// See [`Packet::headers_len`].
    pub fn headers_len(&self) -> usize {
        self.packet.headers_len()
    }
}

/// The length of a medium's link-layer header as packet sockets see it. The loopback NIC seems to have Ethernet's, without
/// stations, as Linux's.
pub(super) fn header_len(medium: Medium) -> usize {
    match medium {
        Medium::Ethernet(_) | Medium::Loopback => ethernet::HEADER_LEN,
        Medium::Ip => 0,
    }
}
