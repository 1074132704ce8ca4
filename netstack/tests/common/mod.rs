//! Two stacks joined by a wire, in virtual time.

#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use netstack::link::channel::ChannelLink;
use netstack::link::{Capabilities, Medium};
use netstack::options::{Datagram, Family, RecvFlags};
use netstack::packet::Packet;
use netstack::route::Route;
use netstack::time::Instant;
use netstack::wire::ethernet::MacAddr;
use netstack::wire::ip::Protocol;
use netstack::wire::ipv4::Ipv4Repr;
use netstack::wire::ipv6::Ipv6Repr;
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
        // What configuring said to the link (membership reports, repeated within a second) is of no interest here.
        stack.advance_to(Instant::from_millis(1000));
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

/// One side of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lan {
    Left,
    Right,
}

/// Two hosts with a router between them: 10.1.0.2 and fd01::2 on the left, 10.2.0.2 and fd02::2 on the right, the
/// router being .1 and ::1 on both sides and everybody's default gateway.
pub struct Triple {
    pub left: Host,
    pub right: Host,
    pub router: Stack,
    pub router_links: [Arc<ChannelLink>; 2],
    pub router_nics: [NicId; 2],
    /// All frames, with the side they were seen on.
    pub seen: Vec<(Lan, Vec<u8>)>,
}

impl Triple {
    pub fn new() -> Self {
        Self::with(1500, Capabilities::default(), Capabilities::default())
    }

    /// With the capabilities of the links on the left and on the right.
    pub fn with(mtu: usize, left: Capabilities, right: Capabilities) -> Self {
        let router = Stack::builder().manual_clock().deterministic(77).build();
        let mut links = Vec::new();
        let mut nics = Vec::new();
        for (lan, capabilities) in [(1, left), (2, right)] {
            let medium = Medium::Ethernet(MacAddr([2, 0, 0, 0, lan, 1]));
            let link = ChannelLink::new(medium, mtu, capabilities, 4096);
            let nic = router.add_nic(&format!("lan{lan}"), link.clone()).unwrap();
            for address in [format!("10.{lan}.0.1/24"), format!("fd0{lan}::1/64"), "fe80::1/64".to_owned()] {
                // The link-local one would be twice in one stack.
                let address = if lan == 2 { address.replace("fe80::1/", "fe80::2:1/") } else { address };
                router.add_address(nic, address.parse().unwrap()).unwrap();
            }
            router
                .set_nic_options(nic, |options| (options.forwards_v4, options.forwards_v6) = (true, true))
                .unwrap();
            links.push(link);
            nics.push(nic);
        }
        let host = |lan: u8, capabilities| {
            let stack = Stack::builder().manual_clock().deterministic(u64::from(lan)).build();
            let medium = Medium::Ethernet(MacAddr([2, 0, 0, 0, lan, 2]));
            let link = ChannelLink::new(medium, mtu, capabilities, 4096);
            let nic = stack.add_nic("eth0", link.clone()).unwrap();
            for address in [format!("10.{lan}.0.2/24"), format!("fd0{lan}::2/64"), "fe80::22/64".to_owned()] {
                stack.add_address(nic, address.parse().unwrap()).unwrap();
            }
            let gateways =
                [format!("10.{lan}.0.1"), if lan == 1 { "fe80::1" } else { "fe80::2:1" }.to_owned()];
            for (network, gateway) in ["0.0.0.0/0", "::/0"].into_iter().zip(gateways) {
                let route = Route::via(network.parse().unwrap(), gateway.parse().unwrap(), nic);
                stack.add_route(route).unwrap();
            }
            stack.advance_to(Instant::from_millis(1000));
            link.take();
            Host { stack, link, nic }
        };
        let [left, right] = [host(1, left), host(2, right)];
        router.advance_to(Instant::from_millis(1000));
        links.iter().for_each(|link| drop(link.take()));
        let router_links = links.try_into().ok().unwrap();
        let router_nics = nics.try_into().ok().unwrap();
        Self { left, right, router, router_links, router_nics, seen: Vec::new() }
    }

    /// Carries frames until all are silent.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut moved = false;
            let lans = [(Lan::Left, 0), (Lan::Right, 1)];
            for (lan, index) in lans {
                let host = if lan == Lan::Left { &self.left } else { &self.right };
                let (up, down) = (host.link.take(), self.router_links[index].take());
                moved |= !up.is_empty() || !down.is_empty();
                self.seen.extend(up.iter().chain(&down).map(|frame| (lan, frame.to_vec())));
                self.router.deliver(self.router_nics[index], &mut as_received(up));
                let host = if lan == Lan::Left { &self.left } else { &self.right };
                host.stack.deliver(host.nic, &mut as_received(down));
            }
            if !moved {
                return;
            }
        }
        panic!("they never fall silent");
    }

    /// Lets time pass everywhere, in steps of a millisecond, or of a tenth of a second for long spans.
    pub fn run(&mut self, span: Duration) {
        let step = if span > Duration::from_secs(10) { 100 } else { 1 };
        let end = self.router.now() + span;
        while self.router.now() < end {
            let next = self.router.now() + Duration::from_millis(step);
            for stack in [&self.left.stack, &self.right.stack, &self.router] {
                stack.advance_to(next);
            }
            self.settle();
        }
    }

    /// Gives the router a datagram from the left.
    pub fn inject_udp(&mut self, source: &str, destination: &str) {
        let packet = udp_packet(source, destination);
        let ether_type = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
        self.inject(&packet, ether_type);
    }

    /// Gives the router an IP packet from the left.
    pub fn inject(&mut self, packet: &[u8], ether_type: u16) {
        let mut frame = vec![2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2];
        frame.extend(ether_type.to_be_bytes());
        frame.extend(packet);
        self.router.inject(self.router_nics[0], frame);
    }
}

/// A datagram of four bytes to port 7, without a checksum (which only an IPv6 host would mind).
pub fn udp_packet(source: &str, destination: &str) -> Vec<u8> {
    let udp = [0x30, 0x39, 0, 7, 0, 12, 0, 0, 1, 2, 3, 4];
    let (source, destination): (IpAddr, IpAddr) = (source.parse().unwrap(), destination.parse().unwrap());
    let mut packet = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let repr = Ipv4Repr {
                source,
                destination,
                protocol: Protocol::UDP,
                ttl: 64,
                tos: 0,
                ident: 1,
                dont_fragment: false,
                more_fragments: false,
                fragment_offset: 0,
                options_len: 0,
                payload_len: 12,
            };
            let mut header = vec![0; 20];
            repr.emit(&mut header);
            header
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let repr = Ipv6Repr {
                source,
                destination,
                next_header: Protocol::UDP,
                hop_limit: 64,
                traffic_class: 0,
                flow_label: 0,
                payload_len: 12,
            };
            let mut header = vec![0; 40];
            repr.emit(&mut header);
            header
        }
        _ => panic!("two families"),
    };
    packet.extend(udp);
    packet
}
