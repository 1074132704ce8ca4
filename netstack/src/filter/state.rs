//! What tests remember from one packet to the next.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::sync::Mutex;

use super::measure::ConnCounts;
use super::rule::{HashLimit, RecentAction, RecentTest, StatisticMode, Test};
use crate::time::Instant;

/// The state of a test.
#[derive(Debug)]
pub(super) enum TestState {
    None,
    Limit(LimitState),
    HashLimit(Arc<HashLimitTable>),
    Statistic(AtomicU32),
    Quota(AtomicU64),
    Recent(Arc<RecentList>),
    ConnCounts(ConnCounts),
}

impl TestState {
    /// The state that a test begins with; lists with a name are shared through `shared`.
    pub(super) fn of(test: &Test, shared: &SharedStates) -> Self {
        match test {
            Test::Limit { interval, burst } => Self::Limit(LimitState::new(*interval, *burst)),
            Test::HashLimit(limit) => Self::HashLimit(shared.hash_limit(limit)),
            Test::Statistic(StatisticMode::Nth { packet, .. }) => Self::Statistic(AtomicU32::new(*packet)),
            Test::Quota(bytes) => Self::Quota(AtomicU64::new(*bytes)),
            Test::Recent(recent) => Self::Recent(shared.recent(recent)),
            Test::ConnLimit(_) => Self::ConnCounts(ConnCounts::default()),
            _ => Self::None,
        }
    }
}

/// Takes `len` bytes off what is left; false if there are not as many, and then nothing is left.
pub(super) fn take_quota(left: &AtomicU64, len: usize) -> bool {
    // A packet is at most 64 KiB long.
    let len = len as u64;
    // Relaxed: a number of its own.
    let taken =
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(len)));
    taken.is_ok_and(|before| before >= len)
}

/// Whether it is the turn of a packet.
pub(super) fn is_nth(count: &AtomicU32, every: u32) -> bool {
    // Relaxed: a number of its own. Counts down from where it began, as Linux's counter counts up to it.
    let step = |count: u32| Some(if count == 0 { every } else { count - 1 });
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step) == Ok(0)
}

/// A bucket of tokens.
#[derive(Debug)]
pub(super) struct LimitState {
    interval: Duration,
    burst: u32,
    bucket: Mutex<Option<Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: u32,
    /// Up to when tokens were added.
    filled: Instant,
}

impl Bucket {
    fn allow(&mut self, interval: Duration, burst: u32, now: Instant) -> bool {
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        let elapsed = now.as_nanos().saturating_sub(self.filled.as_nanos());
        let fresh = u32::try_from(elapsed / interval).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(fresh).min(burst);
        // Keeps the remainder, so that the rate is exact.
        self.filled = Instant::from_nanos(now.as_nanos() - elapsed % interval);
        let allowed = self.tokens > 0;
        self.tokens -= u32::from(allowed);
        allowed
    }
}

impl LimitState {
    pub(super) fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst, bucket: Mutex::new(None) }
    }

    pub(super) fn allow(&self, now: Instant) -> bool {
        let mut bucket = self.bucket.lock();
        let full = Bucket { tokens: self.burst, filled: now };
        bucket.get_or_insert(full).allow(self.interval, self.burst, now)
    }
}

/// The lists and tables that have names. They live as long as a rule uses them.
#[derive(Debug, Default)]
pub(super) struct SharedStates {
    recent: Mutex<HashMap<String, Weak<RecentList>>>,
    hash_limits: Mutex<HashMap<String, Weak<HashLimitTable>>>,
}

