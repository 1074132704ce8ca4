//! An ordered map from address ranges to values: the algebra under VMAs and PMAs.

use std::collections::BTreeMap;
use std::ops::Range;

/// What a range carries.
pub(crate) trait RangeValue: Sized {
    /// The value for the part from `by` bytes after the start on; `self` stays for the part before.
    fn split_off(&mut self, by: u64) -> Self;

    /// True where a range of `len` bytes with this value, directly followed by one with `next`, can be one range.
    fn can_merge(&self, len: u64, next: &Self) -> bool;
}

#[derive(Debug)]
struct Entry<V> {
    end: u64,
    value: V,
}

/// Ranges that do not overlap, in address order. Adjacent ranges that can merge are merged by [`RangeMap::insert`] and
/// [`RangeMap::update`].
#[derive(Debug)]
pub(crate) struct RangeMap<V> {
    entries: BTreeMap<u64, Entry<V>>,
}

impl<V> Default for RangeMap<V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new() }
    }
}

impl<V: RangeValue> RangeMap<V> {
    /// The range that contains `addr`.
    pub(crate) fn get(&self, addr: u64) -> Option<(Range<u64>, &V)> {
        let (start, entry) = self.entries.range(..=addr).next_back()?;
        (addr < entry.end).then_some((*start..entry.end, &entry.value))
    }

    /// The ranges that overlap `range`, in order, uncut.
    pub(crate) fn overlapping(&self, range: Range<u64>) -> impl DoubleEndedIterator<Item = (Range<u64>, &V)> {
        let first = self.get(range.start).map_or(range.start, |(r, _)| r.start);
        // An empty or reversed range overlaps nothing; BTreeMap panics on reversed bounds.
        let end = range.end.max(first);
        self.entries.range(first..end).map(|(start, e)| (*start..e.end, &e.value))
    }

    /// True where nothing overlaps `range`.
    pub(crate) fn is_vacant(&self, range: Range<u64>) -> bool {
        self.overlapping(range).next().is_none()
    }

    /// The first range that starts at or after `addr`.
    pub(crate) fn next_from(&self, addr: u64) -> Option<(Range<u64>, &V)> {
        self.entries.range(addr..).next().map(|(start, e)| (*start..e.end, &e.value))
    }

    /// The last range that ends at or before `addr`.
    pub(crate) fn last_before(&self, addr: u64) -> Option<(Range<u64>, &V)> {
        let (start, entry) = self.entries.range(..addr).next_back()?;
        (entry.end <= addr).then_some((*start..entry.end, &entry.value))
    }

