//! One direction of a link: what happens to a frame on its way.

use std::time::Duration;

use bytes::Bytes;
use netstack::time::Instant;

use crate::rng::Rng;

/// How a link treats frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkSpec {
    /// What every frame takes.
    pub delay: Duration,
    /// What a frame takes more, at most.
    pub jitter: Duration,
    /// Whether frames can overtake each other because of the jitter.
    pub order: Order,
    /// Which frames are lost.
    pub loss: Loss,
    /// Frames that are held back for [`reorder_by`](Self::reorder_by), in parts per million.
    pub reorder_ppm: u32,
    /// For how long.
    pub reorder_by: Duration,
    /// Frames that arrive twice, in parts per million.
    pub duplicate_ppm: u32,
    /// Frames that arrive with a flipped bit, in parts per million.
    pub corrupt_ppm: u32,
    /// Bits per second, Ethernet headers included; zero for no limit.
    pub rate: u64,
    /// Bytes that wait while the link is busy; more are dropped at the tail.
    pub queue: usize,
    /// The largest IP packet.
    pub mtu: usize,
    /// What happens to larger ones.
    pub too_large: TooLarge,
}

/// Which frames are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// None.
    None,
    /// Each with the same chance.
    Random {
        /// In parts per million.
        ppm: u32,
    },
    /// In bursts (Gilbert 1960, Elliott 1963): two states with a loss each, changed by chance with every frame.
    Bursty {
        /// The chance that a burst begins.
        begin_ppm: u32,
        /// The chance that a burst ends.
        end_ppm: u32,
        /// Loss outside of bursts.
        good_ppm: u32,
        /// Loss within.
        bad_ppm: u32,
    },
}

/// Whether frames stay in order under jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// A frame arrives no earlier than the one before it, as behind a queue.
    Kept,
    /// Each frame has a delay of its own, as over several paths.
    Free,
}

/// What a link does to packets above its MTU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooLarge {
    /// They vanish, as before a firewall that drops ICMP.
    Vanish,
    /// A router reports them to the sender (RFC 1191, RFC 8201).
    Report,
}

impl LinkSpec {
    /// A link that is at its end at once and loses nothing.
    pub const IDEAL: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        order: Order::Kept,
        loss: Loss::None,
        reorder_ppm: 0,
        reorder_by: Duration::ZERO,
        duplicate_ppm: 0,
        corrupt_ppm: 0,
        rate: 0,
        queue: usize::MAX,
        mtu: usize::MAX,
        too_large: TooLarge::Vanish,
    };

    /// A link with a delay and nothing else.
    #[must_use]
    pub const fn with_delay(delay: Duration) -> Self {
        Self { delay, ..Self::IDEAL }
    }
}

impl Default for LinkSpec {
    fn default() -> Self {
        Self::IDEAL
    }
}

/// What a link has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkStats {
    /// Frames that entered.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames lost by chance.
    pub lost: u64,
    /// Frames dropped because the queue was full.
    pub queue_drops: u64,
    /// Frames above the MTU.
    pub too_large: u64,
    /// Frames delivered twice.
    pub duplicated: u64,
    /// Frames with a flipped bit.
    pub corrupted: u64,
    /// Frames held back.
    pub reordered: u64,
}

/// A link at work.
#[derive(Debug)]
pub(crate) struct LinkState {
    pub(crate) spec: LinkSpec,
    pub(crate) stats: LinkStats,
    /// When the last bit of what was taken has left.
    busy_until: Instant,
    /// When the last frame in order arrives.
    last_arrival: Instant,
    is_in_burst: bool,
}

/// What becomes of one frame.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It arrives, perhaps twice.
    Arrives(Instant, Bytes, Option<Instant>),
    Lost,
    /// It exceeds the MTU, and the sender is to be told.
    Reported {
        mtu: usize,
    },
}

impl LinkState {
    pub(crate) fn new(spec: LinkSpec) -> Self {
        Self {
            spec,
            stats: LinkStats::default(),
            busy_until: Instant::ZERO,
            last_arrival: Instant::ZERO,
            is_in_burst: false,
        }
    }

    /// Takes a frame.
    pub(crate) fn carry(&mut self, now: Instant, frame: Bytes, rng: &mut Rng) -> Fate {
        self.stats.frames += 1;
        self.stats.bytes += frame.len() as u64;
        if frame.len() > self.spec.mtu.saturating_add(ETHERNET_HEADER) {
            self.stats.too_large += 1;
            return match self.spec.too_large {
                TooLarge::Vanish => Fate::Lost,
                TooLarge::Report => Fate::Reported { mtu: self.spec.mtu },
            };
        }
        let Some(departure) = self.depart(now, frame.len()) else {
            self.stats.queue_drops += 1;
            return Fate::Lost;
        };
        if self.loses(rng) {
            self.stats.lost += 1;
            return Fate::Lost;
        }
        let frame = if rng.chance_ppm(self.spec.corrupt_ppm) { self.corrupt(&frame, rng) } else { frame };
        let arrival = self.arrival(departure, rng);
        let second = rng.chance_ppm(self.spec.duplicate_ppm).then(|| {
            self.stats.duplicated += 1;
            self.arrival(departure, rng)
        });
        Fate::Arrives(arrival, frame, second)
    }

