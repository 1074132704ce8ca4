//! A connection that carries a known stream each way, and checks what arrives.

use std::sync::LazyLock;
use std::time::Duration;

use netstack::options::Family;
use netstack::time::Instant;

use crate::end::End;
use crate::network::{Network, NodeId};
use crate::rng::Rng;

/// What a transfer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferSpec {
    /// IPv4 or IPv6.
    pub family: Family,
    /// The server's port; each transfer to one node needs its own.
    pub port: u16,
    /// Bytes from the client.
    pub from_client: usize,
    /// Bytes from the server.
    pub from_server: usize,
    /// The most that an application writes or reads at once.
    pub chunk: usize,
    /// How often an application does nothing, in parts per million of the moments.
    pub lazy_ppm: u32,
}

impl TransferSpec {
    /// From the client only, by applications that keep up.
    #[must_use]
    pub const fn one_way(bytes: usize) -> Self {
        Self {
            family: Family::V4,
            port: 80,
            from_client: bytes,
            from_server: 0,
            chunk: 128 << 10,
            lazy_ppm: 0,
        }
    }

    /// As much both ways.
    #[must_use]
    pub const fn both_ways(bytes: usize) -> Self {
        Self { from_server: bytes, ..Self::one_way(bytes) }
    }
}

/// A connection with its two applications.
pub struct Transfer {
    /// The end that connected.
    pub client: End,
    /// The end that accepted, once it exists.
    pub server: Option<End>,
    listener: Option<netstack::TcpSocket>,
    spec: TransferSpec,
    streams: [Stream; 2],
    rng: Rng,
    buffer: Vec<u8>,
    started: Instant,
    ended: Option<Instant>,
}

/// One direction as its applications see it.
#[derive(Debug, Default)]
struct Stream {
    total: usize,
    written: usize,
    read: usize,
    is_finished: bool,
    has_ended: bool,
    /// Where its bytes start in the pattern, so that the two directions differ.
    origin: usize,
}

impl Transfer {
    /// Has `client` connect to `server`.
    pub fn start(network: &mut Network, client: NodeId, server: NodeId, spec: TransferSpec) -> Self {
        let remote = network.endpoint(server, spec.family, spec.port);
        let (listener, accepted) = if network.is_ours(server) {
            (Some(network.host(server).listen(spec.family, spec.port, 8)), None)
        } else {
            (None, Some(listen_elsewhere(network, server, spec.port)))
        };
        let client = if network.is_ours(client) {
            End::Ours(network.host(client).connect(remote))
        } else {
            connect_elsewhere(network, client, remote, 40_000 + spec.port % 20_000)
        };
        let stream = |total, origin| Stream { total, origin, ..Stream::default() };
        Self {
            client,
            server: accepted,
            listener,
            spec,
            streams: [stream(spec.from_client, 0), stream(spec.from_server, 1 << 30)],
            rng: Rng::new(network.rng.next_u64()),
            buffer: vec![0; spec.chunk],
            started: network.now(),
            ended: None,
        }
    }

    /// Lets the applications do what they can. True once both streams have arrived whole and both ends are closed.
    ///
    /// # Panics
    /// If a byte is wrong, or the connection failed.
    #[track_caller]
    pub fn step(&mut self, network: &mut Network) -> bool {
        if self.server.is_none() {
            let accepted = self.listener.as_ref().and_then(|listener| listener.try_accept().ok());
            self.server = accepted.map(|(socket, _)| End::Ours(socket));
        }
        let Self { client, server, spec, streams, rng, buffer, .. } = self;
        let [forth, back] = streams;
        if !rng.chance_ppm(spec.lazy_ppm) {
            run(network, client, forth, back, spec.chunk, rng, buffer);
        }
        if let Some(server) = server
            && !rng.chance_ppm(spec.lazy_ppm)
        {
            run(network, server, back, forth, spec.chunk, rng, buffer);
        }
        if self.ended.is_none() && self.has_arrived() {
            self.ended = Some(network.now());
        }
        self.ended.is_some() && self.is_closed(network)
    }

    fn has_arrived(&self) -> bool {
        self.streams.iter().all(|stream| stream.has_ended)
    }

    fn is_closed(&self, network: &mut Network) -> bool {
        let Self { client, server, .. } = self;
        client.is_closed(network) && server.as_ref().is_some_and(|server| server.is_closed(network))
    }

