//! A sender that has nothing to do, in few bytes: most of what a [`Sender`] holds is about data in flight.
//!
//! Every sender begins as one: the handshake makes it, and what it needs besides comes with the first data. It can also stand
//! for a sender whose FIN is all that was ever sent, as long as nothing happens to that.

use super::super::config::Config;
use super::super::congestion::{Algorithm, Congestion};
use super::super::delivery_rate::DeliveryRate;
use super::super::negotiated::Negotiated;
use super::super::pacing::Pacing;
use super::super::rack::Rack;
use super::super::recovery::Recovery;
use super::super::rtt::RttEstimator;
use super::super::scoreboard::Scoreboard;
use super::super::send_queue::SendQueue;
use super::timeout::probe_wait_ns;
use super::{LossProbe, Sender, SenderCounters, WindowUsage, effective_mss, within_half_window};
use crate::time::Instant;
use netstack_wire::seq::SeqNum;

/// What a sender with everything acknowledged keeps, besides its [`SenderHistory`].
#[derive(Clone, Debug)]
pub(in super::super) struct RestingSender {
    /// SND.UNA, and the end of everything else.
    snd_una: SeqNum,
    snd_wnd: u32,
    snd_wl1: SeqNum,
    max_wnd: u32,
    timestamp_offset: u32,
    largest_flight: u32,
    cwnd: u32,
    base_mss: u16,
    peer_mss: u16,
    wnd_shift: u8,
    has_sack: bool,
    has_timestamps: bool,
    has_ecn: bool,
    last_sent_at: Instant,
    rtt: RttEstimator,
}

/// What sending has taught: the rest of a sender that has sent data.
#[derive(Clone, Debug)]
pub(in super::super) struct SenderHistory {
    congestion: Congestion,
    rack: Rack,
    rate: DeliveryRate,
    lost_hint: SeqNum,
    small_end: SeqNum,
    round_end: SeqNum,
    usage: WindowUsage,
    cwr_pending: bool,
    pacing: Option<Box<Pacing>>,
    delivery_rate: u64,
    bytes_acked: u64,
    bytes_sent: u64,
    /// Absent on a connection that has never had to repair anything.
    repairs: Option<Box<Repairs>>,
}

/// What losses, and what looked like some, have left.
#[derive(Clone, Debug)]
struct Repairs {
    recovery: Recovery,
    probe: Option<LossProbe>,
    bytes_retransmitted: u64,
    retransmits: u64,
    dsacks: u64,
    undos: u64,
}

impl Sender {
    /// Whether everything is acknowledged, no timer runs and nothing is being repaired.
    pub(in super::super) fn can_rest(&self) -> bool {
        self.is_idle()
            && !self.has_fin
            && self.queue.len() == 0
            && self.recovery.is_open()
            && self.timer.is_none()
            && self.forced.is_none()
            && self.window_probes == 0
            && self.stalled_since.is_none()
            // Few connections search, and those have much to send.
            && self.search.is_none()
    }

    /// The part of an idle sender that each one has.
    pub(in super::super) fn rest(&self) -> RestingSender {
        RestingSender {
            snd_una: self.snd_una,
            snd_wnd: self.snd_wnd,
            snd_wl1: self.snd_wl1,
            max_wnd: self.max_wnd,
            timestamp_offset: self.timestamp_offset,
            largest_flight: self.largest_flight,
            cwnd: self.congestion.cwnd(),
            base_mss: self.base_mss,
            peer_mss: self.peer_mss,
            wnd_shift: self.wnd_shift,
            has_sack: self.has_sack,
            has_timestamps: self.has_timestamps,
            has_ecn: self.has_ecn,
            last_sent_at: self.last_sent_at,
            rtt: self.rtt.clone(),
        }
    }

    /// Whether its history would be that of a sender just made.
    pub(in super::super) fn is_unused(&self) -> bool {
        let SenderCounters { bytes_acked, bytes_sent, bytes_retransmitted: _, retransmits: _, dsacks, undos } =
            self.counters;
        bytes_acked == 0
            && bytes_sent == 0
            && dsacks == 0
            && undos == 0
            && self.congestion.is_unused()
            && !self.cwr_pending
            && !self.board.rate.is_app_limited()
            && self.board.rate.delivered() == 0
    }

