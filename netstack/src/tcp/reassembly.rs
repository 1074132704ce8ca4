//! Data that arrived out of order, and the SACK blocks that describe it (RFC 2018 section 4, RFC 2883).

use super::receive_queue::is_worth_copying;
use super::segment::Payload;
use bytes::{Bytes, BytesMut};
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{SackBlock, SackBlocks};
use smallvec::SmallVec;
use std::collections::VecDeque;

/// Runs of contiguous data beyond RCV.NXT.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    /// Sorted, neither overlapping nor touching.
    runs: Vec<Run>,
    /// A sequence number in each of the runs that changed last, the latest first.
    recent: SmallVec<[SeqNum; SackBlocks::MAX]>,
    len: u32,
}

#[derive(Debug)]
struct Run {
    start: SeqNum,
    end: SeqNum,
    pieces: VecDeque<Bytes>,
}

impl Run {
    /// Copies small pieces together: a peer that sends single bytes must not make us keep a buffer for each. A run of
    /// segments of the usual size never gets here, and otherwise at most [`COMPACT_PER_PIECE`] bytes are copied for each
    /// segment that arrived.
    fn compact(&mut self) {
        let len = super::num::usize_of(self.end - self.start);
        if self.pieces.len() <= COMPACT_ABOVE + len / COMPACT_PER_PIECE {
            return;
        }
        let mut whole = BytesMut::with_capacity(len);
        self.pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
        self.pieces = VecDeque::from([whole.freeze()]);
    }
}

/// What became of a segment that was put in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Inserted {
    /// It is kept, at least in part. The block is what of it had arrived before, if anything (for a DSACK).
    Kept(Option<SackBlock>),
    /// All of it had arrived before.
    Duplicate,
    /// There are too many runs already.
    Refused,
}

impl Reassembly {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes held.
    #[cfg(test)]
    fn len(&self) -> u32 {
        self.len
    }

    /// Puts in the payload that starts at `start` and pins `true_size` bytes.
    pub(super) fn insert(&mut self, start: SeqNum, mut payload: Payload, true_size: u32) -> Inserted {
        let end = start + payload.len_u32();
        // The runs that overlap or touch: [first, last).
        let first = self.runs.partition_point(|run| run.end.lt(start));
        let last = first + self.runs[first..].partition_point(|run| run.start.le(end));
        let overlap = self.runs[first..last].iter().find_map(|run| overlap(run, start, end));
        if overlap == Some(SackBlock { start, end }) {
            self.note_recent(start);
            return Inserted::Duplicate;
        }
        if first == last && self.runs.len() >= MAX_RUNS {
            return Inserted::Refused;
        }
        if is_worth_copying(payload.len_u32(), true_size) {
            payload = compact(&payload);
        }
        let before: u32 = self.runs[first..last].iter().map(|run| run.end - run.start).sum();
        let mut run = merge(self.runs.drain(first..last), start, end, &payload);
        run.compact();
        self.len += (run.end - run.start) - before;
        self.runs.insert(first, run);
        self.note_recent(start);
        Inserted::Kept(overlap)
    }

    /// Takes the data that continues at `rcv_nxt`, dropping what lies before it. `None` if the next data is missing.
    pub(super) fn pop(&mut self, rcv_nxt: SeqNum) -> Option<Payload> {
        while let Some(first) = self.runs.first()
            && first.start.le(rcv_nxt)
        {
            let run = self.runs.remove(0);
            self.len -= run.end - run.start;
            if run.end.le(rcv_nxt) {
                continue;
            }
            let mut payload = Payload::new();
            run.pieces.into_iter().for_each(|piece| payload.push(piece));
            payload.advance(super::num::usize_of(rcv_nxt - run.start));
            return Some(payload);
        }
        None
    }

