//! Receiving: frames go straight into the buffers that the stack will own.

use std::io::{self, IoSliceMut};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::Bytes;
use netstack::packet::{Body, Checksum, Packet};
use netstack::pool::Pool;
use smallvec::SmallVec;

use crate::error::ReceiveError;
use crate::host_link::Receive;
use crate::sys::{self, Auxiliary, Received, ReceivedBatch};
use crate::vnet_header;

/// How frames are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// Many frames per call from a packet socket.
    PacketSocket,
    /// One frame per call from a tap or tun device.
    Tap,
    /// The same while each frame fits the first part, and no header comes before it: read(2) takes a fortieth less of the
    /// time of a frame than readv(2).
    SmallTap,
}

/// Whether frames come behind a virtio-net header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VnetHeaders {
    /// They do: super-segments and unfinished checksums are described.
    Present,
    /// They do not.
    Absent,
}

/// The buffers that the next frames go to.
#[derive(Debug)]
pub(crate) struct Receiver {
    mechanism: Mechanism,
    vnet_headers: VnetHeaders,
    slots: Vec<Slot>,
    small_pool: Arc<Pool>,
    large_pool: Arc<Pool>,
    appetite: Appetite,
}

/// How many frames are asked for at once. Follows what comes: a request and its answer cost one call each, and a flood
/// fills whole batches.
#[derive(Debug)]
struct Appetite {
    batch: usize,
    /// The batch has just grown, and it is not known yet whether there is as much.
    is_trying: bool,
    /// How many batches are to be filled before the next attempt, and how many there were.
    patience: u32,
    filled: u32,
}

/// Where one frame goes: header, first part, rest. Most frames end in the first part.
#[derive(Debug)]
struct Slot {
    header: [u8; vnet_header::LEN],
    small: Box<[u8]>,
    large: Box<[u8]>,
}

impl Receive for Receiver {
    fn receive(&mut self, fd: BorrowedFd<'_>, frames: &mut Vec<Packet>) -> Result<usize, ReceiveError> {
        self.read(fd, frames)
    }
}

impl Mechanism {
    /// The one for a tap or tun device.
    pub(crate) fn of_tap(vnet_headers: VnetHeaders, mtu: usize) -> Self {
        match vnet_headers {
            VnetHeaders::Absent if mtu + MAX_LINK_HEADER < SMALL_LEN => Self::SmallTap,
            VnetHeaders::Absent | VnetHeaders::Present => Self::Tap,
        }
    }
}

impl Receiver {
    pub(crate) fn new(mechanism: Mechanism, vnet_headers: VnetHeaders) -> Self {
        let small_pool = Pool::new(SMALL_LEN, MAX_FREE_SMALL);
        let large_pool = Pool::new(LARGE_LEN, MAX_FREE_LARGE);
        Self {
            mechanism,
            vnet_headers,
            slots: Vec::new(),
            small_pool,
            large_pool,
            appetite: Appetite::default(),
        }
    }

    fn read(&mut self, fd: BorrowedFd<'_>, frames: &mut Vec<Packet>) -> Result<usize, ReceiveError> {
        let batch = self.appetite.batch;
        while self.slots.len() < batch {
            let (small, large) = (self.small_pool.take(), self.large_pool.take());
            self.slots.push(Slot { header: [0; vnet_header::LEN], small, large });
        }
        let mut received = ReceivedBatch::new();
        let outcome = match self.mechanism {
            Mechanism::PacketSocket => self.read_packet_socket(fd, &mut received),
            Mechanism::Tap => self.read_tap(fd, &mut received),
            Mechanism::SmallTap => self.read_small_tap(fd, &mut received),
        };
        if let Err(error) = outcome {
            // What was read before the error is delivered; the error will come again.
            if received.is_empty() {
                return classify(&error);
            }
        }
        // Nothing at all, not even a header, is the end of a connection: the peer of a socket pair has closed its end.
        if self.vnet_headers == VnetHeaders::Present && received.first().is_some_and(|first| first.len == 0) {
            return Err(ReceiveError::Gone);
        }
        let before = frames.len();
        frames
            .extend(received.iter().enumerate().filter_map(|(index, received)| self.take(index, *received)));
        let bytes: usize = received.iter().map(|received| received.len).sum();
        self.appetite.adapt(received.len(), bytes);
        Ok(frames.len() - before)
    }

