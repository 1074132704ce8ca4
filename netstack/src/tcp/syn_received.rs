//! SYN-RECEIVED with a whole machine: two SYNs have crossed (RFC 9293 section 3.5, figure 8), or a forwarder answers a
//! single SYN that no listener wanted.
//!
//! A listener's half-open connections are small records inside of it instead.

use super::common::{Common, bare};
use super::isn::Seed;
use super::negotiated::Offer;
use super::negotiated::{HandshakeAnswer, Negotiated, PeerOffer, send_mss};
use super::outcome::{CloseReason, DropReason};
use super::path::PathInfo;
use super::rate_limit::RateLimit;
use super::segment::{Payload, SegmentIn, Transmit};
use super::syn_sent::{SynSent, backed_off, timestamp};
use crate::time::Instant;
use netstack_wire::tcp::{TcpFlags, Timestamps};

/// The data of SYN-RECEIVED.
#[derive(Clone, Debug)]
pub(super) struct SynReceived {
    seed: Seed,
    offer: Offer,
    negotiated: Negotiated,
    retransmits: u32,
    deadline: Instant,
    is_due: bool,
    started: Instant,
    challenge: RateLimit,
    is_ack_due: bool,
    /// A RST that an unacceptable acknowledgment asked for.
    reset: Option<Box<Transmit>>,
    /// The user has closed or shut the sending direction: FIN follows as soon as the handshake is complete.
    pub(super) is_closing: bool,
    /// What a Fast Open SYN of ours carried: the crossing SYN has acknowledged nothing of it.
    pub(super) pending: Payload,
}

/// What a segment does in SYN-RECEIVED.
#[derive(Debug)]
pub(super) enum SynReceivedReaction {
    /// Nothing changes.
    Drop(DropReason),
    /// The handshake is complete.
    Established(Box<Negotiated>, SegmentIn),
    /// It failed.
    Closed(CloseReason),
}

impl SynReceived {
    /// A SYN without ACK met ours.
    pub(super) fn crossed(
        common: &Common,
        now: Instant,
        sent: &mut SynSent,
        segment: &SegmentIn,
        peer: &PeerOffer,
    ) -> Self {
        // A SYN that crossed ours answers nothing, so it measures nothing.
        let negotiated =
            Negotiated { rtt: None, is_path_lossy: false, ..sent.negotiate(common, now, segment, peer) };
        let passive = Offer::passive(&common.config, &common.options, sent.path, peer, segment.repr.flags);
        // The window and its shift were announced already, whatever the peer says now.
        let offer = Offer {
            window: sent.offer.window,
            window_shift: passive.window_shift.and(sent.offer.window_shift),
            ..passive
        };
        Self {
            seed: sent.seed,
            offer,
            negotiated,
            retransmits: sent.retransmits,
            deadline: now + backed_off(common, sent.retransmits),
            is_due: true,
            started: now,
            challenge: RateLimit::default(),
            is_ack_due: false,
            reset: None,
            is_closing: false,
            pending: sent.take_unacked(0),
        }
    }

    /// A SYN is answered on its own (RFC 9293 section 3.10.7.2, third check).
    pub(super) fn passive(
        common: &Common,
        now: Instant,
        seed: Seed,
        path: PathInfo,
        syn: &SegmentIn,
    ) -> Self {
        let repr = &syn.repr;
        let peer = PeerOffer::new(&repr.options);
        let offer = Offer::passive(&common.config, &common.options, path, &peer, syn.syn_flags());
        let (rcv_shift, snd_shift) = offer.window_shift.zip(peer.window_shift).unwrap_or((0, 0));
        let negotiated = Negotiated {
            now,
            iss: seed.iss,
            irs: repr.seq,
            // RFC 7323 section 2.2: the window of a SYN is never scaled.
            snd_wnd: u32::from(repr.window),
            snd_wnd_shift: snd_shift,
            rcv_wnd: u32::from(offer.window),
            rcv_wnd_shift: rcv_shift,
            has_window_scaling: offer.window_shift.is_some(),
            send_mss: send_mss(&common.config, &common.options, path, peer.mss),
            peer_mss: peer.mss,
            advertised_mss: offer.mss,
            has_sack: offer.sack,
            timestamps: peer.timestamps.filter(|_| offer.timestamps),
            timestamp_offset: seed.timestamp_offset,
            has_ecn: offer.ecn,
            rtt: None,
            is_path_lossy: false,
        };
        Self {
            seed,
            offer,
            negotiated,
            retransmits: 0,
            deadline: now + backed_off(common, 0),
            is_due: true,
            started: now,
            challenge: RateLimit::default(),
            is_ack_due: false,
            reset: None,
            is_closing: false,
            pending: Payload::new(),
        }
    }

