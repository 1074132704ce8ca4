//! The virtio-net header in front of frames (`PACKET_VNET_HDR`): what their checksums lack, and how they are to be cut.

use netstack::packet::{AddressedTo, Checksum, Gso, GsoKind};
use netstack::socket::Offload;
use sentry_abi::packet::{
    VIRTIO_NET_HDR_F_DATA_VALID, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_NONE, VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP,
    VIRTIO_NET_HDR_GSO_UDP_L4, VirtioNetHdr,
};
use zerocopy::FromBytes;

use crate::errno::Errno;

/// Whether frames have a header, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VnetHeader {
    /// They have none.
    #[default]
    Absent,
    /// `struct virtio_net_hdr`.
    Plain,
    /// `struct virtio_net_hdr_mrg_rxbuf`: with a number of buffers, which is none.
    WithBuffers,
}

impl VnetHeader {
    /// The one of a length.
    #[must_use]
    pub fn of_len(len: i32) -> Option<Self> {
        match len {
            0 => Some(Self::Absent),
            10 => Some(Self::Plain),
            12 => Some(Self::WithBuffers),
            _ => None,
        }
    }

    /// Its length.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            Self::Absent => 0,
            Self::Plain => PLAIN_LEN,
            Self::WithBuffers => PLAIN_LEN + 2,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::Absent
    }
}

/// What a header says about a frame of `frame_len` bytes (`__packet_snd_vnet_parse`, `virtio_net_hdr_to_skb`).
///
/// # Errors
/// `EINVAL` for one that makes no sense; what does not fit the frame's bytes the stack finds.
pub(in crate::socket) fn decode(header: &[u8], frame_len: usize) -> Result<Offload, Errno> {
    let (header, _) = VirtioNetHdr::read_from_prefix(header).map_err(|_| Errno::EINVAL)?;
    let VirtioNetHdr { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset } = header;
    let mut headers = usize::from(hdr_len);
    let mut checksum = Checksum::Plain;
    if flags & VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 {
        headers = headers.max(usize::from(csum_start) + usize::from(csum_offset) + 2);
        checksum = Checksum::Partial { start: csum_start, offset: csum_offset };
    }
    if headers > frame_len {
        return Err(Errno::EINVAL);
    }
    let kind = match gso_type & !VIRTIO_NET_HDR_GSO_ECN {
        VIRTIO_NET_HDR_GSO_NONE if gso_type == VIRTIO_NET_HDR_GSO_NONE => {
            return Ok(Offload { checksum, ..Offload::default() });
        }
        VIRTIO_NET_HDR_GSO_UDP => {
            return Ok(Offload { checksum, fragment_size: Some(gso_size), ..Offload::default() });
        }
        VIRTIO_NET_HDR_GSO_TCPV4 => GsoKind::Tcp4,
        VIRTIO_NET_HDR_GSO_TCPV6 => GsoKind::Tcp6,
        VIRTIO_NET_HDR_GSO_UDP_L4 => GsoKind::Udp,
        _ => return Err(Errno::EINVAL),
    };
    Ok(Offload { checksum, gso: Some(Gso { kind, size: gso_size }), fragment_size: None })
}

/// The header of a received frame (`virtio_net_hdr_from_skb`).
pub(in crate::socket) fn encode(received: &FrameState) -> VirtioNetHdr {
    let FrameState { checksum, gso, headers_len, has_cwr, addressed_to } = *received;
    let mut header = VirtioNetHdr::default();
    match checksum {
        Checksum::Partial { start, offset } => {
            header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
            (header.csum_start, header.csum_offset) = (start, offset);
        }
        Checksum::Verified if addressed_to != AddressedTo::Outgoing => {
            header.flags = VIRTIO_NET_HDR_F_DATA_VALID;
        }
        Checksum::Verified | Checksum::Plain => {}
    }
    if let Some(gso) = gso {
        header.gso_type = match gso.kind {
            GsoKind::Tcp4 => VIRTIO_NET_HDR_GSO_TCPV4,
            GsoKind::Tcp6 => VIRTIO_NET_HDR_GSO_TCPV6,
            GsoKind::Udp => VIRTIO_NET_HDR_GSO_UDP_L4,
        };
        // DEVIATION: Linux keeps this beside the segment, so that a frame from a packet socket can say other than its bytes.
        if has_cwr {
            header.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
        }
        header.gso_size = gso.size;
        header.hdr_len = u16::try_from(headers_len).unwrap_or(u16::MAX);
    }
    header
}

/// What a header says of a received frame.
#[derive(Debug, Clone, Copy)]
pub(in crate::socket) struct FrameState {
    pub(in crate::socket) checksum: Checksum,
    pub(in crate::socket) gso: Option<Gso>,
    /// Of a super-segment.
    pub(in crate::socket) headers_len: usize,
    /// Its first segment carries CWR.
    pub(in crate::socket) has_cwr: bool,
    pub(in crate::socket) addressed_to: AddressedTo,
}

/// `sizeof(struct virtio_net_hdr)`. In rings the header ends right in front of the frame, whichever length is chosen.
pub(in crate::socket) const PLAIN_LEN: usize = size_of::<VirtioNetHdr>();

#[cfg(test)]
mod tests {
    use super::*;

    use zerocopy::IntoBytes;

    #[test]
    fn what_is_encoded_is_decoded() {
        let checksum = Checksum::Partial { start: 34, offset: 16 };
        let plain = FrameState {
            checksum,
            gso: None,
            headers_len: 54,
            has_cwr: false,
            addressed_to: AddressedTo::Host,
        };
        for kind in [GsoKind::Tcp4, GsoKind::Tcp6, GsoKind::Udp] {
            let gso = Some(Gso { kind, size: 1400 });
            let header = encode(&FrameState { gso, has_cwr: kind == GsoKind::Tcp6, ..plain });
            assert_eq!(header.gso_type & VIRTIO_NET_HDR_GSO_ECN != 0, kind == GsoKind::Tcp6);
            assert_eq!(decode(header.as_bytes(), 54), Ok(Offload { checksum, gso, ..Offload::default() }));
            assert_eq!(decode(header.as_bytes(), 53), Err(Errno::EINVAL));
        }
        let verified = FrameState { checksum: Checksum::Verified, ..plain };
        assert_eq!(encode(&verified).flags, VIRTIO_NET_HDR_F_DATA_VALID);
        let leaving = FrameState { addressed_to: AddressedTo::Outgoing, ..verified };
        assert_eq!(encode(&leaving), VirtioNetHdr::default());
    }

    #[test]
    fn unknown_kinds_are_refused() {
        for gso_type in [2, 6, VIRTIO_NET_HDR_GSO_ECN] {
            let header = VirtioNetHdr { gso_type, gso_size: 100, ..VirtioNetHdr::default() };
            assert_eq!(decode(header.as_bytes(), 1000), Err(Errno::EINVAL), "{gso_type}");
        }
    }
}
