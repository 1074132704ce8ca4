//! A TCP peer that does what it is told, without a stack of its own.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use netstack::MacAddr;
use netstack::options::Family;
use netstack::wire::seq::SeqNum;
use netstack::wire::tcp::{SackBlocks, TcpFlags, TcpOptions, TcpRepr};

use crate::forge;
use crate::network::{Network, NodeId};

/// One connection of a node made by [`Network::add_puppet`] to one of our stacks. It offers SACK and no timestamps.
#[derive(Debug, Clone)]
pub struct Puppet {
    node: NodeId,
    stations: (MacAddr, MacAddr),
    addresses: (SocketAddr, SocketAddr),
    /// Our next sequence number.
    pub seq: SeqNum,
    /// The next one that we expect.
    pub ack: SeqNum,
    /// The window field of what we send.
    pub window: u16,
}

impl Puppet {
    /// Opens a connection with these options in the SYN, and runs the network until it is open.
    ///
    /// # Panics
    /// If no SYN-ACK comes within ten seconds.
    #[track_caller]
    pub fn connect(
        network: &mut Network,
        node: NodeId,
        victim: NodeId,
        ports: (u16, u16),
        options: TcpOptions,
    ) -> Self {
        let mut puppet = Self {
            node,
            stations: (network.mac(node), network.mac(victim)),
            addresses: (
                network.endpoint(node, Family::V4, ports.0),
                network.endpoint(victim, Family::V4, ports.1),
            ),
            seq: SeqNum(1_000_000),
            ack: SeqNum(0),
            window: u16::MAX,
        };
        puppet.send_with(network, TcpFlags::SYN, options, b"");
        puppet.seq += 1;
        let mut answer = None;
        network.run_until(Duration::from_secs(10), |network| {
            answer = answer.or(puppet.receive(network).first().map(|(repr, _)| *repr));
            answer.is_some()
        });
        let answer = answer.expect("a SYN-ACK");
        assert!(answer.flags.contains(TcpFlags::SYN | TcpFlags::ACK), "{answer:?}");
        puppet.ack = answer.seq + 1;
        puppet.acknowledge(network);
        puppet
    }

    /// The usual options of a SYN, with that MSS.
    #[must_use]
    pub fn syn_options(mss: u16) -> TcpOptions {
        TcpOptions { mss: Some(mss), sack_permitted: true, ..TcpOptions::default() }
    }

    /// The same connection, `offset` further in our stream.
    #[must_use]
    pub fn at(&self, offset: u32) -> Self {
        Self { seq: self.seq + offset, ..self.clone() }
    }

    /// Sends an ACK without data.
    pub fn acknowledge(&self, network: &mut Network) {
        self.send_with(network, TcpFlags::ACK, TcpOptions::default(), b"");
    }

    /// Sends an ACK with these SACK blocks.
    pub fn acknowledge_selectively(&self, network: &mut Network, sack: SackBlocks) {
        self.send_with(network, TcpFlags::ACK, TcpOptions { sack, ..TcpOptions::default() }, b"");
    }

    /// Sends data and moves on.
    pub fn send(&mut self, network: &mut Network, data: &[u8]) {
        self.send_with(network, TcpFlags::ACK | TcpFlags::PSH, TcpOptions::default(), data);
        self.seq += u32::try_from(data.len()).expect("a segment");
    }

    /// Sends any segment at the current numbers.
    pub fn send_with(&self, network: &mut Network, flags: TcpFlags, options: TcpOptions, data: &[u8]) {
        let frame = self.frame(flags, options, data);
        network.forge(self.node, frame);
    }

    /// The frame of such a segment.
    #[must_use]
    pub fn frame(&self, flags: TcpFlags, options: TcpOptions, data: &[u8]) -> Bytes {
        let Self { seq, ack, window, .. } = *self;
        let repr = TcpRepr { seq, ack, flags, window, options, ..TcpRepr::default() };
        forge::tcp(self.stations, self.addresses, &repr, data)
    }

    /// The segments of this connection that have arrived since the last call; those of others are lost.
    pub fn receive(&self, network: &mut Network) -> Vec<(TcpRepr, Bytes)> {
        let frames = network.received(self.node);
        let segments = frames.iter().filter_map(forge::parse_tcp);
        let (own, other) = (self.addresses.0.port(), self.addresses.1.port());
        segments.filter(|(repr, _)| (repr.dst_port, repr.src_port) == (own, other)).collect()
    }

    /// Runs the network for a while and takes what comes in order; true if a FIN came. Acknowledges only if told.
    pub fn take_in_order(&mut self, network: &mut Network, span: Duration, data: &mut Vec<u8>) -> bool {
        network.run_for(span);
        let mut has_ended = false;
        for (repr, payload) in self.receive(network) {
            let skip = usize::try_from(self.ack - repr.seq).ok().filter(|&skip| skip <= payload.len());
            if repr.seq.le(self.ack)
                && let Some(skip) = skip
            {
                data.extend_from_slice(&payload[skip..]);
                self.ack = repr.seq + u32::try_from(payload.len()).expect("a segment");
                if repr.flags.contains(TcpFlags::FIN) {
                    self.ack += 1;
                    has_ended = true;
                }
            }
        }
        has_ended
    }
}
