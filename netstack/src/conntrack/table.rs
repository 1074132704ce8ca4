//! The table of confirmed flows: by both tuples, in shards, bounded, swept by a timer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::sync::Mutex;

use super::{Conn, ConnInfo, Direction, Tuple};
use crate::outbox::Outbox;
use crate::secret::hash_words;
use crate::stack::Core;
use crate::time::Instant;
use crate::timer::{TimerSlot, TimerTarget};

/// Confirmed flows.
pub(crate) struct Conntrack {
    shards: [Mutex<Shard>; SHARDS],
    key: [u64; 2],
    len: AtomicUsize,
    limit: AtomicUsize,
}

type Shard = HashMap<Tuple, (Arc<Conn>, Direction)>;

/// Why a flow was not entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The table is full of flows that are worth more.
    Full,
    /// One of its tuples is taken by another flow.
    Clash,
}

/// What became of a flow that was to be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmed {
    Yes,
    /// It is, and another one had to go.
    Evicting,
}

impl Conntrack {
    pub(crate) fn new(key: [u64; 2]) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            key,
            len: AtomicUsize::new(0),
            limit: AtomicUsize::new(DEFAULT_LIMIT),
        }
    }

    /// The flow that a tuple belongs to.
    pub(crate) fn find(&self, tuple: &Tuple, now: Instant) -> Option<(Arc<Conn>, Direction)> {
        let found = self.shards[self.shard_of(tuple)].lock().get(tuple).cloned();
        found.filter(|(conn, _)| !conn.is_over(now))
    }

    /// Enters a flow under both tuples.
    pub(crate) fn confirm(&self, conn: &Arc<Conn>, now: Instant) -> Result<Confirmed, Refusal> {
        let mut outcome = Confirmed::Yes;
        if self.len.load(Ordering::Relaxed) >= self.limit.load(Ordering::Relaxed) {
            if !self.drop_early(&conn.tuple(Direction::Original), now) {
                return Err(Refusal::Full);
            }
            outcome = Confirmed::Evicting;
        }
        let tuples = [conn.tuple(Direction::Original), conn.tuple(Direction::Reply)];
        tuples.iter().for_each(|tuple| self.remove_if_over(tuple, now));
        let [a, b] = tuples.map(|tuple| self.shard_of(&tuple));
        // Always the lower shard first, and one lock if they are the same.
        let mut first = self.shards[a.min(b)].lock();
        let mut second = (a != b).then(|| self.shards[a.max(b)].lock());
        let directions = [Direction::Original, Direction::Reply];
        for (tuple, shard) in tuples.iter().zip([a, b]) {
            let map = match &mut second {
                Some(second) if shard == a.max(b) => &mut **second,
                _ => &mut *first,
            };
            if map.contains_key(tuple) {
                return Err(Refusal::Clash);
            }
        }
        conn.confirm();
        for ((tuple, shard), direction) in tuples.into_iter().zip([a, b]).zip(directions) {
            let map = match &mut second {
                Some(second) if shard == a.max(b) => &mut **second,
                _ => &mut *first,
            };
            map.insert(tuple, (Arc::clone(conn), direction));
        }
        self.len.fetch_add(1, Ordering::Relaxed);
        Ok(outcome)
    }

    /// Forgets a flow.
    pub(crate) fn remove(&self, conn: &Arc<Conn>) {
        let mut was_there = false;
        for direction in [Direction::Original, Direction::Reply] {
            let tuple = conn.tuple(direction);
            let mut shard = self.shards[self.shard_of(&tuple)].lock();
            if shard.get(&tuple).is_some_and(|(other, _)| Arc::ptr_eq(other, conn)) {
                shard.remove(&tuple);
                was_there = true;
            }
        }
        if was_there {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether any flow looks like that when it arrives.
    pub(crate) fn is_taken(&self, tuple: &Tuple, now: Instant) -> bool {
        self.find(tuple, now).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub(crate) fn list(&self) -> Vec<ConnInfo> {
        let mut flows = Vec::new();
        for shard in &self.shards {
            let originals: Vec<_> = shard
                .lock()
                .values()
                .filter(|(_, direction)| *direction == Direction::Original)
                .map(|(conn, _)| Arc::clone(conn))
                .collect();
            flows.extend(originals.iter().map(|conn| conn.info()));
        }
        flows
    }

    /// Forgets the flows that `is_unwanted`; returns how many.
    pub(crate) fn remove_if(&self, is_unwanted: impl Fn(&ConnInfo) -> bool) -> usize {
        let mut count = 0;
        for shard in &self.shards {
            let originals: Vec<_> = shard
                .lock()
                .values()
                .filter(|(_, direction)| *direction == Direction::Original)
                .map(|(conn, _)| Arc::clone(conn))
                .collect();
            for conn in originals.iter().filter(|conn| is_unwanted(&conn.info())) {
                self.remove(conn);
                count += 1;
            }
        }
        count
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            drop(std::mem::take(&mut *shard.lock()));
        }
        self.len.store(0, Ordering::Relaxed);
    }

    /// Forgets what is over in one shard.
    fn sweep(&self, shard: usize, now: Instant) {
        let over = |map: &Shard| -> Vec<Arc<Conn>> {
            map.values().filter(|(conn, _)| conn.is_over(now)).map(|(conn, _)| Arc::clone(conn)).collect()
        };
        let old = over(&self.shards[shard].lock());
        old.iter().for_each(|conn| self.remove(conn));
    }

    fn remove_if_over(&self, tuple: &Tuple, now: Instant) {
        let found = self.shards[self.shard_of(tuple)].lock().get(tuple).cloned();
        if let Some((old, _)) = found.filter(|(conn, _)| conn.is_over(now)) {
            self.remove(&old);
        }
    }

    /// Makes room: forgets a flow near `tuple` that is over or was never confirmed by much traffic.
    fn drop_early(&self, tuple: &Tuple, now: Instant) -> bool {
        let first = self.shard_of(tuple);
        let mut seen = 0;
        let victim = (0..SHARDS).find_map(|step| {
            let map = self.shards[(first + step) % SHARDS].lock();
            let candidates = map.values().take(EARLY_DROP_RANGE.saturating_sub(seen));
            seen += map.len();
            let mut unworthy = candidates.filter(|(conn, _)| conn.is_over(now) || !conn.is_assured());
            unworthy.next().map(|(conn, _)| Arc::clone(conn))
        });
        victim.map(|conn| self.remove(&conn)).is_some()
    }

    fn shard_of(&self, tuple: &Tuple) -> usize {
        let half = |address: std::net::IpAddr| match address {
            std::net::IpAddr::V4(address) => u64::from(address.to_bits()),
            std::net::IpAddr::V6(address) => {
                // Both halves of the 128 bits count.
                let bits = address.to_bits();
                (bits >> 64) as u64 ^ (bits as u64).rotate_left(17)
            }
        };
        let ids = u64::from(tuple.source_id) << 16 | u64::from(tuple.destination_id);
        let hash = hash_words(self.key, &[half(tuple.source), half(tuple.destination), ids]);
        // Below SHARDS.
        (hash % SHARDS as u64) as usize
    }
}

/// The table of a stack with its timer.
pub(crate) struct ConntrackCell {
    pub(crate) table: Conntrack,
    slot: TimerSlot,
    next_shard: AtomicUsize,
}

impl ConntrackCell {
    pub(crate) fn new(key: [u64; 2]) -> Self {
        Self { table: Conntrack::new(key), slot: TimerSlot::default(), next_shard: AtomicUsize::new(0) }
    }

    /// Makes sure that what is over will be swept.
    pub(crate) fn arm(self: &Arc<Self>, core: &Core, now: Instant) {
        core.timers.arm(self, Some(now + SWEEP_INTERVAL));
    }
}

impl TimerTarget for ConntrackCell {
    fn slot(&self) -> &TimerSlot {
        &self.slot
    }

    fn on_timer(self: Arc<Self>, core: &Arc<Core>, now: Instant, _outbox: &mut Outbox) {
        let shard = self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS;
        self.table.sweep(shard, now);
        if self.table.len() > 0 {
            self.arm(core, now);
        }
    }
}

/// Flows spread over this many locks.
const SHARDS: usize = 16;
/// One shard at a time: all are swept every sixteen seconds. What is over is not found meanwhile; it only takes room.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// About 32 MiB. Linux's `nf_conntrack_max` depends on the memory and is 262144 at most by default.
const DEFAULT_LIMIT: usize = 65_536;
/// How many flows are looked at for one to drop; Linux's NF_CT_EVICTION_RANGE.
const EARLY_DROP_RANGE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::{Side, Transport};
    use netstack_wire::ip::Protocol;

    fn tuple(port: u16) -> Tuple {
        Tuple {
            source: "10.0.0.1".parse().unwrap(),
            destination: "192.0.2.1".parse().unwrap(),
            protocol: Protocol::UDP,
            source_id: port,
            destination_id: 53,
        }
    }

    fn conn(port: u16) -> Arc<Conn> {
        Arc::new(Conn::begin(Instant::ZERO, tuple(port), &Transport::Other, 28).unwrap())
    }

    #[test]
    fn flows_are_found_by_both_tuples_until_they_are_over() {
        let table = Conntrack::new([1, 2]);
        let flow = conn(1000);
        let mut reply = tuple(1000).inverted();
        reply.destination_id = 4000;
        flow.map(Side::Source, reply);
        assert_eq!(table.confirm(&flow, Instant::ZERO), Ok(Confirmed::Yes));
        let direction = |tuple: &Tuple, now| table.find(tuple, now).map(|(_, direction)| direction);
        assert_eq!(direction(&tuple(1000), Instant::ZERO), Some(Direction::Original));
        assert_eq!(direction(&reply, Instant::ZERO), Some(Direction::Reply));
        assert_eq!(direction(&tuple(1000).inverted(), Instant::ZERO), None);
        assert_eq!(flow.translated(Direction::Original).source_id, 4000);
        assert_eq!(flow.translated(Direction::Reply), tuple(1000).inverted());
        let later = Instant::from_millis(30_000);
        assert_eq!(direction(&reply, later), None);
        (0..SHARDS).for_each(|shard| table.sweep(shard, later));
        assert_eq!((table.len(), table.list().len()), (0, 0));
    }

    #[test]
    fn tuples_are_not_shared() {
        let table = Conntrack::new([1, 2]);
        table.confirm(&conn(1), Instant::ZERO).unwrap();
        assert_eq!(table.confirm(&conn(1), Instant::ZERO), Err(Refusal::Clash));
        let other = conn(2);
        other.map(Side::Source, tuple(1).inverted());
        assert_eq!(table.confirm(&other, Instant::ZERO), Err(Refusal::Clash));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_full_table_drops_the_unassured() {
        let table = Conntrack::new([1, 2]);
        table.set_limit(64);
        let evicted = (0..1000)
            .filter(|&port| matches!(table.confirm(&conn(port), Instant::ZERO), Ok(Confirmed::Evicting)))
            .count();
        assert!(table.len() <= 64 && evicted > 0, "{} flows, {evicted} evicted", table.len());
        // Those that are worth something stay.
        let table = Conntrack::new([1, 2]);
        table.set_limit(64);
        for port in 0..64 {
            let flow = conn(port);
            flow.on_packet(Instant::from_millis(2500), Direction::Reply, &Transport::Other, 28);
            table.confirm(&flow, Instant::from_millis(2500)).unwrap();
        }
        let refused = table.confirm(&conn(999), Instant::from_millis(2500));
        assert_eq!((refused, table.len()), (Err(Refusal::Full), 64));
    }
}
