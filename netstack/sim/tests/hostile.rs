//! Peers and strangers that mean harm, against a whole stack: it stays correct and bounded, and counts what it dropped.

use std::time::Duration;

use netstack::TcpSocket;
use netstack::options::Family;
use netstack::stats::StackStats;
use netstack::tcp::State;
use netstack::wire::seq::SeqNum;
use netstack::wire::tcp::{SackBlock, SackBlocks, TcpFlags, TcpOptions, TcpRepr};
use netstack_sim::{
    HostSpec, LinkSpec, Network, NodeId, Puppet, Transfer, TransferSpec, Way, forge, pattern_byte,
};

const RTT: Duration = Duration::from_millis(10);

struct Scene {
    network: Network,
    victim: NodeId,
    puppet: NodeId,
    listener: TcpSocket,
}

impl Scene {
    fn new() -> Self {
        let mut network = Network::new(1);
        let victim = network.add_host(HostSpec::default());
        let puppet = network.add_puppet();
        network.set_link(victim, Way::Down, LinkSpec::with_delay(RTT / 2));
        network.set_link(puppet, Way::Down, LinkSpec::with_delay(RTT / 2));
        network.introduce();
        let listener = network.host(victim).listen(Family::V4, 80, 64);
        Self { network, victim, puppet, listener }
    }

    /// A connection from the puppet, and the socket at the victim.
    #[track_caller]
    fn connect(&mut self, port: u16, mss: u16) -> (Puppet, TcpSocket) {
        let options = Puppet::syn_options(mss);
        let puppet = Puppet::connect(&mut self.network, self.puppet, self.victim, (port, 80), options);
        self.network.run_for(RTT);
        let (socket, _) = self.listener.try_accept().expect("the handshake is complete");
        (puppet, socket)
    }

    fn stats(&self) -> StackStats {
        self.network.host(self.victim).stack.stats()
    }

