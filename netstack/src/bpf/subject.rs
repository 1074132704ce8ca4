//! What a program looks at: the bytes of a packet, and what else is known about it.

use netstack_wire::ethernet::EtherType;
use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::Ipv4Repr;
use netstack_wire::ipv6::{self, Extensions, FragmentRepr, Ipv6Repr};

use crate::link::Medium;
use crate::nic::NicId;
use crate::packet::{AddressedTo, Packet};
use crate::secret::Secrets;

/// A packet as a program sees it.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    packet: &'a Packet,
    /// Where offset zero is.
    start: usize,
    /// Where the link-layer header is, if there is one.
    link: Option<usize>,
    /// Where the IP header is, if it is an IP packet.
    network: Option<usize>,
    protocol: EtherType,
    addressed_to: AddressedTo,
    nic: Option<(NicId, Medium)>,
    secrets: Option<&'a Secrets>,
}

impl<'a> Subject<'a> {
    /// The bytes of a packet from `start` on.
    pub(crate) fn new(packet: &'a Packet, start: usize) -> Self {
        Self {
            packet,
            start,
            link: None,
            network: None,
            protocol: EtherType(0),
            addressed_to: packet.meta.addressed_to,
            nic: None,
            secrets: None,
        }
    }

    /// Adds the link that the packet is on.
    pub(crate) fn on(self, nic: NicId, medium: Medium, addressed_to: AddressedTo) -> Self {
        Self { nic: Some((nic, medium)), addressed_to, ..self }
    }

    /// Adds the protocol that the link carries.
    pub(crate) fn of_protocol(self, protocol: EtherType) -> Self {
        Self { protocol, ..self }
    }

    /// Adds where the headers are.
    pub(crate) fn with_headers(self, link: Option<usize>, network: usize) -> Self {
        Self { link, network: Some(network), ..self }
    }

    /// Adds a source of random numbers.
    pub(crate) fn with_secrets(self, secrets: &'a Secrets) -> Self {
        Self { secrets: Some(secrets), ..self }
    }

