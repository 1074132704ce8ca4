//! What the user does to a synchronised connection.

use super::super::common::Common;
use super::super::connection::Shutdown;
use super::super::error::SendError;
use super::super::num::usize_of;
use super::super::options::Options;
use super::super::outcome::{CloseReason, DropReason, Events, IcmpError, Outcome, Verdict};
use super::{Next, Open, Reaction, Synchronised};
use crate::hint::likely;
use crate::time::Instant;
use bytes::Bytes;
use netstack_wire::seq::SeqNum;

impl Open {
    /// Queues a copy of what there is room for.
    pub(in super::super) fn send(&mut self, common: &Common, data: &[u8]) -> Result<usize, SendError> {
        let room = self.send_room(common)?;
        let count = data.len().min(room);
        self.note_app_limit(common);
        self.snd.push_copy(&data[..count]);
        Ok(count)
    }

    /// Queues what there is room for by reference.
    pub(in super::super) fn send_bytes(&mut self, common: &Common, data: &Bytes) -> Result<usize, SendError> {
        let room = self.send_room(common)?;
        let count = data.len().min(room);
        self.note_app_limit(common);
        self.snd.push_shared(data.slice(..count));
        Ok(count)
    }

    /// Queues all of `data` by reference, whatever the room.
    pub(in super::super) fn send_admitted(&mut self, common: &Common, data: Bytes) -> Result<(), SendError> {
        if self.is_write_shut() {
            return Err(SendError::WriteClosed);
        }
        self.note_app_limit(common);
        self.snd.push_shared(data);
        Ok(())
    }

    /// Queues a copy of all of `data`, whatever the room.
    pub(in super::super) fn send_copied(&mut self, common: &Common, data: &[u8]) -> Result<(), SendError> {
        if self.is_write_shut() {
            return Err(SendError::WriteClosed);
        }
        self.note_app_limit(common);
        self.snd.push_copy(data);
        Ok(())
    }

    /// Data comes: the application may have been what limits the sender, unless its buffer was, which is full then of what
    /// is in flight.
    #[inline]
    pub(super) fn note_app_limit(&mut self, common: &Common) {
        let queued = self.snd.queued();
        if likely(queued < common.least_send_capacity() / 2) || queued < self.send_capacity(common) / 2 {
            self.snd.note_app_limit();
        }
    }

    /// How many bytes would be queued now.
    pub(in super::super) fn send_room(&self, common: &Common) -> Result<usize, SendError> {
        if self.is_write_shut() {
            return Err(SendError::WriteClosed);
        }
        match self.send_capacity(common).saturating_sub(self.snd.queued()) {
            0 => Err(SendError::WouldBlock),
            room => Ok(usize_of(room)),
        }
    }

    /// Whether at least `len` bytes, which are few, would be queued now.
    #[inline]
    pub(in super::super) fn has_send_room(&self, common: &Common, len: u32) -> bool {
        let wanted = self.snd.queued().saturating_add(len);
        likely(!self.is_write_shut())
            && (likely(wanted <= common.least_send_capacity()) || wanted <= self.send_capacity(common))
    }

    /// See [`Common::send_capacity`].
    pub(super) fn send_capacity(&self, common: &Common) -> u32 {
        common.send_capacity(self.snd.mss(), self.snd.largest_flight())
    }

    /// Linux's `sk_stream_is_writeable`: a third of the buffer is free, and not too much waits unsent.
    ///
    /// DEVIATION: of a large buffer a fixed part is enough. A third of one that holds just the bandwidth-delay product is
    /// written in one burst, and the next waits until all of that is acknowledged: a part of the window lies idle.
    #[inline]
    pub(super) fn is_writable(&self, common: &Common) -> bool {
        if self.snd.queued() == 0 {
            // All of it is free.
            return common.not_sent_low_water() > 0;
        }
        self.is_partly_writable(common)
    }

    #[inline(never)]
    fn is_partly_writable(&self, common: &Common) -> bool {
        let capacity = self.send_capacity(common);
        let free = capacity.saturating_sub(self.snd.queued());
        let low_water = common.not_sent_low_water();
        // tcp_stream_memory_free: who waits is told when there is twice the room.
        free >= (capacity / 3).min(ENOUGH_ROOM) && self.snd.not_sent().saturating_mul(2) < low_water
    }

    /// The user has read something: the window may have opened.
    #[inline]
    pub(in super::super) fn on_read(&mut self, common: &Common, now: Instant) {
        let may_tune = common.config.tune_receive_buffer && common.options.receive_buffer.is_none();
        self.rcv.on_read(&common.config, now, may_tune);
        self.arm_release(now);
    }

