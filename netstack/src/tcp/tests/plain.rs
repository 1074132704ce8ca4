//! The fast paths: two connections get the same random segments, one by way of `on_plain` and one without, and the same data
//! to send, one by way of `send_now` and one without. They must stay the same in every field and send the same segments.

use super::super::{
    Config, Connection, Ecn, Options, Outcome, PathInfo, PlainSegment, PlainTransmit, SegmentIn, Transmit,
    Verdict,
};
use super::network::{Rng, flow, seeds};
use super::peer::segment;
use crate::time::Instant;
use core::time::Duration;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{SackBlock, TcpFlags, TcpOptions, TcpRepr, Timestamps};
use std::sync::Arc;

/// What the hand-played peer believes, taken from the segments it gets.
#[derive(Debug, Clone, Copy)]
struct PeerView {
    seq: SeqNum,
    /// The end of what it got, and where its acknowledgments start.
    got: SeqNum,
    acked: SeqNum,
    has_timestamps: bool,
}

fn established(seed: u64, config: Config) -> ([Connection; 2], PeerView, Instant) {
    let now = Instant::from_millis(5000);
    let flow = flow(1000, 80);
    let config = Arc::new(config);
    let options = Options { no_delay: seed.is_multiple_of(3), ..Options::default() };
    let own = seeds(seed).seed(now, &flow);
    let open = || {
        let path = PathInfo::with_mss(1460);
        let mut connection = Connection::connect(now, &config, options, &flow, path, own);
        let syn = connection.poll_transmit(now, 65_000).expect("SYN");
        let mut answer =
            segment(&flow, SeqNum(u32::MAX - 3000), own.iss + 1, TcpFlags::SYN | TcpFlags::ACK, b"");
        answer.repr.options = TcpOptions {
            mss: Some(1460),
            sack_permitted: syn.repr.options.sack_permitted,
            timestamps: syn.repr.options.timestamps.map(|ours| Timestamps { value: 100, echo: ours.value }),
            ..TcpOptions::default()
        };
        let _ = connection.on_segment(now + Duration::from_millis(20), answer);
        connection
    };
    let (seq, got) = (SeqNum(u32::MAX - 3000) + 1, own.iss + 1);
    let peer = PeerView { seq, got, acked: got, has_timestamps: config.timestamps };
    ([open(), open()], peer, now + Duration::from_millis(20))
}

/// The peer's next segment: mostly what anybody would expect, sometimes not.
fn next_segment(rng: &mut Rng, peer: &mut PeerView, now: Instant) -> SegmentIn {
    let len = if rng.chance(300) { 0 } else { usize::try_from(rng.below(160)).unwrap() };
    let data: Vec<u8> = (0..len).map(|_| u8::try_from(rng.below(256)).unwrap()).collect();
    let seq = match rng.below(40) {
        0 => peer.seq - rng.below(200),
        1 => peer.seq + rng.below(200),
        _ => peer.seq,
    };
    let ack = match rng.below(20) {
        0 => peer.acked - rng.below(100),
        1 => peer.got + rng.below(100),
        2..=5 => peer.acked,
        _ => peer.got,
    };
    let flags = match rng.below(60) {
        0 => TcpFlags::ACK | TcpFlags::URG,
        1 => TcpFlags::ACK | TcpFlags::SYN,
        2 => TcpFlags::ACK | TcpFlags::ECE,
        3..=30 => TcpFlags::ACK | TcpFlags::PSH,
        _ => TcpFlags::ACK,
    };
    let mut segment = segment(&flow(1000, 80), seq, ack, flags, &data);
    segment.true_size += 256;
    if rng.chance(100) {
        segment.repr.window = u16::try_from(rng.below(40_000)).unwrap();
    }
    if peer.has_timestamps && rng.chance(980) {
        // A clock of milliseconds, which sometimes runs backwards.
        let value = 100_u32.wrapping_add(u32::try_from(now.as_millis() - 5000).unwrap());
        let value = if rng.chance(20) { value.wrapping_sub(rng.below(1000)) } else { value };
        segment.repr.options.timestamps = Some(Timestamps { value, echo: rng.below(10_000) });
    }
    if rng.chance(20) {
        segment.repr.options.sack.push(SackBlock { start: peer.acked, end: peer.acked + rng.below(300) });
    }
    if rng.chance(10) {
        segment.ecn = Ecn::CongestionExperienced;
    }
    if seq == peer.seq && rng.chance(970) {
        peer.seq = segment.end();
    }
    if ack.le(peer.got) && ack.gt(peer.acked) {
        peer.acked = ack;
    }
    segment
}

/// The segment as a link sees it in a frame, if there is nothing special about it.
fn as_plain<'a>(segment: &SegmentIn, data: &'a [u8]) -> Option<PlainSegment<'a>> {
    let repr = &segment.repr;
    let options = TcpOptions { timestamps: repr.options.timestamps, ..TcpOptions::default() };
    let is_plain = repr.flags.contains(TcpFlags::ACK)
        && (TcpFlags::ACK | TcpFlags::PSH).contains(repr.flags)
        && repr.options == options
        && segment.ecn == Ecn::NotCapable
        && data.len() <= PlainSegment::MAX_PAYLOAD;
    is_plain.then_some(PlainSegment {
        seq: repr.seq,
        ack: repr.ack,
        window: repr.window,
        is_pushed: repr.flags.contains(TcpFlags::PSH),
        has_fin: false,
        timestamps: repr.options.timestamps,
        payload: data,
    })
}