    /// When the frame has left a link of limited rate; `None` if its queue is full.
    fn depart(&mut self, now: Instant, len: usize) -> Option<Instant> {
        if self.spec.rate == 0 {
            return Some(now);
        }
        let start = self.busy_until.max(now);
        let waiting = (start - now).as_nanos() * u128::from(self.spec.rate) / NANOS_PER_BYTE_RATE;
        if waiting + len as u128 > self.spec.queue as u128 && start > now {
            return None;
        }
        let nanos = len as u64 * 8 * 1_000_000_000 / self.spec.rate;
        self.busy_until = start + Duration::from_nanos(nanos);
        Some(self.busy_until)
    }

    fn loses(&mut self, rng: &mut Rng) -> bool {
        match self.spec.loss {
            Loss::None => false,
            Loss::Random { ppm } => rng.chance_ppm(ppm),
            Loss::Bursty { begin_ppm, end_ppm, good_ppm, bad_ppm } => {
                let change = if self.is_in_burst { end_ppm } else { begin_ppm };
                self.is_in_burst ^= rng.chance_ppm(change);
                rng.chance_ppm(if self.is_in_burst { bad_ppm } else { good_ppm })
            }
        }
    }

    fn corrupt(&mut self, frame: &Bytes, rng: &mut Rng) -> Bytes {
        self.stats.corrupted += 1;
        let mut bytes = frame.to_vec();
        // Behind the station addresses: the switch looks at those, and a real one would drop the frame.
        let at = 12 + rng.index(bytes.len().saturating_sub(12));
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << rng.below(8);
        }
        bytes.into()
    }

    fn arrival(&mut self, departure: Instant, rng: &mut Rng) -> Instant {
        let jitter = u64::try_from(self.spec.jitter.as_nanos()).unwrap_or(u64::MAX);
        let extra = if jitter == 0 { 0 } else { rng.below(jitter.saturating_add(1)) };
        let arrival = departure + self.spec.delay + Duration::from_nanos(extra);
        if rng.chance_ppm(self.spec.reorder_ppm) {
            self.stats.reordered += 1;
            return arrival + self.spec.reorder_by;
        }
        match self.spec.order {
            Order::Free => arrival,
            Order::Kept => {
                self.last_arrival = self.last_arrival.max(arrival);
                self.last_arrival
            }
        }
    }
}

const ETHERNET_HEADER: usize = 14;
/// Bits per byte times nanoseconds per second.
const NANOS_PER_BYTE_RATE: u128 = 8 * 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(spec: LinkSpec, count: u64, gap: Duration) -> (LinkStats, Vec<Instant>) {
        let (mut link, mut rng) = (LinkState::new(spec), Rng::new(3));
        let mut arrivals = Vec::new();
        let mut now = Instant::from_millis(1);
        for _ in 0..count {
            if let Fate::Arrives(at, _, second) = link.carry(now, vec![0; 1000].into(), &mut rng) {
                arrivals.push(at);
                arrivals.extend(second);
            }
            now += gap;
        }
        (link.stats, arrivals)
    }

    #[test]
    fn losses_come_as_often_as_asked() {
        let random = LinkSpec { loss: Loss::Random { ppm: 50_000 }, ..LinkSpec::IDEAL };
        let (stats, _) = run(random, 100_000, Duration::ZERO);
        assert!((4_700..5_300).contains(&stats.lost), "{}", stats.lost);
        let loss = Loss::Bursty { begin_ppm: 10_000, end_ppm: 100_000, good_ppm: 0, bad_ppm: 500_000 };
        // A burst begins after 100 frames on average and lasts for 10, of which 5 are lost.
        let (stats, _) = run(LinkSpec { loss, ..LinkSpec::IDEAL }, 100_000, Duration::ZERO);
        assert!((4_000..5_100).contains(&stats.lost), "{}", stats.lost);
    }

    #[test]
    fn rate_spaces_frames_and_queue_bounds_the_wait() {
        let spec = LinkSpec { rate: 8_000_000, queue: 10_000, ..LinkSpec::IDEAL };
        let (stats, arrivals) = run(spec, 100, Duration::ZERO);
        // A millisecond each; the one on the wire counts as waiting.
        assert_eq!((stats.queue_drops, arrivals.len()), (90, 10));
        assert!(arrivals.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_millis(1)));
        let (stats, _) = run(spec, 100, Duration::from_millis(1));
        assert_eq!(stats.queue_drops, 0);
    }

    #[test]
    fn jitter_keeps_the_order_if_asked() {
        let jitter = Duration::from_millis(5);
        let kept = LinkSpec { jitter, ..LinkSpec::IDEAL };
        assert!(run(kept, 1000, Duration::from_millis(1)).1.is_sorted());
        let free = LinkSpec { order: Order::Free, ..kept };
        assert!(!run(free, 1000, Duration::from_millis(1)).1.is_sorted());
    }
}