    /// Appends the SACK blocks to `out`, the run that changed last first (RFC 2018 section 4), at most `max` in all.
    pub(super) fn sack(&self, out: &mut SackBlocks, max: usize) {
        for &seq in &self.recent {
            if out.as_slice().len() >= max {
                return;
            }
            let Some(run) = self.run_at(seq) else { continue };
            let block = SackBlock { start: run.start, end: run.end };
            let is_first_dsack = out.as_slice().first() == Some(&block);
            if is_first_dsack || !out.as_slice().contains(&block) {
                out.push(block);
            }
        }
    }

    fn run_at(&self, seq: SeqNum) -> Option<&Run> {
        let index = self.runs.partition_point(|run| run.end.le(seq));
        self.runs.get(index).filter(|run| run.start.le(seq))
    }

    /// Moves the run that holds `seq` to the front of the recently changed ones.
    fn note_recent(&mut self, seq: SeqNum) {
        let Some(run) = self.run_at(seq) else { return };
        let (start, end) = (run.start, run.end);
        let runs = &self.runs;
        self.recent.retain(|other| {
            let is_same = other.ge(start) && other.lt(end);
            let exists = runs.binary_search_by(|run| place(run, *other)).is_ok();
            !is_same && exists
        });
        self.recent.truncate(SackBlocks::MAX - 1);
        self.recent.insert(0, seq);
    }
}

/// Where `run` lies as seen from `seq`.
fn place(run: &Run, seq: SeqNum) -> core::cmp::Ordering {
    if run.end.le(seq) {
        core::cmp::Ordering::Less
    } else if run.start.gt(seq) {
        core::cmp::Ordering::Greater
    } else {
        core::cmp::Ordering::Equal
    }
}

/// The part of `[start, end)` that `run` already holds.
fn overlap(run: &Run, start: SeqNum, end: SeqNum) -> Option<SackBlock> {
    let block = SackBlock { start: run.start.max(start), end: run.end.min(end) };
    block.start.lt(block.end).then_some(block)
}

/// Joins runs, sorted and all touching `[start, end)`, with the parts of `payload` that fill the gaps between them.
fn merge(runs: impl Iterator<Item = Run>, start: SeqNum, end: SeqNum, payload: &Payload) -> Run {
    let mut merged: Option<Run> = None;
    let mut cursor = start;
    let fill = |pieces: &mut VecDeque<Bytes>, from: SeqNum, to: SeqNum| {
        let mut part = payload.clone();
        part.truncate(super::num::usize_of(to - start));
        part.advance(super::num::usize_of(from - start));
        pieces.extend(part.into_ranges());
    };
    for run in runs {
        let target = match &mut merged {
            None if run.start.le(start) => {
                cursor = run.end;
                merged = Some(run);
                continue;
            }
            None => merged.insert(Run { start, end: start, pieces: VecDeque::new() }),
            Some(target) => target,
        };
        if cursor.lt(run.start) {
            fill(&mut target.pieces, cursor, run.start);
        }
        target.pieces.extend(run.pieces);
        target.end = run.end;
        cursor = run.end;
    }
    let target = merged.get_or_insert_with(|| Run { start, end: start, pieces: VecDeque::new() });
    if cursor.lt(end) {
        fill(&mut target.pieces, cursor, end);
        target.end = end;
    }
    merged.unwrap_or(Run { start, end, pieces: VecDeque::new() })
}

/// A copy that pins no more than its own bytes.
fn compact(payload: &Payload) -> Payload {
    let mut copy = BytesMut::with_capacity(payload.len());
    payload.slices().for_each(|slice| copy.extend_from_slice(slice));
    Payload::from(copy.freeze())
}

