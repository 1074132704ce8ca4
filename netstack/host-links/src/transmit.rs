//! Gathering packets for one write: no byte is copied.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use netstack::link::{Capabilities, LinkError};
use netstack::packet::Packet;
use smallvec::SmallVec;

use crate::receive::VnetHeaders;
use crate::sys;
use crate::vnet_header;

/// The virtio-net headers of a batch; empty if the link has none.
pub(crate) type Headers = SmallVec<[[u8; vnet_header::LEN]; sys::MAX_BATCH]>;

/// The pieces of a packet, behind its virtio-net header if there is one.
pub(crate) fn gather<'a>(
    packet: &'a Packet,
    header: Option<&'a [u8; vnet_header::LEN]>,
    out: &mut impl Extend<IoSlice<'a>>,
) {
    out.extend(header.map(|header| IoSlice::new(header)));
    out.extend(packet.slices().map(IoSlice::new));
}

/// A packet of very many pieces (a stream of tiny writes) is copied together: the host takes at most `UIO_MAXIOV`
/// (1024) pieces, and small ones are cheaper copied than named.
pub(crate) fn limit_pieces(packet: &mut Packet) {
    if packet.body().len() > MAX_PIECES {
        let headers = packet.head().len();
        let len = packet.len();
        let meta = packet.meta.clone();
        let head = packet.head().to_vec();
        let body = packet.to_bytes().slice(headers..len);
        let mut flat = Packet::from_body(SmallVec::from_iter([body]));
        flat.push_header(headers).copy_from_slice(&head);
        flat.meta = meta;
        *packet = flat;
    }
}

/// What to do about a failed write.
pub(crate) enum Failure {
    /// The queue is full, which passes.
    Busy,
    /// Give this to the stack.
    Final(LinkError),
}

pub(crate) fn classify(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR) => Failure::Busy,
        // A tap that is down says EIO.
        Some(libc::ENETDOWN | libc::EIO) => Failure::Final(LinkError::Down),
        // EINVAL: the host does not take the virtio-net header of this packet.
        Some(libc::EMSGSIZE | libc::EINVAL) => Failure::Final(LinkError::TooLarge),
        _ => Failure::Final(LinkError::Gone),
    }
}

/// Waits once for room, within what a queue takes to drain.
pub(crate) fn wait_for_room(fd: BorrowedFd<'_>) -> bool {
    sys::wait_writable(fd, DRAIN_LIMIT)
}

/// More pieces than this are copied together.
const MAX_PIECES: usize = 256;

/// A gigabit link drains a megabyte in 8 ms; what takes longer is dropped as any full queue drops it.
const DRAIN_LIMIT: Duration = Duration::from_millis(10);

/// A full queue is tried again this often; a descriptor that says "writable" and then "full" must not spin forever.
pub(crate) const MAX_RETRIES: usize = 8;

/// What a host link does by itself: the kernel finishes checksums and cuts up whatever it can describe, in software if
/// the device cannot.
pub(crate) fn capabilities(vnet_headers: VnetHeaders, udp_segmentation: bool) -> Capabilities {
    if vnet_headers == VnetHeaders::Absent {
        return Capabilities::default();
    }
    Capabilities {
        tx_checksum: true,
        rx_checksum_trusted: false,
        gso_max_v4: MAX_IP_PACKET,
        gso_max_v6: MAX_IP_PACKET,
        gso_max_udp: if udp_segmentation { MAX_IP_PACKET } else { 0 },
    }
}

/// The length field of an IPv4 packet has 16 bits (RFC 791); Linux's `GSO_LEGACY_MAX_SIZE` is one more.
const MAX_IP_PACKET: u32 = 65_535;
