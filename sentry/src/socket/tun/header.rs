//! What is in front of a packet: the protocol (`struct tun_pi`) and what is left to the receiver (`struct virtio_net_hdr`).

use netstack::packet::{AddressedTo, Packet};
use netstack::socket::Offload;
use sentry_abi::tun::{TUN_PKT_STRIP, TunPi};
use zerocopy::IntoBytes;

use super::device::{Format, TunKind};
use crate::errno::Errno;
use crate::io::{IoDst, IoSrc};
use crate::socket::packet::vnet_header::{self, FrameState};

/// Stores a packet with its headers, as much of it as there is room for; how many bytes (`tun_put_user`).
pub(super) fn put(packet: &Packet, format: Format, dst: &mut dyn IoDst) -> Result<usize, Errno> {
    let room = dst.remaining();
    let mut done = 0;
    if format.has_protocol {
        let mut header = TunPi { flags: 0, proto: protocol(packet, format.kind) };
        let len = size_of::<TunPi>();
        let rest = room.checked_sub(len).ok_or(Errno::EINVAL)?;
        if rest < format.vnet_len.unwrap_or(0) + packet.len() {
            header.flags = TUN_PKT_STRIP;
        }
        done += dst.put(header.as_bytes())?;
    }
    if let Some(len) = format.vnet_len {
        if dst.remaining() < len {
            return Err(Errno::EINVAL);
        }
        done += dst.put(vnet_header::encode(&state(packet)).as_bytes())?;
        done += dst.put_zeros(len.saturating_sub(vnet_header::PLAIN_LEN))?;
    }
    for slice in packet.slices() {
        let slice = &slice[..slice.len().min(dst.remaining())];
        if !slice.is_empty() {
            done += dst.put(slice)?;
        }
    }
    Ok(done)
}

/// What was written.
pub(super) struct Written {
    /// The protocol, where the writer says it.
    pub(super) protocol: Option<[u8; 2]>,
    /// What is left to the receiver.
    pub(super) offload: Offload,
    /// The packet or frame.
    pub(super) bytes: Vec<u8>,
}

/// Takes a packet with its headers (`tun_get_user`).
pub(super) fn take(format: Format, src: &mut dyn IoSrc) -> Result<Written, Errno> {
    let mut rest = src.remaining();
    let mut protocol = None;
    if format.has_protocol {
        let mut header = TunPi::default();
        rest = rest.checked_sub(size_of::<TunPi>()).ok_or(Errno::EINVAL)?;
        take_whole(src, header.as_mut_bytes())?;
        protocol = Some(header.proto);
    }
    let mut offload = Offload::default();
    if let Some(len) = format.vnet_len {
        rest = rest.checked_sub(len).ok_or(Errno::EINVAL)?;
        let mut header = [0; vnet_header::PLAIN_LEN];
        take_whole(src, &mut header)?;
        skip(src, len - vnet_header::PLAIN_LEN)?;
        offload = vnet_header::decode(&header, rest)?;
    }
    if rest > MAX_PACKET {
        return Err(Errno::EMSGSIZE);
    }
    let mut bytes = vec![0; rest];
    take_whole(src, &mut bytes)?;
    Ok(Written { protocol, offload, bytes })
}

fn take_whole(src: &mut dyn IoSrc, bytes: &mut [u8]) -> Result<(), Errno> {
    if bytes.is_empty() || src.take(bytes)? == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

fn skip(src: &mut dyn IoSrc, mut len: usize) -> Result<(), Errno> {
    let mut bytes = [0; 64];
    while len > 0 {
        let part = len.min(bytes.len());
        take_whole(src, &mut bytes[..part])?;
        len -= part;
    }
    Ok(())
}

/// The EtherType of a packet, in network order.
fn protocol(packet: &Packet, kind: TunKind) -> [u8; 2] {
    match kind {
        TunKind::Tap(_) => {
            let mut bytes = [0; 2];
            packet.copy_to(ETHERTYPE, &mut bytes);
            bytes
        }
        TunKind::Tun => {
            let mut first = [0];
            packet.copy_to(0, &mut first);
            ethertype_of(first[0]).unwrap_or_default()
        }
    }
}

/// The EtherType of an IP packet that begins like this.
pub(super) fn ethertype_of(first: u8) -> Option<[u8; 2]> {
    match first >> 4 {
        4 => Some([0x08, 0x00]),
        6 => Some([0x86, 0xdd]),
        _ => None,
    }
}

/// What the header says of a packet.
fn state(packet: &Packet) -> FrameState {
    FrameState {
        checksum: packet.meta.checksum,
        gso: packet.meta.gso,
        headers_len: packet.headers_len(),
        has_cwr: packet.has_cwr(),
        addressed_to: AddressedTo::Outgoing,
    }
}

/// Where a frame says what it carries.
const ETHERTYPE: usize = 12;
/// The largest buffer that Linux makes for one (`sock_alloc_send_pskb`: 17 pieces of 32 KiB).
const MAX_PACKET: usize = 17 << 15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{SliceDst, SliceSrc};
    use bytes::Bytes;

    fn packet() -> Packet {
        Packet::from_frame(Bytes::from_static(&[0x45, 0, 0, 20, 1, 2, 3, 4, 5, 6]))
    }

    fn stored(format: Format, room: usize) -> Result<Vec<u8>, Errno> {
        let mut out = vec![0xee; room];
        let len = put(&packet(), format, &mut SliceDst::new(&mut out))?;
        out.truncate(len);
        Ok(out)
    }

    const BARE: Format = Format { kind: TunKind::Tun, has_protocol: false, vnet_len: None };

    #[test]
    fn what_has_no_room_is_cut_and_says_so() {
        assert_eq!(stored(BARE, 100).unwrap(), packet().to_vec());
        assert_eq!(stored(BARE, 4).unwrap(), [0x45, 0, 0, 20]);
        let format = Format { has_protocol: true, ..BARE };
        assert_eq!(stored(format, 14).unwrap()[..5], [0, 0, 8, 0, 0x45]);
        assert_eq!(stored(format, 13).unwrap()[..5], [1, 0, 8, 0, 0x45]);
        assert_eq!(stored(format, 3), Err(Errno::EINVAL));
        let format = Format { vnet_len: Some(12), ..format };
        assert_eq!(stored(format, 26).unwrap().len(), 26);
        assert_eq!(stored(format, 26).unwrap()[..4], [0, 0, 8, 0]);
        assert_eq!(stored(format, 15), Err(Errno::EINVAL));
    }

    #[test]
    fn headers_are_taken_off_again() {
        let written = |format, bytes: &[u8]| take(format, &mut SliceSrc::new(bytes));
        assert_eq!(written(BARE, &[1, 2]).unwrap().bytes, [1, 2]);
        let format = Format { has_protocol: true, vnet_len: Some(12), ..BARE };
        let mut bytes = vec![0, 0, 0x86, 0xdd];
        bytes.extend([0; 12]);
        assert!(written(format, &bytes[..15]).is_err_and(|errno| errno == Errno::EINVAL));
        bytes.push(7);
        let whole = written(format, &bytes).unwrap();
        assert_eq!((whole.protocol, whole.bytes), (Some([0x86, 0xdd]), vec![7]));
    }
}
