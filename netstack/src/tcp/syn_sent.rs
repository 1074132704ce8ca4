//! SYN-SENT: an active open waits for its answer (RFC 9293 section 3.10.7.3).

use super::closed::reset_reply;
use super::common::{Common, bare};
use super::fast_open::FastOpen;
use super::isn::Seed;
use super::negotiated::{HandshakeAnswer, Negotiated, Offer, PeerOffer, send_mss};
use super::num::low_u32;
use super::outcome::{CloseReason, DropReason, IcmpError};
use super::path::PathInfo;
use super::segment::{Payload, SegmentIn, Transmit};
use super::syn_received::SynReceived;
use crate::time::Instant;
use core::time::Duration;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{TcpFlags, Timestamps};

/// The data of SYN-SENT.
#[derive(Clone, Debug)]
pub(super) struct SynSent {
    pub(super) seed: Seed,
    pub(super) offer: Offer,
    pub(super) path: PathInfo,
    /// When the first SYN was sent; `None` before.
    sent_at: Option<Instant>,
    pub(super) retransmits: u32,
    /// When to send the SYN again.
    deadline: Instant,
    is_due: bool,
    /// The SYN waits for the first data (`TCP_FASTOPEN_CONNECT`).
    is_held: bool,
    /// A RST that an unacceptable acknowledgment asked for.
    reset: Option<Box<Transmit>>,
    started: Instant,
    soft_error: Option<IcmpError>,
    fast_open: Option<Box<FastOpen>>,
    /// How much of its data was in the SYN.
    syn_data: u32,
}

/// What a segment does in SYN-SENT.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once per connection, and taken apart at once")]
pub(super) enum SynSentReaction {
    /// Nothing changes.
    Drop(DropReason),
    /// The handshake is complete. The payload is what the application gave for the SYN and the peer has not acknowledged.
    Established(Negotiated, SegmentIn, Payload),
    /// A SYN crossed ours.
    SynReceived(Box<SynReceived>),
    /// It failed.
    Closed(CloseReason),
}

impl SynSent {
    pub(super) fn new(common: &Common, now: Instant, path: PathInfo, seed: Seed) -> Self {
        let offer = Offer::active(&common.config, &common.options, path);
        Self {
            seed,
            offer,
            path,
            sent_at: None,
            retransmits: 0,
            deadline: now + syn_wait(common, 0),
            is_due: true,
            is_held: false,
            reset: None,
            started: now,
            soft_error: None,
            fast_open: None,
            syn_data: 0,
        }
    }