    fn read_packet_socket(&mut self, fd: BorrowedFd<'_>, received: &mut ReceivedBatch) -> io::Result<()> {
        let vnet_headers = self.vnet_headers;
        let mut buffers: SmallVec<[IoSliceMut<'_>; 3 * sys::MAX_BATCH]> = SmallVec::new();
        for slot in &mut self.slots[..self.appetite.batch] {
            slot.name_buffers(vnet_headers, &mut buffers);
        }
        let (pieces, auxiliary) = match vnet_headers {
            VnetHeaders::Present => (3, Auxiliary::Unwanted),
            VnetHeaders::Absent => (2, Auxiliary::Wanted),
        };
        sys::recvmmsg_packet(fd, &mut buffers, pieces, auxiliary, received)
    }

    fn read_tap(&mut self, fd: BorrowedFd<'_>, received: &mut ReceivedBatch) -> io::Result<()> {
        for slot in &mut self.slots[..self.appetite.batch] {
            let mut buffers: SmallVec<[IoSliceMut<'_>; 3]> = SmallVec::new();
            slot.name_buffers(self.vnet_headers, &mut buffers);
            let len = sys::readv(fd, &mut buffers)?;
            received.push(Received { len, is_truncated: false, packet_type: 0, status: 0 });
        }
        Ok(())
    }

    fn read_small_tap(&mut self, fd: BorrowedFd<'_>, received: &mut ReceivedBatch) -> io::Result<()> {
        for slot in &mut self.slots[..self.appetite.batch] {
            let len = sys::read(fd, &mut slot.small)?;
            let is_truncated = len == SMALL_LEN;
            received.push(Received { len, is_truncated, packet_type: 0, status: 0 });
            if is_truncated {
                // Somebody has raised the device's MTU: it was less when it was opened.
                self.mechanism = Mechanism::Tap;
                break;
            }
        }
        Ok(())
    }

    /// Makes a packet of what is in a slot; `None` if the frame is to be ignored.
    fn take(&mut self, index: usize, received: Received) -> Option<Packet> {
        let Received { len, is_truncated, packet_type, status } = received;
        let (checksum, gso, header_len) = match self.vnet_headers {
            VnetHeaders::Present => {
                let (checksum, gso) = vnet_header::decode(&self.slots[index].header);
                (checksum, gso, vnet_header::LEN)
            }
            VnetHeaders::Absent if status & CHECKSUM_IS_GOOD != 0 => (Checksum::Verified, None, 0),
            VnetHeaders::Absent => (Checksum::Plain, None, 0),
        };
        let len = len.checked_sub(header_len)?;
        // Our own frames come back only if the opener could not turn that off.
        if packet_type == libc::PACKET_OUTGOING || is_truncated || len == 0 {
            return None;
        }
        let mut packet = Packet::from_body(self.take_bytes(index, len));
        packet.meta.checksum = checksum;
        packet.meta.gso = gso;
        Some(packet)
    }

    /// The first `len` bytes of a slot's frame. Small parts are copied, so that a byte in a queue does not hold a block.
    fn take_bytes(&mut self, index: usize, len: usize) -> Body {
        let slot = &mut self.slots[index];
        if len <= COPIED_SMALL {
            return Body::from_iter([Bytes::copy_from_slice(&slot.small[..len])]);
        }
        let small = std::mem::replace(&mut slot.small, self.small_pool.take());
        let mut body = Body::from_iter([self.small_pool.share(small, len.min(SMALL_LEN))]);
        let rest = len.saturating_sub(SMALL_LEN);
        if rest > COPIED_LARGE {
            let large = std::mem::replace(&mut slot.large, self.large_pool.take());
            body.push(self.large_pool.share(large, rest));
        } else if rest > 0 {
            body.push(Bytes::copy_from_slice(&slot.large[..rest]));
        }
        body
    }
}

impl Default for Appetite {
    fn default() -> Self {
        Self { batch: 1, is_trying: false, patience: 0, filled: 0 }
    }
}

impl Appetite {
    /// Doubles the batch when it was filled, and falls back to what came otherwise. Never asks for more than fits the
    /// cache: reading ahead of the stack only makes it fetch everything from memory again.
    ///
    /// Asking for a frame that is not there costs a system call on a tap. So each attempt in vain makes the next one come later:
    /// one answer at a time would otherwise look like full batches of one, and be asked about twice every second time.
    fn adapt(&mut self, count: usize, bytes: usize) {
        let is_full = count == self.batch;
        self.patience = match (self.is_trying, is_full) {
            (true, true) => 0,
            (true, false) => (self.patience * 2 + 1).min(MAX_PATIENCE),
            (false, _) => self.patience,
        };
        self.filled = if is_full { self.filled + 1 } else { 0 };
        self.is_trying = is_full && self.filled > self.patience;
        let wanted = if self.is_trying { self.batch * 2 } else { count };
        let mean = (bytes / count.max(1)).max(1);
        self.batch = wanted.min(HOT_BYTES / mean).clamp(1, sys::MAX_BATCH);
    }
}

impl Slot {
    fn name_buffers<'a>(
        &'a mut self,
        vnet_headers: VnetHeaders,
        out: &mut SmallVec<impl smallvec::Array<Item = IoSliceMut<'a>>>,
    ) {
        if vnet_headers == VnetHeaders::Present {
            out.push(IoSliceMut::new(&mut self.header));
        }
        out.push(IoSliceMut::new(&mut self.small));
        out.push(IoSliceMut::new(&mut self.large));
    }
}

fn classify(error: &io::Error) -> Result<usize, ReceiveError> {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM) => Ok(0),
        Some(libc::ENETDOWN | libc::EIO) => Err(ReceiveError::Down),
        _ => Err(ReceiveError::Gone),
    }
}