impl SharedStates {
    fn recent(&self, test: &RecentTest) -> Arc<RecentList> {
        let mut lists = self.recent.lock();
        lists.retain(|_, list| list.strong_count() > 0);
        lists.get(&test.name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let list = Arc::<RecentList>::default();
            lists.insert(test.name.clone(), Arc::downgrade(&list));
            list
        })
    }

    fn hash_limit(&self, limit: &HashLimit) -> Arc<HashLimitTable> {
        let mut tables = self.hash_limits.lock();
        tables.retain(|_, table| table.strong_count() > 0);
        tables.get(&limit.name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let table = Arc::new(HashLimitTable::new(limit));
            tables.insert(limit.name.clone(), Arc::downgrade(&table));
            table
        })
    }

    /// A table by its name.
    pub(super) fn hash_limit_table(&self, name: &str) -> Option<Arc<HashLimitTable>> {
        self.hash_limits.lock().get(name).and_then(Weak::upgrade)
    }

    /// The names of all tables.
    pub(super) fn hash_limit_names(&self) -> Vec<String> {
        let tables = self.hash_limits.lock();
        let used = tables.iter().filter(|(_, table)| table.strong_count() > 0);
        let mut names: Vec<_> = used.map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// A list by its name.
    pub(super) fn recent_list(&self, name: &str) -> Option<Arc<RecentList>> {
        self.recent.lock().get(name).and_then(Weak::upgrade)
    }

    /// The names of all lists.
    pub(super) fn recent_names(&self) -> Vec<String> {
        let lists = self.recent.lock();
        let mut names: Vec<_> =
            lists.iter().filter(|(_, list)| list.strong_count() > 0).map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }
}

/// What tells flows apart: source and destination with their ports, as far as they count.
pub(super) type HashLimitEntry = (Option<IpAddr>, Option<IpAddr>, u16, u16);

/// The buckets of a [`HashLimit`].
#[derive(Debug)]
pub(super) struct HashLimitTable {
    /// Of the rule that made the table; the others of its name have their own.
    interval: Duration,
    burst: u32,
    buckets: Mutex<HashMap<HashLimitEntry, (Bucket, Instant)>>,
}

/// What a table of [`HashLimit`](super::HashLimit) knows of one flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashLimitInfo {
    /// The source, if sources are told apart.
    pub source: Option<IpAddr>,
    /// The destination, if destinations are told apart.
    pub destination: Option<IpAddr>,
    /// The source port; zero if it does not count.
    pub source_port: u16,
    /// The destination port; zero if it does not count.
    pub destination_port: u16,
    /// When it is forgotten, unless packets come.
    pub expires_in: Duration,
    /// In how much time what may pass now would have been saved up.
    pub credit: Duration,
    /// The time in which one more packet passes.
    pub interval: Duration,
    /// How many pass at once after a time of silence.
    pub burst: u32,
}

impl HashLimitTable {
    fn new(limit: &HashLimit) -> Self {
        Self { interval: limit.interval, burst: limit.burst, buckets: Mutex::default() }
    }

    /// The flows that are remembered, in order.
    pub(super) fn list(&self, now: Instant) -> Vec<HashLimitInfo> {
        let Self { interval, burst, buckets } = self;
        let mut flows: Vec<_> = buckets
            .lock()
            .iter()
            .filter(|(_, (_, until))| *until > now)
            .map(|(&(source, destination, source_port, destination_port), (bucket, until))| {
                let fresh = now.saturating_duration_since(bucket.filled);
                HashLimitInfo {
                    source,
                    destination,
                    source_port,
                    destination_port,
                    expires_in: until.saturating_duration_since(now),
                    credit: interval
                        .saturating_mul(bucket.tokens)
                        .saturating_add(fresh)
                        .min(interval.saturating_mul(*burst)),
                    interval: *interval,
                    burst: *burst,
                }
            })
            .collect();
        flows.sort_unstable_by_key(|flow| {
            (flow.source, flow.destination, flow.source_port, flow.destination_port)
        });
        flows
    }

