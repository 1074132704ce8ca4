//! A synchronised connection: ESTABLISHED and the closing states up to TIME-WAIT.
//!
//! `input.rs` takes segments (and `plain.rs` the ordinary ones in short), `output.rs` gives them, `timer.rs` runs what is due,
//! `user.rs` carries out commands, `rest.rs` makes it small while it is idle, and `brief.rs` lets one that has nothing to say
//! end without having been any larger.

mod brief;
mod input;
mod output;
mod plain;
mod rest;
mod timer;
mod user;

use super::common::Common;
use super::info::Info;
use super::negotiated::Negotiated;
use super::outcome::{CloseReason, Events, IcmpError, Outcome, Verdict};
use super::rate_limit::RateLimit;
use super::readiness::Readiness;
use super::receiver::{Receiver, Stream};
use super::segment::Transmit;
use super::sender::Sender;
use super::state::State;
use super::unconfirmed::Unconfirmed;
use crate::time::Instant;
use netstack_wire::seq::SeqNum;

pub(super) use brief::Step;
pub(super) use rest::Resting;

/// The data of all synchronised states.
#[derive(Debug)]
pub(super) struct Open {
    state: Synchronised,
    pub(super) snd: Sender,
    pub(super) rcv: Receiver,
    /// The user has shut the receiving direction.
    is_read_shut: bool,
    /// The user has closed: nobody reads or writes any more (RFC 1122's orphan).
    is_orphan: bool,
    /// Limits ACKs to invalid segments.
    challenge: RateLimit,
    /// The slow timer: keepalive, or the end of an orphan's FIN-WAIT-2.
    slow_timer: Option<Instant>,
    keepalive_probes: u8,
    is_keepalive_due: bool,
    /// When corked data goes out regardless.
    cork_until: Option<Instant>,
    is_cork_expired: bool,
    /// The last data came with the promise of more (`MSG_MORE`), and no ACK has come since.
    has_more: bool,
    /// When to give back the memory that a busy connection keeps, unless it is busy then.
    release_at: Option<Instant>,
    /// It may be worth looking whether it can rest.
    wants_rest: bool,
    last_segment_at: Instant,
    /// The last ICMP error that did not end the connection (RFC 1122 section 4.2.3.9): the reason if it times out.
    soft_error: Option<IcmpError>,
    segments_in: u64,
    segments_out: u64,
    /// Fast Open: our SYN-ACK has not been acknowledged.
    unconfirmed: Option<Box<Unconfirmed>>,
}

/// The synchronised states (RFC 9293 section 3.3.2) except TIME-WAIT, which needs hardly any data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Synchronised {
    Established,
    /// The peer has closed.
    CloseWait,
    /// We have closed; FIN is queued or sent.
    FinWait1,
    /// Our FIN is acknowledged.
    FinWait2,
    /// Both have closed; our FIN is not acknowledged.
    Closing,
    /// The peer closed first; our FIN is not acknowledged.
    LastAck,
}

impl Synchronised {
    /// Its name among all states.
    fn public(self) -> State {
        match self {
            Self::Established => State::Established,
            Self::CloseWait => State::CloseWait,
            Self::FinWait1 => State::FinWait1,
            Self::FinWait2 => State::FinWait2,
            Self::Closing => State::Closing,
            Self::LastAck => State::LastAck,
        }
    }
}

/// What an input did, and whether the connection leaves the synchronised states.
#[derive(Debug)]
pub(super) struct Reaction {
    pub(super) outcome: Outcome,
    pub(super) next: Next,
}

/// Where the connection goes.
#[derive(Debug)]
pub(super) enum Next {
    Stay,
    TimeWait,
    Closed(CloseReason, Option<Box<Transmit>>),
}

impl Reaction {
    fn stay(events: Events) -> Self {
        Self { outcome: Outcome { verdict: Verdict::Accepted, events }, next: Next::Stay }
    }

    fn closed(reason: CloseReason, reset: Option<Box<Transmit>>) -> Self {
        let outcome = Outcome { verdict: Verdict::Accepted, events: Events::empty() };
        Self { outcome, next: Next::Closed(reason, reset) }
    }
}

impl Open {
    /// Begins in ESTABLISHED.
    pub(super) fn new(common: &Common, negotiated: &Negotiated) -> Self {
        let mut open = Resting::new(common, negotiated).wake(common, None);
        open.release_at = None;
        open.wants_rest = true;
        open.snd.begin_mtu_search(&common.config, negotiated.now);
        open
    }

    /// Begins before the peer has acknowledged our SYN.
    pub(super) fn set_unconfirmed(&mut self, unconfirmed: Unconfirmed) {
        self.unconfirmed = Some(Box::new(unconfirmed));
    }

    /// Goes on in a later state than ESTABLISHED.
    pub(super) fn resume_state(&mut self, is_fin_received: bool, is_write_shut: bool) {
        if is_fin_received {
            self.state = Synchronised::CloseWait;
        }
        if is_write_shut {
            self.close_write();
        }
    }