    /// `shutdown(2)`.
    ///
    /// The read side sends nothing: queued data stays readable, then comes the end of the stream.
    pub(in super::super) fn shutdown(&mut self, common: &Common, now: Instant, how: Shutdown) -> Reaction {
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            self.is_read_shut = true;
        }
        let mut events = Events::empty();
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            self.close_write();
        }
        if self.is_read_shut && self.is_write_shut() && !self.rcv.queue.is_empty() {
            // DEVIATION: Linux only does this on close(2). The rule of this stack: both directions shut with
            // unread data resets, so that the peer learns at once that it was not read.
            let reset = self.make_reset(common, now);
            return Reaction::closed(CloseReason::Aborted, Some(reset));
        }
        events.set(Events::READABLE | Events::READ_CLOSED, self.is_read_shut);
        events.set(Events::TRANSMIT, self.wants_to_transmit());
        Reaction::stay(events)
    }

    /// `close(2)`: RFC 2525 section 2.17 resets when data is unread, otherwise everything goes on without the user.
    pub(in super::super) fn close(&mut self, common: &Common, now: Instant) -> Reaction {
        self.is_orphan = true;
        self.is_read_shut = true;
        if !self.rcv.queue.is_empty() {
            let reset = self.make_reset(common, now);
            return Reaction::closed(CloseReason::Aborted, Some(reset));
        }
        self.close_write();
        if self.state == Synchronised::FinWait2 && !self.arm_fin_wait2(common, now) {
            return Reaction::closed(CloseReason::Done, None);
        }
        let events = if self.wants_to_transmit() { Events::TRANSMIT } else { Events::empty() };
        Reaction::stay(events)
    }

    /// Resets the connection where the peer could still expect something of it (Linux's `tcp_need_reset`).
    pub(in super::super) fn abort(&mut self, common: &Common, now: Instant) -> Reaction {
        let wants_reset = match self.state {
            Synchronised::Closing | Synchronised::LastAck => !self.snd.is_fin_sent(),
            Synchronised::Established
            | Synchronised::CloseWait
            | Synchronised::FinWait1
            | Synchronised::FinWait2 => true,
        };
        let reset = wants_reset.then(|| self.make_reset(common, now));
        Reaction::closed(CloseReason::Aborted, reset)
    }

    /// `MSG_MORE`: whether the data just queued is to be followed by more, so that its partial segment waits.
    pub(in super::super) fn set_more(&mut self, common: &Common, has_more: bool) {
        if !common.options.cork {
            self.cork_until = None;
            self.is_cork_expired = false;
        }
        self.has_more = has_more;
    }

    /// Takes over changed options.
    pub(in super::super) fn set_options(&mut self, common: &Common, now: Instant, before: &Options) {
        let had_keepalive = before.keepalive;
        self.set_header_overhead(common, before);
        self.rcv.set_options(&common.options);
        self.snd.set_algorithm(common.algorithm());
        self.snd.set_max_pacing_rate(common.options.max_pacing_rate);
        let is_fin_wait2 = self.state == Synchronised::FinWait2 && self.is_orphan;
        if common.options.keepalive != had_keepalive || common.options.keepalive && !is_fin_wait2 {
            self.arm_keepalive(common, now);
        }
        if !common.options.cork {
            self.cork_until = None;
            self.is_cork_expired = false;
        }
    }

    /// The options may say another length of the IP headers than before.
    pub(in super::super) fn set_header_overhead(&mut self, common: &Common, before: &Options) {
        let (before, now) = (before.header_overhead, common.options.header_overhead);
        if before != now {
            self.snd.set_header_overhead(before, now, common.config.min_mss);
        }
    }

    /// `TCP_QUICKACK`.
    pub(in super::super) fn set_quick_ack(&mut self, on: bool) {
        self.rcv.set_quick_ack(on);
    }

    /// A smaller or larger path MTU (RFC 1191, RFC 8201); `quoted` must be in flight (RFC 5927 section 7).
    pub(in super::super) fn on_pmtu(
        &mut self,
        common: &Common,
        path_mss: u16,
        quoted: Option<SeqNum>,
    ) -> Reaction {
        if quoted.is_some_and(|seq| !self.is_in_flight(seq)) {
            return self.ignored();
        }
        self.snd.set_path_mss(path_mss, common.options.header_overhead, common.config.min_mss);
        let events = if self.wants_to_transmit() { Events::TRANSMIT } else { Events::empty() };
        Reaction::stay(events)
    }

    /// RFC 5461 section 4: in the synchronised states all errors are soft.
    pub(in super::super) fn on_icmp_error(&mut self, error: IcmpError, quoted: SeqNum) -> Reaction {
        if !self.is_in_flight(quoted) {
            return self.ignored();
        }
        self.soft_error = Some(error);
        Reaction::stay(Events::empty())
    }

    /// Takes the last ICMP error that did not end the connection.
    pub(in super::super) fn take_soft_error(&mut self) -> Option<IcmpError> {
        self.soft_error.take()
    }

    fn is_in_flight(&self, seq: SeqNum) -> bool {
        seq.ge(self.snd.snd_una) && seq.lt(self.snd.snd_nxt)
    }

    fn ignored(&self) -> Reaction {
        let verdict = Verdict::Dropped(DropReason::OutOfWindow);
        Reaction { outcome: Outcome { verdict, events: Events::empty() }, next: Next::Stay }
    }

    /// Queues FIN and moves to the state that waits for its acknowledgment.
    pub(super) fn close_write(&mut self) {
        let next = match self.state {
            Synchronised::Established => Synchronised::FinWait1,
            Synchronised::CloseWait => Synchronised::LastAck,
            Synchronised::FinWait1
            | Synchronised::FinWait2
            | Synchronised::Closing
            | Synchronised::LastAck => return,
        };
        self.state = next;
        self.snd.push_fin();
    }
}

/// Worth a wake-up, and within what a cache holds.
const ENOUGH_ROOM: u32 = 256 << 10;