    /// Whether nothing was sent yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.sent_at.is_none()
    }

    /// Puts data, or the request for a cookie, into a SYN that was not sent yet.
    pub(super) fn set_fast_open(&mut self, fast_open: FastOpen) {
        self.fast_open = Some(Box::new(fast_open));
    }

    /// Queues data behind what the SYN carries.
    pub(super) fn append(&mut self, data: Payload) {
        let empty = || Box::new(FastOpen { cookie: None, mss: 0, data: Payload::new() });
        let attempt = self.fast_open.get_or_insert_with(empty);
        data.into_ranges().into_iter().for_each(|range| attempt.data.push(range));
    }

    /// Keeps the SYN back until [`release`](Self::release).
    pub(super) fn hold(&mut self) {
        (self.is_held, self.is_due) = (true, false);
    }

    /// Whether the SYN waits for data.
    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Lets the SYN that was kept back leave.
    pub(super) fn release(&mut self, common: &Common, now: Instant) {
        (self.is_held, self.is_due) = (false, true);
        self.started = now;
        self.deadline = now + syn_wait(common, 0);
    }

    /// Takes back what the SYN was to carry, less what the peer has acknowledged of it.
    pub(super) fn take_unacked(&mut self, acked: u32) -> Payload {
        let Some(attempt) = self.fast_open.take() else { return Payload::new() };
        let mut rest = attempt.data;
        rest.advance(super::num::usize_of(acked));
        rest
    }

    /// Processes a segment.
    pub(super) fn on_segment(
        &mut self,
        common: &Common,
        now: Instant,
        segment: SegmentIn,
    ) -> SynSentReaction {
        let repr = segment.repr;
        let has_ack = repr.flags.contains(TcpFlags::ACK);
        if has_ack {
            // "If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset (unless the RST bit is set ...)". Only our SYN is out,
            // perhaps with data.
            let is_expected =
                repr.ack.is_within(self.seed.iss + 1, self.syn_data + 1) && self.sent_at.is_some();
            // Linux also refuses an echo from the future or before the first SYN (RFC 7323 section 3.2 allows it).
            if !is_expected || self.is_echo_bad(now, repr.options.timestamps) {
                if self.retransmits == 0 {
                    // Linux: the answer to our RST may have made room for the SYN, so it need not wait for its timer.
                    self.deadline = self.deadline.min(now + RETRY_AFTER_BAD_ACK);
                }
                self.reset = reset_reply(&segment).map(Box::new);
                return SynSentReaction::Drop(DropReason::BadAck);
            }
        }
        if repr.flags.contains(TcpFlags::RST) {
            // Without ACK it could be anybody's (RFC 9293, "otherwise (no ACK), drop the segment").
            return if has_ack {
                SynSentReaction::Closed(CloseReason::Refused)
            } else {
                SynSentReaction::Drop(DropReason::NoAck)
            };
        }
        if !repr.flags.contains(TcpFlags::SYN) {
            return SynSentReaction::Drop(DropReason::NoAck);
        }
        let peer = PeerOffer::new(&repr.options);
        if !has_ack {
            return SynSentReaction::SynReceived(Box::new(SynReceived::crossed(
                common, now, self, &segment, &peer,
            )));
        }
        let mut negotiated = self.negotiate(common, now, &segment, &peer);
        // The stream goes on behind what was acknowledged of the data in the SYN (RFC 7413 section 4.2.1).
        let acked = repr.ack - (self.seed.iss + 1);
        negotiated.iss += acked;
        SynSentReaction::Established(negotiated, segment, self.take_unacked(acked))
    }

    /// What SYN and SYN-ACK have agreed on.
    pub(super) fn negotiate(
        &self,
        common: &Common,
        now: Instant,
        segment: &SegmentIn,
        peer: &PeerOffer,
    ) -> Negotiated {
        let repr = &segment.repr;
        let scaling = self.offer.window_shift.zip(peer.window_shift);
        let (rcv_shift, snd_shift) = scaling.unwrap_or((0, 0));
        let has_timestamps = self.offer.timestamps && peer.timestamps.is_some();
        // RFC 3168 section 6.1.1: an ECN-setup SYN-ACK has ECE but not CWR.
        let has_ecn = self.offer.ecn && (repr.flags & (TcpFlags::ECE | TcpFlags::CWR)) == TcpFlags::ECE;
        let echo = repr.options.timestamps.filter(|_| has_timestamps).map(|timestamps| timestamps.echo);
        let answer = HandshakeAnswer { sent_at: self.sent_at, retransmits: self.retransmits, echo };
        Negotiated {
            now,
            iss: self.seed.iss,
            irs: repr.seq,
            // RFC 7323 section 2.2: the window of a SYN is never scaled.
            snd_wnd: u32::from(repr.window),
            snd_wnd_shift: snd_shift,
            rcv_wnd: u32::from(self.offer.window),
            rcv_wnd_shift: rcv_shift,
            has_window_scaling: scaling.is_some(),
            send_mss: send_mss(&common.config, &common.options, self.path, peer.mss),
            peer_mss: peer.mss,
            advertised_mss: self.offer.mss,
            has_sack: self.offer.sack && peer.sack,
            timestamps: peer.timestamps.filter(|_| has_timestamps),
            timestamp_offset: self.seed.timestamp_offset,
            has_ecn,
            rtt: answer.rtt(now, self.seed),
            is_path_lossy: answer.is_path_lossy(self.seed),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        (!self.is_held).then_some(self.deadline)
    }

    /// Retransmits or gives up (RFC 6298 section 5, RFC 1122 section 4.2.3.5).
    pub(super) fn on_timer(&mut self, common: &Common, now: Instant) -> Result<(), CloseReason> {
        if self.is_held || now < self.deadline {
            return Ok(());
        }
        let is_over = match common.options.user_timeout {
            Some(limit) => now - self.started >= limit,
            None => {
                let linear = u32::from(common.config.syn_linear_timeouts);
                self.retransmits >= common.syn_retries().saturating_add(linear)
            }
        };
        if is_over {
            return Err(self.soft_error.map_or(CloseReason::TimedOut, CloseReason::Unreachable));
        }
        self.retransmits += 1;
        self.deadline = self.bounded(common, now + syn_wait(common, self.retransmits));
        self.is_due = true;
        // RFC 3168 section 6.1.1.1: a lost ECN-setup SYN may have been dropped for its flags.
        self.offer.ecn = false;
        Ok(())
    }

    /// TCP_USER_TIMEOUT is noticed when it comes, not with the next SYN.
    fn bounded(&self, common: &Common, deadline: Instant) -> Instant {
        common.options.user_timeout.map_or(deadline, |limit| deadline.min(self.started + limit))
    }

    pub(super) fn wants_to_transmit(&self) -> bool {
        self.is_due || self.reset.is_some()
    }

    /// Gives the SYN, or a RST.
    pub(super) fn poll_transmit(&mut self, common: &Common, now: Instant) -> Option<Transmit> {
        if let Some(reset) = self.reset.take() {
            return Some(*reset);
        }
        if !core::mem::take(&mut self.is_due) {
            return None;
        }
        self.sent_at.get_or_insert(now);
        self.deadline = self.bounded(common, now + syn_wait(common, self.retransmits));
        let mut flags = TcpFlags::SYN;
        flags.set(TcpFlags::ECE | TcpFlags::CWR, self.offer.ecn);
        let mut repr = common.header(self.seed.iss, SeqNum(0), flags);
        self.offer.write(&mut repr, Timestamps { value: timestamp(now, self.seed), echo: 0 });
        let mut syn = bare(repr);
        // RFC 7413 section 4.2.1: a SYN that was lost may have been dropped for its data or option.
        if let Some(attempt) = self.fast_open.as_ref().filter(|_| self.retransmits == 0) {
            syn.repr.options.fast_open = attempt.cookie;
            let overhead = common.options.header_overhead;
            syn.payload = attempt.syn_payload(self.path.path_mss.saturating_sub(overhead));
            self.syn_data = syn.payload.len_u32();
        }
        Some(syn)
    }

    /// RFC 1122 section 4.2.3.9 and Linux: port and protocol unreachable refuse, the others only explain a timeout.
    pub(super) fn on_icmp_error(&mut self, error: IcmpError, quoted: SeqNum) -> Result<(), CloseReason> {
        if quoted != self.seed.iss {
            return Ok(());
        }
        self.soft_error = Some(error);
        match error {
            IcmpError::PortUnreachable
            | IcmpError::ProtocolUnreachable
            | IcmpError::Prohibited
            | IcmpError::HostUnreachable
            | IcmpError::NetUnreachable
            | IcmpError::ParameterProblem => Err(CloseReason::Unreachable(error)),
            IcmpError::TimeExceeded => Ok(()),
        }
    }

    /// Takes the last ICMP error that did not end the attempt.
    pub(super) fn take_soft_error(&mut self) -> Option<IcmpError> {
        self.soft_error.take()
    }

    fn is_echo_bad(&self, now: Instant, timestamps: Option<Timestamps>) -> bool {
        let (Some(sent_at), Some(Timestamps { echo, .. })) = (self.sent_at, timestamps) else { return false };
        if !self.offer.timestamps || echo == 0 {
            return false;
        }
        let first = timestamp(sent_at, self.seed);
        let last = timestamp(now, self.seed);
        echo.wrapping_sub(first) > last.wrapping_sub(first)
    }
}