    /// The number of bytes. Packets are not much longer than 64 KiB.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.packet.len().saturating_sub(self.start)).unwrap_or(u32::MAX)
    }

    /// The bytes at an offset, `None` if they are not all there. The lowest negative offsets count from the link-layer
    /// and the IP header (`SKF_LL_OFF`, `SKF_NET_OFF`).
    pub(super) fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let (base, offset) = match offset {
            0..0x8000_0000 => (Some(self.start), offset),
            NETWORK.. => (self.network, offset - NETWORK),
            LINK.. => (self.link, offset - LINK),
            _ => (None, 0),
        };
        self.read_at(base?.checked_add(usize::try_from(offset).ok()?)?)
    }

    fn read_at<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        if let Some(bytes) = self.packet.contiguous(at).first_chunk() {
            return Some(*bytes);
        }
        let mut bytes = [0; N];
        (self.packet.copy_to(at, &mut bytes) == N).then_some(bytes)
    }

    pub(super) fn protocol(&self) -> u16 {
        self.protocol.0
    }

    /// `PACKET_HOST` and so on.
    pub(super) fn packet_type(&self) -> u8 {
        match self.addressed_to {
            AddressedTo::Host => 0,
            AddressedTo::Broadcast => 1,
            AddressedTo::Multicast => 2,
            AddressedTo::OtherHost => 3,
            AddressedTo::Outgoing => 4,
        }
    }

    pub(super) fn nic(&self) -> Option<u32> {
        self.nic.map(|(nic, _)| nic.index())
    }

    /// The number of the link's kind in `<linux/if_arp.h>`, which programs are written against.
    pub(super) fn hardware_type(&self) -> Option<u16> {
        self.nic.map(|(_, medium)| match medium {
            Medium::Ethernet(_) => 1,
            Medium::Loopback => 772,
            Medium::Ip => 0xfffe,
        })
    }

    pub(super) fn mark(&self) -> u32 {
        self.packet.meta.mark
    }

    pub(super) fn random(&self) -> u32 {
        // The upper half.
        self.secrets.map_or(0, |secrets| (secrets.random() >> 32) as u32)
    }

    /// Where the first netlink attribute of a kind is, looking from an offset on; 0 if there is none.
    pub(super) fn netlink_attribute(&self, from: u32, kind: u32) -> u32 {
        self.find_attribute(from, self.len(), kind)
    }

    /// The same among the attributes inside the one at an offset.
    pub(super) fn nested_netlink_attribute(&self, at: u32, kind: u32) -> u32 {
        let Some([a, b]) = self.read::<2>(at) else { return 0 };
        let end = at.saturating_add(u16::from_ne_bytes([a, b]).into());
        if end > self.len() { 0 } else { self.find_attribute(at.saturating_add(ATTRIBUTE_HEADER), end, kind) }
    }

    /// Attributes are in the byte order of the machine (netlink(7)).
    fn find_attribute(&self, from: u32, end: u32, kind: u32) -> u32 {
        let mut at = from;
        while at.saturating_add(ATTRIBUTE_HEADER) <= end {
            let Some([a, b, c, d]) = self.read(at) else { break };
            let len = u32::from(u16::from_ne_bytes([a, b]));
            if len < ATTRIBUTE_HEADER || at.saturating_add(len) > end {
                break;
            }
            // The two upper bits are flags (NLA_TYPE_MASK).
            if u32::from(u16::from_ne_bytes([c, d]) & 0x3fff) == kind {
                return at;
            }
            at = at.saturating_add(len.next_multiple_of(4));
        }
        0
    }

    /// Where the payload of the transport begins, counted from offset zero (`skb_get_poff`); 0 if it is not known.
    pub(super) fn payload_offset(&self) -> u32 {
        let found = self.transport().map(|(protocol, at, is_first)| {
            at + if is_first { self.transport_header_len(protocol, at) } else { 0 }
        });
        let offset = found.and_then(|at| at.checked_sub(self.start));
        offset.and_then(|offset| u32::try_from(offset).ok()).unwrap_or(0)
    }

    /// The transport protocol, where its header is, and whether it is there (it is in first fragments only).
    fn transport(&self) -> Option<(Protocol, usize, bool)> {
        let network = self.network?;
        let bytes = self.packet.contiguous(network);
        match bytes.first()? >> 4 {
            4 => {
                let repr = Ipv4Repr::parse_unchecked(bytes).ok()?;
                Some((repr.protocol, network + repr.header_len(), repr.fragment_offset == 0))
            }
            6 => {
                let repr = Ipv6Repr::parse(bytes).ok()?;
                let (mut protocol, mut at, mut is_first) =
                    (repr.next_header, network + ipv6::HEADER_LEN, true);
                for extension in Extensions::new(repr.next_header, bytes.get(ipv6::HEADER_LEN..)?) {
                    let extension = extension.ok()?;
                    if extension.kind == Protocol::FRAGMENT {
                        is_first = FragmentRepr::parse(extension.bytes)?.offset == 0;
                    }
                    protocol = extension.next_header;
                    at = network + ipv6::HEADER_LEN + extension.offset + extension.bytes.len();
                }
                Some((protocol, at, is_first))
            }
            _ => None,
        }
    }

    fn transport_header_len(&self, protocol: Protocol, at: usize) -> usize {
        match protocol {
            Protocol::TCP => {
                self.read_at::<1>(at + 12).map_or(0, |[byte]| usize::from(byte >> 4) * 4).max(20)
            }
            Protocol::UDP | Protocol::ICMP | Protocol::ICMPV6 | Protocol::IGMP => 8,
            _ => 0,
        }
    }
}

/// `SKF_NET_OFF`, -0x100000.
const NETWORK: u32 = 0xfff0_0000;
/// `SKF_LL_OFF`, -0x200000.
const LINK: u32 = 0xffe0_0000;
/// The length of `struct nlattr`.
const ATTRIBUTE_HEADER: u32 = 4;
