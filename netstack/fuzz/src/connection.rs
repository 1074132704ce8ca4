//! A connection whose user and whose peer do anything at any time.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use netstack::tcp::{
    Config, Connection, Flow, IcmpError, Options, PathInfo, Payload, Secret, SeedGenerator, SegmentIn,
    Shutdown, State,
};
use netstack::time::Instant;
use netstack::wire::seq::SeqNum;
use netstack::wire::tcp::{SackBlock, SackBlocks, TcpFlags, TcpOptions, TcpRepr, Timestamps};

use crate::input::Input;

/// What a peer knows of the connection from its segments.
struct Seen {
    seq: SeqNum,
    ack: SeqNum,
    tsval: u32,
    tsecr: u32,
}

/// Drives one connection that begins with `connect`.
pub fn connection(data: &[u8]) {
    let mut input = Input::new(data);
    let mut now = Instant::from_millis(1_000_000);
    let config = Arc::new(config(&mut input));
    let flow = flow();
    let seed = SeedGenerator::new(Secret([1, 2])).seed(now, &flow);
    let path = PathInfo { link_mss: 1460, path_mss: 1460 };
    let options = Options { no_delay: input.bool(), keepalive: input.bool(), ..Options::default() };
    let connection = Connection::connect(now, &config, options, &flow, path, seed);
    drive(connection, &mut now, &config, &mut input, 0);
}

/// Lets everybody do what the input says, and then ends the connection. It may hold `before` bytes more than its buffers
/// allow, in either direction: they were there or promised before.
pub(crate) fn drive(
    mut connection: Connection,
    now: &mut Instant,
    config: &Config,
    input: &mut Input<'_>,
    before: usize,
) {
    let mut seen = Seen { seq: SeqNum(0), ack: SeqNum(0), tsval: 0, tsecr: 0 };
    drain(&mut connection, *now, &mut seen, input);
    while !input.is_empty() {
        step(&mut connection, now, &seen, input);
        drain(&mut connection, *now, &mut seen, input);
        check(&connection, config, before);
    }
    let _ = connection.abort(*now);
    drain(&mut connection, *now, &mut seen, input);
    assert_eq!(connection.state(), State::Closed);
    assert_eq!(connection.next_deadline(), None, "a closed connection has a timer");
}

pub(crate) fn config(input: &mut Input<'_>) -> Config {
    let flags = input.u8();
    let mut config = Config {
        sack: flags & 1 == 0,
        timestamps: flags & 2 == 0,
        window_scaling: flags & 4 == 0,
        rack: flags & 8 == 0,
        frto: flags & 16 == 0,
        ..Config::default()
    };
    if flags & 32 != 0 {
        config.receive_buffer.default = 4096;
        config.receive_buffer.max = 4096;
    }
    config
}

/// The flow of the connection under test.
pub(crate) fn flow() -> Flow {
    let addr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Flow { local_addr: addr, remote_addr: addr, local_port: 1000, remote_port: 80, zone: 0 }
}

fn step(connection: &mut Connection, now: &mut Instant, seen: &Seen, input: &mut Input<'_>) {
    match input.u8() % 16 {
        0..=6 => {
            let segment = segment(seen, input);
            let _ = connection.on_segment(*now, segment);
        }
        7 => {
            let len = usize::from(input.u16());
            let _ = connection.send(*now, &vec![7; len]);
        }
        8 => {
            let _ = connection.recv(*now, &mut vec![0; usize::from(input.u16())]);
        }
        9 => *now += Duration::from_millis(input.u8().into()),
        10 | 11 => {
            // To the next timer, unless that is further away than a fuzzer should wait.
            if let Some(deadline) = connection.next_deadline() {
                *now = (*now).max(deadline);
                let _ = connection.on_timer(*now);
                let next = connection.next_deadline();
                assert!(next.is_none_or(|next| next > *now), "a timer stays due: {next:?} at {now:?}");
            }
        }
        12 => {
            let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both][usize::from(input.u8() % 3)];
            let _ = connection.shutdown(*now, how);
        }
        13 => {
            let _ = connection.on_pmtu(*now, input.u16(), Some(SeqNum(input.near(seen.seq.0))));
        }
        14 => {
            let error = [IcmpError::HostUnreachable, IcmpError::PortUnreachable][usize::from(input.u8() % 2)];
            let _ = connection.on_icmp_error(*now, error, SeqNum(input.near(seen.seq.0)));
        }
        _ => match input.u8() % 8 {
            0 => drop(connection.close(*now)),
            1 => drop(connection.take(*now, input.u16().into())),
            2 => drop(connection.peek(input.u8().into(), &mut [0; 100])),
            3 => connection.set_quick_ack(input.bool()),
            4 => {
                let cork = input.bool();
                connection.set_options(*now, Options { cork, ..*connection.options() });
            }
            _ => drop(connection.info(*now)),
        },
    }
}

