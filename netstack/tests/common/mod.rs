//! Two stacks joined by a wire, in virtual time.

#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use netstack::link::channel::ChannelLink;
use netstack::link::{Capabilities, Medium};
use netstack::options::{Datagram, Family, RecvFlags};
use netstack::packet::Packet;
use netstack::time::Instant;
use netstack::wire::ethernet::MacAddr;
use netstack::{NicId, Stack, TcpSocket, UdpSocket};

/// One end of the wire.
pub struct Host {
    pub stack: Stack,
    pub link: Arc<ChannelLink>,
    pub nic: NicId,
}

impl Host {
    /// A host with the addresses 10.0.0.N/24 and fd00::N/64, fe80::N/64.
    pub fn new(number: u8, mtu: usize, capabilities: Capabilities) -> Self {
        let stack = Stack::builder().manual_clock().deterministic(u64::from(number)).build();
        let mac = MacAddr([2, 0, 0, 0, 0, number]);
        let link = ChannelLink::new(Medium::Ethernet(mac), mtu, capabilities, 4096);
        let nic = stack.add_nic("eth0", link.clone()).unwrap();
        for address in
            [format!("10.0.0.{number}/24"), format!("fd00::{number}/64"), format!("fe80::{number}/64")]
        {
            stack.add_address(nic, address.parse().unwrap()).unwrap();
        }
        // What configuring said to the link (membership reports) is of no interest here.
        link.take();
        Self { stack, link, nic }
    }

    pub fn udp(&self, local: &str) -> UdpSocket {
        let local: SocketAddr = local.parse().unwrap();
        let socket = UdpSocket::new(&self.stack, family_of(local));
        socket.bind(local).unwrap();
        socket
    }

    pub fn listen(&self, local: &str, backlog: u32) -> TcpSocket {
        let local: SocketAddr = local.parse().unwrap();
        let socket = TcpSocket::new(&self.stack, family_of(local));
        socket.bind(local).unwrap();
        socket.listen(backlog).unwrap();
        socket
    }

    pub fn connect(&self, remote: &str) -> TcpSocket {
        let remote: SocketAddr = remote.parse().unwrap();
        let socket = TcpSocket::new(&self.stack, family_of(remote));
        socket.connect(remote).unwrap();
        socket
    }
}

pub fn family_of(address: SocketAddr) -> Family {
    match address.ip() {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

/// A wire without delay between two hosts, and a record of what went over it.
pub struct Wire {
    pub a: Host,
    pub b: Host,
    /// All frames, with the number of their sender.
    pub seen: Vec<(u8, Vec<u8>)>,
}

impl Wire {
    pub fn new() -> Self {
        Self::with(1500, Capabilities::default())
    }

    pub fn with(mtu: usize, capabilities: Capabilities) -> Self {
        Self { a: Host::new(1, mtu, capabilities), b: Host::new(2, mtu, capabilities), seen: Vec::new() }
    }

    /// Carries frames to and fro until both are silent.
    pub fn settle(&mut self) {
        self.settle_with(|_, _| true);
    }

    /// The same; frames for which `passes` says no are lost.
    pub fn settle_with(&mut self, mut passes: impl FnMut(u8, &Packet) -> bool) {
        for _ in 0..100_000 {
            let (mut from_a, mut from_b) = (self.a.link.take(), self.b.link.take());
            if from_a.is_empty() && from_b.is_empty() {
                return;
            }
            self.seen.extend(from_a.iter().map(|frame| (1, frame.to_vec())));
            self.seen.extend(from_b.iter().map(|frame| (2, frame.to_vec())));
            from_a.retain(|frame| passes(1, frame));
            from_b.retain(|frame| passes(2, frame));
            let (mut to_b, mut to_a) = (as_received(from_a), as_received(from_b));
            self.b.stack.deliver(self.b.nic, &mut to_b);
            self.a.stack.deliver(self.a.nic, &mut to_a);
        }
        panic!("the hosts never fall silent");
    }

    /// Lets time pass on both, in steps of a millisecond, carrying frames meanwhile.
    pub fn run(&mut self, span: Duration) {
        let end = self.a.stack.now() + span;
        while self.a.stack.now() < end {
            let next = self.a.stack.now() + Duration::from_millis(1);
            self.advance_to(next);
            self.settle();
        }
    }

    pub fn advance_to(&self, now: Instant) {
        self.a.stack.advance_to(now);
        self.b.stack.advance_to(now);
    }
}

/// Frames as a link would deliver them: one buffer each, and the sender's metadata about segmentation and checksums.
pub fn as_received(frames: Vec<Packet>) -> Vec<Packet> {
    let receive = |frame: Packet| {
        let mut received = Packet::from_frame(frame.to_bytes());
        received.meta.checksum = frame.meta.checksum;
        received.meta.gso = frame.meta.gso;
        received
    };
    frames.into_iter().map(receive).collect()
}

#[track_caller]
pub fn recv(socket: &UdpSocket) -> (Vec<u8>, Datagram) {
    let mut data = Vec::new();
    let datagram = socket.try_recv(&mut data, RecvFlags::default()).unwrap();
    (data, datagram)
}

/// Reads all that is there.
pub fn read_available(socket: &TcpSocket) -> Vec<u8> {
    let mut data = Vec::new();
    while let Ok(count) = socket.try_recv(&mut data, RecvFlags::default()) {
        if count == 0 {
            break;
        }
    }
    data
}

/// Bytes that are unlike each other at every distance that matters.
pub fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    };
    (0..len).map(step).collect()
}
