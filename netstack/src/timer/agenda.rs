//! Deadlines in order. Most are a fixed time away when they are set: what waits for a SYN, a FIN or the end of TIME-WAIT comes
//! behind all that has waited for the same so far. So entries stand in a few queues, each in order, and only what fits behind
//! none of them goes into a heap. That is exact whatever comes, and a constant cost for what usually does.

use std::collections::{BinaryHeap, VecDeque};

/// Things with deadlines, given out in the order of these.
#[derive(Debug)]
pub(super) struct Agenda<T> {
    queues: [VecDeque<Entry<T>>; QUEUES],
    heap: BinaryHeap<Entry<T>>,
    /// The first deadline of each queue, and that of the heap; [`NONE`] where there is none.
    firsts: [u64; QUEUES + 1],
    /// The last deadline of each queue; anything where there is none.
    lasts: [u64; QUEUES],
    len: usize,
}

/// A thing and its deadline in nanoseconds.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) at: u64,
    pub(super) item: T,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        let (firsts, lasts) = ([NONE; QUEUES + 1], [0; QUEUES]);
        Self { queues: Default::default(), heap: BinaryHeap::new(), firsts, lasts, len: 0 }
    }
}

impl<T> Agenda<T> {
    pub(super) fn push(&mut self, at: u64, item: T) {
        let entry = Entry { at, item };
        self.len += 1;
        match self.place(at) {
            Some(index) => {
                self.queues[index].push_back(entry);
                self.lasts[index] = at;
                self.firsts[index] = self.firsts[index].min(at);
            }
            None => {
                self.heap.push(entry);
                self.firsts[QUEUES] = self.firsts[QUEUES].min(at);
            }
        }
    }

    /// The queue for a deadline: the one that ends least before it, unless it would be blocked for those that belong there.
    fn place(&self, at: u64) -> Option<usize> {
        let (mut least, mut best, mut empty) = (NEAR, None, None);
        for (index, (&first, &last)) in self.firsts.iter().zip(&self.lasts).enumerate() {
            if first == NONE {
                empty = Some(index);
            } else if let Some(gap) = at.checked_sub(last)
                && gap <= least
            {
                (least, best) = (gap, Some(index));
            }
        }
        best.or(empty)
    }

    /// The first deadline.
    #[inline]
    pub(super) fn first(&self) -> Option<u64> {
        let first = self.firsts.iter().fold(NONE, |least, first| least.min(*first));
        (first != NONE).then_some(first)
    }

    /// Takes the first one out if its deadline has come.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<Entry<T>> {
        let first = self.first().filter(|first| *first <= now)?;
        self.len -= 1;
        let index = self.firsts.iter().position(|other| *other == first)?;
        match self.queues.get_mut(index) {
            Some(queue) => {
                let entry = queue.pop_front();
                self.firsts[index] = queue.front().map_or(NONE, |entry| entry.at);
                // What a burst of connections left.
                if queue.capacity() > SPARE && queue.len() < queue.capacity() / 8 {
                    queue.shrink_to(queue.len() * 2);
                }
                entry
            }
            None => {
                let entry = self.heap.pop();
                self.firsts[QUEUES] = self.heap.peek().map_or(NONE, |entry| entry.at);
                if self.heap.capacity() > SPARE && self.heap.len() < self.heap.capacity() / 8 {
                    self.heap.shrink_to(self.heap.len() * 2);
                }
                entry
            }
        }
    }

    /// Keeps those of which `is_wanted` says so.
    pub(super) fn retain(&mut self, mut is_wanted: impl FnMut(&Entry<T>) -> bool) {
        for (index, queue) in self.queues.iter_mut().enumerate() {
            queue.retain(&mut is_wanted);
            self.firsts[index] = queue.front().map_or(NONE, |entry| entry.at);
            self.lasts[index] = queue.back().map_or(0, |entry| entry.at);
        }
        self.heap.retain(is_wanted);
        self.firsts[QUEUES] = self.heap.peek().map_or(NONE, |entry| entry.at);
        self.len = self.queues.iter().map(VecDeque::len).sum::<usize>() + self.heap.len();
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// The order of a max-heap, turned round: the earliest deadline is the greatest entry.
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.cmp(&self.at)
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<T> Eq for Entry<T> {}

/// Later than every deadline.
const NONE: u64 = u64::MAX;
/// As many fixed times as are in use at once: of SYNs, FINs, TIME-WAIT, keepalives, idle connections' memory and neighbours.
const QUEUES: usize = 6;
/// A deadline further behind the last of a queue, in nanoseconds, belongs to another one.
const NEAR: u64 = 500_000_000;
/// So much room is kept in any case.
const SPARE: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn order_is_that_of_the_deadlines_whatever_comes() {
        let mut agenda = Agenda::default();
        let mut model: BTreeSet<(u64, u32)> = BTreeSet::new();
        let (mut now, mut seed) = (0_u64, 1_u64);
        let mut random = |bound: u64| {
            // xorshift64
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % bound
        };
        const WAITS: [u64; 5] = [200_000_000, 1_000_000_000, 60_000_000_000, 7_200_000_000_000, 0];
        let mut in_heap = 0;
        for number in 0..50_000_u32 {
            now += random(2_000_000);
            let jitter = random(40_000_000);
            // One in ten waits for something of its own.
            let wait =
                if random(10) == 0 { random(100_000_000_000) } else { WAITS[random(5) as usize] + jitter };
            agenda.push(now + wait, number);
            model.insert((now + wait, number));
            in_heap = in_heap.max(agenda.heap.len());
            if random(50) == 0 {
                agenda.retain(|entry| entry.item % 7 != 0);
                model.retain(|(_, number)| number % 7 != 0);
            }
            while let Some(entry) = agenda.pop_due(now) {
                assert_eq!(Some(entry.at), model.first().map(|(at, _)| *at));
                assert!(model.remove(&(entry.at, entry.item)));
            }
            assert_eq!(agenda.first(), model.first().map(|(at, _)| *at));
            assert!(agenda.first().is_none_or(|first| first > now));
            assert_eq!(agenda.len(), model.len());
        }
        assert!(in_heap > 0);
    }

    #[test]
    fn fixed_times_need_no_heap() {
        let mut agenda = Agenda::default();
        for step in 0..10_000 {
            let now = step * 1_000_000;
            for wait in [300_000_000, 1_000_000_000, 60_000_000_000] {
                agenda.push(now + wait, ());
            }
            while agenda.pop_due(now).is_some() {}
        }
        assert!(agenda.heap.is_empty());
    }
}
