//! Two stacks that exchange frames.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use netstack::error::SendError;
use netstack::link::channel::ChannelLink;
use netstack::link::{Capabilities, Medium};
use netstack::options::{Family, RecvFlags};
use netstack::packet::Packet;
use netstack::route::Route;
use netstack::{IpCidr, MacAddr, NicId, Stack, TcpSocket};

use crate::{RUN, Random, Stopwatch};

/// One of the stacks.
pub(crate) struct Host {
    pub(crate) stack: Stack,
    pub(crate) nic: NicId,
    pub(crate) link: Arc<ChannelLink>,
    inbound: Vec<Packet>,
}

/// Both stacks: the first connects to the second, which listens on a few ports from 80 on.
pub(crate) struct Pair {
    pub(crate) hosts: [Host; 2],
    listeners: Vec<TcpSocket>,
}

/// Two ends of a connection.
pub(crate) type Ends = (TcpSocket, TcpSocket);

/// The station of a host.
pub(crate) fn mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, number])
}

/// A port of a host.
pub(crate) fn address(number: u8, port: u16) -> SocketAddr {
    SocketAddr::new([10, 0, 0, number].into(), port)
}

impl Host {
    fn new(number: u8) -> Self {
        let stack = Stack::builder().manual_clock().deterministic(number.into()).build();
        let link = ChannelLink::new(Medium::Ethernet(mac(number)), 1500, Capabilities::default(), 1 << 16);
        let nic = stack.add_nic("eth0", link.clone()).expect("a new stack takes a NIC");
        stack
            .add_address(nic, IpCidr::new(address(number, 0).ip(), 24).expect("valid"))
            .expect("a new address");
        let peer = 3 - number;
        stack.add_neighbour(nic, address(peer, 0).ip(), mac(peer)).expect("a valid neighbour");
        // Where the answers to floods go.
        stack.add_route(Route::via(IpCidr::DEFAULT_V4, address(peer, 0).ip(), nic)).expect("a new route");
        link.take();
        Self { stack, nic, link, inbound: Vec::new() }
    }
}

impl Pair {
    pub(crate) fn new() -> Self {
        let hosts = [Host::new(1), Host::new(2)];
        let listen = |port| {
            let socket = TcpSocket::new(&hosts[1].stack, Family::V4);
            socket.bind(address(2, port)).expect("the port is free");
            socket.listen(1024).expect("it is bound");
            socket
        };
        let listeners = (80..80 + PORTS).map(listen).collect();
        Self { hosts, listeners }
    }

    /// Carries frames until both are silent, each as one buffer, as from a device.
    pub(crate) fn settle(&mut self) {
        let [a, b] = &mut self.hosts;
        loop {
            a.link.take_into(&mut b.inbound);
            b.link.take_into(&mut a.inbound);
            if a.inbound.is_empty() && b.inbound.is_empty() {
                return;
            }
            for host in [&mut *a, &mut *b] {
                for frame in &mut host.inbound {
                    *frame = Packet::from_frame(frame.to_bytes());
                }
                host.stack.deliver(host.nic, &mut host.inbound);
            }
        }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, span: Duration) {
        let now = self.hosts[0].stack.now() + span;
        self.hosts.iter().for_each(|host| host.stack.advance_to(now));
        self.settle();
    }

    /// Opens a connection to one of the listeners.
    pub(crate) fn connect(&mut self, port: u16) -> Ends {
        let client = TcpSocket::new(&self.hosts[0].stack, Family::V4);
        client.connect(address(2, port)).expect("there is a route");
        self.settle();
        let (server, _) = self.listeners[usize::from(port - 80)].try_accept().expect("nothing is lost");
        (client, server)
    }

    /// Opens many connections.
    pub(crate) fn open(&mut self, count: usize) -> Vec<Ends> {
        let port = |index: usize| 80 + u16::try_from(index * usize::from(PORTS) / count).expect("a port");
        (0..count).map(|index| self.connect(port(index))).collect()
    }

    /// Gbit/s of so many streams in turns.
    pub(crate) fn bulk(&mut self, count: usize) -> f64 {
        let streams = self.open(count);
        let data = vec![7; 64 << 10];
        let mut sink = vec![0; 64 << 10];
        let (mut received, start) = (0, Stopwatch::start());
        while start.elapsed() < RUN {
            let before = received;
            for (client, server) in &streams {
                match client.try_send(&mut &data[..]) {
                    Ok(_) | Err(SendError::WouldBlock) => {}
                    Err(error) => panic!("{error}"),
                }
                self.settle();
                while let Ok(length) = server.try_recv(&mut &mut sink[..], RecvFlags::default()) {
                    received += length;
                }
            }
            if received == before {
                self.pass(Duration::from_millis(1));
            }
        }
        received as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9
    }

    /// Round trips of one byte a second on a connection.
    pub(crate) fn round_trips(&mut self, (client, server): &Ends) -> f64 {
        let (mut count, start) = (0, Stopwatch::start());
        let mut byte = [0; 1];
        while start.elapsed() < RUN {
            for _ in 0..100 {
                for (from, to) in [(client, server), (server, client)] {
                    from.try_send(&mut &b"x"[..]).expect("there is room");
                    self.settle();
                    to.try_recv(&mut &mut byte[..], RecvFlags::default()).expect("it has arrived");
                }
            }
            count += 100;
            self.pass(Duration::from_micros(100));
        }
        f64::from(count) / start.elapsed().as_secs_f64()
    }

    /// Connections opened and closed a second, while so many SYNs a second come from strangers.
    pub(crate) fn connections_beside(&mut self, rate: u32) -> f64 {
        let mut random = Random(2);
        let syns: Vec<_> = (0..1 << 16).map(|_| random.syn()).collect();
        let (mut count, mut flooded, start) = (0, 0_usize, Stopwatch::start());
        let mut answers = Vec::new();
        while start.elapsed() < RUN {
            let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as usize;
            let victim = &mut self.hosts[1];
            for number in flooded..due {
                let syn = &syns[number % syns.len()];
                victim.inbound.push(Packet::from_frame(syn.clone()));
            }
            flooded = due;
            victim.stack.deliver(victim.nic, &mut victim.inbound);
            // Behind the gateway nobody waits for them.
            victim.link.take_into(&mut answers);
            answers.clear();
            let (client, server) = self.connect(80);
            drop((client, server));
            self.settle();
            count += 1;
            // TIME-WAIT of a minute would fill the ephemeral ports.
            self.pass(Duration::from_millis(10));
        }
        f64::from(count) / start.elapsed().as_secs_f64()
    }
}

/// Enough for 100,000 connections from one address.
const PORTS: u16 = 4;