    /// Runs the network until this transfer is over, then lets go of its sockets.
    ///
    /// # Panics
    /// If that takes a virtual hour.
    #[track_caller]
    pub fn run_to_end(mut self, network: &mut Network) -> Duration {
        let is_over = network.run_until(LIMIT, |network| self.step(network));
        assert!(is_over, "stuck at {:?}: {:?}", network.now(), self.streams);
        self.duration().unwrap_or_default()
    }

    /// How long it took until both streams had arrived.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        Some(self.ended? - self.started)
    }

    /// Bytes that have arrived at the server, and at the client.
    #[must_use]
    pub fn received(&self) -> [usize; 2] {
        [self.streams[0].read, self.streams[1].read]
    }
}

impl std::fmt::Debug for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = |end: Option<&End>| {
            let socket = end.and_then(End::ours);
            socket.map(|socket| (socket.local_addr(), socket.state(), socket.info()))
        };
        let mut out = f.debug_struct("Transfer");
        out.field("client", &state(Some(&self.client))).field("server", &state(self.server.as_ref()));
        out.field("streams", &self.streams).field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// Lets the application at one end write and read.
#[track_caller]
fn run(
    network: &mut Network,
    end: &End,
    outgoing: &mut Stream,
    incoming: &mut Stream,
    chunk: usize,
    rng: &mut Rng,
    buffer: &mut [u8],
) {
    while outgoing.written < outgoing.total {
        let len = (1 + rng.index(chunk)).min(outgoing.total - outgoing.written);
        let data = pattern(outgoing.origin + outgoing.written, len);
        let count = end.send(network, data);
        outgoing.written += count;
        if count < data.len() {
            break;
        }
    }
    if outgoing.written == outgoing.total && !outgoing.is_finished && end.is_established(network) {
        end.finish(network);
        outgoing.is_finished = true;
    }
    while !incoming.has_ended {
        let room = 1 + rng.index(chunk);
        let Some(count) = end.receive(network, &mut buffer[..room]) else {
            incoming.has_ended = true;
            break;
        };
        let mut received = &buffer[..count];
        while !received.is_empty() {
            let expected = pattern(incoming.origin + incoming.read, received.len());
            let (piece, rest) = received.split_at(expected.len());
            assert!(piece == expected, "wrong bytes from {} on", incoming.read);
            incoming.read += piece.len();
            received = rest;
        }
        if count < room {
            break;
        }
    }
    if incoming.has_ended {
        assert_eq!(incoming.read, incoming.total, "the stream ended early");
    }
}

/// The byte at `at` of the test streams: unlike its neighbours at every distance that matters.
#[must_use]
pub fn pattern_byte(at: usize) -> u8 {
    // The topmost byte.
    (((at % PERIOD) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// Bytes of the stream from `at` on: `len` of them, or as many as lie together.
fn pattern(at: usize, len: usize) -> &'static [u8] {
    static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| (0..2 * PERIOD).map(pattern_byte).collect());
    let start = at % PERIOD;
    &TABLE[start..TABLE.len().min(start + len)]
}

/// A prime, so that no size of a segment, a buffer or a window divides it.
const PERIOD: usize = 65_521;

#[cfg(feature = "smoltcp")]
fn listen_elsewhere(network: &mut Network, node: NodeId, port: u16) -> End {
    End::Smoltcp(node, network.smoltcp(node).listen(port))
}

#[cfg(feature = "smoltcp")]
fn connect_elsewhere(
    network: &mut Network,
    node: NodeId,
    remote: std::net::SocketAddr,
    local_port: u16,
) -> End {
    End::Smoltcp(node, network.smoltcp(node).connect(remote, local_port))
}

#[cfg(not(feature = "smoltcp"))]
fn listen_elsewhere(_: &mut Network, _: NodeId, _: u16) -> End {
    unreachable!("all nodes are ours")
}

#[cfg(not(feature = "smoltcp"))]
fn connect_elsewhere(_: &mut Network, _: NodeId, _: std::net::SocketAddr, _: u16) -> End {
    unreachable!("all nodes are ours")
}

/// Every transfer of a test ends within this, whatever is lost.
const LIMIT: Duration = Duration::from_secs(3600);