/// The first block of a frame: an MTU-sized frame fits.
const SMALL_LEN: usize = 2048;

/// What a tap device may put around a packet of its MTU: an Ethernet header with two VLAN tags.
const MAX_LINK_HEADER: usize = 22;

/// The second block: the largest super-segment (64 KiB of IP packet, Ethernet header, VLAN tag) ends in it.
const LARGE_LEN: usize = 66 * 1024;

/// Frames up to this size are copied out of their block: copying is cheaper than a turn through the pool.
const COPIED_SMALL: usize = 256;

/// Second parts up to this size are copied, so that no queue holds more than about eight times what it is charged for.
const COPIED_LARGE: usize = 8 * 1024;

/// Free blocks that are kept, about 2 MiB and 4 MiB: what two streams with a full window give back at once.
const MAX_FREE_SMALL: usize = 1024;
const MAX_FREE_LARGE: usize = 64;

/// So many batches are filled at most before a larger one is tried.
const MAX_PATIENCE: u32 = 63;

/// Bytes that are read before they are delivered: they, and what the stack touches meanwhile, fit a second-level cache.
const HOT_BYTES: usize = 256 * 1024;

/// `tp_status`: the sum was checked by the device, or its sender is on this host and never made one (packet(7)).
const CHECKSUM_IS_GOOD: u32 = libc::TP_STATUS_CSUM_VALID | libc::TP_STATUS_CSUMNOTREADY;

#[cfg(test)]
mod tests {
    use super::*;

    /// How many calls find nothing while `frames` come one by one, each read until there is nothing left.
    #[test]
    fn single_answers_are_hardly_ever_asked_about_twice() {
        let mut appetite = Appetite::default();
        let mut in_vain = 0;
        for _ in 0..1000 {
            in_vain += usize::from(appetite.batch > 1);
            appetite.adapt(1, 80);
        }
        assert!((5..40).contains(&in_vain), "{in_vain}");
    }

    #[test]
    fn flood_fills_whole_batches_soon_and_bytes_bound_them() {
        let mut appetite = Appetite::default();
        (0..300).for_each(|_| appetite.adapt(1, 80));
        let mut rounds = 0;
        while appetite.batch < sys::MAX_BATCH {
            appetite.adapt(appetite.batch, appetite.batch * 80);
            rounds += 1;
        }
        assert!(rounds < 80, "{rounds}");
        appetite.adapt(appetite.batch, appetite.batch * 65_536);
        assert_eq!(appetite.batch, HOT_BYTES / 65_536);
        appetite.adapt(2, 2000);
        assert_eq!(appetite.batch, 2);
    }

    #[test]
    fn frame_beyond_the_mtu_is_lost_once() {
        let (near, far) = std::os::unix::net::UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        for len in [1522, 3000, 3001, 60, 3002] {
            far.send(&vec![7; len]).unwrap();
        }
        let mechanism = Mechanism::of_tap(VnetHeaders::Absent, 1500);
        assert_eq!(mechanism, Mechanism::SmallTap);
        let mut receiver = Receiver::new(mechanism, VnetHeaders::Absent);
        let mut frames = Vec::new();
        for _ in 0..10 {
            receiver.receive(std::os::fd::AsFd::as_fd(&near), &mut frames).unwrap();
        }
        assert_eq!(frames.iter().map(Packet::len).collect::<Vec<_>>(), [1522, 3001, 60, 3002]);
        assert_eq!(Mechanism::of_tap(VnetHeaders::Absent, 9000), Mechanism::Tap);
        assert_eq!(Mechanism::of_tap(VnetHeaders::Present, 1500), Mechanism::Tap);
    }
}
