//! The packet that travels through the stack: a small header buffer, shared payload ranges, and metadata.
//!
//! On the way down the payload is a list of ranges of the socket's send queue and each layer *prepends* its header to
//! [`Packet::head`]; nothing is copied again before the link's gather write. On the way up the frame is one shared
//! buffer in the body and each layer looks at it by offset.

mod head;
mod super_segment;

use std::sync::Arc;

use bytes::{Buf, Bytes};
use netstack_wire::ethernet::MacAddr;
use smallvec::SmallVec;

use crate::conntrack::Carried;
use crate::filter::AssignedSocket;
use crate::time::Instant;

pub use head::HEADROOM;
pub(crate) use head::{Head, INLINE_PAYLOAD};

/// The payload ranges of a packet, in order. One is held without an allocation.
pub type Body = SmallVec<[Bytes; 1]>;

/// One packet, or one super-segment that the link (or the software at its edge) will cut up.
#[derive(Debug, Clone, Default)]
pub struct Packet {
    head: Head,
    body: Body,
    /// What is known about the packet besides its bytes.
    pub meta: Meta,
}

impl Packet {
    /// Makes a packet whose bytes are all in one shared buffer, as a link delivers it.
    #[inline]
    pub fn from_frame(frame: Bytes) -> Self {
        Self { head: Head::default(), body: Body::from_buf([frame]), meta: Meta::default() }
    }

    /// Makes a packet of payload ranges to which headers will be prepended.
    #[inline]
    pub fn from_body(body: Body) -> Self {
        Self { head: Head::default(), body, meta: Meta::default() }
    }

    /// Makes a packet of a payload, the first part of which is in the head already.
    #[inline]
    pub(crate) fn from_parts(head: Head, body: Body) -> Self {
        Self { head, body, meta: Meta::default() }
    }

