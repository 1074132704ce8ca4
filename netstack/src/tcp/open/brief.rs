//! The brief life of a connection that carries nothing: how one at rest ends in order without being woken.
//!
//! Many connections are opened only to see whether they can be, and of those that serve one exchange each many are closed
//! by an end that has nothing left to say. Taken are, on a connection without [history](super::rest):
//! - an ACK or FIN that is plain ([`PlainSegment`]), stands at RCV.NXT and acknowledges just what was sent: the FIN if there
//!   was one;
//! - the user's close, or the shutdown of the sending direction;
//! - the FINs and ACKs that follow from those.
//!
//! Everything else wakes the connection, which then is what it would be had it never rested: what happened to the FIN
//! is done once more to the machine that wakes ([`Resting::repeat_end`]).

use super::super::ack_policy::BARE_FIN_DELAY;
use super::super::common::Common;
use super::super::config::MtuProbing;
use super::super::congestion::Algorithm;
use super::super::connection::Shutdown;
use super::super::num::{low_u32, sat_u16};
use super::super::outcome::Events;
use super::super::segment::{Ecn, PlainSegment, PlainTransmit, SegmentIn};
use super::super::sender::AckInput;
use super::super::state::State;
use super::super::time_wait::FinalNumbers;
use super::rest::OwedAck;
use super::{Open, Resting, Synchronised};
use crate::time::Instant;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{SackBlocks, TcpFlags, Timestamps};

/// Where a segment takes a connection at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Step {
    /// It goes on resting.
    Stay(Events),
    TimeWait(Events),
    /// Both directions have ended.
    Done(Events),
}

impl Resting {
    /// Whether the user's and the peer's next steps can be taken at rest.
    fn is_brief(&self, common: &Common) -> bool {
        // Bbr learns from every acknowledgment, and a search for the path's MTU begins awake.
        self.history.is_none()
            && common.algorithm() != Algorithm::Bbr
            && common.config.mtu_probing != MtuProbing::Always
    }

    /// Begins after a handshake that `segment` has completed; `None` if that or the connection is not one for this.
    pub(in super::super) fn begin_passive(
        common: &Common,
        now: Instant,
        resting: Self,
        segment: &SegmentIn,
    ) -> Option<Self> {
        let mut resting = resting;
        let plain = segment.as_bare().filter(|plain| !plain.has_fin)?;
        resting.on_plain(common, now, &plain).is_some().then_some(resting)
    }

    /// Begins with the last step of the handshake to be sent; `None` if the connection is not one for this.
    pub(in super::super) fn begin_active(common: &Common, resting: Self) -> Option<Self> {
        resting.is_brief(common).then_some(Self { owed_ack: OwedAck::Now, ..resting })
    }

    /// Processes a segment if it is one of those. Otherwise nothing has happened.
    pub(in super::super) fn on_plain(
        &mut self,
        common: &Common,
        now: Instant,
        segment: &PlainSegment<'_>,
    ) -> Option<Step> {
        let &PlainSegment { seq, ack, window, is_pushed: _, has_fin, timestamps, payload } = segment;
        let window = self.snd.scale_window(window);
        let is_next = seq == self.rcv.rcv_nxt() && payload.is_empty() && ack == self.snd_nxt();
        let is_ready = !self.is_fin_due && self.owed_ack == OwedAck::None && window > 0;
        if !is_next || !is_ready || !self.is_brief(common) || self.rcv.is_paws_violation(now, timestamps) {
            return None;
        }
        // RFC 9293 section 3.10.7.4: the acknowledgment first, then the FIN.
        let is_ours_acked = matches!(self.state, Synchronised::FinWait1 | Synchronised::LastAck);
        let (next, step) = match (self.state, has_fin) {
            (Synchronised::Established, false) => (Synchronised::Established, Step::Stay(Events::empty())),
            (Synchronised::Established, true) => (Synchronised::CloseWait, Step::Stay(FIN_CAME)),
            (Synchronised::FinWait1, false) => (Synchronised::FinWait2, Step::Stay(Events::empty())),
            (Synchronised::FinWait1 | Synchronised::FinWait2, true) => {
                (Synchronised::FinWait2, Step::TimeWait(ENDED))
            }
            (Synchronised::LastAck, false) => (Synchronised::LastAck, Step::Done(Events::empty())),
            _ => return None,
        };
        if next == Synchronised::FinWait2 && self.is_orphan && self.state != next {
            // Without such a time, the end is a reset.
            self.slow_timer = now + common.fin_timeout()?;
        }
        self.state = next;
        self.segments_in += 1;
        self.last_segment_at = now;
        self.rcv.update_timestamp(now, timestamps);
        let mut acked = Events::empty();
        if is_ours_acked {
            self.snd.on_fin_acked(seq, window);
            acked = Events::ACKED;
            acked.set(Events::WRITABLE, common.not_sent_low_water() > 0);
        } else {
            self.snd.on_known_ack(seq, window);
        }
        if has_fin {
            self.rcv.take_fin();
            self.owed_ack = OwedAck::Delayed;
        }
        Some(match step {
            Step::Stay(events) => Step::Stay(events | acked),
            Step::TimeWait(events) => Step::TimeWait(events | acked),
            Step::Done(events) => Step::Done(events | acked),
        })
    }

