//! Rings of frames that the application has sent (`PACKET_TX_RING`): it fills slots and marks them, send(2) sends what is
//! marked.

use std::sync::Arc;

use netstack::socket::{Offload, PacketMode};
use parking_lot::Mutex;
use sentry_abi::packet::{TP_STATUS_AVAILABLE, TP_STATUS_SEND_REQUEST, TP_STATUS_WRONG_FORMAT};

use super::{RingMemory, RingRequest, Version};
use crate::errno::Errno;
use crate::mm::Frames;
use crate::socket::packet::vnet_header::{self, VnetHeader};

/// A ring of slots, of all versions.
pub(in crate::socket::packet) struct TransmitRing {
    memory: Arc<RingMemory>,
    version: Version,
    mode: PacketMode,
    block_size: u32,
    slot_size: u32,
    slots: u32,
    /// Frames are where the slot says (`PACKET_TX_HAS_OFF`), not right behind its header.
    has_offsets: bool,
    /// Slots that make no sense are passed over (`PACKET_LOSS`), not pointed at.
    skips_nonsense: bool,
    vnet_header: VnetHeader,
    /// The slot to look at next. Locked while a call sends: calls do so one after the other.
    head: Mutex<u32>,
}

/// What `PACKET_TX_HAS_OFF`, `PACKET_LOSS` and `PACKET_VNET_HDR` say.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::socket::packet) struct TransmitMode {
    pub(in crate::socket::packet) has_offsets: bool,
    pub(in crate::socket::packet) skips_nonsense: bool,
    pub(in crate::socket::packet) vnet_header: VnetHeader,
}

impl TransmitRing {
    pub(in crate::socket::packet) fn new(
        frames: &Arc<Frames>,
        request: &RingRequest,
        mode: PacketMode,
        TransmitMode { has_offsets, skips_nonsense, vnet_header }: TransmitMode,
    ) -> Result<Arc<Self>, Errno> {
        let len = request.check()?;
        let sizes = request.sizes;
        // Blocks are for receiving.
        let is_plain = [sizes.retire_blk_tov, sizes.sizeof_priv, sizes.feature_req_word] == [0; 3];
        if request.version == Version::V3 && !is_plain {
            return Err(Errno::EINVAL);
        }
        Ok(Arc::new(Self {
            memory: RingMemory::new(frames, len)?,
            version: request.version,
            mode,
            block_size: sizes.block_size,
            slot_size: sizes.frame_size,
            slots: sizes.frame_nr,
            has_offsets,
            skips_nonsense,
            vnet_header,
            head: Mutex::new(0),
        }))
    }

    pub(in crate::socket::packet) fn memory(&self) -> &Arc<RingMemory> {
        &self.memory
    }

    /// Sends what is marked, up to the first slot that is not, and returns the number of bytes (`tpacket_snd`). `most` is
    /// the longest frame.
    ///
    /// # Errors
    /// What is the matter with a slot, which then says so, too, and is looked at again by the next call.
    pub(in crate::socket::packet) fn send(
        &self,
        most: u32,
        mut send: impl FnMut(&[u8], Offload) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let mut head = self.head.lock();
        let mut sent = 0;
        // Who marks slots as fast as they are sent does not keep us here.
        for _ in 0..self.slots {
            let slot = self.offset(*head);
            if self.memory.load(slot + self.status_at()) != TP_STATUS_SEND_REQUEST {
                break;
            }
            match self.frame(slot, most).and_then(|frame| self.send_one(&frame, &mut send)) {
                Ok(len) => sent += len,
                // The way out, not the slot, is the matter.
                Err(error @ (Errno::ENETDOWN | Errno::ENXIO | Errno::ENOTCONN | Errno::EDESTADDRREQ)) => {
                    return Err(error);
                }
                Err(_) if self.skips_nonsense => {}
                Err(error) => {
                    self.memory.publish(slot + self.status_at(), TP_STATUS_WRONG_FORMAT);
                    return Err(error);
                }
            }
            self.memory.publish(slot + self.status_at(), TP_STATUS_AVAILABLE);
            *head = if *head + 1 == self.slots { 0 } else { *head + 1 };
        }
        Ok(sent)
    }

    /// Sends what a slot has, without the header that may be in front of the frame.
    fn send_one(
        &self,
        slot: &[u8],
        send: &mut impl FnMut(&[u8], Offload) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let (header, frame) = slot.split_at_checked(self.vnet_header.len()).ok_or(Errno::EINVAL)?;
        let offload = match self.vnet_header {
            VnetHeader::Absent => Offload::default(),
            VnetHeader::Plain | VnetHeader::WithBuffers => vnet_header::decode(header, frame.len())?,
        };
        send(frame, offload)
    }

    /// A copy of a slot's frame; what the slot says is read once (`tpacket_parse_header`).
    fn frame(&self, slot: u64, most: u32) -> Result<Vec<u8>, Errno> {
        let header = self.version.header_len();
        let mut fields = [0; 32];
        self.memory.read(slot, &mut fields);
        let word =
            |at: usize| u32::from_ne_bytes([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]]);
        let (len_at, mac_at) = match self.version {
            Version::V1 => (8, 16),
            Version::V2 => (4, 12),
            Version::V3 => (16, 24),
        };
        if self.version == Version::V3 && word(0) != 0 {
            return Err(Errno::EINVAL);
        }
        let len = word(len_at);
        // Whether a super-segment's frame is too long the header says.
        let most = if self.vnet_header.is_empty() { most } else { u32::MAX };
        if len > most.min(self.slot_size - header) {
            return Err(Errno::EMSGSIZE);
        }
        let offset = match self.has_offsets {
            false => header,
            true => {
                let at = if self.mode == PacketMode::Cooked { mac_at + 2 } else { mac_at };
                let offset = u32::from(u16::from_ne_bytes([fields[at], fields[at + 1]]));
                if !(header..=self.slot_size - len).contains(&offset) {
                    return Err(Errno::EINVAL);
                }
                offset
            }
        };
        // At most the size of a slot.
        let mut frame = vec![0; len as usize];
        self.memory.read(slot + u64::from(offset), &mut frame);
        Ok(frame)
    }

    /// Where a slot is: slots do not cross the ends of blocks.
    fn offset(&self, slot: u32) -> u64 {
        let per_block = self.block_size / self.slot_size;
        let (block, index) = (slot / per_block, slot % per_block);
        u64::from(block) * u64::from(self.block_size) + u64::from(index) * u64::from(self.slot_size)
    }

    /// Where a slot's header has the status.
    fn status_at(&self) -> u64 {
        match self.version {
            Version::V1 | Version::V2 => 0,
            Version::V3 => 20,
        }
    }
}