    /// All ranges in order.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (Range<u64>, &V)> {
        self.entries.iter().map(|(start, e)| (*start..e.end, &e.value))
    }

    /// How many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds a range where nothing is yet and merges it with its neighbours.
    pub(crate) fn insert(&mut self, range: Range<u64>, value: V) {
        debug_assert!(range.start < range.end && self.is_vacant(range.clone()));
        self.entries.insert(range.start, Entry { end: range.end, value });
        self.merge_around(range);
    }

    /// Removes everything in `range`, cutting ranges at its edges, and returns the parts.
    pub(crate) fn remove(&mut self, range: Range<u64>) -> Vec<(Range<u64>, V)> {
        self.split_at(range.start);
        self.split_at(range.end);
        let mut removed = Vec::new();
        while let Some((start, _)) = self.entries.range(range.start..range.end.max(range.start)).next() {
            let start = *start;
            let Some(entry) = self.entries.remove(&start) else { break };
            removed.push((start..entry.end, entry.value));
        }
        removed
    }

    /// Changes the values in `range`, cutting ranges at its edges, then merges.
    pub(crate) fn update(&mut self, range: Range<u64>, mut change: impl FnMut(Range<u64>, &mut V)) {
        self.split_at(range.start);
        self.split_at(range.end);
        for (start, entry) in self.entries.range_mut(range.start..range.end.max(range.start)) {
            change(*start..entry.end, &mut entry.value);
        }
        self.merge_around(range);
    }

    /// Makes `addr` a boundary.
    fn split_at(&mut self, addr: u64) {
        let Some((start, entry)) = self.entries.range_mut(..addr).next_back() else { return };
        if addr < entry.end {
            let value = entry.value.split_off(addr - start);
            let end = std::mem::replace(&mut entry.end, addr);
            self.entries.insert(addr, Entry { end, value });
        }
    }

    /// Merges the ranges in and next to `range` where they can merge.
    fn merge_around(&mut self, range: Range<u64>) {
        let mut at = self.entries.range(..range.start).next_back().map_or(range.start, |(start, _)| *start);
        loop {
            let Some((&start, entry)) = self.entries.range(at..).next() else { return };
            if start > range.end {
                return;
            }
            let end = entry.end;
            let merges =
                self.entries.get(&end).is_some_and(|next| entry.value.can_merge(end - start, &next.value));
            if merges && let Some(next) = self.entries.remove(&end) {
                if let Some(entry) = self.entries.get_mut(&start) {
                    entry.end = next.end;
                }
                at = start;
            } else {
                at = end;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A run of bytes numbered upwards, or a constant colour.
    #[derive(Debug, Clone, PartialEq)]
    struct Run {
        colour: u8,
        first: u64,
    }

    impl RangeValue for Run {
        fn split_off(&mut self, by: u64) -> Self {
            Self { colour: self.colour, first: self.first + by }
        }

        fn can_merge(&self, len: u64, next: &Self) -> bool {
            self.colour == next.colour && self.first + len == next.first
        }
    }

    #[derive(Debug, Clone)]
    enum Op {
        Put(Range<u64>, u8, u64),
        Remove(Range<u64>),
        Paint(Range<u64>, u8),
    }

    const SPAN: u64 = 64;

    fn range() -> impl Strategy<Value = Range<u64>> {
        (0..SPAN, 1..16_u64).prop_map(|(s, l)| s..(s + l).min(SPAN))
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (range(), 0..3_u8, 0..8_u64).prop_map(|(r, c, f)| Op::Put(r, c, f)),
            range().prop_map(Op::Remove),
            (range(), 0..3_u8).prop_map(|(r, c)| Op::Paint(r, c)),
        ]
    }

    proptest! {
        /// Against a map from each address to its colour and number.
        #[test]
        fn behaves_like_a_map_of_single_bytes(ops in proptest::collection::vec(op(), 1..60)) {
            let mut map = RangeMap::<Run>::default();
            let mut model = vec![None; SPAN as usize];
            for op in ops {
                match op {
                    Op::Put(r, colour, first) => {
                        map.remove(r.clone());
                        map.insert(r.clone(), Run { colour, first });
                        for a in r.clone() {
                            model[a as usize] = Some((colour, first + (a - r.start)));
                        }
                    }
                    Op::Remove(r) => {
                        let removed: u64 = map.remove(r.clone()).iter().map(|(r, _)| r.end - r.start).sum();
                        let expected = r.clone().filter(|a| model[*a as usize].is_some()).count() as u64;
                        prop_assert_eq!(removed, expected);
                        for a in r {
                            model[a as usize] = None;
                        }
                    }
                    Op::Paint(r, colour) => {
                        map.update(r.clone(), |_, v| v.colour = colour);
                        for a in r {
                            if let Some((c, _)) = &mut model[a as usize] {
                                *c = colour;
                            }
                        }
                    }
                }
                let mut seen = vec![None; SPAN as usize];
                let mut last: Option<(Range<u64>, Run)> = None;
                for (r, v) in map.iter() {
                    prop_assert!(r.start < r.end);
                    if let Some((lr, lv)) = &last {
                        prop_assert!(lr.end <= r.start);
                        prop_assert!(lr.end < r.start || !lv.can_merge(lr.end - lr.start, v), "unmerged");
                    }
                    last = Some((r.clone(), v.clone()));
                    for a in r.clone() {
                        seen[a as usize] = Some((v.colour, v.first + (a - r.start)));
                    }
                }
                prop_assert_eq!(&seen, &model);
                for a in 0..SPAN {
                    prop_assert_eq!(map.get(a).is_some(), model[a as usize].is_some());
                    let any = (a..(a + 5).min(SPAN)).any(|x| model[x as usize].is_some());
                    prop_assert_eq!(!map.is_vacant(a..(a + 5).min(SPAN)), any);
                }
            }
        }
    }
}
