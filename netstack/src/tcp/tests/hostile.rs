//! Hostile input: mutated segments in the middle of real traffic, and what they may cost.

use super::super::{Config, Connection, Options, SegmentIn, SendError, State};
use super::network::{Link, Network, Rng};
use super::peer::{Peer, plain, segment};
use bytes::Bytes;
use core::time::Duration;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{SackBlock, SackBlocks, TcpFlags, Timestamps};
use std::sync::Arc;

/// A number near `value`, or anywhere.
fn near(rng: &mut Rng, value: u32) -> u32 {
    match rng.below(8) {
        0..=2 => value,
        3 => value.wrapping_add(rng.below(3000)),
        4 => value.wrapping_sub(rng.below(3000)),
        5 => value.wrapping_add(rng.below(200_000)),
        6 => value.wrapping_sub(rng.below(1 << 30)),
        _ => rng.below(u32::MAX),
    }
}

/// A segment that resembles what `connection`'s peer would send.
fn mutated(
    rng: &mut Rng,
    connection: &Connection,
    template: (SeqNum, SeqNum),
    ports: (u16, u16),
) -> SegmentIn {
    let flow = super::network::flow(ports.0, ports.1);
    let (seq, ack) = (near(rng, template.0.0), near(rng, template.1.0));
    let mut flags = TcpFlags::from_bits_truncate(u8::try_from(rng.below(256)).unwrap());
    if rng.chance(700) {
        flags = TcpFlags::ACK;
    }
    if connection.state() != State::SynSent && rng.chance(900) {
        flags.remove(TcpFlags::RST);
    }
    let len = [0, 0, 1, 1460, 60_000][usize::try_from(rng.below(5)).unwrap()];
    let data = vec![0xee; len];
    let mut segment = segment(&flow, SeqNum(seq), SeqNum(ack), flags, &data);
    segment.repr.window = u16::try_from(rng.below(65_536)).unwrap();
    segment.merged = u16::try_from(rng.below(50)).unwrap();
    segment.true_size = rng.below(100_000);
    if rng.chance(500) {
        let mut sack = SackBlocks::default();
        for _ in 0..rng.below(5) {
            let (start, end) = (near(rng, template.1.0), near(rng, template.1.0));
            sack.push(SackBlock { start: SeqNum(start), end: SeqNum(end) });
        }
        segment.repr.options.sack = sack;
    }
    if rng.chance(700) {
        let value = near(rng, 1_000_000);
        segment.repr.options.timestamps = Some(Timestamps { value, echo: near(rng, 1_000_000) });
    }
    if flags.contains(TcpFlags::SYN) {
        segment.repr.options.mss = Some(u16::try_from(rng.below(65_536)).unwrap());
        segment.repr.options.window_scale = Some(u8::try_from(rng.below(256)).unwrap());
        segment.repr.options.sack_permitted = rng.chance(500);
    }
    segment
}

/// Whatever arrives, nothing panics, loops or leaves a timer in the past, and the buffers stay bounded.
#[test]
fn mutated_segments_do_no_harm() {
    for seed in 0..400 {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let config = Arc::new(Config {
            timestamps: rng.chance(500),
            sack: rng.chance(800),
            rack: rng.chance(700),
            window_scaling: rng.chance(500),
            ..Config::default()
        });
        let link = Link { loss: 20, ..Link::ideal(Duration::from_millis(5)) };
        let mut network = Network::new(seed, link, [&config, &config], [Options::default(); 2], 1460);
        let mut last = [(SeqNum(0), SeqNum(0)); 2];
        for round in 0..300_u32 {
            for (end, template) in last.iter().enumerate() {
                let now = network.now;
                let Some(connection) = &mut network.ends[end].connection else { continue };
                if rng.chance(400) {
                    match connection.send(now, &[1; 5000]) {
                        Ok(_)
                        | Err(SendError::WouldBlock | SendError::WriteClosed | SendError::Failed(_)) => {}
                    }
                    let _ = connection.send_bytes(now, &Bytes::from_static(&[2; 10_000]));
                }
                if rng.chance(300) {
                    let _ = connection.recv(now, &mut [0; 10_000]);
                }
                if round == 250 {
                    let _ = connection.close(now);
                }
                assert!(connection.receive_queued() < 8 << 20);
                assert!(connection.send_queued().0 < 8 << 20);
                if rng.chance(600) {
                    let ports = if end == 0 { (40_000, 80) } else { (80, 40_000) };
                    let forged = mutated(&mut rng, connection, *template, ports);
                    let _ = connection.on_segment(now, forged);
                }
            }
            network.flush(0);
            network.flush(1);
            if let Some((to, seq, ack)) = network.peek() {
                last[to] = (seq, ack);
            }
            network.step();
        }
    }
}

/// One-byte segments: the memory behind them follows the bytes, not the segments.
#[test]
fn tiny_segments_are_stored_together() {
    let mut peer = Peer::established(plain());
    for _ in 0..20_000 {
        let mut tiny = segment(&peer.flow(), peer.seq, peer.iss + 1, TcpFlags::ACK, b"x");
        tiny.true_size = 2048;
        peer.seq += 1;
        let _ = peer.connection.on_segment(peer.now, tiny);
    }
    peer.drain();
    assert_eq!(peer.connection.receive_queued(), 20_000);
    let first = peer.connection.take(peer.now, usize::MAX).unwrap();
    assert!(first.len() >= 1000, "{}", first.len());
}

/// SACK blocks that cut the flight into single bytes: bounded work, and the transfer still ends.
#[test]
fn shredding_sacks_are_survived() {
    let mut peer = Peer::established(Config { sack: true, ..plain() });
    peer.window = 65_535;
    let _ = peer.send(TcpFlags::ACK, 1, b"");
    let sent = peer.connection.send(peer.now, &[5; 14_600]).unwrap();
    assert_eq!(peer.drain(), [(1, sent)]);
    let sent = u32::try_from(sent).unwrap();
    for i in (3..sent).step_by(2) {
        let _ = peer.sack(1, &[(i, i + 1)]);
    }
    peer.drain();
    peer.now += Duration::from_millis(50);
    let _ = peer.send(TcpFlags::ACK, 1 + sent, b"");
    assert_eq!(peer.connection.send_queued(), (0, 0));
}