    /// `close(2)`. False: nothing has happened.
    pub(in super::super) fn close(&mut self, common: &Common) -> bool {
        let has_closed = self.close_write(common);
        self.is_orphan |= has_closed;
        has_closed
    }

    /// `shutdown(2)`. False: nothing has happened.
    pub(in super::super) fn shutdown(&mut self, common: &Common, how: Shutdown) -> bool {
        how == Shutdown::Write && self.close_write(common)
    }

    fn close_write(&mut self, common: &Common) -> bool {
        let next = match self.state {
            Synchronised::Established => Synchronised::FinWait1,
            Synchronised::CloseWait => Synchronised::LastAck,
            _ => return false,
        };
        // A closed window is probed, not filled.
        if !self.is_brief(common) || self.snd.snd_wnd() == 0 {
            return false;
        }
        self.state = next;
        self.is_fin_due = true;
        true
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) has something.
    #[inline]
    pub(in super::super) fn wants_to_transmit(&self) -> bool {
        self.is_fin_due || self.owed_ack == OwedAck::Now
    }

    /// Gives the FIN or ACK that is due.
    pub(in super::super) fn poll_transmit(&mut self, common: &Common, now: Instant) -> Option<PlainTransmit> {
        if !self.wants_to_transmit() {
            return None;
        }
        let mut flags = TcpFlags::ACK;
        let seq = if self.is_fin_due { self.snd.snd_una() } else { self.snd_nxt() };
        if self.is_fin_due {
            flags |= TcpFlags::FIN;
            self.snd.on_fin_sent(now);
        }
        flags.set(TcpFlags::ECE, self.rcv.has_ce());
        (self.is_fin_due, self.owed_ack) = (false, OwedAck::None);
        let window = self.rcv.take_window_field(&common.options);
        let value = low_u32(now.as_millis()).wrapping_add(self.snd.timestamp_offset());
        let timestamps = self.rcv.recent().map(|echo| Timestamps { value, echo });
        self.segments_out += 1;
        Some(PlainTransmit { seq, ack: self.rcv.rcv_nxt(), flags, window, timestamps, ecn: Ecn::NotCapable })
    }

    /// The earliest deadline.
    pub(in super::super) fn next_deadline(&self, common: &Common) -> Option<Instant> {
        let first = match self.state {
            Synchronised::FinWait1 | Synchronised::LastAck if !self.is_fin_due => {
                self.slow_timer.min(self.snd.fin_deadline(&common.config))
            }
            _ if self.owed_ack == OwedAck::Delayed => self.slow_timer.min(self.ack_deadline()),
            _ => self.slow_timer,
        };
        (first != Instant::FAR_FUTURE).then_some(first)
    }

