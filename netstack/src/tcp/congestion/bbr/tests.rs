//! BBR on a made-up path: a bottleneck with a queue, a round-trip time, ACKs per segment.

use super::super::super::delivery_rate::{DeliveryRate, Snapshot};
use super::*;
use std::collections::VecDeque;

const MSS: u32 = 1000;

/// A sender that has always data, its pacing, and the path.
struct Path {
    now: Instant,
    rate: u64,
    rtt: Duration,
    bbr: Bbr,
    window: Window,
    sampler: DeliveryRate,
    in_flight: u32,
    next_send: Instant,
    free_at: Instant,
    /// When the ACK comes, and what the segment remembers.
    flight: VecDeque<(Instant, Instant, Snapshot, Fate)>,
    /// What drops segments that come faster than its rate.
    bucket: Option<Bucket>,
    /// Lost, and not yet told with an ACK.
    untold: u32,
    sent_since: u64,
    delivered_since: u64,
    least_in_flight: u32,
    most_in_flight: u32,
}

/// A traffic policer: a bucket of tokens that fills at a rate.
struct Bucket {
    rate: u64,
    depth: u64,
    tokens: u64,
    filled_at: Instant,
}

impl Bucket {
    fn judge(&mut self, now: Instant) -> Fate {
        let fresh = bytes_in(self.rate, now - self.filled_at);
        if fresh > 0 {
            self.tokens = (self.tokens + fresh).min(self.depth);
            self.filled_at = now;
        }
        match self.tokens.checked_sub(MSS.into()) {
            Some(left) => {
                self.tokens = left;
                Fate::Delivered
            }
            None => Fate::Dropped,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Delivered,
    Dropped,
}

impl Path {
    fn new(rate: u64, rtt_ms: u64) -> Self {
        let now = Instant::from_millis(1000);
        Self {
            now,
            rate,
            rtt: Duration::from_millis(rtt_ms),
            bbr: Bbr::new(),
            window: Window { cwnd: 10 * MSS, ssthresh: u32::MAX, mss: MSS },
            sampler: DeliveryRate::default(),
            in_flight: 0,
            next_send: now,
            free_at: now,
            flight: VecDeque::new(),
            bucket: None,
            untold: 0,
            sent_since: 0,
            delivered_since: 0,
            least_in_flight: u32::MAX,
            most_in_flight: 0,
        }
    }

    fn bdp(&self) -> u64 {
        bytes_in(self.rate, self.rtt)
    }

    /// Runs for a while; returns the goodput in bytes a second.
    fn run(&mut self, span: Duration) -> u64 {
        let end = self.now + span;
        self.delivered_since = 0;
        self.sent_since = 0;
        self.least_in_flight = u32::MAX;
        self.most_in_flight = 0;
        loop {
            let ack = self.flight.front().map(|(at, ..)| *at);
            let send = (self.in_flight + MSS <= self.window.cwnd).then_some(self.next_send.max(self.now));
            let Some(next) = ack.into_iter().chain(send).min().filter(|next| *next <= end) else { break };
            self.now = next;
            if ack == Some(next) { self.take_ack() } else { self.send() }
        }
        self.now = end;
        per_second(self.delivered_since, span)
    }

    fn send(&mut self) {
        let snapshot = self.sampler.on_sent(self.now, self.in_flight == 0);
        let wire = Duration::from_nanos(u64::from(MSS) * 1_000_000_000 / self.rate);
        self.free_at = self.free_at.max(self.now) + wire;
        let fate = self.bucket.as_mut().map_or(Fate::Delivered, |bucket| bucket.judge(self.now));
        self.flight.push_back((self.free_at + self.rtt, self.now, snapshot, fate));
        self.sent_since += u64::from(MSS);
        self.in_flight += MSS;
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
        let rate = self.bbr.pacing_rate(&self.window, Some(self.rtt));
        self.next_send =
            self.next_send.max(self.now) + Duration::from_nanos(u64::from(MSS) * 1_000_000_000 / rate);
    }

    fn take_ack(&mut self) {
        let (_, sent_at, snapshot, fate) = self.flight.pop_front().unwrap();
        let prior_in_flight = self.in_flight;
        self.in_flight -= MSS;
        if fate == Fate::Dropped {
            // What comes behind it tells.
            self.untold += MSS;
            return;
        }
        self.least_in_flight = self.least_in_flight.min(self.in_flight);
        self.delivered_since += u64::from(MSS);
        let sample = self.sampler.on_delivered(self.now, MSS, (sent_at, snapshot), None);
        let feedback = Feedback {
            now: self.now,
            acked: MSS,
            lost: std::mem::take(&mut self.untold),
            in_flight: self.in_flight,
            prior_in_flight,
            delivered: self.sampler.delivered(),
            sample,
            rtt: Some(self.now - sent_at),
            srtt: Some(self.rtt),
            state: LossState::Open,
        };
        if self.bbr.on_ack(&mut self.window, &feedback) {
            self.sampler.on_app_limited(self.in_flight);
        }
    }
}

#[test]
fn startup_finds_the_bandwidth_and_drain_removes_its_queue() {
    for (rate, rtt_ms) in [(1_000_000, 20), (12_500_000, 100), (100_000, 50)] {
        let mut path = Path::new(rate, rtt_ms);
        let _ = path.run(path.rtt * 25);
        assert!(matches!(path.bbr.mode, Mode::ProbeBw { .. }), "{rate} {rtt_ms}: {:?}", path.bbr.mode);
        let found = path.bbr.model.bandwidth();
        assert!(found.abs_diff(rate) * 20 < rate, "{found} of {rate}");
        // The queue is small again.
        let goodput = path.run(path.rtt * 40);
        assert!(goodput * 100 > rate * 95, "{goodput} of {rate}");
        let most = u64::from(path.most_in_flight);
        assert!(most <= path.bdp() * 3 / 2 + u64::from(12 * MSS), "{most} of {}", path.bdp());
    }
}

#[test]
fn more_bandwidth_is_found_within_a_few_cycles() {
    let mut path = Path::new(1_000_000, 20);
    let _ = path.run(Duration::from_secs(2));
    path.rate *= 2;
    let _ = path.run(Duration::from_secs(2));
    let found = path.bbr.model.bandwidth();
    assert!(found > 1_900_000, "{found}");
}

#[test]
fn less_bandwidth_is_believed_after_ten_rounds() {
    let mut path = Path::new(2_000_000, 20);
    let _ = path.run(Duration::from_secs(2));
    path.rate /= 2;
    let _ = path.run(Duration::from_secs(3));
    let found = path.bbr.model.bandwidth();
    assert!((900_000..1_100_000).contains(&found), "{found}");
    let _ = path.run(Duration::from_secs(1));
    assert!(u64::from(path.most_in_flight) < path.bdp() * 5 / 2, "{} of {}", path.most_in_flight, path.bdp());
}

/// The round-trip time gets longer: after ten seconds PROBE_RTT drains the pipe to four segments and sees it.
#[test]
fn probe_rtt_drains_the_pipe_and_renews_the_estimate() {
    let mut path = Path::new(1_000_000, 20);
    let _ = path.run(Duration::from_secs(2));
    path.rtt = Duration::from_millis(40);
    let goodput = path.run(Duration::from_secs(11));
    assert!(path.least_in_flight <= 4 * MSS, "{}", path.least_in_flight);
    let min_rtt = path.bbr.model.min_rtt().unwrap();
    assert!((40..43).contains(&min_rtt.as_millis()), "{min_rtt:?}");
    assert!(matches!(path.bbr.mode, Mode::ProbeBw { .. }));
    assert!(goodput > 900_000, "{goodput}");
}

#[test]
fn first_round_of_recovery_conserves_packets_and_its_end_restores_the_window() {
    let mut bbr = Bbr::new();
    let mut window = Window { cwnd: 40 * MSS, ssthresh: u32::MAX, mss: MSS };
    let now = Instant::from_millis(5);
    let mut feedback = Feedback {
        now,
        acked: MSS,
        lost: 5 * MSS,
        in_flight: 30 * MSS,
        prior_in_flight: 36 * MSS,
        delivered: 100_000,
        sample: None,
        rtt: None,
        srtt: None,
        state: LossState::Recovery,
    };
    bbr.on_congestion(&window);
    assert_eq!(window.ssthresh, u32::MAX, "no reduction");
    let _ = bbr.on_ack(&mut window, &feedback);
    assert_eq!(window.cwnd, 31 * MSS, "what is in flight and what was delivered");
    feedback.lost = 0;
    feedback.in_flight = 30 * MSS;
    let _ = bbr.on_ack(&mut window, &feedback);
    assert_eq!(window.cwnd, 31 * MSS);
    feedback.state = LossState::Open;
    let _ = bbr.on_ack(&mut window, &feedback);
    assert!(window.cwnd >= 40 * MSS, "{}", window.cwnd);
}

#[test]
fn gains_are_those_of_the_draft() {
    assert_eq!((HIGH_GAIN, DRAIN_GAIN), (739, 88));
    assert_eq!(CYCLE.iter().sum::<u64>(), 8 * UNIT, "a cycle is neutral");
}

/// A fast path that lets 10 Mbit/s through once a burst is over: its rate is found, and little is lost then.
#[test]
fn a_policer_is_recognised_and_its_rate_kept() {
    let mut path = Path::new(12_500_000, 40);
    let rate = 1_250_000;
    path.bucket = Some(Bucket { rate, depth: 500_000, tokens: 500_000, filled_at: path.now });
    let mut steps = 0;
    while path.bbr.policer.rate().is_none() {
        let _ = path.run(Duration::from_millis(100));
        steps += 1;
        assert!(steps < 50, "no policer was seen");
    }
    let found = path.bbr.policer.rate().unwrap();
    assert!(found.abs_diff(rate) * 8 < rate, "{found} of {rate}");
    // What is in flight still is too much.
    let _ = path.run(Duration::from_millis(200));
    let goodput = path.run(Duration::from_secs(1));
    assert!(goodput * 10 > rate * 8, "{goodput} of {rate}");
    let (sent, got) = (path.sent_since, path.delivered_since);
    assert!((sent - got.min(sent)) * 10 < sent, "{} of {sent} lost", sent - got);
    // It is tried every now and then whether there is more; without a policer, there is.
    path.bucket = None;
    let _ = path.run(Duration::from_secs(6));
    assert_eq!(path.bbr.policer.rate(), None);
    assert!(path.run(Duration::from_secs(1)) > 8 * rate);
}

/// Losses at random, as many as there may be, are no policer: the rates of the intervals agree, but too little is lost.
#[test]
fn random_losses_are_no_policer() {
    let mut path = Path::new(1_250_000, 40);
    let mut policer = Policer::default();
    for segment in 0..20_000_u64 {
        path.now += Duration::from_micros(800);
        let snapshot = path.sampler.on_sent(path.now, false);
        let sample = path.sampler.on_delivered(path.now + path.rtt, MSS, (path.now, snapshot), None);
        let feedback = Feedback {
            now: path.now,
            acked: MSS,
            lost: if segment % 10 == 0 { MSS } else { 0 },
            in_flight: 50 * MSS,
            prior_in_flight: 51 * MSS,
            delivered: path.sampler.delivered(),
            sample,
            rtt: None,
            srtt: None,
            state: LossState::Open,
        };
        policer.count(&feedback);
        let _ = policer.on_sample(&feedback, segment % 50 == 0, true);
        assert_eq!(policer.rate(), None);
    }
}
