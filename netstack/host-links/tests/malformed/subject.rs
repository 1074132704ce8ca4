//! The stack under test, in virtual time.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use netstack::link::channel::ChannelLink;
use netstack::link::{Capabilities, Medium};
use netstack::options::Family;
use netstack::{MacAddr, NicId, Stack, TcpSocket, UdpSocket};

use crate::reply;

/// A stack with a TCP listener on port 80 and a UDP socket on port 7.
pub(crate) struct Subject {
    stack: Stack,
    nic: NicId,
    link: Arc<ChannelLink>,
    listener: TcpSocket,
    datagrams: UdpSocket,
}

/// What became of frames.
pub(crate) struct Outcome {
    /// The counters that grew.
    pub(crate) counters: Vec<&'static str>,
    pub(crate) reply: String,
}

impl Subject {
    pub(crate) fn new() -> Self {
        let stack = Stack::builder().manual_clock().deterministic(1).build();
        let medium = Medium::Ethernet(MacAddr([2, 0, 0, 0, 0, 1]));
        let link = ChannelLink::new(medium, 1500, Capabilities::default(), 4096);
        let nic = stack.add_nic("eth0", link.clone()).unwrap();
        for address in ["10.9.0.1/24", "fd09::1/64", "fe80::1/64"] {
            stack.add_address(nic, address.parse().unwrap()).unwrap();
        }
        for peer in ["10.9.0.2", "fd09::2", "fe80::2"] {
            stack.add_neighbour(nic, peer.parse().unwrap(), MacAddr([2, 0, 0, 0, 0, 2])).unwrap();
        }
        let any = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        let listener = TcpSocket::new(&stack, Family::V6);
        listener.bind(any(80)).unwrap();
        listener.listen(16).unwrap();
        let datagrams = UdpSocket::new(&stack, Family::V6);
        datagrams.bind(any(7)).unwrap();
        // Past what configuring says to the link.
        stack.advance_to(stack.now() + Duration::from_secs(5));
        link.take();
        Self { stack, nic, link, listener, datagrams }
    }

    /// Takes frames and answers.
    pub(crate) fn take(&self, frames: &[Vec<u8>]) -> Outcome {
        let before = self.counters();
        for frame in frames {
            self.stack.inject(self.nic, frame.clone());
        }
        let after = self.counters();
        let grown = before.iter().zip(&after).filter(|(before, after)| after.1 > before.1);
        let counters = grown.map(|(_, after)| after.0).collect();
        let answers: Vec<Vec<u8>> = self.link.take().iter().map(netstack::packet::Packet::to_vec).collect();
        Outcome { counters, reply: reply::describe_all(&answers) }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let nic = self.stack.nic(self.nic).unwrap().stats;
        self.stack.stats().entries().chain(nic.entries()).collect()
    }

    /// Closes everything, waits for longer than any timer, and tells what is still held.
    pub(crate) fn finish(self) -> Vec<(&'static str, usize)> {
        drop((self.listener, self.datagrams));
        self.stack.advance_to(self.stack.now() + Duration::from_secs(3600));
        // Timers of the addresses and groups go on for as long as those are there.
        self.stack.gauges().entries().filter(|(name, value)| *value != 0 && *name != "timers").collect()
    }
}