    pub(super) fn allow(&self, limit: &HashLimit, key: HashLimitEntry, now: Instant) -> bool {
        let mut buckets = self.buckets.lock();
        let expires = now + limit.expires;
        if !buckets.contains_key(&key) && buckets.len() >= limit.max {
            buckets.retain(|_, (_, until)| *until > now);
            if buckets.len() >= limit.max {
                // Linux drops what it cannot account for.
                return false;
            }
        }
        let full = Bucket { tokens: limit.burst, filled: now };
        let (bucket, until) = buckets.entry(key).or_insert((full, expires));
        if *until <= now {
            *bucket = full;
        }
        *until = expires;
        bucket.allow(limit.interval, limit.burst, now)
    }
}

/// An address of a list, when it was seen, and with which TTL.
#[derive(Debug)]
struct Seen {
    ttl: u8,
    /// The latest at the end.
    times: VecDeque<Instant>,
}

/// A list of addresses.
#[derive(Debug, Default)]
pub(super) struct RecentList(Mutex<HashMap<IpAddr, Seen>>);

impl RecentList {
    pub(super) fn ask(&self, test: &RecentTest, address: IpAddr, ttl: u8, now: Instant) -> bool {
        let address = masked(address, test.mask);
        let mut seen = self.0.lock();
        let known = seen.get_mut(&address).filter(|entry| !test.same_ttl || entry.ttl == ttl);
        let Some(entry) = known else {
            if test.action == RecentAction::Set {
                if seen.len() >= MAX_RECENT {
                    // The one that was silent for longest goes, as in Linux.
                    let oldest = seen.iter().min_by_key(|(_, entry)| entry.times.back().copied());
                    let oldest = oldest.map(|(address, _)| *address);
                    oldest.map(|address| seen.remove(&address));
                }
                seen.insert(address, Seen { ttl, times: VecDeque::from([now]) });
                return true;
            }
            return false;
        };
        match test.action {
            RecentAction::Set => {
                entry.note(ttl, now);
                true
            }
            RecentAction::Remove => {
                seen.remove(&address);
                true
            }
            RecentAction::Check | RecentAction::Update => {
                let counts = |time: &&Instant| {
                    test.within.is_none_or(|within| now.saturating_duration_since(**time) <= within)
                };
                let hits = entry.times.iter().filter(counts).count();
                let passes = hits >= usize::try_from(test.hits.max(1)).unwrap_or(usize::MAX);
                if passes && test.action == RecentAction::Update {
                    entry.note(ttl, now);
                }
                passes
            }
        }
    }

    /// Adds or removes an address by hand; all of them for none.
    pub(super) fn set(&self, address: Option<IpAddr>, is_there: bool, now: Instant) {
        let mut seen = self.0.lock();
        match (address, is_there) {
            (Some(address), true) => {
                if seen.len() < MAX_RECENT {
                    seen.entry(address)
                        .or_insert_with(|| Seen { ttl: 0, times: VecDeque::new() })
                        .note(0, now);
                }
            }
            (Some(address), false) => drop(seen.remove(&address)),
            (None, _) => seen.clear(),
        }
    }

    /// The addresses with their TTL and the times at which they were seen.
    pub(super) fn list(&self) -> Vec<(IpAddr, u8, Vec<Instant>)> {
        let seen = self.0.lock();
        seen.iter()
            .map(|(address, entry)| (*address, entry.ttl, entry.times.iter().copied().collect()))
            .collect()
    }
}

impl Seen {
    fn note(&mut self, ttl: u8, now: Instant) {
        self.ttl = ttl;
        if self.times.len() >= MAX_STAMPS {
            self.times.pop_front();
        }
        self.times.push_back(now);
    }
}

/// The bits of an address that count.
pub(super) fn masked(address: IpAddr, mask: IpAddr) -> IpAddr {
    match (address, mask) {
        (IpAddr::V4(address), IpAddr::V4(mask)) => IpAddr::V4((address.to_bits() & mask.to_bits()).into()),
        (IpAddr::V6(address), IpAddr::V6(mask)) => IpAddr::V6((address.to_bits() & mask.to_bits()).into()),
        (address, _) => address,
    }
}

