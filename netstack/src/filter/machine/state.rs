//! What expressions remember from one packet to the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Expression;
use crate::sync::Mutex;
use crate::time::Instant;

/// Packets and bytes.
#[derive(Debug, Default)]
pub struct CounterState {
    // Relaxed, both: numbers of their own.
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl CounterState {
    /// A counter that starts from somewhere.
    pub fn new(packets: u64, bytes: u64) -> Self {
        Self { packets: AtomicU64::new(packets), bytes: AtomicU64::new(bytes) }
    }

    /// Packets and bytes so far.
    pub fn get(&self) -> (u64, u64) {
        (self.packets.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Packets and bytes so far, starting again from zero.
    pub fn take(&self) -> (u64, u64) {
        (self.packets.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }

    pub(super) fn count(&self, len: usize) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        // A packet is at most 64 KiB long.
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
    }
}

/// Bytes that may pass.
#[derive(Debug)]
pub struct QuotaState {
    limit: u64,
    is_inverted: bool,
    consumed: AtomicU64,
}

impl QuotaState {
    /// A quota of which some is used; one that `is_inverted` passes what is over it.
    pub fn new(limit: u64, is_inverted: bool, consumed: u64) -> Self {
        Self { limit, is_inverted, consumed: AtomicU64::new(consumed) }
    }

    /// How much is used.
    pub fn consumed(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    /// How much is used, starting again from zero.
    pub fn take(&self) -> u64 {
        self.consumed.swap(0, Ordering::Relaxed)
    }

    /// The quota, and whether it passes what is over it.
    pub fn limit(&self) -> (u64, bool) {
        (self.limit, self.is_inverted)
    }

    pub(super) fn passes(&self, len: usize) -> bool {
        // A packet is at most 64 KiB long.
        let used = self.consumed.fetch_add(len as u64, Ordering::Relaxed).wrapping_add(len as u64);
        (used >= self.limit) == self.is_inverted
    }
}

/// What a rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RateKind {
    /// Packets.
    Packets,
    /// Bytes.
    Bytes,
}

/// A bucket of time: what passes costs some, and time fills it.
#[derive(Debug)]
pub struct RateState {
    kind: RateKind,
    is_inverted: bool,
    rate: u64,
    unit_ns: u64,
    full: u64,
    bucket: Mutex<Option<(u64, Instant)>>,
}

impl RateState {
    /// So many packets or bytes per so many nanoseconds, with a burst; one that `is_inverted` passes what is over it. `None` for
    /// rates of nothing, or too large ones.
    pub fn new(kind: RateKind, is_inverted: bool, rate: u64, unit_ns: u64, burst: u32) -> Option<Self> {
        let full = match kind {
            _ if rate == 0 || unit_ns == 0 => return None,
            RateKind::Packets => (unit_ns / rate).checked_mul(u64::from(burst.max(1)))?,
            RateKind::Bytes => {
                let total = u128::from(unit_ns) * (u128::from(rate) + u128::from(burst));
                u64::try_from(total / u128::from(rate)).ok()?
            }
        };
        Some(Self { kind, is_inverted, rate, unit_ns, full, bucket: Mutex::new(None) })
    }

    pub(super) fn passes(&self, len: usize, now: Instant) -> bool {
        let cost = match self.kind {
            RateKind::Packets => self.unit_ns / self.rate,
            RateKind::Bytes => {
                // A packet is at most 64 KiB long.
                let cost = u128::from(self.unit_ns) * len as u128 / u128::from(self.rate);
                u64::try_from(cost).unwrap_or(u64::MAX)
            }
        };
        let mut bucket = self.bucket.lock();
        let (tokens, filled) = bucket.unwrap_or((self.full, now));
        let elapsed = now.as_nanos().saturating_sub(filled.as_nanos());
        let tokens = tokens.saturating_add(elapsed).min(self.full);
        let within = tokens >= cost;
        *bucket = Some((if within { tokens - cost } else { tokens }, now));
        within != self.is_inverted
    }

    fn fresh(&self) -> Self {
        let Self { kind, is_inverted, rate, unit_ns, full, bucket: _ } = *self;
        Self { kind, is_inverted, rate, unit_ns, full, bucket: Mutex::new(None) }
    }
}

/// When something ran last.
#[derive(Debug, Default)]
pub struct LastState(Mutex<Option<Instant>>);

impl LastState {
    /// When it was.
    pub fn get(&self) -> Option<Instant> {
        *self.0.lock()
    }

    pub(super) fn note(&self, now: Instant) {
        *self.0.lock() = Some(now);
    }
}

/// What rules use together.
#[derive(Debug, Clone)]
pub enum Object {
    /// A counter.
    Counter(Arc<CounterState>),
    /// A quota.
    Quota(Arc<QuotaState>),
    /// A rate.
    Rate(Arc<RateState>),
}

impl Expression {
    /// The same with a state of its own, for what elements of sets do. `None` for others than those that count.
    pub fn with_own_state(&self) -> Option<Self> {
        match self {
            Self::Counter(_) => Some(Self::Counter(Arc::default())),
            Self::Quota(quota) => {
                let QuotaState { limit, is_inverted, consumed: _ } = **quota;
                Some(Self::Quota(Arc::new(QuotaState::new(limit, is_inverted, 0))))
            }
            Self::Rate(rate) => Some(Self::Rate(Arc::new(rate.fresh()))),
            Self::Last(_) => Some(Self::Last(Arc::default())),
            _ => None,
        }
    }

    /// The same with the same state.
    pub(super) fn shared(&self) -> Option<Self> {
        match self {
            Self::Counter(counter) => Some(Self::Counter(Arc::clone(counter))),
            Self::Quota(quota) => Some(Self::Quota(Arc::clone(quota))),
            Self::Rate(rate) => Some(Self::Rate(Arc::clone(rate))),
            Self::Last(last) => Some(Self::Last(Arc::clone(last))),
            _ => None,
        }
    }
}
