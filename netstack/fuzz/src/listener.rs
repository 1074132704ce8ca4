//! A listener under segments of many flows, with an application that accepts now and then.

use std::sync::Arc;
use std::time::Duration;

use netstack::tcp::{
    Config, Connection, Flow, ListenOutcome, ListenRules, Listener, Options, PathInfo, Payload, Secret,
    SeedGenerator, SegmentIn, SynCookies, Transmit,
};
use netstack::time::Instant;
use netstack::wire::seq::SeqNum;
use netstack::wire::tcp::{TcpFlags, TcpOptions, TcpRepr, Timestamps};

use crate::connection::flow;
use crate::input::Input;

/// Drives one listener.
pub fn listener(data: &[u8]) {
    let mut input = Input::new(data);
    let setup = input.u8();
    let backlog = u32::from(setup >> 4);
    let config = Arc::new(Config {
        syn_cookies: [SynCookies::Off, SynCookies::WhenNeeded, SynCookies::Always][usize::from(setup % 3)],
        listen_rules: if setup & 4 == 0 { ListenRules::Linux } else { ListenRules::Seed2019 },
        abort_on_overflow: setup & 8 != 0,
        ..Config::default()
    });
    let defer_accept = input.bool().then(|| Duration::from_secs(5));
    let options = Options { defer_accept, ..Options::default() };
    let seeds = SeedGenerator::new(Secret([3, 4]));
    let mut listener = Listener::new(&config, options, backlog, Secret([1, 2]), seeds);
    let mut now = Instant::from_millis(1_000_000);
    let mut queue: Vec<Connection> = Vec::new();
    // The numbers of the last answer to each flow.
    let mut answers = [(SeqNum(0), SeqNum(0), 0); 256];
    while !input.is_empty() {
        match input.u8() % 8 {
            0..=4 => {
                let port = input.u8();
                let flow = Flow { remote_port: 1000 + u16::from(port), local_port: 80, ..flow() };
                let segment = segment(&flow, answers[usize::from(port)], &mut input);
                let path = PathInfo { link_mss: 1460, path_mss: 1460 };
                match listener.on_segment(now, &flow, path, segment) {
                    ListenOutcome::Reply(transmit)
                    | ListenOutcome::Cookie(transmit)
                    | ListenOutcome::Challenge(transmit, _)
                    | ListenOutcome::Reset(transmit, _) => answers[usize::from(port)] = numbers(&transmit),
                    ListenOutcome::Ready(connection) | ListenOutcome::FastOpen(connection) => {
                        queue.push(connection);
                    }
                    ListenOutcome::Drop(_) => {}
                }
            }
            5 => {
                if queue.pop().is_some() {
                    listener.on_accepted();
                }
            }
            6 => now += Duration::from_millis(u64::from(input.u16()) * 4),
            _ => {
                for _ in 0..1000 {
                    if listener.on_timer(now).is_none() {
                        break;
                    }
                }
                let next = listener.next_deadline();
                assert!(next.is_none_or(|next| next > now), "a timer stays due");
            }
        }
        assert_eq!(listener.queued(), queue.len());
        // Linux's queue holds one more than the backlog.
        assert!(queue.len() <= backlog as usize + 1, "{} of {backlog}", queue.len());
        assert!(listener.half_open() <= 256);
    }
    let half_open = listener.half_open();
    assert_eq!(listener.close().len(), half_open);
    assert_eq!((listener.half_open(), listener.next_deadline()), (0, None));
}

fn numbers(transmit: &Transmit) -> (SeqNum, SeqNum, u32) {
    let tsval = transmit.repr.options.timestamps.map_or(0, |timestamps| timestamps.value);
    (transmit.repr.seq, transmit.repr.ack, tsval)
}

/// A SYN, the ACK that answers a SYN-ACK, or something else.
fn segment(flow: &Flow, (iss, irs_next, tsval): (SeqNum, SeqNum, u32), input: &mut Input<'_>) -> SegmentIn {
    let kind = input.u8();
    let flags = match kind % 8 {
        0..=2 => TcpFlags::SYN,
        3..=5 => TcpFlags::ACK,
        _ => TcpFlags::from_bits_truncate(input.u8()),
    };
    let mut options = TcpOptions::default();
    if kind & 8 != 0 {
        options.timestamps = Some(Timestamps { value: input.near(1000), echo: input.near(tsval) });
    }
    if flags.contains(TcpFlags::SYN) {
        options.mss = Some(input.u16());
        options.window_scale = Some(input.u8());
        options.sack_permitted = input.bool();
    }
    let repr = TcpRepr {
        src_port: flow.remote_port,
        dst_port: flow.local_port,
        seq: SeqNum(input.near(irs_next.0)),
        ack: SeqNum(input.near((iss + 1).0)),
        flags,
        window: input.u16(),
        urgent: 0,
        options,
    };
    let mut payload = Payload::new();
    if kind & 16 != 0 {
        payload.push(vec![1; usize::from(input.u8()) + 1].into());
    }
    SegmentIn::new(repr, payload)
}
