//! Rings of blocks with frames of any length (`TPACKET_V3`).

use std::sync::{Arc, OnceLock, Weak};

use netstack::socket::{Frame, FrameSink, Taken};
use parking_lot::Mutex;
use sentry_abi::packet::{TP_STATUS_BLK_TMO, TP_STATUS_KERNEL, TP_STATUS_LOSING, TP_STATUS_USER};
use zerocopy::IntoBytes;

use super::{Places, RingMemory, RingRequest, Shape, Version, status, write_vnet_header};
use crate::errno::Errno;
use crate::kernel::{KTime, Kernel, TimerTarget};
use crate::mm::Frames;
use crate::socket::packet::PacketSocket;
use crate::socket::packet::socket::{address_of, hardware_of};
use crate::wait::Readiness;

/// A ring of blocks. One is open and filled; it is handed over when the next frame does not fit, or after a while.
pub(in crate::socket::packet) struct BlockRing {
    memory: Arc<RingMemory>,
    shape: Shape,
    block_size: u32,
    blocks: u32,
    /// Where the first frame of a block is.
    first: u64,
    /// After how many nanoseconds a block is handed over that has frames.
    patience: u64,
    kernel: Weak<Kernel>,
    /// Whom to wake.
    socket: OnceLock<Weak<PacketSocket>>,
    state: Mutex<State>,
}

struct State {
    /// The block that is, or will be, filled.
    active: u32,
    /// It is ours; else the application has not given it back.
    is_open: bool,
    /// The number of the next block to open.
    sequence: u64,
    frames: u32,
    /// Where the next frame goes, in the block.
    next: u64,
    /// Where the last one is.
    last: u64,
    last_time: u64,
    /// The block had frames when the timer looked last.
    was_waiting: Option<u64>,
    is_losing: bool,
    /// The next block was not given back when it was needed.
    is_frozen: bool,
    freezes: u32,
}

impl BlockRing {
    pub(in crate::socket::packet) fn new(
        kernel: &Arc<Kernel>,
        frames: &Arc<Frames>,
        request: &RingRequest,
        shape: Shape,
    ) -> Result<Arc<Self>, Errno> {
        let memory = RingMemory::new(frames, request.check()?)?;
        let sizes = request.sizes;
        // Linux computes a time from the speed of the link where none is given, and takes 8 ms if that is not known.
        let patience = if sizes.retire_blk_tov == 0 { 8 } else { sizes.retire_blk_tov };
        let state = State {
            active: 0,
            is_open: false,
            sequence: 1,
            frames: 0,
            next: 0,
            last: 0,
            last_time: 0,
            was_waiting: None,
            is_losing: false,
            is_frozen: false,
            freezes: 0,
        };
        let ring = Arc::new(Self {
            memory,
            shape,
            block_size: sizes.block_size,
            blocks: sizes.block_nr,
            first: first_offset(sizes.sizeof_priv),
            patience: u64::from(patience) * 1_000_000,
            kernel: Arc::downgrade(kernel),
            socket: OnceLock::new(),
            state: Mutex::new(state),
        });
        ring.open(&mut ring.state.lock());
        Ok(ring)
    }

    /// Names the socket whose waiters the timer wakes, and starts the timer.
    pub(in crate::socket::packet) fn start(self: &Arc<Self>, socket: &Weak<PacketSocket>) {
        if self.socket.set(socket.clone()).is_ok() {
            self.arm();
        }
    }

    pub(in crate::socket::packet) fn memory(&self) -> &Arc<RingMemory> {
        &self.memory
    }

    /// How often all blocks were full since it was last asked.
    pub(in crate::socket::packet) fn take_freezes(&self) -> u32 {
        std::mem::take(&mut self.state.lock().freezes)
    }

    fn arm(self: &Arc<Self>) {
        if let Some(kernel) = self.kernel.upgrade() {
            let at = kernel.clocks().monotonic().saturating_add(self.patience);
            kernel.timers().arm(at, Arc::new(Tick(Arc::downgrade(self))));
        }
    }

    fn offset(&self, block: u32) -> u64 {
        u64::from(block) * u64::from(self.block_size)
    }

    /// Opens the active block if the application has given it back (`prb_open_block`).
    fn open(&self, state: &mut State) -> bool {
        let at = self.offset(state.active);
        if state.is_open {
            return true;
        }
        if self.memory.load(at + STATUS) != TP_STATUS_KERNEL {
            return false;
        }
        let first = self.first as u32;
        // TPACKET_V3, where the application's own bytes are; then no frames, and where the first one will be.
        self.memory.write(at, [2, HEADER_LEN].as_bytes());
        self.memory.write(at + STATUS + 4, [0, first, first].as_bytes());
        self.memory.write(at + SEQUENCE, state.sequence.as_bytes());
        let now = self.shape.clocks.realtime_ns();
        self.memory.write(at + FIRST_TIME, seconds_and_nanos(now).as_bytes());
        state.sequence += 1;
        (state.frames, state.next, state.is_open) = (0, self.first, true);
        (state.last, state.last_time) = (self.first, now);
        (state.was_waiting, state.is_frozen) = (None, false);
        true
    }

