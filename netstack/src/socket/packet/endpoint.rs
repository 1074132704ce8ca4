//! The receiving side of a packet socket.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::sync::Mutex;
use netstack_wire::ethernet::EtherType;

use super::frame::{Frame, FrameSink, Taken};
use super::{LinkAddress, PacketMode, PacketStats, ReceivedFrame};
use crate::bpf;
use crate::error::SocketError;
use crate::nic::NicId;
use crate::options::SocketOptions;
use crate::packet::{AddressedTo, Body};
use crate::secret::Secrets;
use crate::socket::datagram::body_len;
use crate::wait::{Readiness, WaitQueue};

pub(crate) struct PacketEndpoint {
    pub(super) mode: PacketMode,
    pub(super) waiters: WaitQueue,
    pub(super) filter: bpf::Slot,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    pub(super) options: SocketOptions,
    pub(super) nic: Option<NicId>,
    pub(super) protocol: EtherType,
    pub(super) receives_outgoing: bool,
    pub(super) queue: VecDeque<Queued>,
    pub(super) queued_bytes: usize,
    pub(super) sink: Option<Arc<dyn FrameSink>>,
    pub(super) stats: PacketStats,
    pub(super) error: Option<SocketError>,
}

#[derive(Debug, Clone)]
pub(super) struct Queued {
    pub(super) data: Body,
    /// Nothing of it is copied yet.
    pub(super) frame: ReceivedFrame,
}

impl PacketEndpoint {
    pub(super) fn new(mode: PacketMode, protocol: EtherType) -> Self {
        let state = State {
            options: SocketOptions::default(),
            nic: None,
            protocol,
            receives_outgoing: true,
            queue: VecDeque::new(),
            queued_bytes: 0,
            sink: None,
            stats: PacketStats::default(),
            error: None,
        };
        Self { mode, waiters: WaitQueue::new(), filter: bpf::Slot::default(), state: Mutex::new(state) }
    }

    /// Whether the socket takes part in what happens on a NIC with a protocol.
    pub(super) fn wants(&self, from: &LinkAddress) -> bool {
        let state = self.state.lock();
        let is_outgoing = from.addressed_to == AddressedTo::Outgoing;
        (state.protocol == ALL_PROTOCOLS || (state.protocol == from.protocol && !is_outgoing))
            && state.nic.is_none_or(|nic| Some(nic) == from.nic)
            && (state.receives_outgoing || !is_outgoing)
    }

    /// Whether another frame would be taken.
    pub(super) fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.queued_bytes < state.options.recv_buffer
    }

    /// Takes a frame that it wants, unless its program does not.
    pub(super) fn take(&self, frame: &Frame<'_>, secrets: &Secrets) {
        let start = if self.mode == PacketMode::Cooked { frame.link_len } else { 0 };
        let mut frame = Frame { start, captured: frame.packet.len().saturating_sub(start), ..*frame };
        if let Some(program) = self.filter.get() {
            match program.run(&frame.subject(secrets)) {
                0 => return,
                wanted => frame.captured = frame.captured.min(usize::try_from(wanted).unwrap_or(usize::MAX)),
            }
        }
        let taken = self.state.lock().put(&frame);
        if taken == Taken::Ready {
            self.waiters.notify(Readiness::IN);
        }
    }
}

impl State {
    fn put(&mut self, frame: &Frame<'_>) -> Taken {
        self.stats.packets += 1;
        let taken = match &self.sink {
            Some(sink) => sink.take(frame),
            None if self.queued_bytes >= self.options.recv_buffer => Taken::Full,
            None => self.enqueue(frame),
        };
        if taken == Taken::Full {
            self.stats.drops += 1;
        }
        taken
    }

    fn enqueue(&mut self, frame: &Frame<'_>) -> Taken {
        let mut packet = frame.packet.clone();
        packet.truncate(frame.start + frame.captured);
        let data = packet.into_payload(frame.start);
        let len = body_len(&data);
        self.queued_bytes += len + QUEUE_OVERHEAD;
        let frame = ReceivedFrame {
            copied: 0,
            len,
            original_len: frame.len(),
            link_len: frame.link_len,
            from: frame.from,
            arrival: frame.arrival,
            mark: frame.packet.meta.mark,
            priority: frame.packet.meta.priority,
            checksum: frame.checksum(),
            gso: frame.gso(),
            headers_len: frame.headers_len(),
            has_cwr: frame.has_cwr(),
        };
        self.queue.push_back(Queued { data, frame });
        Taken::Ready
    }

    /// The oldest frame, which stays in the queue if it is only peeked at.
    pub(super) fn next(&mut self, peek: bool) -> Option<Queued> {
        if peek {
            return self.queue.front().cloned();
        }
        let frame = self.queue.pop_front()?;
        self.queued_bytes -= body_len(&frame.data) + QUEUE_OVERHEAD;
        Some(frame)
    }

    pub(super) fn is_readable(&self) -> bool {
        !self.queue.is_empty() || self.sink.as_ref().is_some_and(|sink| sink.is_readable())
    }
}

impl std::fmt::Debug for PacketEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PacketEndpoint").field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// `ETH_P_ALL`.
const ALL_PROTOCOLS: EtherType = EtherType(3);
/// See the datagram sockets.
const QUEUE_OVERHEAD: usize = 512;