/// Gives the segment to both; true if it took the fast path.
fn receive(fast: &mut Connection, general: &mut Connection, now: Instant, segment: SegmentIn) -> bool {
    let data = segment.payload.to_vec();
    let expected = general.on_segment(now, segment.clone());
    match as_plain(&segment, &data).and_then(|plain| fast.on_plain(now, &plain)) {
        Some(events) => {
            assert_eq!(Outcome { verdict: Verdict::Accepted, events }, expected);
            true
        }
        None => {
            assert_eq!(fast.on_segment(now, segment), expected);
            false
        }
    }
}

/// Sends with both; true if the bytes took the fast path.
fn send(fast: &mut Connection, general: &mut Connection, now: Instant, data: &[u8]) -> bool {
    let Some(sent) = fast.send_now(now, data) else {
        assert_eq!(fast.send_copied(now, data), general.send_copied(now, data));
        return false;
    };
    assert_eq!(general.send_copied(now, data), Ok(()));
    let Transmit { repr, payload, gso_size, ecn } = general.poll_transmit(now, 65_000).expect("a segment");
    let PlainTransmit { seq, ack, flags, window, timestamps, ecn: plain_ecn } = sent;
    assert_eq!(flags, TcpFlags::ACK | TcpFlags::PSH);
    let plain = TcpRepr {
        seq,
        ack,
        flags,
        window,
        urgent: 0,
        options: TcpOptions { timestamps, ..TcpOptions::default() },
        ..repr
    };
    assert_eq!((repr, payload.to_vec(), gso_size, ecn), (plain, data.to_vec(), None, plain_ecn));
    assert!(!general.has_output(), "there was nothing else to send");
    true
}

fn run(seed: u64, config: Config) -> [u32; 2] {
    let ([mut fast, mut general], mut peer, mut now) = established(seed, config);
    let mut rng = Rng::new(seed);
    let (mut taken, mut sent_at_once) = (0, 0);
    for step in 0..1000 {
        now += Duration::from_micros(u64::from(either(&mut rng, 30, [400_000, 2000])));
        match rng.below(10) {
            0..=1 if fast.send_queued().0 < 4000 => {
                let data = vec![1; usize::try_from(1 + either(&mut rng, 900, [100, 4000])).unwrap()];
                assert_eq!(fast.send(now, &data), general.send(now, &data));
            }
            2 if rng.chance(500) && fast.send_queued().0 < 4000 => {
                let data = vec![2; usize::try_from(1 + rng.below(64)).unwrap()];
                sent_at_once += u32::from(send(&mut fast, &mut general, now, &data));
            }
            2 => {
                let mut bufs = [[0; 200]; 2];
                let len = usize::try_from(1 + rng.below(200)).unwrap();
                let [one, other] = &mut bufs;
                assert_eq!(fast.recv(now, &mut one[..len]), general.recv(now, &mut other[..len]));
                assert_eq!(bufs[0], bufs[1]);
            }
            3 if fast.next_deadline().is_some_and(|at| at <= now) => {
                assert_eq!(fast.on_timer(now), general.on_timer(now));
            }
            3..=5 => loop {
                let (one, other) = (fast.poll_transmit(now, 65_000), general.poll_transmit(now, 65_000));
                assert_eq!(format!("{one:?}"), format!("{other:?}"));
                let Some(sent) = one else { break };
                peer.got = (sent.repr.seq + sent.payload.len_u32()).max(peer.got);
                // What was refused is sent again.
                peer.seq = sent.repr.ack;
            },
            _ => {
                let segment = next_segment(&mut rng, &mut peer, now);
                taken += u32::from(receive(&mut fast, &mut general, now, segment));
            }
        }
        assert_eq!(format!("{fast:?}"), format!("{general:?}"), "seed {seed}, step {step}");
    }
    [taken, sent_at_once]
}

/// A number below one of two bounds, the first in `per_mille` of a thousand cases.
fn either(rng: &mut Rng, per_mille: u32, bounds: [u32; 2]) -> u32 {
    let bound = bounds[usize::from(!rng.chance(per_mille))];
    rng.below(bound)
}

#[test]
fn fast_and_general_path_leave_the_same_connection() {
    let configs = [
        Config::default(),
        Config { timestamps: false, ..Config::default() },
        Config { timestamps: false, sack: false, window_scaling: false, ..Config::default() },
    ];
    let mut total = [0; 2];
    for (seed, config) in (0..).zip(configs.iter().cycle()).take(24) {
        let [taken, sent] = run(seed, config.clone());
        total = [total[0] + taken, total[1] + sent];
    }
    assert!(total[0] > 1000 && total[1] > 100, "the fast paths were hardly taken: {total:?}");
}
