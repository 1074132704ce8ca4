//! What a super-segment's headers say, for those who describe it to others.

use netstack_wire::tcp::TcpFlags;
use netstack_wire::udp;

use crate::packet::{Checksum, Gso, GsoKind, Packet};

impl Packet {
    /// Whether the first of a super-segment's segments carries CWR (RFC 3168 section 6.1.2), and the others do not.
    pub fn has_cwr(&self) -> bool {
        let (Some(Gso { kind: GsoKind::Tcp4 | GsoKind::Tcp6, .. }), Checksum::Partial { start, .. }) =
            (self.meta.gso, self.meta.checksum)
        else {
            return false;
        };
        let mut flags = [0];
        self.copy_to(usize::from(start) + TCP_FLAGS, &mut flags);
        TcpFlags::from_bits_retain(flags[0]).contains(TcpFlags::CWR)
    }

    /// The length of a super-segment's headers, from the first byte of the packet; zero for other packets.
    pub fn headers_len(&self) -> usize {
        let (Some(gso), Checksum::Partial { start, .. }) = (self.meta.gso, self.meta.checksum) else {
            return 0;
        };
        let transport = usize::from(start);
        transport
            + match gso.kind {
                GsoKind::Udp => udp::HEADER_LEN,
                GsoKind::Tcp4 | GsoKind::Tcp6 => {
                    let mut offset = [0];
                    self.copy_to(transport + TCP_DATA_OFFSET, &mut offset);
                    usize::from(offset[0] >> 4) * 4
                }
            }
    }
}

/// Where a TCP header says how long it is, in the upper half of a byte (RFC 9293 section 3.1).
const TCP_DATA_OFFSET: usize = 12;
const TCP_FLAGS: usize = 13;
