//! Floods, and the memory of the whole process while they last. One test, so that nobody else's memory is counted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use netstack::options::{Family, RecvFlags};
use netstack::route::Route;
use netstack::wire::ip::Protocol;
use netstack::wire::ipv4::Ipv4Repr;
use netstack::wire::seq::SeqNum;
use netstack::wire::tcp::{TcpFlags, TcpOptions, TcpRepr};
use netstack::{IpCidr, TcpSocket};
use netstack_sim::{HostSpec, LinkSpec, Network, NodeId, Puppet, Transfer, TransferSpec, Way, forge};

#[test]
fn floods_take_bounded_memory() {
    for (name, flood) in
        [("SYNs", syn_flood as fn()), ("one-byte segments", one_byte_segments), ("fragments", fragment_flood)]
    {
        let before = resident_bytes();
        flood();
        let grown = peak_resident_bytes().saturating_sub(before);
        assert!(grown <= LIMIT, "{name}: {} KiB", grown >> 10);
    }
}

/// A hundred thousand SYNs a second from everywhere for two seconds, while real clients connect, talk and close: all of
/// them succeed, and within the time of a lost SYN or two.
fn syn_flood() {
    let mut network = Network::new(1);
    let (victim, clients) =
        (network.add_host(HostSpec::default()), [(); 4].map(|()| network.add_host(HostSpec::default())));
    let attacker = network.add_puppet();
    for node in clients.into_iter().chain([victim]) {
        network.set_link(node, Way::Down, LinkSpec { rate: 1_000_000_000, ..LinkSpec::with_delay(DELAY) });
    }
    network.introduce();
    // Answers to the flood go to where it seems to come from: behind the attacker.
    let host = network.host(victim);
    let gateway = network.address(attacker, Family::V4);
    host.stack.add_route(Route::via(IpCidr::DEFAULT_V4, gateway, host.nic)).unwrap();
    let mut live: Vec<Transfer> = Vec::new();
    let mut finished = 0;
    for tick in 0..2_000_u16 {
        if tick % 10 == 0 {
            let client = clients[usize::from(tick / 10 % 4)];
            let spec = TransferSpec { port: 1000 + tick, ..TransferSpec::both_ways(1000) };
            live.push(Transfer::start(&mut network, client, victim, spec));
        }
        // Some at the very ports where the clients knock, and some at others that listen.
        let port = 1000 + tick / 10 * 10;
        for _ in 0..100 {
            let frame = random_syn(&mut network, attacker, victim, port);
            network.forge(attacker, frame);
        }
        finished += run(&mut network, &mut live, Duration::from_millis(1));
        network.received(attacker);
    }
    finished += run(&mut network, &mut live, Duration::from_secs(10));
    network.received(attacker);
    assert_eq!((finished, live.len()), (200, 0), "{live:#?}");
    let stats = network.host(victim).stack.stats();
    assert!(stats.tcp_cookies_sent > 90_000, "{stats:?}");
    network.drain();
    network.assert_clean();
}

/// Lets the transfers that are under way go on, and counts those that end.
fn run(network: &mut Network, live: &mut Vec<Transfer>, span: Duration) -> usize {
    let before = live.len();
    network.run_until(span, |network| {
        live.retain_mut(|transfer| !transfer.step(network));
        false
    });
    before - live.len()
}

fn random_syn(network: &mut Network, attacker: NodeId, victim: NodeId, port: u16) -> bytes::Bytes {
    let stations = (network.mac(attacker), network.mac(victim));
    let [a, b, c, d, e, f, g, h] = network.rng.next_u64().to_be_bytes();
    let source = SocketAddr::new(Ipv4Addr::new(44, a, b, c).into(), u16::from_be_bytes([d, e]) | 1);
    let repr = TcpRepr {
        seq: SeqNum(u32::from_be_bytes([a, f, g, h])),
        flags: TcpFlags::SYN,
        window: 65_535,
        options: Puppet::syn_options(1460),
        ..TcpRepr::default()
    };
    forge::tcp(stations, (source, network.endpoint(victim, Family::V4, port)), &repr, b"")
}

/// A peer alone with a stack.
fn duel() -> (Network, NodeId, NodeId, TcpSocket) {
    let mut network = Network::new(2);
    let (victim, attacker) = (network.add_host(HostSpec::default()), network.add_puppet());
    network.introduce();
    let listener = network.host(victim).listen(Family::V4, 80, 8);
    (network, victim, attacker, listener)
}

/// Segments of one byte, each behind a hole or next to another, all over the window and again.
fn one_byte_segments() {
    let (mut network, victim, attacker, listener) = duel();
    let options = Puppet::syn_options(1460);
    let puppet = Puppet::connect(&mut network, attacker, victim, (5000, 80), options);
    network.run_for(DELAY);
    let (socket, _) = listener.try_accept().unwrap();
    for round in 0..8 {
        for step in 0..50_u32 {
            for index in 0..500 {
                // Every second byte in the first round, then the ones between, then all of them again.
                let at = 1 + (step * 500 + index) * 2 + round % 2;
                network.forge(attacker, puppet.at(at).frame(TcpFlags::ACK, TcpOptions::default(), b"x"));
            }
            network.run_for(Duration::from_micros(10));
            network.received(attacker);
        }
    }
    assert!(socket.try_recv(&mut Vec::new(), RecvFlags::default()).is_err(), "there is a hole in front");
    let stats = network.host(victim).stack.stats();
    assert!(stats.tcp_drop_no_buffer > 0 && stats.tcp_drop_duplicate > 0, "{stats:?}");
    socket.abort();
    drop((socket, listener));
    network.drain();
    network.assert_clean();
}

/// First fragments of packets that never become whole.
fn fragment_flood() {
    let (mut network, victim, attacker, listener) = duel();
    let stations = (network.mac(attacker), network.mac(victim));
    let addresses = (network.address(attacker, Family::V4), network.address(victim, Family::V4));
    let mut frame = forge::ip(stations, addresses, Protocol::UDP, &[0; 1400]).to_vec();
    let (IpAddr::V4(source), IpAddr::V4(destination)) = addresses else { panic!("IPv4") };
    for ident in 0..50_000_u16 {
        let header = Ipv4Repr {
            source,
            destination,
            protocol: Protocol::UDP,
            ttl: 64,
            tos: 0,
            ident,
            dont_fragment: false,
            more_fragments: true,
            fragment_offset: 8 * (ident % 4),
            options_len: 0,
            payload_len: 1400,
        };
        header.emit(&mut frame[14..]);
        network.forge(attacker, frame.clone());
        if ident % 100 == 0 {
            network.run_for(Duration::from_millis(1));
        }
    }
    network.run_for(Duration::from_millis(1));
    let host = network.host(victim);
    let gauges = host.stack.gauges();
    assert!((1..=5 << 20).contains(&gauges.reassembly_bytes), "{gauges:?}");
    assert!(host.stack.stats().ip_reasm_fails > 40_000, "{:?}", host.stack.stats());
    drop(listener);
    network.drain();
    network.assert_clean();
}

const DELAY: Duration = Duration::from_millis(1);
const LIMIT: usize = 16 << 20;

/// Resident memory of this process; zero where there is no /proc.
fn resident_bytes() -> usize {
    status("VmRSS:")
}

/// The most that it has ever been.
fn peak_resident_bytes() -> usize {
    status("VmHWM:")
}

fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<usize>().ok());
    kilobytes.unwrap_or_default() << 10
}
