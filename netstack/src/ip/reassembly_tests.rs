//! Tests of the reassembler.

use super::*;

fn key(ident: u32) -> FragmentKey {
    let source = "192.0.2.1".parse().unwrap();
    FragmentKey { source, destination: source, protocol: Protocol::UDP, ident }
}

fn fragment(offset: usize, len: usize, more: bool) -> Fragment {
    let data: Vec<u8> = (offset..offset + len).map(|index| index as u8).collect();
    Fragment { offset, more, data: Bytes::from(data), header: Bytes::from(format!("header {offset}")) }
}

fn now() -> Instant {
    Instant::from_millis(0)
}

#[test]
fn every_order_gives_the_packet() {
    let parts = [(0, 16, true), (16, 8, true), (24, 5, false)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut machine = Reassembler::default();
        let mut results = order.map(|index| {
            let (offset, len, more) = parts[index];
            machine.add(now(), key(1), fragment(offset, len, more))
        });
        let last = std::mem::replace(&mut results[2], Progress::Pending);
        let data = Bytes::from((0..29).collect::<Vec<u8>>());
        assert_eq!(last, Progress::Complete { header: Bytes::from("header 0"), data }, "{order:?}");
        assert!(results.iter().all(|result| *result == Progress::Pending), "{order:?}");
        assert_eq!((machine.memory, machine.packets.len()), (0, 0));
    }
}

/// RFC 5722 section 4: the datagram with overlapping fragments, "including those not yet received", is discarded.
#[test]
fn overlaps_poison_the_packet() {
    for (offset, len, more) in [(8, 16, true), (0, 8, true), (16, 8, true), (24, 4, false), (8, 8, false)] {
        let mut machine = Reassembler::default();
        machine.add(now(), key(1), fragment(0, 16, true));
        machine.add(now(), key(1), fragment(24, 8, true));
        let result = machine.add(now(), key(1), fragment(offset, len, more));
        if (offset, len) == (16, 8) {
            assert_eq!(result, Progress::Pending, "fills the hole exactly");
            continue;
        }
        assert_eq!(result, Progress::Overlap, "{offset}+{len}");
        assert_eq!(machine.add(now(), key(1), fragment(16, 8, true)), Progress::Overlap);
        assert_eq!(machine.memory, PARTIAL_OVERHEAD);
    }
}

/// What is left of a packet whose fragments overlapped has to be paid for, or anybody can leave millions of them.
#[test]
fn poisoned_packets_are_bounded() {
    let mut machine = Reassembler::default();
    for ident in 0..200_000 {
        machine.add(now(), key(ident), fragment(0, 16, true));
        machine.add(now(), key(ident), fragment(8, 16, true));
    }
    assert!(machine.packets.len() <= HIGH_MEMORY / PARTIAL_OVERHEAD + 1, "{}", machine.packets.len());
    machine.expire(now() + LIFETIME_V4);
    assert_eq!((machine.memory, machine.packets.len()), (0, 0));
}

#[test]
fn duplicates_are_ignored_and_other_packets_kept_apart() {
    let mut machine = Reassembler::default();
    assert_eq!(machine.add(now(), key(1), fragment(0, 8, true)), Progress::Pending);
    assert_eq!(machine.add(now(), key(1), fragment(0, 8, true)), Progress::Pending);
    assert_eq!(machine.add(now(), key(2), fragment(8, 8, false)), Progress::Pending);
    assert!(matches!(machine.add(now(), key(1), fragment(8, 8, false)), Progress::Complete { .. }));
}

#[test]
fn nonsense_is_invalid() {
    let mut machine = Reassembler::default();
    assert_eq!(machine.add(now(), key(1), fragment(0, 9, true)), Progress::Invalid);
    assert_eq!(machine.add(now(), key(1), fragment(65_528, 16, false)), Progress::Invalid);
    assert_eq!(machine.add(now(), key(1), fragment(8, 0, false)), Progress::Invalid);
    assert!(machine.packets.is_empty());
}

#[test]
fn the_missing_rest_expires_and_is_reported_if_the_first_came() {
    let mut machine = Reassembler::default();
    machine.add(now(), key(1), fragment(0, 8, true));
    machine.add(now(), key(2), fragment(8, 8, true));
    let deadline = machine.next_deadline().unwrap();
    assert_eq!(deadline, now() + LIFETIME_V4);
    let reports = machine.expire(deadline);
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].0, "header 0");
    assert_eq!((machine.memory, machine.next_deadline()), (0, None));
}

#[test]
fn memory_is_bounded_and_the_oldest_go() {
    let mut machine = Reassembler::default();
    for ident in 0..40_000 {
        machine.add(Instant::from_millis(u64::from(ident)), key(ident), fragment(0, 800, true));
        assert!(machine.memory <= HIGH_MEMORY + 800 + PIECE_OVERHEAD);
    }
    assert!(!machine.packets.contains_key(&key(0)));
    assert!(machine.packets.contains_key(&key(39_999)));
}
