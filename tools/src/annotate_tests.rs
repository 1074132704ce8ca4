//! Annotated copies say what `list` says, and keep what was there.

use netstack_sim::{HostSpec, LinkSpec, Loss};
use proptest::prelude::*;

use crate::filter::Filter;
use crate::testing::{examine, packets, plain_link, simulate};

#[test]
fn comments_say_what_analysis_says() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in.pcapng"), folder.path().join("out.pcapng"));
    let link = LinkSpec { loss: Loss::Random { ppm: 30_000 }, ..plain_link() };
    let file = simulate(2, 100_000, link, &HostSpec::default()).file;
    std::fs::write(&from, &file).unwrap();
    super::run(&from, &to, &Filter::default()).unwrap();
    let (examined, _) = examine(packets(file));
    let annotated = packets(std::fs::read(&to).unwrap());
    assert_eq!(annotated.len(), examined.len());
    let mut retransmissions = 0;
    for (packet, examined) in annotated.iter().zip(&examined) {
        assert_eq!((&packet.data, packet.time), (&examined.packet.data, examined.packet.time));
        let comment = packet.comments.join("\n");
        assert!(comment.contains("flow: 0"), "{comment}");
        for note in examined.judgement.texts() {
            assert!(comment.contains(&format!("note: {note}")), "{comment}");
        }
        retransmissions += usize::from(comment.contains("retransmission"));
    }
    assert!(retransmissions > 0);
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, n: u16) -> Vec<u8> {
        if self == Self::Big { n.to_be_bytes().to_vec() } else { n.to_le_bytes().to_vec() }
    }

    fn u32(self, n: u32) -> Vec<u8> {
        if self == Self::Big { n.to_be_bytes().to_vec() } else { n.to_le_bytes().to_vec() }
    }

    /// The upper half first, as pcapng has times.
    fn stamp(self, n: u64) -> Vec<u8> {
        let half = |n: u64| self.u32(u32::try_from(n & 0xffff_ffff).unwrap());
        [half(n >> 32), half(n)].concat()
    }

    fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut option = [self.u16(code), self.u16(value.len().try_into().unwrap()), value.to_vec()].concat();
        option.resize(option.len().next_multiple_of(4), 0);
        option
    }

    fn block(self, kind: u32, body: &[Vec<u8>]) -> Vec<u8> {
        let body = body.concat();
        let length = self.u32((body.len() + 12).try_into().unwrap());
        [self.u32(kind), length.clone(), body, length].concat()
    }

    /// A section whose second interface has no packets, with a block of each kind; times are microseconds.
    fn section(self) -> Vec<u8> {
        let end = || self.option(0, b"");
        let interface = |name: &str| {
            let options = [self.option(2, name.as_bytes()), self.option(3, b"uplink"), end()].concat();
            self.block(1, &[self.u16(1), self.u16(0), self.u32(0), options])
        };
        let header =
            [self.u32(0x1a2b_3c4d), self.u16(1), self.u16(0), vec![0xff; 8], self.option(4, b"probe"), end()];
        let packet = [self.u32(0), self.stamp(TICKS), self.u32(4), self.u32(60), b"junk".to_vec()];
        let received = if self == Self::Big { 77_u64.to_be_bytes() } else { 77_u64.to_le_bytes() };
        let statistics = [
            self.u32(1),
            self.stamp(TICKS),
            self.option(2, &self.stamp(TICKS - 1)),
            self.option(4, &received),
            end(),
        ];
        [
            self.block(0x0a0d_0d0a, &header),
            interface("eth0"),
            interface("eth1"),
            self.block(NAMES, &[self.option(1, b"\x0a\x00\x00\x01server\0"), end()]),
            self.block(6, &packet),
            self.block(SECRETS, &[self.u32(0x544c_534b), self.u32(4), b"CLIE".to_vec()]),
            self.block(CUSTOM, &[self.u32(32_473), b"whatever".to_vec()]),
            self.block(CUSTOM_NOT_FOR_COPIES, &[self.u32(32_473), b"whatever".to_vec()]),
            self.block(STATISTICS, &statistics),
        ]
        .concat()
    }
}