    pub(super) fn state(&self) -> State {
        if self.unconfirmed.is_some() && self.state == Synchronised::Established {
            return State::SynReceived;
        }
        self.state.public()
    }

    /// Whether the peer's FIN has come.
    fn is_fin_received(&self) -> bool {
        match self.state {
            Synchronised::CloseWait | Synchronised::Closing | Synchronised::LastAck => true,
            Synchronised::Established | Synchronised::FinWait1 | Synchronised::FinWait2 => false,
        }
    }

    /// Whether we have shut the sending direction.
    fn is_write_shut(&self) -> bool {
        !matches!(self.state, Synchronised::Established | Synchronised::CloseWait)
    }

    /// Whether a read at an empty queue gives the end of the stream.
    pub(super) fn is_read_over(&self) -> bool {
        self.is_read_shut || self.is_fin_received()
    }

    /// The number of the byte that is read next.
    pub(super) fn read_position(&self) -> SeqNum {
        self.rcv.rcv_nxt - u32::from(self.is_fin_received()) - self.rcv.queue.len()
    }

    /// Linux's `tcp_poll`.
    pub(super) fn readiness(&self, common: &Common) -> Readiness {
        let mut ready = Readiness::empty();
        let (_, readable) = self.rcv.read_bounds(common.options.urgent_inline);
        ready.set(Readiness::READABLE, self.is_read_over() || readable > 0);
        ready.set(Readiness::PRIORITY, self.rcv.has_urgent());
        ready.set(Readiness::READ_CLOSED, self.is_read_over());
        ready.set(Readiness::WRITABLE, self.is_write_shut() || self.is_writable(common));
        ready.set(Readiness::HANGUP, self.is_read_over() && self.is_write_shut());
        ready
    }

    /// How often the retransmission timer has run out since the last answer.
    pub(super) fn timeouts(&self) -> u32 {
        self.snd.recovery.timeouts
    }

    pub(super) fn info(&self, common: &Common, now: Instant) -> Info {
        let (snd, rcv) = (&self.snd, &self.rcv);
        let counters = &snd.counters;
        let is_disordered = snd.board.sacked() > 0 || snd.recovery.dup_acks > 0;
        Info {
            state: self.state(),
            recovery: snd.recovery.name(is_disordered),
            retransmits: snd.recovery.timeouts,
            probes: snd.window_probes.max(u32::from(self.keepalive_probes)),
            backoff: snd.rtt.backoff(),
            has_timestamps: snd.has_timestamps,
            has_sack: snd.has_sack,
            window_scale: rcv.has_window_scaling().then(|| (snd.wnd_shift(), rcv.wnd_shift())),
            has_ecn: snd.has_ecn(),
            rto: snd.rtt.rto(&common.config),
            ato: rcv.policy.delay(),
            snd_mss: snd.mss(),
            rcv_mss: rcv.policy.rcv_mss(),
            advertised_mss: u32::from(rcv.advertised_mss),
            path_mss: u32::from(snd.base_mss()),
            unacked: snd.board.total(),
            sacked: snd.board.sacked(),
            // As Linux counts: what is lost stays so while its retransmission is under way.
            lost: snd.board.lost() + snd.board.retransmitted(),
            retransmitting: snd.board.retransmitted(),
            srtt: snd.rtt.srtt().unwrap_or_default(),
            rttvar: snd.rtt.rttvar(),
            min_rtt: snd.rtt.min_rtt().unwrap_or_default(),
            ssthresh: snd.congestion.ssthresh(),
            cwnd: snd.congestion.cwnd(),
            pacing_rate: snd.pacing_rate(),
            delivery_rate: snd.delivery_rate(),
            is_delivery_rate_app_limited: snd.board.rate.is_app_limited(),
            reordering: u32::from(common.config.reordering),
            snd_wnd: snd.snd_wnd,
            rcv_wnd: rcv.rcv_wnd(),
            receive_space: rcv.tuning_space(),
            receive_queued: rcv.queue.len(),
            send_queued: snd.queued(),
            not_sent: snd.not_sent(),
            bytes_acked: counters.bytes_acked,
            bytes_sent: counters.bytes_sent,
            bytes_retransmitted: counters.bytes_retransmitted,
            bytes_received: rcv.counters.bytes_received,
            segments_out: self.segments_out,
            segments_in: self.segments_in,
            total_retransmits: counters.retransmits,
            dsacks: counters.dsacks,
            out_of_order: rcv.counters.out_of_order,
            undos: counters.undos,
            last_data_sent: now - snd.last_sent_at(),
            last_data_received: now - rcv.policy.last_received(),
            last_ack_received: now - self.last_segment_at,
            timestamp_offset: snd.timestamp_offset(),
            is_interactive: rcv.policy.is_interactive(),
            bbr: snd.congestion.bbr(),
        }
    }
}