    /// Processes a segment (RFC 9293 section 3.10.7.4).
    pub(super) fn on_segment(
        &mut self,
        common: &Common,
        now: Instant,
        segment: SegmentIn,
    ) -> SynReceivedReaction {
        let repr = segment.repr;
        let rcv_nxt = self.negotiated.irs + 1;
        if repr.flags.contains(TcpFlags::RST) {
            // RFC 5961 section 3.2, and in this state of an active open: "connection refused".
            if repr.seq == rcv_nxt {
                return SynReceivedReaction::Closed(CloseReason::Refused);
            }
            if !repr.seq.is_within(rcv_nxt, self.negotiated.rcv_wnd.max(1)) {
                return SynReceivedReaction::Drop(DropReason::OutOfWindow);
            }
            self.is_ack_due = self.challenge.allows(now, common.config.challenge_ack_interval);
            return SynReceivedReaction::Drop(DropReason::InexactReset);
        }
        let is_syn = repr.flags.contains(TcpFlags::SYN);
        let is_answer = is_syn && repr.flags.contains(TcpFlags::ACK) && repr.seq == self.negotiated.irs;
        let is_repeated = is_syn && !repr.flags.contains(TcpFlags::ACK) && repr.seq == self.negotiated.irs;
        if is_repeated {
            // Our SYN-ACK was lost; Linux repeats it within the same rate as challenge ACKs.
            self.is_due |= self.challenge.allows(now, common.config.challenge_ack_interval);
            return SynReceivedReaction::Drop(DropReason::UnexpectedSyn);
        }
        let is_in_window = repr.seq.is_within(rcv_nxt, self.negotiated.rcv_wnd.max(1));
        if !is_answer && (is_syn || !is_in_window) {
            self.is_ack_due = self.challenge.allows(now, common.config.challenge_ack_interval);
            return SynReceivedReaction::Drop(if is_syn {
                DropReason::UnexpectedSyn
            } else {
                DropReason::OutOfWindow
            });
        }
        if !repr.flags.contains(TcpFlags::ACK) {
            return SynReceivedReaction::Drop(DropReason::NoAck);
        }
        if repr.ack != self.seed.iss + 1 {
            // "If the segment acknowledgment is not acceptable, form a reset segment <SEQ=SEG.ACK><CTL=RST>" and go on: it
            // may be anybody's.
            self.reset = Some(Box::new(common.reset(repr.ack, None, None)));
            return SynReceivedReaction::Drop(DropReason::BadAck);
        }
        let mut negotiated = self.negotiated;
        negotiated.now = now;
        let echo = negotiated.timestamps.and(repr.options.timestamps).map(|timestamps| timestamps.echo);
        let answer = HandshakeAnswer { sent_at: Some(self.started), retransmits: self.retransmits, echo };
        negotiated.rtt = answer.rtt(now, self.seed);
        negotiated.is_path_lossy = answer.is_path_lossy(self.seed);
        // The window of a SYN-ACK is not scaled.
        let shift = if is_syn { 0 } else { negotiated.snd_wnd_shift };
        negotiated.snd_wnd = u32::from(repr.window) << shift;
        SynReceivedReaction::Established(Box::new(negotiated), segment)
    }

    pub(super) fn next_deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn on_timer(&mut self, common: &Common, now: Instant) -> Result<(), CloseReason> {
        if now < self.deadline {
            return Ok(());
        }
        let is_over = match common.options.user_timeout {
            Some(limit) => now - self.started >= limit,
            None => self.retransmits >= u32::from(common.config.synack_retries),
        };
        if is_over {
            return Err(CloseReason::TimedOut);
        }
        self.retransmits += 1;
        self.deadline = now + backed_off(common, self.retransmits);
        self.is_due = true;
        Ok(())
    }

    pub(super) fn wants_to_transmit(&self) -> bool {
        self.is_due || self.is_ack_due || self.reset.is_some()
    }

    /// Gives the SYN-ACK, a challenge ACK or a RST.
    pub(super) fn poll_transmit(&mut self, common: &Common, now: Instant) -> Option<Transmit> {
        if let Some(reset) = self.reset.take() {
            return Some(*reset);
        }
        let timestamps =
            Timestamps { value: timestamp(now, self.seed), echo: self.negotiated.timestamps.unwrap_or(0) };
        let rcv_nxt = self.negotiated.irs + 1;
        if core::mem::take(&mut self.is_ack_due) {
            let mut repr = common.header(self.seed.iss + 1, rcv_nxt, TcpFlags::ACK);
            repr.window = self.offer.window >> self.negotiated.rcv_wnd_shift;
            repr.options.timestamps = self.offer.timestamps.then_some(timestamps);
            return Some(bare(repr));
        }
        if !core::mem::take(&mut self.is_due) {
            return None;
        }
        self.deadline = now + backed_off(common, self.retransmits);
        let mut repr = common.header(self.seed.iss, rcv_nxt, TcpFlags::SYN | TcpFlags::ACK);
        repr.flags.set(TcpFlags::ECE, self.offer.ecn);
        self.offer.write(&mut repr, timestamps);
        Some(bare(repr))
    }

    /// A RST for the peer, when the user gives up.
    pub(super) fn make_reset(&self, common: &Common) -> Box<Transmit> {
        Box::new(common.reset(self.seed.iss + 1, Some(self.negotiated.irs + 1), None))
    }
}