/// The blocks of a file as they are.
fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut blocks = Vec::new();
    let mut order = Order::Little;
    while !file.is_empty() {
        if file[..4] == [0x0a, 0x0d, 0x0d, 0x0a] {
            order = if file[8] == 0x1a { Order::Big } else { Order::Little };
        }
        let number = |at: usize| {
            let bytes = file[at..at + 4].try_into().unwrap();
            if order == Order::Big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        let (block, rest) = file.split_at(number(4).try_into().unwrap());
        blocks.push((number(0), block.to_vec()));
        file = rest;
    }
    blocks
}

fn try_annotate(file: &[u8], filter: &str) -> anyhow::Result<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in.pcapng"), folder.path().join("out.pcapng"));
    std::fs::write(&from, file).unwrap();
    super::run(&from, &to, &filter.parse().unwrap())?;
    Ok(std::fs::read(&to).unwrap())
}

fn annotated(file: &[u8], filter: &str) -> Vec<u8> {
    try_annotate(file, filter).unwrap()
}

#[test]
fn what_is_not_packets_is_kept_in_its_place_and_byte_order() {
    for orders in [[Order::Little, Order::Big], [Order::Big, Order::Little]] {
        let file = orders.map(Order::section).concat();
        let copy = annotated(&file, "");
        let (before, after) = (blocks(&file), blocks(&copy));
        let kinds = |blocks: &[(u32, Vec<u8>)]| blocks.iter().map(|(kind, _)| *kind).collect::<Vec<_>>();
        let mut expected = kinds(&before);
        expected.retain(|kind| *kind != CUSTOM_NOT_FOR_COPIES);
        assert_eq!(kinds(&after), expected);
        for kept in [0x0a0d_0d0a, NAMES, SECRETS, CUSTOM] {
            let those = |blocks: &[(u32, Vec<u8>)]| -> Vec<Vec<u8>> {
                blocks.iter().filter(|(kind, _)| *kind == kept).map(|(_, block)| block.clone()).collect()
            };
            assert_eq!(those(&after), those(&before), "blocks of type {kept:#x}");
        }
        let interfaces: Vec<_> = after.iter().filter(|(kind, _)| *kind == 1).collect();
        assert!(interfaces.iter().all(|(_, block)| block.windows(6).any(|part| part == b"uplink")));
        let statistics: Vec<_> = after.iter().filter(|(kind, _)| *kind == STATISTICS).collect();
        for (order, (_, block)) in orders.iter().zip(&statistics) {
            assert_eq!(block[8..12], order.u32(1)[..], "the interface");
            assert_eq!(block[12..20], order.stamp(TICKS * 1000)[..], "nanoseconds");
            assert_eq!(block[24..32], order.stamp((TICKS - 1) * 1000)[..], "the start");
        }
        assert_eq!((statistics.len(), interfaces.len()), (2, 4));
        // Nothing is lost or moved in time by another pass.
        assert_eq!(annotated(&copy, ""), copy);
    }
}

#[test]
fn a_filter_leaves_out_packets_only() {
    let file = Order::Little.section();
    let kinds: Vec<u32> = blocks(&annotated(&file, "tcp")).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [0x0a0d_0d0a, 1, 1, NAMES, SECRETS, CUSTOM, STATISTICS]);
}

#[test]
fn statistics_of_an_unknown_interface_are_no_error() {
    let order = Order::Big;
    let stray = order.block(STATISTICS, &[order.u32(9), order.stamp(TICKS)]);
    let file = [order.section(), stray].concat();
    assert_eq!(annotated(&file, ""), annotated(&order.section(), ""));
}

proptest! {
    #[test]
    fn broken_files_are_copied_or_refused(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        for order in [Order::Little, Order::Big] {
            let mut file = [order.section(), order.section()].concat();
            for (place, byte) in &changes {
                let place = place.index(file.len());
                file[place] = *byte;
            }
            // What is written can be read again.
            if let Ok(copy) = try_annotate(&file, "") {
                prop_assert!(try_annotate(&copy, "").is_ok());
            }
        }
    }
}

/// Both halves differ, so that they cannot be exchanged unnoticed.
const TICKS: u64 = 1_700_000_000_000_001;
const NAMES: u32 = 4;
const STATISTICS: u32 = 5;
const SECRETS: u32 = 10;
const CUSTOM: u32 = 0xbad;
const CUSTOM_NOT_FOR_COPIES: u32 = 0x4000_0bad;
