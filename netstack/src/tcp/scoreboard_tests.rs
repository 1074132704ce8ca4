//! Tests of the scoreboard: hand-made cases and a comparison with a byte map.

use super::*;
use core::time::Duration;

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn block(start: u32, end: u32) -> SackBlock {
    SackBlock { start: SeqNum(start), end: SeqNum(end) }
}

#[test]
fn sends_of_one_instant_share_a_record() {
    let mut board = Scoreboard::default();
    board.on_sent(SeqNum(0), SeqNum(100), at(1));
    board.on_sent(SeqNum(100), SeqNum(200), at(1));
    board.on_sent(SeqNum(200), SeqNum(300), at(2));
    assert_eq!(board.records.len(), 2);
    assert_eq!(board.in_flight(), 300);
}

#[test]
fn sacked_neighbours_merge_and_the_hole_is_retransmitted_in_pieces() {
    let mut board = Scoreboard::default();
    board.on_sent(SeqNum(0), SeqNum(1000), at(1));
    let mut out = Delivered::default();
    board.on_sack(block(300, 400), &mut out);
    board.on_sack(block(500, 600), &mut out);
    board.on_sack(block(400, 500), &mut out);
    assert_eq!((out.sacked, out.delivered, board.sacked()), (300, 300, 300));
    assert_eq!(board.records.len(), 3);
    assert_eq!(board.highest_sacked(), Some(SeqNum(600)));
    assert_eq!(board.mark_lost(|_| true, |record| record.start.ge(SeqNum(600))), 300);
    assert_eq!(board.next_lost(100), Some((SeqNum(0), SeqNum(100))));
    board.on_retransmitted(SeqNum(0), SeqNum(100), at(5));
    assert_eq!(board.next_lost(1000), Some((SeqNum(100), SeqNum(300))));
    assert_eq!((board.lost(), board.retransmitted(), board.in_flight()), (200, 100, 500));
    let mut out = Delivered::default();
    board.on_ack(SeqNum(600), &mut out);
    assert_eq!((out.acked, out.delivered, out.was_lost), (600, 300, 200));
    assert_eq!((board.total(), board.sacked(), board.lost(), board.retransmitted()), (400, 0, 0, 0));
}

#[test]
fn ack_over_a_retransmission_measures_nothing_and_rack_sees_it() {
    let mut board = Scoreboard::default();
    board.on_sent(SeqNum(0), SeqNum(100), at(1));
    board.on_sent(SeqNum(100), SeqNum(200), at(2));
    board.mark_head_lost(100);
    board.on_retransmitted(SeqNum(0), SeqNum(100), at(9));
    let mut out = Delivered::default();
    board.on_ack(SeqNum(200), &mut out);
    assert_eq!(out.rtt_from(), None);
    assert_eq!(out.newest, Some((at(9), SeqNum(100), true)));
}

/// The same operations on a scoreboard and on one entry per byte give the same sums.
#[test]
fn sums_match_a_byte_map_under_random_operations() {
    for seed in 0..300_u64 {
        let mut rng = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = move |bound: u32| {
            rng ^= rng << 13;
            rng ^= rng >> 7;
            rng ^= rng << 17;
            u32::try_from(rng % u64::from(bound)).unwrap()
        };
        let base = SeqNum(u32::MAX - 500);
        let mut board = Scoreboard::default();
        let mut map: Vec<Fate> = Vec::new();
        let mut una = 0_usize;
        let seq = |at: usize| base + u32::try_from(at).unwrap();
        let mut now = Instant::ZERO;
        for _ in 0..60 {
            now += Duration::from_millis(u64::from(next(2)));
            let held = u32::try_from(map.len() - una).unwrap();
            match next(5) {
                0 | 1 => {
                    let len = usize::try_from(next(60) + 1).unwrap();
                    board.on_sent(seq(map.len()), seq(map.len() + len), now);
                    map.extend(std::iter::repeat_n(Fate::Outstanding, len));
                }
                2 if held > 0 => {
                    let start = una + usize::try_from(next(held)).unwrap();
                    let end = (start + usize::try_from(next(40)).unwrap() + 1).min(map.len());
                    board.on_sack(SackBlock { start: seq(start), end: seq(end) }, &mut Delivered::default());
                    map[start..end].fill(Fate::Sacked);
                }
                3 if held > 0 => {
                    let limit = una + usize::try_from(next(held)).unwrap();
                    board.split_at(seq(limit));
                    board.mark_lost(|_| true, |record| record.start.ge(seq(limit)));
                    for fate in &mut map[una..limit] {
                        if *fate == Fate::Outstanding {
                            *fate = Fate::Lost;
                        }
                    }
                    if let Some((from, to)) = board.next_lost(25) {
                        board.on_retransmitted(from, to, now);
                        let first = map[una..].iter().position(|fate| *fate == Fate::Lost).unwrap() + una;
                        assert_eq!(from, seq(first), "seed {seed}");
                        map[first..first + usize::try_from(to - from).unwrap()].fill(Fate::Outstanding);
                    }
                }
                4 if held > 0 => {
                    una += usize::try_from(next(held + 1)).unwrap();
                    board.on_ack(seq(una), &mut Delivered::default());
                }
                _ => {}
            }
            let count = |fate: Fate| map[una..].iter().filter(|f| **f == fate).count();
            assert_eq!(usize::try_from(board.sacked()).unwrap(), count(Fate::Sacked), "seed {seed}");
            assert_eq!(usize::try_from(board.lost()).unwrap(), count(Fate::Lost), "seed {seed}");
            assert_eq!(usize::try_from(board.total()).unwrap(), map.len() - una, "seed {seed}");
            let pairs = board.records.iter().zip(board.records.iter().skip(1));
            assert!(pairs.clone().all(|(a, b)| a.end == b.start), "seed {seed}: gap");
        }
    }
}