    /// Hands the open block over (`prb_close_block`).
    fn close(&self, state: &mut State, because: u32) {
        let at = self.offset(state.active);
        self.memory.write_u32(at + state.last, 0);
        self.memory.write(at + LAST_TIME, seconds_and_nanos(state.last_time).as_bytes());
        self.memory.write(at + STATUS + 4, [state.frames, self.first as u32, state.next as u32].as_bytes());
        let losing = if std::mem::take(&mut state.is_losing) { TP_STATUS_LOSING } else { 0 };
        self.memory.publish(at + STATUS, TP_STATUS_USER | because | losing);
        state.active = if state.active + 1 == self.blocks { 0 } else { state.active + 1 };
        state.is_open = false;
    }

    fn fill(&self, state: &mut State, places: Places, captured: u32, frame: &Frame<'_>) {
        let at = self.offset(state.active) + state.next;
        let total = u64::from(places.mac + captured).next_multiple_of(8);
        // At most the size of a block.
        let mut data = vec![0; captured as usize];
        frame.copy_to(0, &mut data);
        self.memory.write(at + u64::from(places.mac), &data);
        if captured > 0 {
            write_vnet_header(&self.shape, &self.memory, at, places, frame);
        }
        let time = self.shape.time_of(frame);
        let [seconds, nanos] = seconds_and_nanos(time);
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let offsets = (places.mac & 0xffff) | (places.net << 16);
        // Where the next one is, ..., no hash, no tag of a VLAN, padding.
        let header = [total as u32, seconds, nanos, captured, len, status(frame), offsets, 0, 0, 0, 0, 0];
        self.memory.write(at, header.as_bytes());
        let address = address_of(&frame.from(), hardware_of(frame.medium()));
        self.memory.write(at + u64::from(Version::V3.header_len()), address.as_bytes());
        (state.last, state.last_time) = (state.next, time);
        state.next += total;
        state.frames += 1;
    }
}

impl FrameSink for BlockRing {
    fn take(&self, frame: &Frame<'_>) -> Taken {
        let mut state = self.state.lock();
        let Some(mut places) = self.shape.places(frame) else { return Taken::Full };
        let most = u32::try_from(u64::from(self.block_size) - self.first).unwrap_or(0);
        let mut captured = u32::try_from(frame.captured()).unwrap_or(u32::MAX);
        if places.mac.saturating_add(captured) >= most {
            places.mac = places.mac.min(most);
            captured = captured.min(most - places.mac);
        }
        let total = u64::from(places.mac + captured).next_multiple_of(8);
        let mut is_ready = false;
        // A frame that fills a block to its end does not go into the open one, be that empty: as in Linux
        // (__packet_lookup_frame_in_block), whose next block then takes whatever comes.
        if state.is_open && state.next + total >= u64::from(self.block_size) {
            self.close(&mut state, 0);
            is_ready = true;
        }
        if !state.is_open && !self.open(&mut state) {
            state.freezes += u32::from(!state.is_frozen);
            (state.is_losing, state.is_frozen) = (true, true);
            // What was handed over a moment ago wakes whoever waits when the timer looks, or did so already.
            return Taken::Full;
        }
        self.fill(&mut state, places, captured, frame);
        if is_ready { Taken::Ready } else { Taken::Held }
    }

    /// Whether the block that was handed over last is still there.
    fn is_readable(&self) -> bool {
        let active = self.state.lock().active;
        let last = if active == 0 { self.blocks - 1 } else { active - 1 };
        self.memory.load(self.offset(last) + STATUS) & TP_STATUS_USER != 0
    }
}

/// The timer of a ring, which must not keep it alive.
struct Tick(Weak<BlockRing>);

impl TimerTarget for Tick {
    fn expired(self: Arc<Self>, _: KTime) {
        let Some(ring) = self.0.upgrade() else { return };
        {
            let mut state = ring.state.lock();
            let current = state.is_open.then_some(state.sequence);
            if state.frames > 0 && current.is_some() && state.was_waiting == current {
                ring.close(&mut state, TP_STATUS_BLK_TMO);
                ring.open(&mut state);
            } else {
                state.was_waiting = current.filter(|_| state.frames > 0);
            }
        }
        let Some(socket) = ring.socket.get().and_then(Weak::upgrade) else { return };
        if ring.is_readable() {
            socket.stack_socket().wait_queue().notify(Readiness::IN);
        }
        ring.arm();
    }
}

/// Where the first frame of a block is (`BLK_PLUS_PRIV`).
pub(super) fn first_offset(private: u32) -> u64 {
    u64::from(HEADER_LEN) + u64::from(private).next_multiple_of(8)
}

/// Seconds wrap around in 2106.
fn seconds_and_nanos(time: u64) -> [u32; 2] {
    [(time / 1_000_000_000) as u32, (time % 1_000_000_000) as u32]
}

/// `sizeof(struct tpacket_block_desc)`, and where its fields are.
const HEADER_LEN: u32 = 48;
const STATUS: u64 = 8;
const SEQUENCE: u64 = 24;
const FIRST_TIME: u64 = 32;
const LAST_TIME: u64 = 40;