    /// Whether nothing but the ACK is due at `now`, which then is to be sent.
    pub(in super::super) fn on_ack_timer(&mut self, now: Instant) -> bool {
        let is_due = self.owed_ack == OwedAck::Delayed && self.ack_deadline() <= now && now < self.slow_timer;
        if is_due {
            self.owed_ack = OwedAck::Now;
        }
        is_due
    }

    /// Until when a delayed ACK waits.
    fn ack_deadline(&self) -> Instant {
        self.last_segment_at + BARE_FIN_DELAY
    }

    pub(in super::super) fn state(&self) -> State {
        self.state.public()
    }

    /// Whether a FIN of ours is on its way.
    pub(in super::super) fn is_fin_in_flight(&self) -> bool {
        matches!(self.state, Synchronised::FinWait1 | Synchronised::LastAck) && !self.is_fin_due
    }

    /// Whether the peer's FIN has come.
    pub(super) fn is_fin_received(&self) -> bool {
        matches!(self.state, Synchronised::CloseWait | Synchronised::LastAck)
    }

    pub(super) fn is_write_shut(&self) -> bool {
        !matches!(self.state, Synchronised::Established | Synchronised::CloseWait)
    }

    /// Whether a read gives the end of the stream.
    pub(in super::super) fn is_read_over(&self) -> bool {
        self.is_orphan || self.is_fin_received()
    }

    /// What TIME-WAIT begins with, after both FINs.
    pub(in super::super) fn final_numbers(&self) -> FinalNumbers {
        FinalNumbers {
            snd_nxt: self.snd.snd_una() + 1,
            rcv_nxt: self.rcv.rcv_nxt(),
            window: sat_u16(self.rcv.rcv_wnd() >> self.rcv.wnd_shift()),
            recent: self.rcv.recent(),
            timestamp_offset: self.snd.timestamp_offset(),
            is_ack_due: true,
        }
    }

    /// Where the peer's stream has ended, once its FIN has come.
    pub(in super::super) fn stream_end(&self) -> SeqNum {
        self.rcv.rcv_nxt() - 1
    }

    /// SND.UNA.
    pub(in super::super) fn snd_una(&self) -> SeqNum {
        self.snd.snd_una()
    }

    /// The number of the byte that is read next.
    pub(in super::super) fn read_position(&self) -> SeqNum {
        self.rcv.rcv_nxt() - u32::from(self.is_fin_received())
    }

    fn snd_nxt(&self) -> SeqNum {
        let has_sent_fin = self.is_write_shut() && !self.is_fin_due;
        self.snd.snd_una() + u32::from(has_sent_fin)
    }

    /// Does to a machine that wakes what has happened to our FIN.
    pub(super) fn repeat_end(&self, common: &Common, open: &mut Open) {
        if self.is_write_shut() {
            open.is_orphan = self.is_orphan;
            open.is_read_shut = self.is_orphan;
            open.close_write();
            if !self.is_fin_due {
                // It left then, as it was.
                let _ = open.poll_transmit(common, self.snd.last_sent_at(), 0);
                open.segments_out = self.segments_out;
            }
            if self.state == Synchronised::FinWait2 {
                let input = AckInput {
                    // It was the last segment that came.
                    now: self.last_segment_at,
                    seq: self.rcv.rcv_nxt(),
                    ack: self.snd_nxt(),
                    window: self.snd.snd_wnd(),
                    sack: SackBlocks::default(),
                    echo: None,
                    has_ecn_echo: false,
                    has_payload: false,
                };
                let _ = open.on_valid_ack(common, input);
                open.state = Synchronised::FinWait2;
            }
        }
        match self.owed_ack {
            OwedAck::None => {}
            OwedAck::Delayed => open.rcv.policy.allow_until(self.ack_deadline()),
            OwedAck::Now => open.rcv.policy.demand(),
        }
    }
}

/// For the peer's FIN: there is an end of the stream to read.
const FIN_CAME: Events = Events::READABLE.union(Events::READ_CLOSED);
/// For the one that ends the connection, and whose ACK nothing else can carry.
const ENDED: Events = FIN_CAME.union(Events::TRANSMIT).union(Events::TIME_WAIT);
