//! The handshake of a connection that Fast Open has opened before its end (RFC 7413 section 4.2.2): data flows already,
//! while our SYN-ACK waits for its acknowledgment. To the outside this is SYN-RECEIVED.

use super::common::{Common, bare};
use super::isn::Seed;
use super::negotiated::Offer;
use super::outcome::CloseReason;
use super::segment::{SegmentIn, Transmit};
use super::syn_sent::{backed_off, timestamp};
use crate::time::Instant;
use core::time::Duration;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{FastOpenCookie, TcpFlags, Timestamps};

/// What is needed until the peer has acknowledged our SYN.
#[derive(Clone, Debug)]
pub(super) struct Unconfirmed {
    seed: Seed,
    irs: SeqNum,
    offer: Offer,
    sent_at: Instant,
    retransmits: u32,
    deadline: Instant,
    is_due: bool,
    /// For the client whose cookie was of the key before.
    new_cookie: Option<FastOpenCookie>,
}

impl Unconfirmed {
    pub(super) fn new(common: &Common, now: Instant, seed: Seed, irs: SeqNum, offer: Offer) -> Self {
        let deadline = now + backed_off(common, 0);
        Self { seed, irs, offer, sent_at: now, retransmits: 0, deadline, is_due: true, new_cookie: None }
    }

    /// Hands a cookie out with the SYN-ACK.
    pub(super) fn with_cookie(self, new_cookie: Option<FastOpenCookie>) -> Self {
        Self { new_cookie, ..self }
    }

    /// Whether a segment is the SYN again: our SYN-ACK was lost.
    pub(super) fn is_same_syn(&self, segment: &SegmentIn) -> bool {
        let repr = &segment.repr;
        repr.seq == self.irs && repr.flags & (TcpFlags::SYN | TcpFlags::ACK) == TcpFlags::SYN
    }

    /// Sends the SYN-ACK again.
    pub(super) fn repeat(&mut self) {
        self.is_due = true;
    }

    /// The round trip of the handshake, unless a retransmission makes it ambiguous (Karn).
    pub(super) fn rtt(&self, now: Instant) -> Option<Duration> {
        (self.retransmits == 0).then(|| now - self.sent_at)
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn on_timer(&mut self, common: &Common, now: Instant) -> Result<(), CloseReason> {
        if now < self.deadline {
            return Ok(());
        }
        if self.retransmits >= u32::from(common.config.synack_retries) {
            return Err(CloseReason::TimedOut);
        }
        self.retransmits += 1;
        self.deadline = now + backed_off(common, self.retransmits);
        self.is_due = true;
        Ok(())
    }

    pub(super) fn wants_to_transmit(&self) -> bool {
        self.is_due
    }

    /// Gives the SYN-ACK, which acknowledges the data as well.
    pub(super) fn poll_transmit(
        &mut self,
        common: &Common,
        now: Instant,
        rcv_nxt: SeqNum,
        echo: u32,
    ) -> Option<Transmit> {
        if !core::mem::take(&mut self.is_due) {
            return None;
        }
        let mut repr = common.header(self.seed.iss, rcv_nxt, TcpFlags::SYN | TcpFlags::ACK);
        repr.flags.set(TcpFlags::ECE, self.offer.ecn);
        self.offer.write(&mut repr, Timestamps { value: timestamp(now, self.seed), echo });
        repr.options.fast_open = self.new_cookie;
        Some(bare(repr))
    }
}