    /// The other part.
    pub(in super::super) fn history(&self) -> SenderHistory {
        // All fields: one that is forgotten here would be lost.
        let Self {
            snd_una: _,
            snd_nxt: _,
            snd_wnd: _,
            snd_wl1: _,
            max_wnd: _,
            wnd_shift: _,
            has_fin: _,
            has_sack: _,
            has_timestamps: _,
            has_ecn: _,
            timestamp_offset: _,
            base_mss: _,
            peer_mss: _,
            queue: _,
            board,
            rtt: _,
            congestion,
            recovery,
            rack,
            probe,
            timer: _,
            forced: _,
            window_probes: _,
            stalled_since: _,
            small_end,
            snd_up: _,
            round_end,
            usage,
            largest_flight: _,
            cwr_pending,
            last_sent_at: _,
            pacing,
            max_pacing_rate: _,
            delivery_rate,
            // A sender that searches does not rest.
            search: _,
            counters,
        } = self;
        let SenderCounters { bytes_acked, bytes_sent, bytes_retransmitted, retransmits, dsacks, undos } =
            *counters;
        let has_repaired =
            !recovery.is_unused() || probe.is_some() || retransmits > 0 || dsacks > 0 || undos > 0;
        let repairs = || {
            let (recovery, probe) = (recovery.clone(), *probe);
            Box::new(Repairs { recovery, probe, bytes_retransmitted, retransmits, dsacks, undos })
        };
        SenderHistory {
            congestion: congestion.clone(),
            rack: rack.clone(),
            rate: board.rate,
            lost_hint: board.lost_hint(),
            small_end: *small_end,
            round_end: *round_end,
            usage: *usage,
            cwr_pending: *cwr_pending,
            pacing: pacing.clone(),
            delivery_rate: *delivery_rate,
            bytes_acked,
            bytes_sent,
            repairs: has_repaired.then(repairs),
        }
    }
}

impl SenderHistory {
    fn counters(&self) -> SenderCounters {
        let repairs = self.repairs.as_deref();
        SenderCounters {
            bytes_acked: self.bytes_acked,
            bytes_sent: self.bytes_sent,
            bytes_retransmitted: repairs.map_or(0, |repairs| repairs.bytes_retransmitted),
            retransmits: repairs.map_or(0, |repairs| repairs.retransmits),
            dsacks: repairs.map_or(0, |repairs| repairs.dsacks),
            undos: repairs.map_or(0, |repairs| repairs.undos),
        }
    }
}

impl RestingSender {
    /// Starts with the numbers that the handshake agreed on; the SYN is acknowledged.
    pub(in super::super) fn new(config: &Config, negotiated: &Negotiated) -> Self {
        let has_timestamps = negotiated.timestamps.is_some();
        let base_mss = within_half_window(negotiated.send_mss, negotiated.snd_wnd, has_timestamps);
        let mut rtt = RttEstimator::new();
        match negotiated.rtt {
            Some(sample) => rtt.on_sample(negotiated.now, sample),
            None => rtt.distrust(),
        }
        // RFC 5681 section 3.1.
        let segments = if negotiated.is_path_lossy { 1 } else { config.initial_window };
        Self {
            snd_una: negotiated.iss + 1,
            snd_wnd: negotiated.snd_wnd,
            snd_wl1: negotiated.irs,
            max_wnd: negotiated.snd_wnd,
            timestamp_offset: negotiated.timestamp_offset,
            largest_flight: 0,
            cwnd: segments.saturating_mul(effective_mss(base_mss, has_timestamps)),
            base_mss,
            peer_mss: negotiated.peer_mss,
            wnd_shift: negotiated.snd_wnd_shift,
            has_sack: negotiated.has_sack,
            has_timestamps,
            has_ecn: negotiated.has_ecn,
            last_sent_at: negotiated.now,
            rtt,
        }
    }

    /// SND.UNA, before any FIN.
    pub(in super::super) fn snd_una(&self) -> SeqNum {
        self.snd_una
    }

    pub(in super::super) fn snd_wnd(&self) -> u32 {
        self.snd_wnd
    }

    /// Scales the window field of a segment.
    pub(in super::super) fn scale_window(&self, field: u16) -> u32 {
        u32::from(field) << self.wnd_shift
    }

    pub(in super::super) fn timestamp_offset(&self) -> u32 {
        self.timestamp_offset
    }

    pub(in super::super) fn last_sent_at(&self) -> Instant {
        self.last_sent_at
    }

