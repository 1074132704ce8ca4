//! Tests of the TCP header: hand-written vectors, round trips, hostile bytes.

use super::*;

/// A SYN as Linux sends it on Ethernet.
const SYN: &[u8] = &[
    0x9c, 0x40, 0x00, 0x50, 0x01, 0x02, 0x03, 0x04, 0, 0, 0, 0, 0xa0, 0x02, 0xfa, 0xf0, 0xbe, 0xef, 0,
    0, // header
    2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0x10, 0, 0, 0, 0, 0, 1, 3, 3, 7,
];

fn emitted(repr: &TcpRepr) -> Vec<u8> {
    let mut buf = vec![0xaa; MAX_HEADER_LEN];
    let len = repr.emit(&mut buf).unwrap();
    buf.truncate(len);
    buf
}

#[test]
fn linux_syn_parses_and_emits_identically() {
    let view = TcpView::new(SYN).unwrap();
    let repr = TcpRepr::parse(&view);
    assert_eq!((repr.src_port, repr.dst_port, repr.seq), (40000, 80, SeqNum(0x0102_0304)));
    assert_eq!(repr.flags, TcpFlags::SYN);
    assert_eq!(repr.options.mss, Some(1460));
    assert_eq!(repr.options.window_scale, Some(7));
    assert!(repr.options.sack_permitted);
    assert_eq!(repr.options.timestamps, Some(Timestamps { value: 0x1000, echo: 0 }));
    assert_eq!(view.checksum(), 0xbeef);
    let mut expected = SYN.to_vec();
    expected[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].fill(0);
    assert_eq!(emitted(&repr), expected);
}

#[test]
fn data_offset_outside_the_segment_is_refused() {
    let mut bytes = SYN.to_vec();
    bytes[12] = 0x40;
    assert_eq!(TcpView::new(&bytes).unwrap_err(), TcpError::BadDataOffset);
    bytes[12] = 0xf0;
    assert_eq!(TcpView::new(&bytes).unwrap_err(), TcpError::BadDataOffset);
    assert_eq!(TcpView::new(&bytes[..19]).unwrap_err(), TcpError::TooShort);
}

#[test]
fn all_combinations_of_options_round_trip() {
    for bits in 0_u32..(1 << 5) {
        for blocks in 0..=SackBlocks::MAX_WITH_TIMESTAMPS {
            let has = |bit: u32| bits & (1 << bit) != 0;
            let mut options = TcpOptions {
                mss: has(0).then_some(1400),
                window_scale: has(1).then_some(9),
                sack_permitted: has(2),
                timestamps: has(3).then_some(Timestamps { value: 7, echo: 9 }),
                sack: SackBlocks::default(),
                fast_open: has(4).then_some(FastOpenCookie::new(&[1, 2, 3, 4, 5, 6, 7, 8]).unwrap()),
            };
            // SYN options and SACK blocks do not meet in one segment and would not fit.
            if bits & 0b10111 == 0 {
                for i in 0..blocks {
                    let start = SeqNum(u32::try_from(i).unwrap() * 100);
                    assert!(options.sack.push(SackBlock { start, end: start + 50 }));
                }
            }
            let repr = TcpRepr { options, flags: TcpFlags::ACK, window: 5, ..TcpRepr::default() };
            let bytes = emitted(&repr);
            assert_eq!(bytes.len() % 4, 0);
            assert_eq!(TcpRepr::parse(&TcpView::new(&bytes).unwrap()), repr);
        }
    }
}

#[test]
fn fourth_sack_block_is_left_out_beside_timestamps() {
    let mut options = TcpOptions { timestamps: Some(Timestamps::default()), ..TcpOptions::default() };
    for i in 0..4 {
        options.sack.push(SackBlock { start: SeqNum(i), end: SeqNum(i + 1) });
    }
    let bytes = emitted(&TcpRepr { options, ..TcpRepr::default() });
    assert_eq!(bytes.len(), MAX_HEADER_LEN);
    assert_eq!(TcpOptions::parse(&bytes[20..]).sack.as_slice().len(), 3);
}

#[test]
fn malformed_options_are_skipped_without_panic() {
    assert_eq!(TcpOptions::parse(&[2, 0, 5, 5]), TcpOptions::default());
    assert_eq!(TcpOptions::parse(&[2, 1]), TcpOptions::default());
    assert_eq!(TcpOptions::parse(&[8, 10, 1]), TcpOptions::default());
    assert_eq!(TcpOptions::parse(&[5]), TcpOptions::default());
    // An unknown option in front of a good one.
    assert_eq!(TcpOptions::parse(&[254, 3, 9, 2, 4, 1, 0]).mss, Some(256));
    let mut state = 1_u32;
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..40)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Small numbers are kinds and lengths that mean something.
                u8::try_from((state >> 24) % 40).unwrap()
            })
            .collect();
        let options = TcpOptions::parse(&bytes);
        let mut buf = [0; MAX_OPTIONS_LEN];
        assert!(options.emit(&mut buf) <= MAX_OPTIONS_LEN);
    }
}