/// A segment from the peer, near what the connection expects.
fn segment(seen: &Seen, input: &mut Input<'_>) -> SegmentIn {
    let kind = input.u8();
    let flags = match kind % 8 {
        0..=3 => TcpFlags::ACK,
        4 => TcpFlags::SYN | TcpFlags::ACK,
        5 => TcpFlags::FIN | TcpFlags::ACK,
        _ => TcpFlags::from_bits_truncate(input.u8()),
    };
    let mut options = TcpOptions::default();
    if kind & 8 != 0 {
        options.timestamps = Some(Timestamps { value: input.near(seen.tsecr), echo: input.near(seen.tsval) });
    }
    if kind & 16 != 0 {
        let mut sack = SackBlocks::default();
        for _ in 0..input.u8() % 5 {
            let (start, end) = (input.near(seen.seq.0), input.near(seen.seq.0));
            sack.push(SackBlock { start: SeqNum(start), end: SeqNum(end) });
        }
        options.sack = sack;
    }
    if flags.contains(TcpFlags::SYN) {
        options.mss = Some(input.u16());
        options.window_scale = input.bool().then(|| input.u8());
        options.sack_permitted = input.bool();
    }
    let len = match kind >> 6 {
        0 | 1 => 0,
        2 => usize::from(input.u8()),
        _ => usize::from(input.u16()),
    };
    let repr = TcpRepr {
        src_port: 80,
        dst_port: 1000,
        seq: SeqNum(input.near(seen.ack.0)),
        ack: SeqNum(input.near(seen.seq.0)),
        flags,
        window: input.u16(),
        urgent: if flags.contains(TcpFlags::URG) { input.u16() } else { 0 },
        options,
    };
    let mut payload = Payload::new();
    if len > 0 {
        payload.push(vec![9; len].into());
    }
    let mut segment = SegmentIn::new(repr, payload);
    segment.merged = u16::from(input.u8() % 46).max(1);
    segment
}

/// Takes what the connection wants to send. That must come to an end.
fn drain(connection: &mut Connection, now: Instant, seen: &mut Seen, input: &mut Input<'_>) {
    let limit = if input.bool() { 1460 } else { 65_000 };
    for _ in 0..MAX_SEGMENTS {
        let Some(transmit) = connection.poll_transmit(now, limit) else { return };
        seen.seq = transmit.repr.seq + u32::try_from(transmit.payload.len()).expect("at most 64 KiB");
        if transmit.repr.flags.intersects(TcpFlags::SYN | TcpFlags::FIN) {
            seen.seq += 1;
        }
        if transmit.repr.flags.contains(TcpFlags::ACK) {
            seen.ack = transmit.repr.ack;
        }
        if let Some(Timestamps { value, echo }) = transmit.repr.options.timestamps {
            (seen.tsval, seen.tsecr) = (value, echo);
        }
        // A limit below the MSS counts as the MSS.
        assert!(transmit.payload.len() <= 65_535);
        assert!(transmit.repr.header_len() <= 60);
    }
    panic!("poll_transmit never ends");
}

fn check(connection: &Connection, config: &Config, before: usize) {
    let before = before + 65_536;
    let limit = usize::try_from(config.receive_buffer.max).expect("64 bits") + before;
    assert!(connection.receive_queued() <= limit, "{} bytes to read", connection.receive_queued());
    let limit = usize::try_from(config.send_buffer.max).expect("64 bits") + before;
    assert!(connection.send_queued().0 <= limit, "{} bytes to send", connection.send_queued().0);
    let _ = connection.readiness();
}

/// More than the largest window in the smallest segments.
const MAX_SEGMENTS: usize = 200_000;
