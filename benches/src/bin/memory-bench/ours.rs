//! Our stack at both ends.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use netstack::link::local::LocalLink;
use netstack::link::{Capabilities, Medium};
use netstack::options::{Family, RecvFlags, RecvMessage, SendMessage, SendMeta};
use netstack::packet::{Meta, Packet};
use netstack::pool::Pool;
use netstack::{MacAddr, NicId, Stack, TcpSocket, UdpSocket};

use crate::scenario::{PACKET, Pair, Scenario};

/// Where the second host listens.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 80);

pub(crate) fn open(scenario: Scenario) -> Box<dyn Pair> {
    let trusted = Capabilities { tx_checksum: true, rx_checksum_trusted: true, ..Capabilities::default() };
    match scenario {
        Scenario::Bulk => Box::new(Bulk::new(Wire::new(Capabilities::default(), Crossing::Copied))),
        Scenario::BulkUnchecked => Box::new(Bulk::new(Wire::new(trusted, Crossing::Copied))),
        Scenario::BulkSuper => {
            let capabilities = Capabilities { gso_max_v4: 65_535, ..trusted };
            Box::new(Bulk::new(Wire::new(capabilities, Crossing::Shared)))
        }
        Scenario::RoundTrip => Box::new(RoundTrip::new()),
        Scenario::Connection => Box::new(Connection::new()),
        Scenario::Datagram => Box::new(Datagrams::new(Calls::Many)),
        Scenario::DatagramSingle => Box::new(Datagrams::new(Calls::Single)),
    }
}

/// How a frame gets from one stack to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crossing {
    /// Its pieces, if there are several, are copied into one buffer, as a device does.
    Copied,
    /// As it is: the ranges of the send queue become those of the receive queue.
    Shared,
}

struct Host {
    stack: Stack,
    link: Arc<LocalLink>,
    nic: NicId,
    frames: Vec<Packet>,
}

impl Host {
    fn new(number: u8, capabilities: Capabilities) -> Self {
        let stack = Stack::builder().manual_clock().deterministic(u64::from(number)).build();
        let medium = Medium::Ethernet(MacAddr([2, 0, 0, 0, 0, number]));
        let link = LocalLink::new(medium, 1500, capabilities, 1 << 16);
        let nic = stack.add_nic("eth0", link.clone()).expect("a new stack takes a NIC");
        let address = format!("10.0.0.{number}/24").parse().expect("well-formed");
        stack.add_address(nic, address).expect("a new NIC takes an address");
        Self { stack, link, nic, frames: Vec::new() }
    }
}

struct Wire {
    hosts: [Host; 2],
    crossing: Crossing,
    pool: Arc<Pool>,
}

impl Wire {
    fn new(capabilities: Capabilities, crossing: Crossing) -> Self {
        let hosts = [Host::new(1, capabilities), Host::new(2, capabilities)];
        Self { hosts, crossing, pool: Pool::new(FRAME_BLOCK, 4096) }
    }

