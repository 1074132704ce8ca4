//! Rings with a slot for each frame (`TPACKET_V1`, `TPACKET_V2`).

use std::sync::Arc;

use netstack::socket::{Frame, FrameSink, Taken};
use parking_lot::Mutex;
use sentry_abi::packet::{TP_STATUS_KERNEL, TP_STATUS_LOSING};
use zerocopy::IntoBytes;

use super::{RingMemory, RingRequest, Shape, Version, status, write_vnet_header};
use crate::errno::Errno;
use crate::mm::Frames;
use crate::socket::packet::socket::{address_of, hardware_of};

/// A ring of slots.
pub(in crate::socket::packet) struct FrameRing {
    memory: Arc<RingMemory>,
    shape: Shape,
    block_size: u32,
    slot_size: u32,
    slots: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The slot for the next frame.
    head: u32,
    /// Frames were lost since one was handed over.
    is_losing: bool,
}

impl FrameRing {
    pub(in crate::socket::packet) fn new(
        frames: &Arc<Frames>,
        request: &RingRequest,
        shape: Shape,
    ) -> Result<Arc<Self>, Errno> {
        let memory = RingMemory::new(frames, request.check()?)?;
        Ok(Arc::new(Self {
            memory,
            shape,
            block_size: request.sizes.block_size,
            slot_size: request.sizes.frame_size,
            slots: request.sizes.frame_nr,
            state: Mutex::default(),
        }))
    }

    pub(in crate::socket::packet) fn memory(&self) -> &Arc<RingMemory> {
        &self.memory
    }

    /// Where a slot is: slots do not cross the ends of blocks.
    fn offset(&self, slot: u32) -> u64 {
        let per_block = self.block_size / self.slot_size;
        let (block, index) = (slot / per_block, slot % per_block);
        u64::from(block) * u64::from(self.block_size) + u64::from(index) * u64::from(self.slot_size)
    }

    /// `tp_status` is the first word of both headers; it is a long in the first version, whose upper half stays zero.
    fn is_free(&self, slot: u32) -> bool {
        self.memory.load(self.offset(slot)) == TP_STATUS_KERNEL
    }

    fn fill(&self, at: u64, frame: &Frame<'_>, is_losing: bool) -> bool {
        let Some(places) = self.shape.places(frame) else { return false };
        let room = self.slot_size.saturating_sub(places.mac);
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let captured = u32::try_from(frame.captured()).unwrap_or(u32::MAX).min(room);
        // At most the size of a slot.
        let mut data = vec![0; captured as usize];
        frame.copy_to(0, &mut data);
        self.memory.write(at + u64::from(places.mac), &data);
        if places.mac <= self.slot_size {
            write_vnet_header(&self.shape, &self.memory, at, places, frame);
        }
        let time = self.shape.time_of(frame);
        // Seconds wrap around in 2106.
        let (seconds, nanos) = ((time / 1_000_000_000) as u32, (time % 1_000_000_000) as u32);
        let offsets = (places.mac & 0xffff) | (places.net << 16);
        let (words, start): ([u32; 5], u64) = match self.shape.version {
            Version::V1 => ([len, captured, offsets, seconds, nanos / 1000], 8),
            Version::V2 | Version::V3 => ([len, captured, offsets, seconds, nanos], 4),
        };
        self.memory.write(at + start, words.as_bytes());
        // The tag of a VLAN, and padding.
        let rest = start + 20;
        self.memory.write(at + rest, &[0; 8][..(32 - rest) as usize]);
        let address = address_of(&frame.from(), hardware_of(frame.medium()));
        self.memory.write(at + u64::from(self.shape.version.header_len()), address.as_bytes());
        let losing = if is_losing { TP_STATUS_LOSING } else { 0 };
        self.memory.publish(at, status(frame) | losing);
        true
    }
}

impl FrameSink for FrameRing {
    fn take(&self, frame: &Frame<'_>) -> Taken {
        let mut state = self.state.lock();
        let slot = state.head;
        if !self.is_free(slot) || !self.fill(self.offset(slot), frame, state.is_losing) {
            state.is_losing = true;
            return Taken::Full;
        }
        state.is_losing = false;
        state.head = if slot + 1 == self.slots { 0 } else { slot + 1 };
        Taken::Ready
    }

    /// Whether the frame that was handed over last is still there (`packet_poll`).
    fn is_readable(&self) -> bool {
        let head = self.state.lock().head;
        let last = if head == 0 { self.slots - 1 } else { head - 1 };
        !self.is_free(last)
    }
}