/// `ip_list_tot` of xt_recent.
const MAX_RECENT: usize = 100;
/// `ip_pkt_list_tot` allows up to 255; Linux keeps as many as the largest hit count asked for, rounded up.
const MAX_STAMPS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::rule::Side;

    #[test]
    fn a_limit_lets_a_burst_through_and_then_its_rate() {
        let limit = LimitState::new(Duration::from_secs(1), 5);
        let at = |millis| Instant::from_millis(millis);
        assert_eq!((0..10).filter(|_| limit.allow(at(100))).count(), 5);
        assert!(!limit.allow(at(1099)));
        assert!(limit.allow(at(1100)) && !limit.allow(at(1100)));
        assert_eq!((0..10).filter(|_| limit.allow(at(60_000))).count(), 5);
    }

    #[test]
    fn every_nth_packet_passes() {
        let count = AtomicU32::new(1);
        let passed: Vec<_> = (0..7).map(|_| is_nth(&count, 2)).collect();
        assert_eq!(passed, [false, true, false, false, true, false, false]);
    }

    #[test]
    fn a_quota_ends() {
        let left = AtomicU64::new(250);
        assert!(take_quota(&left, 100) && take_quota(&left, 100));
        assert!(!take_quota(&left, 100) && !take_quota(&left, 1));
    }

    #[test]
    fn hash_limits_are_shown_as_they_are() {
        use crate::filter::rule::HashLimitKey;
        let limit = HashLimit {
            name: "a".into(),
            key: HashLimitKey::SOURCE,
            source_bits: 32,
            destination_bits: 32,
            interval: Duration::from_millis(200),
            burst: 7,
            expires: Duration::from_secs(1),
            max: 10,
        };
        let shared = SharedStates::default();
        let table = shared.hash_limit(&limit);
        let source = Some(IpAddr::V4([10, 0, 0, 1].into()));
        (0..2).for_each(|_| assert!(table.allow(&limit, (source, None, 0, 0), Instant::ZERO)));
        let seen = |at| {
            let flows = table.list(Instant::from_millis(at));
            flows.iter().map(|flow| (flow.source, flow.credit, flow.expires_in)).collect::<Vec<_>>()
        };
        let millis = Duration::from_millis;
        assert_eq!(seen(50), [(source, millis(1050), millis(950))]);
        assert_eq!(seen(900), [(source, millis(1400), millis(100))]);
        assert_eq!(seen(1000), []);
        assert_eq!(shared.hash_limit_names(), ["a"]);
        drop(table);
        assert!(shared.hash_limit_names().is_empty() && shared.hash_limit_table("a").is_none());
    }

    #[test]
    fn recent_addresses_are_bounded_and_forgotten() {
        let list = RecentList::default();
        let test = |action, hits| RecentTest {
            name: "a".into(),
            side: Side::Source,
            mask: "255.255.255.255".parse().unwrap(),
            action,
            within: Some(Duration::from_secs(10)),
            hits,
            same_ttl: false,
        };
        let ask = |action, hits, host: u32, at| {
            let address = IpAddr::V4((0x0a00_0000 + host).into());
            list.ask(&test(action, hits), address, 64, Instant::from_millis(at))
        };
        assert!(!ask(RecentAction::Check, 0, 1, 0));
        assert!(ask(RecentAction::Set, 0, 1, 0) && ask(RecentAction::Check, 1, 1, 10_000));
        assert!(!ask(RecentAction::Update, 2, 1, 100) && ask(RecentAction::Update, 1, 1, 100));
        assert!(ask(RecentAction::Check, 2, 1, 200) && !ask(RecentAction::Check, 1, 1, 20_000));
        assert!(ask(RecentAction::Remove, 0, 1, 0) && !ask(RecentAction::Remove, 0, 1, 0));
        (0..1000).for_each(|host| assert!(ask(RecentAction::Set, 0, host, u64::from(host))));
        assert_eq!(list.list().len(), MAX_RECENT);
        assert!(!ask(RecentAction::Check, 0, 1, 1000) && ask(RecentAction::Check, 0, 999, 1000));
    }
}