    /// The FIN leaves.
    pub(in super::super) fn on_fin_sent(&mut self, now: Instant) {
        self.last_sent_at = now;
    }

    /// When the timer for the FIN is due, as [`Sender::arm`](Sender) sets it for a single segment.
    pub(in super::super) fn fin_deadline(&self, config: &Config) -> Instant {
        let rto = self.rtt.rto_ns(config);
        let srtt = self.rtt.srtt_ns();
        let may_probe = config.tail_loss_probe && self.has_sack && self.rtt.backoff() == 0 && srtt != 0;
        let wait = if may_probe { probe_wait_ns(srtt, config.rto_min).min(rto) } else { rto };
        self.last_sent_at.plus_nanos(wait)
    }

    /// As [`Sender::on_ack`] for a segment at RCV.NXT that acknowledges nothing new.
    pub(in super::super) fn on_known_ack(&mut self, seq: SeqNum, window: u32) {
        self.update_peer_window(seq, window, false);
        self.largest_flight = self.largest_flight.max(self.cwnd.min(self.snd_wnd));
    }

    /// The FIN is acknowledged.
    pub(in super::super) fn on_fin_acked(&mut self, seq: SeqNum, window: u32) {
        self.update_peer_window(seq, window, true);
    }

    /// As [`Sender::update_peer_window`].
    fn update_peer_window(&mut self, seq: SeqNum, window: u32, is_ack_new: bool) {
        if is_ack_new || seq.gt(self.snd_wl1) || seq == self.snd_wl1 && window > self.snd_wnd {
            self.snd_wl1 = seq;
            self.snd_wnd = window;
            self.max_wnd = self.max_wnd.max(window);
        }
    }

    /// The sender as it was. Field by field, because each connection's first data comes here: without history, each is as in a
    /// sender just made.
    pub(in super::super) fn wake(
        &self,
        algorithm: Algorithm,
        max_pacing_rate: Option<u64>,
        history: Option<&SenderHistory>,
    ) -> Sender {
        let start = self.snd_una;
        let repairs = history.and_then(|history| history.repairs.as_deref());
        let mut sender = Sender {
            snd_una: start,
            snd_nxt: start,
            snd_up: start,
            snd_wnd: self.snd_wnd,
            snd_wl1: self.snd_wl1,
            max_wnd: self.max_wnd,
            wnd_shift: self.wnd_shift,
            has_fin: false,
            has_sack: self.has_sack,
            has_timestamps: self.has_timestamps,
            has_ecn: self.has_ecn,
            timestamp_offset: self.timestamp_offset,
            base_mss: self.base_mss,
            peer_mss: self.peer_mss,
            queue: SendQueue::new(start),
            board: history.map(|it| Scoreboard::resumed(it.rate, it.lost_hint)).unwrap_or_default(),
            rtt: self.rtt.clone(),
            congestion: match history {
                Some(history) => history.congestion.clone(),
                None => Congestion::new(algorithm, self.cwnd, self.mss()),
            },
            recovery: repairs.map_or_else(Recovery::new, |repairs| repairs.recovery.clone()),
            rack: history.map_or_else(|| Rack::new(start), |history| history.rack.clone()),
            probe: repairs.and_then(|repairs| repairs.probe),
            timer: None,
            search: None,
            forced: None,
            window_probes: 0,
            stalled_since: None,
            small_end: history.map_or(start, |history| history.small_end),
            round_end: history.map_or(start, |history| history.round_end),
            usage: match history {
                Some(history) => history.usage,
                None => WindowUsage { until: start, ..WindowUsage::default() },
            },
            largest_flight: self.largest_flight,
            cwr_pending: history.is_some_and(|history| history.cwr_pending),
            last_sent_at: self.last_sent_at,
            pacing: history.and_then(|history| history.pacing.clone()),
            max_pacing_rate: max_pacing_rate.unwrap_or(u64::MAX),
            delivery_rate: history.map_or(0, |history| history.delivery_rate),
            counters: history.map(SenderHistory::counters).unwrap_or_default(),
        };
        if history.is_none() {
            sender.update_pacing();
        }
        sender
    }

    /// The payload of a full segment.
    pub(in super::super) fn mss(&self) -> u32 {
        effective_mss(self.base_mss, self.has_timestamps)
    }

    /// The largest flight that both windows have ever allowed.
    pub(in super::super) fn largest_flight(&self) -> u32 {
        self.largest_flight
    }
}