/// More holes than any real network leaves in one window; bounds what a hostile peer can make us search.
const MAX_RUNS: usize = 4096;
/// Pieces that a run may always have.
const COMPACT_ABOVE: usize = 32;
/// Above those, pieces smaller than this on average are copied together.
const COMPACT_PER_PIECE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(from: u32, to: u32) -> Payload {
        let bytes: Vec<u8> = (from..to).map(|i| u8::try_from(i % 256).unwrap()).collect();
        Payload::from(Bytes::from(bytes))
    }

    fn blocks(reassembly: &Reassembly) -> Vec<(u32, u32)> {
        let mut out = SackBlocks::default();
        reassembly.sack(&mut out, 4);
        out.as_slice().iter().map(|block| (block.start.0, block.end.0)).collect()
    }

    #[test]
    fn latest_run_is_reported_first_and_merged_ones_once() {
        let mut reassembly = Reassembly::default();
        for (from, to) in [(100, 200), (300, 400), (500, 600)] {
            assert_eq!(reassembly.insert(SeqNum(from), payload(from, to), 0), Inserted::Kept(None));
        }
        assert_eq!(blocks(&reassembly), [(500, 600), (300, 400), (100, 200)]);
        assert_eq!(reassembly.insert(SeqNum(200), payload(200, 300), 0), Inserted::Kept(None));
        assert_eq!(blocks(&reassembly), [(100, 400), (500, 600)]);
        assert_eq!(reassembly.insert(SeqNum(150), payload(150, 250), 0), Inserted::Duplicate);
        let overlap = SackBlock { start: SeqNum(350), end: SeqNum(400) };
        assert_eq!(reassembly.insert(SeqNum(350), payload(350, 450), 0), Inserted::Kept(Some(overlap)));
        assert_eq!(reassembly.len(), 450);
    }

    #[test]
    fn single_bytes_are_kept_together() {
        let mut reassembly = Reassembly::default();
        for at in 100..10_000 {
            assert_eq!(reassembly.insert(SeqNum(at), payload(at, at + 1), 1), Inserted::Kept(None));
        }
        assert!(reassembly.runs[0].pieces.len() <= 60, "{}", reassembly.runs[0].pieces.len());
        let out = reassembly.pop(SeqNum(100)).unwrap();
        assert_eq!(out.to_vec(), payload(100, 10_000).to_vec());
    }

    /// Random overlapping pieces: what comes out is the stream, and the length is right at each step.
    #[test]
    fn random_overlaps_give_back_the_stream() {
        for seed in 1..400_u64 {
            let mut rng = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut next = move |bound: u32| {
                rng ^= rng << 13;
                rng ^= rng >> 7;
                rng ^= rng << 17;
                u32::try_from(rng % u64::from(bound)).unwrap()
            };
            let base = u32::MAX - 300;
            let mut reassembly = Reassembly::default();
            let mut have = vec![false; 1000];
            for _ in 0..40 {
                let from = 1 + next(900);
                let to = from + 1 + next(90);
                let mut bytes = payload(from, to);
                if next(2) == 0 {
                    let mut split = Payload::new();
                    let all = bytes.to_vec();
                    let cut = all.len() / 2;
                    split.push(Bytes::copy_from_slice(&all[..cut]));
                    split.push(Bytes::copy_from_slice(&all[cut..]));
                    bytes = split;
                }
                reassembly.insert(SeqNum(base.wrapping_add(from)), bytes, 0);
                have[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()].fill(true);
                let held = have.iter().filter(|h| **h).count();
                assert_eq!(usize::try_from(reassembly.len()).unwrap(), held, "seed {seed}");
            }
            let mut at = 0_u32;
            while at < 1000 {
                match reassembly.pop(SeqNum(base.wrapping_add(at))) {
                    Some(got) => {
                        let want = payload(at, at + got.len_u32()).to_vec();
                        assert_eq!(got.to_vec(), want, "seed {seed} at {at}");
                        at += got.len_u32();
                    }
                    None => {
                        assert!(!have[usize::try_from(at).unwrap()], "seed {seed} at {at}");
                        at += 1;
                    }
                }
            }
            assert!(reassembly.is_empty());
        }
    }
}
