//! A node that is our stack.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use netstack::link::channel::ChannelLink;
use netstack::link::{Capabilities, Medium};
use netstack::options::Family;
use netstack::packet::Packet;
use netstack::tcp::Config;
use netstack::time::Instant;
use netstack::{IpCidr, MacAddr, NicId, Stack, TcpSocket};

/// How a host is made.
#[derive(Debug, Clone)]
pub struct HostSpec {
    /// The MTU of its NIC.
    pub mtu: usize,
    /// Its TCP settings.
    pub tcp: Config,
}

impl Default for HostSpec {
    fn default() -> Self {
        Self { mtu: 1500, tcp: Config::default() }
    }
}

/// A stack with one NIC, and the addresses 10.0.X.Y/16 and `fd00::N/64` for node number N (from 1).
pub struct Host {
    /// The stack.
    pub stack: Stack,
    /// Its NIC.
    pub nic: NicId,
    pub(crate) mac: MacAddr,
    number: u16,
    link: Arc<ChannelLink>,
    sent: Vec<Packet>,
}

impl Host {
    pub(crate) fn new(number: u16, spec: &HostSpec, seed: u64) -> Self {
        let stack = Stack::builder().manual_clock().deterministic(seed).tcp_config(spec.tcp.clone()).build();
        let mac = mac_of(number);
        let link = ChannelLink::new(Medium::Ethernet(mac), spec.mtu, Capabilities::default(), TRANSMIT_QUEUE);
        let nic = stack.add_nic("eth0", link.clone()).expect("a new stack takes a NIC");
        for (address, len) in [(IpAddr::V4(v4_of(number)), 16), (v6_of(number).into(), 64)] {
            let cidr = IpCidr::new(address, len).expect("a valid length");
            stack.add_address(nic, cidr).expect("a new NIC takes addresses");
        }
        // What configuring said to the link (membership reports) is of no interest.
        link.take();
        Self { stack, nic, mac, number, link, sent: Vec::new() }
    }

    /// Its address of a family.
    #[must_use]
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => v4_of(self.number).into(),
            Family::V6 => v6_of(self.number).into(),
        }
    }

    /// A socket that listens on all addresses of a family.
    ///
    /// # Panics
    /// If the port is taken.
    #[track_caller]
    #[must_use]
    pub fn listen(&self, family: Family, port: u16, backlog: u32) -> TcpSocket {
        let socket = TcpSocket::new(&self.stack, family);
        socket.bind(SocketAddr::new(self.address(family), port)).expect("the port is free");
        socket.listen(backlog).expect("the socket is bound");
        socket
    }

    /// A socket that has begun to connect.
    ///
    /// # Panics
    /// If there is no route or no port left.
    #[track_caller]
    #[must_use]
    pub fn connect(&self, remote: SocketAddr) -> TcpSocket {
        let family = if remote.is_ipv4() { Family::V4 } else { Family::V6 };
        let socket = TcpSocket::new(&self.stack, family);
        socket.connect(remote).expect("there is a route");
        socket
    }

    pub(crate) fn deliver(&mut self, frames: Vec<Bytes>) {
        let mut packets = frames.into_iter().map(Packet::from_frame).collect();
        self.stack.deliver(self.nic, &mut packets);
    }

    pub(crate) fn take_frames(&mut self, out: &mut Vec<Bytes>) {
        self.link.take_into(&mut self.sent);
        out.extend(self.sent.drain(..).map(|packet| packet.to_bytes()));
    }

    pub(crate) fn advance_to(&mut self, now: Instant) {
        self.stack.advance_to(now);
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The station address of a node.
pub(crate) fn mac_of(number: u16) -> MacAddr {
    let [high, low] = number.to_be_bytes();
    MacAddr([2, 0, 0, 0, high, low])
}

/// The IPv4 address of a node.
pub(crate) fn v4_of(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 0, high, low)
}

/// The IPv6 address of a node.
pub(crate) fn v6_of(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number)
}

/// Frames that leave in one instant: more than any window, so that the link's queue is what drops.
const TRANSMIT_QUEUE: usize = 1 << 16;