    /// Resets what is left and checks that nothing stays.
    #[track_caller]
    fn end(mut self, connections: impl IntoIterator<Item = (Puppet, TcpSocket)>) {
        for (_, socket) in connections {
            socket.abort();
        }
        drop(self.listener);
        self.network.drain();
        self.network.assert_clean();
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(pattern_byte).collect()
}

/// Fills the send buffer from `data` on.
fn fill(socket: &TcpSocket, data: &[u8]) -> usize {
    let mut sent = 0;
    while sent < data.len()
        && let Ok(count) = socket.try_send(&mut &data[sent..])
    {
        sent += count;
    }
    sent
}

/// RFC 5961: resets, SYNs and acknowledgments that a stranger guesses into the window do nothing, and are answered at a
/// bounded rate.
#[test]
fn guesses_in_the_window_do_not_disturb() {
    let mut network = Network::new(2);
    let [client, server] = [0, 1].map(|_| network.add_host(HostSpec::default()));
    let attacker = network.add_puppet();
    for node in [client, server] {
        network.set_link(node, Way::Down, LinkSpec { rate: 20_000_000, ..LinkSpec::with_delay(RTT / 2) });
    }
    network.introduce();
    let mut transfer = Transfer::start(&mut network, client, server, TransferSpec::one_way(4_000_000));
    network.run_until(Duration::from_secs(1), |network| {
        transfer.step(network);
        transfer.received()[0] > 100_000
    });
    let socket = transfer.client.ours().expect("a host of ours");
    let (from, to) = (socket.local_addr(), socket.peer_addr().expect("connected"));
    let stations = (network.mac(attacker), network.mac(server));
    let sent_before = network.link_stats(server, Way::Up).frames;
    let mut forged = 0;
    let is_over = network.run_until(Duration::from_secs(60), |network| {
        // The attacker knows everything but the numbers, and sprays a thousand guesses over them all.
        if forged < 60_000 {
            for flags in [TcpFlags::RST, TcpFlags::SYN, TcpFlags::ACK] {
                for _ in 0..100 {
                    let guess = SeqNum(network.rng.next_u64() as u32);
                    let ack = SeqNum(network.rng.next_u64() as u32);
                    let repr = TcpRepr { seq: guess, ack, flags, window: 1000, ..TcpRepr::default() };
                    let frame = forge::tcp(stations, (from, to), &repr, b"");
                    network.forge(attacker, frame);
                    forged += 1;
                }
            }
        }
        transfer.step(network)
    });
    assert!(is_over, "{transfer:?}");
    let stats = network.host(server).stack.stats();
    assert!(stats.tcp_drop_unexpected_syn > 0, "{stats:?}");
    assert!(stats.tcp_drop_out_of_window > 0, "{stats:?}");
    // The answers are those of a transfer: an ACK for every second segment at most, not one for each guess.
    let answers = network.link_stats(server, Way::Up).frames - sent_before;
    assert!(answers < 4_000, "{answers} answers to {forged} guesses");
    drop(transfer);
    network.drain();
    network.assert_clean();
}

/// RFC 5961 section 3.2: a reset within the window but not at its edge is challenged, and counted.
#[test]
fn a_reset_within_the_window_is_challenged() {
    let mut scene = Scene::new();
    let (puppet, socket) = scene.connect(5000, 1460);
    let off = puppet.at(1000);
    off.send_with(&mut scene.network, TcpFlags::RST, TcpOptions::default(), b"");
    scene.network.run_for(RTT);
    assert_eq!((socket.state(), scene.stats().tcp_drop_inexact_reset), (State::Established, 1));
    let challenges = puppet.receive(&mut scene.network);
    assert!(challenges.iter().any(|(repr, _)| repr.ack == puppet.seq), "{challenges:?}");
    puppet.send_with(&mut scene.network, TcpFlags::RST, TcpOptions::default(), b"");
    scene.network.run_for(RTT);
    assert_eq!(socket.state(), State::Closed);
    scene.end([(puppet, socket)]);
}

/// RFC 9293 section 3.8.6 (SHLD-14): a window that shrinks below what was sent is survived, without sending beyond it.
#[test]
fn a_shrinking_window_is_survived() {
    let mut scene = Scene::new();
    let (mut puppet, socket) = scene.connect(5000, 1460);
    let data = pattern(200_000);
    let (mut queued, mut received) = (0, Vec::new());
    let windows = [65_535, 3_000, 0, 10, 60_000, 0, 1, 20_000, 65_535];
    let mut round = 0;
    while received.len() < data.len() {
        queued += fill(&socket, &data[queued..]);
        puppet.take_in_order(&mut scene.network, Duration::from_millis(20), &mut received);
        puppet.window = windows[(round / 7) % windows.len()];
        puppet.acknowledge(&mut scene.network);
        round += 1;
        assert!(round < 5_000, "stuck at {} of {}", received.len(), data.len());
    }
    assert!(received == data, "the data differs");
    scene.end([(puppet, socket)]);
}

/// Savage et al. 1999: neither acknowledgments of what was never sent nor many small ones open the window faster.
#[test]
fn optimistic_acknowledgments_gain_nothing() {
    let mut scene = Scene::new();
    let (mut puppet, socket) = scene.connect(5000, 1460);
    let data = pattern(1 << 20);
    let queued = fill(&socket, &data);
    assert!(queued > 10_000);
    let before = socket.info().unwrap().cwnd;
    scene.network.run_for(RTT);
    let start = puppet.ack;
    // The first window, acknowledged in pieces of ten bytes: the window grows by the bytes, once.
    for step in 1..=100 {
        puppet.ack = start + step * 10;
        puppet.acknowledge(&mut scene.network);
    }
    scene.network.run_for(RTT);
    let grown = socket.info().unwrap().cwnd;
    assert!(grown <= before + 1000 + 1460, "{before} became {grown}");
    // What was never sent.
    let dropped = scene.stats().tcp_drop_bad_ack;
    puppet.ack = start + 10_000_000;
    for _ in 0..100 {
        puppet.acknowledge(&mut scene.network);
    }
    scene.network.run_for(RTT);
    assert_eq!(scene.stats().tcp_drop_bad_ack, dropped + 100);
    assert!(socket.info().unwrap().cwnd <= grown + 1460);
    // It goes on as if nothing had been.
    puppet.ack = start + 1000;
    let (mut received, mut sent) = (Vec::new(), queued);
    for _ in 0..200 {
        puppet.acknowledge(&mut scene.network);
        puppet.take_in_order(&mut scene.network, Duration::from_millis(250), &mut received);
        sent += fill(&socket, &data[sent..]);
    }
    assert!(received.len() > 100_000 && received == data[1000..1000 + received.len()]);
    scene.end([(puppet, socket)]);
}

/// RFC 2018 section 8: a receiver may discard what it has reported by SACK; after a timeout all of it is sent again.
#[test]
fn reneged_sacks_are_retransmitted() {
    let mut scene = Scene::new();
    let (mut puppet, socket) = scene.connect(5000, 1000);
    let data = pattern(100_000);
    let mut queued = fill(&socket, &data);
    scene.network.run_for(RTT);
    // Everything but the first segment has arrived, it says, and then asks for all of it again.
    let flight: usize = puppet.receive(&mut scene.network).iter().map(|(_, data)| data.len()).sum();
    assert!(flight >= 9_000, "{flight}");
    let end = puppet.ack + u32::try_from(flight).unwrap();
    let mut sack = SackBlocks::default();
    sack.push(SackBlock { start: puppet.ack + 1000, end });
    for _ in 0..4 {
        puppet.acknowledge_selectively(&mut scene.network, sack);
    }
    scene.network.run_for(RTT);
    puppet.receive(&mut scene.network);
    let mut received = Vec::new();
    for _ in 0..400 {
        puppet.take_in_order(&mut scene.network, Duration::from_millis(100), &mut received);
        puppet.acknowledge(&mut scene.network);
        queued += fill(&socket, &data[queued..]);
        if received.len() == data.len() {
            break;
        }
    }
    assert!(received == data, "{} of {} bytes", received.len(), data.len());
    scene.end([(puppet, socket)]);
}

/// Linux's `TCP_MIN_SND_MSS` after CVE-2019-11479: a peer cannot make us send a packet for each byte.
#[test]
fn a_tiny_mss_is_not_obeyed_to_the_letter() {
    let mut scene = Scene::new();
    let (mut puppet, socket) = scene.connect(5000, 1);
    let data = pattern(20_000);
    let mut queued = fill(&socket, &data);
    let mut received = Vec::new();
    for _ in 0..200 {
        puppet.take_in_order(&mut scene.network, RTT, &mut received);
        puppet.acknowledge(&mut scene.network);
        queued += fill(&socket, &data[queued..]);
    }
    assert!(received == data);
    let segments = socket.info().unwrap().segments_out;
    assert!(segments < 20_000 / 40, "{segments} segments");
    scene.end([(puppet, socket)]);
}

/// Peers that ask for much and read nothing: each holds what its send buffer may hold, and no more, for as long as it
/// answers the probes; the application's close with a linger of zero ends it.
#[test]
fn closed_windows_hold_bounded_memory() {
    let mut scene = Scene::new();
    let mut connections = Vec::new();
    let data = pattern(8 << 20);
    for port in 0..50 {
        let (mut puppet, socket) = scene.connect(5000 + port, 1460);
        puppet.window = 0;
        puppet.acknowledge(&mut scene.network);
        scene.network.run_for(RTT);
        fill(&socket, &data);
        connections.push((puppet, socket));
    }
    for _ in 0..200 {
        scene.network.run_for(Duration::from_secs(1));
        for (puppet, socket) in &connections {
            puppet.acknowledge(&mut scene.network);
            fill(socket, &data);
        }
        scene.network.received(scene.puppet);
    }
    let limit = scene.network.host(scene.victim).stack.tcp_config().send_buffer.max as usize;
    for (_, socket) in &connections {
        assert_eq!(socket.state(), State::Established);
        assert!(socket.send_queue_len() <= limit, "{}", socket.send_queue_len());
    }
    // Without a window, auto-tuning has no reason to grow anything.
    let held: usize = connections.iter().map(|(_, socket)| socket.send_queue_len()).sum();
    assert!(held <= 50 * (256 << 10), "{held} bytes");
    // An answer a second is no reason for more than a probe each.
    let probes = scene.network.link_stats(scene.victim, Way::Up).frames;
    assert!(probes < 50 * 200 * 3, "{probes}");
    scene.end(connections);
}