    /// The length of all bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.head.len() + self.body_len()
    }

    /// Tells whether the packet has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The headers that were prepended so far; a small payload may follow them.
    #[inline]
    pub fn head(&self) -> &[u8] {
        self.head.as_slice()
    }

    /// The headers that were prepended so far, to be patched.
    pub fn head_mut(&mut self) -> &mut [u8] {
        self.head.as_mut_slice()
    }

    /// The payload ranges.
    #[inline]
    pub fn body(&self) -> &[Bytes] {
        &self.body
    }

    /// The length of the payload ranges.
    #[inline]
    pub fn body_len(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }

    /// Takes the first range out.
    #[inline]
    pub(crate) fn take_first(&mut self) -> Bytes {
        self.body.first_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes the payload ranges and the metadata, and forgets the head.
    pub fn into_body(self) -> Body {
        self.body
    }

    /// Prepends `len` zero bytes to the head and returns them to be filled.
    ///
    /// The checksum position in the metadata moves along. If the head is full (only crafted stacks of headers get
    /// there), it is first moved to the front of the body.
    ///
    /// # Panics
    /// If `len` exceeds [`HEADROOM`]: headers have fixed maximum sizes well below it.
    #[inline]
    pub fn push_header(&mut self, len: usize) -> &mut [u8] {
        let room = self.push_room(len);
        room.fill(0);
        room
    }

    /// Makes room in front: whatever is in there, to be overwritten.
    #[inline]
    pub(crate) fn push_room(&mut self, len: usize) -> &mut [u8] {
        if self.head.room() < len {
            self.spill();
        }
        if let Checksum::Partial { start, .. } = &mut self.meta.checksum {
            // A packet that long cannot be addressed by any checksum offload; links then refuse it.
            *start = start.saturating_add(u16::try_from(len).unwrap_or(u16::MAX));
        }
        self.head.push(len)
    }

    /// Moves what is in the head to the front of the body.
    #[cold]
    #[inline(never)]
    fn spill(&mut self) {
        let spilled = Bytes::copy_from_slice(self.head.as_slice());
        self.body.insert(0, spilled);
        self.head = Head::default();
    }

    /// Prepends a copy of `header` to the head and returns it to be patched; otherwise as
    /// [`push_header`](Self::push_header).
    ///
    /// # Panics
    /// If `header` is longer than [`HEADROOM`].
    #[inline]
    pub fn prepend(&mut self, header: &[u8]) -> &mut [u8] {
        let room = self.push_room(header.len());
        room.copy_from_slice(header);
        room
    }

    /// The longest contiguous run of bytes that starts at `offset`; empty at the end.
    #[inline]
    pub fn contiguous(&self, offset: usize) -> &[u8] {
        let mut offset = offset;
        if offset < self.head.len() {
            return &self.head.as_slice()[offset..];
        }
        offset -= self.head.len();
        for range in &self.body {
            if offset < range.len() {
                return &range[offset..];
            }
            offset -= range.len();
        }
        &[]
    }

    /// The `len` bytes at `offset` if they are contiguous.
    #[inline]
    pub fn get(&self, offset: usize, len: usize) -> Option<&[u8]> {
        self.contiguous(offset).get(..len)
    }

    /// Makes sure that the `len` bytes at `offset` are contiguous, copying the packet only if they are not.
    /// Returns false if the packet is shorter than that.
    #[inline]
    pub fn make_contiguous(&mut self, offset: usize, len: usize) -> bool {
        self.contiguous(offset).len() >= len || self.gather(offset, len)
    }

    #[cold]
    fn gather(&mut self, offset: usize, len: usize) -> bool {
        if self.len() < offset.saturating_add(len) {
            return false;
        }
        let whole = Bytes::from(self.to_vec());
        self.head = Head::default();
        self.body = Body::from_buf([whole]);
        true
    }

    /// Removes `count` bytes from the front (all, if there are fewer). The checksum position in the metadata stays.
    pub fn trim_front(&mut self, count: usize) {
        let from_head = count.min(self.head.len());
        self.head.pull(from_head);
        let mut count = count - from_head;
        while count > 0 && !self.body.is_empty() {
            let range = &mut self.body[0];
            if range.len() > count {
                range.advance(count);
                return;
            }
            count -= range.len();
            self.body.remove(0);
        }
    }

    /// Shortens the packet to `len` bytes; does nothing if it is shorter.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.shorten(len);
        }
    }

    fn shorten(&mut self, len: usize) {
        if len <= self.head.len() {
            // The head keeps its tail at the end of its buffer, so a shorter head is built anew.
            let mut kept = Head::default();
            kept.push(len).copy_from_slice(&self.head.as_slice()[..len]);
            self.head = kept;
            self.body.clear();
            return;
        }
        let mut left = len - self.head.len();
        for index in 0..self.body.len() {
            if left == 0 {
                self.body.truncate(index);
                return;
            }
            let range = &mut self.body[index];
            range.truncate(left);
            left -= range.len();
        }
    }

    /// Removes the first `offset` bytes and returns the rest as payload ranges.
    pub fn into_payload(mut self, offset: usize) -> Body {
        self.trim_front(offset);
        if !self.head.is_empty() {
            self.body.insert(0, Bytes::copy_from_slice(self.head.as_slice()));
        }
        self.body
    }

    /// All pieces in order, head first, for a gather write.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.head.as_slice())
            .chain(self.body.iter().map(|range| &range[..]))
            .filter(|piece| !piece.is_empty())
    }

    /// Copies all bytes into one vector.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.len());
        self.slices().for_each(|piece| whole.extend_from_slice(piece));
        whole
    }

    /// Copies bytes from `offset` on into `out`, and returns how many there were.
    pub fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize {
        let (mut skip, mut done) = (offset, 0);
        for piece in self.slices() {
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let piece = &piece[skip..];
            skip = 0;
            let count = piece.len().min(out.len() - done);
            out[done..done + count].copy_from_slice(&piece[..count]);
            done += count;
            if done == out.len() {
                break;
            }
        }
        done
    }

    /// All bytes as one shared buffer; a packet that is one buffer already is not copied.
    pub fn to_bytes(&self) -> Bytes {
        match (self.head.is_empty(), &self.body[..]) {
            (true, [only]) => only.clone(),
            _ => Bytes::from(self.to_vec()),
        }
    }
}

