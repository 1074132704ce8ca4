//! The rare ways to open and to close, and storms of both: nothing stays behind.

use std::net::SocketAddr;
use std::time::Duration;

use netstack::TcpSocket;
use netstack::options::{Family, RecvFlags, Shutdown};
use netstack::tcp::State;
use netstack::wire::seq::SeqNum;
use netstack::wire::tcp::{TcpFlags, TcpRepr};
use netstack_sim::{HostSpec, LinkSpec, Loss, Network, NodeId, Puppet, Way, forge};

const DELAY: Duration = Duration::from_millis(5);

fn pair(loss_ppm: u32) -> (Network, [NodeId; 2]) {
    let mut network = Network::new(9);
    let nodes = [0, 1].map(|_| network.add_host(HostSpec::default()));
    let loss = if loss_ppm == 0 { Loss::None } else { Loss::Random { ppm: loss_ppm } };
    for node in nodes {
        network.set_link(node, Way::Down, LinkSpec { loss, ..LinkSpec::with_delay(DELAY) });
    }
    network.introduce();
    (network, nodes)
}

fn bound(network: &Network, node: NodeId, port: u16) -> (TcpSocket, SocketAddr) {
    let local = network.endpoint(node, Family::V4, port);
    let socket = TcpSocket::new(&network.host(node).stack, Family::V4);
    socket.bind(local).unwrap();
    (socket, local)
}

/// Two sockets that connect to each other at once (RFC 9293 section 3.5, figure 7), with data both ways.
fn open_simultaneously(network: &mut Network, nodes: [NodeId; 2]) -> [TcpSocket; 2] {
    let [(a, a_local), (b, b_local)] = nodes.map(|node| bound(network, node, 7000));
    a.connect(b_local).unwrap();
    b.connect(a_local).unwrap();
    let sockets = [a, b];
    let is_open = network.run_until(Duration::from_secs(60), |_| {
        sockets.iter().all(|socket| socket.state() == State::Established)
    });
    assert!(is_open, "{:?}", sockets.each_ref().map(TcpSocket::state));
    for socket in &sockets {
        assert_eq!(socket.try_send(&mut &b"hello"[..]), Ok(5));
    }
    let has_arrived = network
        .run_until(Duration::from_secs(60), |_| sockets.iter().all(|socket| socket.recv_queue_len() == 5));
    assert!(has_arrived);
    sockets
}

#[test]
fn simultaneous_open_and_close() {
    for loss_ppm in [0, 100_000] {
        let (mut network, nodes) = pair(loss_ppm);
        let sockets = open_simultaneously(&mut network, nodes);
        for socket in &sockets {
            let mut data = Vec::new();
            socket.try_recv(&mut data, RecvFlags::default()).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
        }
        let mut states = Vec::new();
        let is_over = network.run_until(Duration::from_secs(60), |_| {
            states = sockets.iter().map(TcpSocket::state).collect();
            states.iter().all(|state| matches!(state, State::TimeWait | State::Closed))
        });
        assert!(is_over, "{states:?}");
        if loss_ppm == 0 {
            // RFC 9293 section 3.6, figure 13: both pass CLOSING and end in TIME-WAIT.
            assert_eq!(states, [State::TimeWait, State::TimeWait]);
        }
        drop(sockets);
        network.drain();
        network.assert_clean();
    }
}

/// Connections with keepalives that have ended must not be held by the keepalive's timer, two hours away.
#[test]
fn ended_connections_leave_the_timer_queue() {
    let (mut network, [client, server]) = pair(0);
    let listener = network.host(server).listen(Family::V4, 80, 8);
    listener.set_tcp_options(|options| options.keepalive = true);
    for _ in 0..500 {
        let socket = network.host(client).connect(network.endpoint(server, Family::V4, 80));
        socket.set_tcp_options(|options| options.keepalive = true);
        network.run_for(DELAY * 3);
        let (accepted, _) = listener.try_accept().unwrap();
        socket.abort();
        network.run_for(DELAY * 2);
        drop(accepted);
    }
    for node in [client, server] {
        let gauges = network.host(node).stack.gauges();
        assert_eq!(gauges.tcp_connections, 0);
        assert!(gauges.timers < 200, "{gauges:?}");
    }
    drop(listener);
    // A few stale entries are not worth a sweep.
    network.run_for(Duration::from_secs(7300));
    network.drain();
    network.assert_clean();
}

/// SYNs, resets, acknowledgments and FINs of strangers, and clients that come, half-talk and go in every way over links
/// that lose a third: all gauges return to zero.
#[test]
fn storms_leave_nothing_behind() {
    for seed in 0..40 {
        storm(seed);
    }
}

fn storm(seed: u64) {
    let (mut network, [client, server]) = pair(300_000);
    network.rng = netstack_sim::Rng::new(seed);
    let attacker = network.add_puppet();
    network.introduce();
    let mut listener = Some(network.host(server).listen(Family::V4, 80, 4));
    let target = network.endpoint(server, Family::V4, 80);
    let stations = (network.mac(attacker), network.mac(server));
    let (mut clients, mut accepted): (Vec<TcpSocket>, Vec<TcpSocket>) = (Vec::new(), Vec::new());
    for round in 0..400 {
        match network.rng.below(8) {
            0 => clients.push(network.host(client).connect(target)),
            1 => accepted.extend(listener.as_ref().and_then(|l| l.try_accept().ok()).map(|(s, _)| s)),
            2 | 3 => {
                let choices = [
                    TcpFlags::SYN,
                    TcpFlags::RST,
                    TcpFlags::ACK,
                    TcpFlags::FIN | TcpFlags::ACK,
                    TcpFlags::SYN | TcpFlags::ACK,
                ];
                let flags = network.rng.pick(&choices);
                let number = |network: &mut Network| SeqNum((network.rng.next_u64() >> 32) as u32);
                let (seq, ack) = (number(&mut network), number(&mut network));
                let options = Puppet::syn_options(1460);
                let repr = TcpRepr { seq, ack, flags, window: 100, options, ..TcpRepr::default() };
                let port = 2000 + u16::try_from(network.rng.below(30)).unwrap();
                let source = network.endpoint(attacker, Family::V4, port);
                network.forge(attacker, forge::tcp(stations, (source, target), &repr, b""));
            }
            _ => {
                let both = [&mut clients, &mut accepted];
                let index = network.rng.index(2);
                let sockets = &mut *both.into_iter().nth(index).unwrap();
                if !sockets.is_empty() {
                    let index = network.rng.index(sockets.len());
                    act(&mut network, sockets, index);
                }
            }
        }
        let span = Duration::from_micros(network.rng.below(20_000));
        network.run_for(span);
        network.received(attacker);
        if round == 300 {
            listener = None;
        }
    }
    drop((clients, accepted, listener));
    network.drain();
    network.assert_clean();
}

/// One socket does something, perhaps its last.
fn act(network: &mut Network, sockets: &mut Vec<TcpSocket>, index: usize) {
    let socket = &sockets[index];
    match network.rng.below(6) {
        0 => drop(socket.try_send(&mut &[7; 3000][..])),
        1 => drop(socket.try_recv(&mut Vec::new(), RecvFlags::default())),
        2 => drop(socket.shutdown(Shutdown::Write)),
        3 => drop(socket.shutdown(Shutdown::Both)),
        4 => drop(sockets.swap_remove(index)),
        _ => sockets.swap_remove(index).abort(),
    }
}