impl Offer {
    /// Writes the offer into a SYN or SYN-ACK.
    pub(super) fn write(&self, repr: &mut netstack_wire::tcp::TcpRepr, timestamps: Timestamps) {
        repr.window = self.window;
        repr.options.mss = Some(self.mss);
        repr.options.window_scale = self.window_shift;
        repr.options.sack_permitted = self.sack;
        repr.options.timestamps = self.timestamps.then_some(timestamps);
    }
}

/// The connection's timestamps clock.
pub(super) fn timestamp(now: Instant, seed: Seed) -> u32 {
    low_u32(now.as_millis()).wrapping_add(seed.timestamp_offset)
}

/// The wait after a SYN that was sent `retransmits` times before: the backoff begins after the linear timeouts.
fn syn_wait(common: &Common, retransmits: u32) -> Duration {
    backed_off(common, retransmits.saturating_sub(common.config.syn_linear_timeouts.into()))
}

/// The wait after a SYN or SYN-ACK that was sent `retransmits` times before.
pub(super) fn backed_off(common: &Common, retransmits: u32) -> Duration {
    let factor = 1_u32.checked_shl(retransmits).unwrap_or(u32::MAX);
    common.config.rto_initial.saturating_mul(factor).min(common.config.rto_max)
}

/// Linux's `TCP_TIMEOUT_MIN`, two ticks.
const RETRY_AFTER_BAD_ACK: Duration = Duration::from_millis(8);