    /// Carries frames until both are silent.
    fn settle(&mut self) {
        let Self { hosts: [a, b], crossing, pool } = self;
        loop {
            a.link.take_into(&mut b.frames);
            b.link.take_into(&mut a.frames);
            if a.frames.is_empty() && b.frames.is_empty() {
                return;
            }
            for host in [&mut *a, &mut *b] {
                if host.frames.is_empty() {
                    continue;
                }
                if *crossing == Crossing::Copied {
                    host.frames.iter_mut().for_each(|frame| cross(pool, frame));
                }
                host.stack.deliver(host.nic, &mut host.frames);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        for host in &self.hosts {
            host.stack.advance_to(host.stack.now() + time);
        }
        self.settle();
    }

    fn listener(&self) -> TcpSocket {
        let listener = TcpSocket::new(&self.hosts[1].stack, Family::V4);
        listener.bind(SERVER).expect("the port is free");
        listener.listen(16).expect("the socket is bound");
        listener
    }

    fn connect(&mut self, listener: &TcpSocket) -> (TcpSocket, TcpSocket) {
        let client = TcpSocket::new(&self.hosts[0].stack, Family::V4);
        client.connect(SERVER).expect("there is a route");
        self.settle();
        let (server, _) = listener.try_accept().expect("the wire loses nothing");
        (client, server)
    }
}

/// What a device and its driver do: the frame becomes bytes in a receive buffer, small ones in one of their size. One that is
/// in one piece is handed over in its buffer, as the peer's frames are, and nothing but its bytes.
fn cross(pool: &Arc<Pool>, frame: &mut Packet) {
    if frame.body().is_empty() {
        frame.meta = Meta::default();
        return;
    }
    let len = frame.len();
    let bytes = if len <= COPIED_SMALL {
        let mut small = [0; COPIED_SMALL];
        frame.copy_to(0, &mut small);
        Bytes::copy_from_slice(&small[..len])
    } else {
        let mut block = pool.take();
        frame.copy_to(0, &mut block);
        pool.share(block, len)
    };
    *frame = Packet::from_frame(bytes);
}

struct Bulk {
    wire: Wire,
    client: TcpSocket,
    server: TcpSocket,
    _listener: TcpSocket,
    data: Vec<u8>,
    sink: Vec<u8>,
}

impl Bulk {
    fn new(mut wire: Wire) -> Self {
        let listener = wire.listener();
        let (client, server) = wire.connect(&listener);
        let (data, sink) = (vec![7; APP_BUFFER], vec![0; APP_BUFFER]);
        Self { wire, client, server, _listener: listener, data, sink }
    }
}

impl Pair for Bulk {
    fn run(&mut self, count: u64) -> u64 {
        let (wanted, mut received) = (count * PACKET, 0);
        while received < wanted {
            let sent = self.client.try_send(&mut &self.data[..]).is_ok();
            self.wire.settle();
            while let Ok(count) = self.server.try_recv(&mut &mut self.sink[..], RecvFlags::default()) {
                received += count as u64;
            }
            self.wire.settle();
            // Delayed acknowledgments need time; nothing else here waits for it.
            self.wire.pass(if sent { Duration::from_micros(10) } else { Duration::from_millis(1) });
        }
        received / PACKET
    }
}

struct RoundTrip {
    wire: Wire,
    ends: [TcpSocket; 2],
    _listener: TcpSocket,
}

impl RoundTrip {
    fn new() -> Self {
        let mut wire = Wire::new(Capabilities::default(), Crossing::Copied);
        let listener = wire.listener();
        let (client, server) = wire.connect(&listener);
        Self { wire, ends: [client, server], _listener: listener }
    }
}

impl Pair for RoundTrip {
    fn run(&mut self, count: u64) -> u64 {
        let [client, server] = &self.ends;
        let mut byte = [0; 1];
        for _ in 0..count {
            for (from, to) in [(client, server), (server, client)] {
                from.try_send(&mut &b"x"[..]).expect("the window is open");
                self.wire.settle();
                to.try_recv(&mut &mut byte[..], RecvFlags::default()).expect("it has arrived");
            }
        }
        self.wire.pass(Duration::from_micros(count));
        count
    }
}

struct Connection {
    wire: Wire,
    listener: TcpSocket,
}

impl Connection {
    fn new() -> Self {
        let wire = Wire::new(Capabilities::default(), Crossing::Copied);
        let listener = wire.listener();
        Self { wire, listener }
    }
}

impl Pair for Connection {
    fn run(&mut self, count: u64) -> u64 {
        for _ in 0..count {
            let (client, server) = self.wire.connect(&self.listener);
            drop(client);
            self.wire.settle();
            drop(server);
            self.wire.settle();
            // TIME-WAIT ends before the ports run out.
            self.wire.pass(Duration::from_millis(10));
        }
        count
    }
}

/// How datagrams are given and taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Calls {
    /// A burst with one call.
    Many,
    /// Each with a call of its own.
    Single,
}

struct Datagrams {
    calls: Calls,
    wire: Wire,
    client: UdpSocket,
    server: UdpSocket,
}

impl Datagrams {
    fn new(calls: Calls) -> Self {
        let wire = Wire::new(Capabilities::default(), Crossing::Copied);
        let server = UdpSocket::new(&wire.hosts[1].stack, Family::V4);
        server.bind(SERVER).expect("the port is free");
        let client = UdpSocket::new(&wire.hosts[0].stack, Family::V4);
        client.connect(SERVER).expect("there is a route");
        Self { calls, wire, client, server }
    }
}

impl Pair for Datagrams {
    fn run(&mut self, count: u64) -> u64 {
        match self.calls {
            Calls::Many => self.run_many(count),
            Calls::Single => self.run_single(count),
        }
    }
}

impl Datagrams {
    fn run_single(&mut self, count: u64) -> u64 {
        let (mut received, mut sink) = (0, [0; DATAGRAM]);
        while received < count {
            for _ in 0..BURST {
                let sent = self.client.try_send(&mut &[0; DATAGRAM][..], &SendMeta::DEFAULT);
                sent.expect("sending does not wait");
            }
            self.wire.settle();
            while self.server.try_recv(&mut &mut sink[..], RecvFlags::default()).is_ok() {
                received += 1;
            }
        }
        received
    }

    fn run_many(&mut self, count: u64) -> u64 {
        let (mut received, mut sink) = (0, [[0; DATAGRAM]; BURST]);
        while received < count {
            let mut data = [&[0; DATAGRAM][..]; BURST];
            let mut messages = data.each_mut().map(|data| SendMessage::new(data));
            let sent = self.client.try_send_many(&mut messages).expect("sending does not wait");
            assert_eq!(sent, BURST, "sending does not wait");
            self.wire.settle();
            loop {
                let mut rooms = sink.each_mut().map(|room| &mut room[..]);
                let mut messages = rooms.each_mut().map(|room| RecvMessage::new(room));
                let Ok(count) = self.server.try_recv_many(&mut messages) else { break };
                received += count as u64;
            }
        }
        received
    }
}

/// Bytes that the application gives and takes at once.
const APP_BUFFER: usize = 128 << 10;
/// A receive buffer of the wire.
const FRAME_BLOCK: usize = 2048;
/// Frames up to this size get a buffer of their own size, as the host links do it.
const COPIED_SMALL: usize = 256;
/// Datagrams sent before the receiver has its turn.
const BURST: usize = 32;
/// The payload of one.
const DATAGRAM: usize = 64;