/// Cuts payload into parts of `size`, which is not zero; the last may be shorter.
pub(crate) fn cut(whole: Body, size: usize) -> SmallVec<[Body; 4]> {
    let mut parts: SmallVec<[Body; 4]> = SmallVec::new();
    let (mut part, mut room) = (Body::new(), size);
    for mut range in whole {
        while !range.is_empty() {
            let taken = range.split_to(room.min(range.len()));
            room -= taken.len();
            part.push(taken);
            if room == 0 {
                parts.push(std::mem::take(&mut part));
                room = size;
            }
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// Whose a socket is, for the packet filter. What the numbers mean is the application's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
}

/// What is known about a packet besides its bytes.
#[derive(Debug, Clone, Default)]
pub struct Meta {
    /// The state of the transport checksum.
    pub checksum: Checksum,
    /// Set if the packet is a super-segment.
    pub gso: Option<Gso>,
    /// When the packet arrived, if its link took a time.
    pub arrival: Option<Instant>,
    /// Whom the link layer addressed.
    pub addressed_to: AddressedTo,
    /// Offset of the IP header, set by the receive path.
    pub l3_offset: u16,
    /// Offset of the transport header, set by the receive path.
    pub l4_offset: u16,
    /// The firewall mark (`SO_MARK`).
    pub mark: u32,
    /// The priority (`SO_PRIORITY`).
    pub priority: u32,
    /// Whose socket sent the packet, if it is known.
    pub owner: Option<Owner>,
    /// The stack made it for its link (neighbour discovery, membership reports), past the filter so far.
    pub(crate) is_link_control: bool,
    /// How many bridges it came through.
    pub(crate) bridges: u8,
    /// It arrived in fragments.
    pub(crate) was_fragmented: bool,
    /// Multicast routing sent it on; it is not routed once more when members of ours get it.
    pub(crate) is_forwarded: bool,
    /// The packet comes back to ourselves, and the filter knows its flow already.
    pub(crate) carried: Option<Arc<Carried>>,
}

impl Meta {
    /// Mark and priority.
    pub(crate) fn tags(&self) -> (u32, u32) {
        (self.mark, self.priority)
    }

    /// The socket that rules have given it to.
    pub(crate) fn assigned_socket(&self) -> Option<AssignedSocket> {
        self.carried.as_ref()?.socket.clone()
    }
}

/// The state of the transport checksum (TCP, UDP, ICMP) of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// Down: the packet carries a correct checksum. Up: nobody looked yet.
    #[default]
    Plain,
    /// Up: the link vouches for the checksum, or the packet never left the machine.
    Verified,
    /// The field at `start + offset` holds the folded, not complemented, sum of the pseudo-header; the link finishes
    /// it over the bytes from `start` to the end. Both count from the packet's first byte, headers included.
    Partial {
        /// Where the sum starts: the transport header.
        start: u16,
        /// Where the checksum field is, counted from `start`.
        offset: u16,
    },
}

/// How to cut a super-segment up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gso {
    /// The protocol that is segmented.
    pub kind: GsoKind,
    /// Payload bytes per segment.
    pub size: u16,
}

/// The protocol of a super-segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over either (the kernel's USO).
    Udp,
}

/// Whom a frame was addressed to at the link layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressedTo {
    /// Us.
    #[default]
    Host,
    /// Everybody on the link.
    Broadcast,
    /// A group.
    Multicast,
    /// Another station: seen because the link is promiscuous.
    OtherHost,
    /// The frame leaves us (packet sockets see their own direction too).
    Outgoing,
}

impl AddressedTo {
    /// Whom a frame that arrived is addressed to, at a station with the address `own`.
    pub(crate) fn of(destination: MacAddr, own: Option<MacAddr>) -> Self {
        match destination {
            mac if Some(mac) == own => Self::Host,
            MacAddr::BROADCAST => Self::Broadcast,
            mac if mac.is_multicast() => Self::Multicast,
            _ => Self::OtherHost,
        }
    }
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
