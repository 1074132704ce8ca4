//! Nodes on a switch, the frames on their way, and the clock.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use netstack::MacAddr;
use netstack::link::Medium;
use netstack::link::sniffer::{Direction, PcapWriter};
use netstack::options::Family;
use netstack::packet::Packet;
use netstack::time::Instant;

use crate::host::{Host, HostSpec};
use crate::link::{Fate, LinkSpec, LinkState, LinkStats};
use crate::report::too_large_report;
use crate::rng::Rng;
#[cfg(feature = "smoltcp")]
use crate::smoltcp_host::{SmoltcpHost, SmoltcpSpec};

/// A node's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

/// One of the two links of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the node to the switch.
    Up,
    /// From the switch to the node.
    Down,
}

/// Stacks on a switch, in virtual time.
pub struct Network {
    now: Instant,
    /// Chooses what goes wrong. Tests may draw from it as well.
    pub rng: Rng,
    seed: u64,
    nodes: Vec<Node>,
    events: BTreeMap<(Instant, u64), Event>,
    order: u64,
    capture: Option<Capture>,
    frames: Vec<Bytes>,
}

struct Node {
    kind: Kind,
    mac: MacAddr,
    up: LinkState,
    down: LinkState,
}

enum Kind {
    Ours(Host),
    /// No stack: frames for it wait for the test, which answers them as it likes.
    Puppet(Vec<Bytes>),
    #[cfg(feature = "smoltcp")]
    Smoltcp(Box<SmoltcpHost>),
}

enum Event {
    /// A frame has come up a link.
    AtSwitch {
        from: usize,
        frame: Bytes,
    },
    /// A frame has come down one.
    AtNode {
        to: usize,
        frame: Bytes,
    },
    Change {
        node: usize,
        way: Way,
        spec: LinkSpec,
    },
}

struct Capture {
    writer: Arc<PcapWriter>,
    interface: u32,
}

impl Network {
    /// A network without nodes. Everything that will happen follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            now: Instant::ZERO,
            rng: Rng::new(seed),
            seed,
            nodes: Vec::new(),
            events: BTreeMap::new(),
            order: 0,
            capture: None,
            frames: Vec::new(),
        }
    }

    /// Adds a stack of ours.
    ///
    /// # Panics
    /// If there are 65534 nodes.
    pub fn add_host(&mut self, spec: HostSpec) -> NodeId {
        let number = self.next_number();
        let seed = self.seed.wrapping_mul(65_537).wrapping_add(u64::from(number));
        let mut host = Host::new(number, &spec, seed);
        host.advance_to(self.now);
        let mac = host.mac;
        self.add(Kind::Ours(host), mac)
    }

    /// Adds a node that is smoltcp.
    ///
    /// # Panics
    /// If there are 65534 nodes.
    #[cfg(feature = "smoltcp")]
    pub fn add_smoltcp(&mut self, spec: SmoltcpSpec) -> NodeId {
        let host = SmoltcpHost::new(self.next_number(), &spec, self.now);
        let mac = host.mac;
        self.add(Kind::Smoltcp(Box::new(host)), mac)
    }

    /// Adds a node without a stack, on whose behalf the program reads ([`received`](Self::received)) and sends
    /// ([`forge`](Self::forge)).
    ///
    /// # Panics
    /// If there are 65534 nodes.
    pub fn add_puppet(&mut self) -> NodeId {
        let mac = crate::host::mac_of(self.next_number());
        self.add(Kind::Puppet(Vec::new()), mac)
    }

    /// The frames that have arrived at a puppet, oldest first.
    ///
    /// # Panics
    /// If the node has a stack.
    pub fn received(&mut self, puppet: NodeId) -> Vec<Bytes> {
        match &mut self.nodes[puppet.0].kind {
            Kind::Puppet(frames) => std::mem::take(frames),
            _ => panic!("node {} has a stack", puppet.0),
        }
    }

    /// The station address of a node.
    #[must_use]
    pub fn mac(&self, node: NodeId) -> MacAddr {
        self.nodes[node.0].mac
    }

    fn next_number(&self) -> u16 {
        u16::try_from(self.nodes.len() + 1).ok().filter(|&n| n < u16::MAX).expect("addresses are left")
    }

    fn add(&mut self, kind: Kind, mac: MacAddr) -> NodeId {
        let (up, down) = (LinkState::new(LinkSpec::IDEAL), LinkState::new(LinkSpec::IDEAL));
        self.nodes.push(Node { kind, mac, up, down });
        NodeId(self.nodes.len() - 1)
    }

    /// Tells all our stacks each other's station addresses, so that no frame is about them. smoltcp still asks.
    pub fn introduce(&mut self) {
        for own in 0..self.nodes.len() {
            for other in (0..self.nodes.len()).filter(|&other| other != own) {
                let mac = self.nodes[other].mac;
                let addresses = [Family::V4, Family::V6].map(|family| self.address(NodeId(other), family));
                let Kind::Ours(host) = &self.nodes[own].kind else { continue };
                for address in addresses {
                    host.stack.add_neighbour(host.nic, address, mac).expect("a valid neighbour");
                }
            }
        }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// A node of ours.
    ///
    /// # Panics
    /// If the node is another stack.
    #[must_use]
    pub fn host(&self, node: NodeId) -> &Host {
        match &self.nodes[node.0].kind {
            Kind::Ours(host) => host,
            _ => panic!("node {} is not one of ours", node.0),
        }
    }

    /// A node that is smoltcp.
    ///
    /// # Panics
    /// If the node is another stack.
    #[cfg(feature = "smoltcp")]
    pub fn smoltcp(&mut self, node: NodeId) -> &mut SmoltcpHost {
        match &mut self.nodes[node.0].kind {
            Kind::Smoltcp(host) => host,
            _ => panic!("node {} is not smoltcp", node.0),
        }
    }

    /// Whether the node is one of our stacks.
    #[must_use]
    pub fn is_ours(&self, node: NodeId) -> bool {
        matches!(self.nodes[node.0].kind, Kind::Ours(_))
    }

    /// The address of a node.
    #[must_use]
    pub fn address(&self, node: NodeId, family: Family) -> std::net::IpAddr {
        // As `next_number` gave it out.
        let number = u16::try_from(node.0 + 1).unwrap_or(u16::MAX);
        match family {
            Family::V4 => crate::host::v4_of(number).into(),
            Family::V6 => crate::host::v6_of(number).into(),
        }
    }

    /// A port of a node.
    #[must_use]
    pub fn endpoint(&self, node: NodeId, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(node, family), port)
    }

    /// Changes a link from now on. Frames on their way stay on it.
    pub fn set_link(&mut self, node: NodeId, way: Way, spec: LinkSpec) {
        self.link_mut(node.0, way).spec = spec;
    }

    /// Changes a link later.
    pub fn set_link_at(&mut self, at: Instant, node: NodeId, way: Way, spec: LinkSpec) {
        self.schedule(at, Event::Change { node: node.0, way, spec });
    }

    /// What a link has done.
    #[must_use]
    pub fn link_stats(&self, node: NodeId, way: Way) -> LinkStats {
        let node = &self.nodes[node.0];
        match way {
            Way::Up => node.up.stats,
            Way::Down => node.down.stats,
        }
    }

    fn link_mut(&mut self, node: usize, way: Way) -> &mut LinkState {
        let node = &mut self.nodes[node];
        match way {
            Way::Up => &mut node.up,
            Way::Down => &mut node.down,
        }
    }

    /// Records what nodes send as pcapng, with the virtual time, until the network is dropped.
    ///
    /// # Errors
    /// If the header cannot be written; later errors end the recording.
    pub fn record(&mut self, out: Box<dyn Write + Send>) -> io::Result<()> {
        let writer = PcapWriter::new(out, 65_535)?;
        let interface = writer.add_interface("switch", Medium::Ethernet(MacAddr::ZERO));
        self.capture = Some(Capture { writer, interface });
        Ok(())
    }

    /// Puts a frame on the link from the node to the switch, as if its stack had sent it. For forgers.
    pub fn forge(&mut self, from: NodeId, frame: impl Into<Bytes>) {
        self.send_up(from.0, frame.into());
    }

    /// Sends what the nodes have, moves to the next moment at which something happens, and lets it happen. False, and
    /// no time passes, if nothing ever will.
    pub fn step(&mut self) -> bool {
        self.collect();
        let Some(next) = self.next_moment() else { return false };
        self.run_moment(next);
        true
    }

    /// The same, but not beyond `end`; stops there and returns false if nothing happens before.
    pub fn step_until(&mut self, end: Instant) -> bool {
        self.collect();
        match self.next_moment().filter(|&next| next <= end) {
            Some(next) => {
                self.run_moment(next);
                true
            }
            None => {
                self.now = self.now.max(end);
                for index in 0..self.nodes.len() {
                    self.advance(index);
                }
                false
            }
        }
    }

    /// Lets a span of time pass.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step_until(end) {}
    }

    /// Runs until `is_done`, asking after each moment. When nothing is left to happen, it is asked 64 times
    /// more, since it may let applications act that were idle on purpose. False if `limit` has passed.
    pub fn run_until(&mut self, limit: Duration, mut is_done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + limit;
        let mut silence = 0;
        while silence < PATIENCE {
            if is_done(self) {
                return true;
            }
            self.collect();
            match self.next_moment().filter(|&next| next <= end) {
                Some(next) => {
                    silence = 0;
                    self.run_moment(next);
                }
                None => silence += 1,
            }
        }
        self.step_until(end);
        is_done(self)
    }

    /// Runs until nothing is left to happen: no frame on its way and no timer armed.
    ///
    /// # Panics
    /// If that takes more than an hour: something keeps itself alive.
    pub fn drain(&mut self) {
        let end = self.now + DRAIN_LIMIT;
        while self.step() {
            assert!(self.now < end, "the network never falls silent");
        }
    }

    /// Checks that nothing is left of what was: all gauges of our stacks are zero and no frame is on its way.
    ///
    /// # Panics
    /// With the gauges that are not.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.events.is_empty(), "seed {}: {} events are left", self.seed, self.events.len());
        for (index, node) in self.nodes.iter().enumerate() {
            let Kind::Ours(host) = &node.kind else { continue };
            let left: Vec<_> = host.stack.gauges().entries().filter(|(_, value)| *value != 0).collect();
            assert!(left.is_empty(), "seed {}: node {index} keeps {left:?}", self.seed);
        }
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.order += 1;
        self.events.insert((at.max(self.now), self.order), event);
    }

    /// When something happens next.
    fn next_moment(&self) -> Option<Instant> {
        let event = self.events.keys().next().map(|(at, _)| *at);
        let deadlines = self.nodes.iter().filter_map(|node| match &node.kind {
            Kind::Ours(host) => host.stack.next_deadline(),
            Kind::Puppet(_) => None,
            #[cfg(feature = "smoltcp")]
            Kind::Smoltcp(host) => host.next_deadline(),
        });
        deadlines.chain(event).min().map(|next| next.max(self.now))
    }

    fn run_moment(&mut self, at: Instant) {
        self.now = at;
        for index in 0..self.nodes.len() {
            self.advance(index);
        }
        let mut arrived: Vec<(usize, Vec<Bytes>)> = Vec::new();
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= at) {
            match entry.remove() {
                Event::AtSwitch { from, frame } => self.switch(from, &frame),
                Event::AtNode { to, frame } => match arrived.iter_mut().find(|(node, _)| *node == to) {
                    Some((_, frames)) => frames.push(frame),
                    None => arrived.push((to, vec![frame])),
                },
                Event::Change { node, way, spec } => self.link_mut(node, way).spec = spec,
            }
        }
        for (to, frames) in arrived {
            match &mut self.nodes[to].kind {
                Kind::Ours(host) => host.deliver(frames),
                Kind::Puppet(received) => received.extend(frames),
                #[cfg(feature = "smoltcp")]
                Kind::Smoltcp(host) => host.deliver(at, frames),
            }
        }
    }

    fn advance(&mut self, index: usize) {
        match &mut self.nodes[index].kind {
            Kind::Ours(host) => host.advance_to(self.now),
            Kind::Puppet(_) => {}
            #[cfg(feature = "smoltcp")]
            Kind::Smoltcp(host) => host.advance_to(self.now),
        }
    }

    /// Puts what the nodes have sent on their links.
    fn collect(&mut self) {
        for index in 0..self.nodes.len() {
            let mut frames = std::mem::take(&mut self.frames);
            match &mut self.nodes[index].kind {
                Kind::Ours(host) => host.take_frames(&mut frames),
                Kind::Puppet(_) => {}
                #[cfg(feature = "smoltcp")]
                Kind::Smoltcp(host) => host.take_frames(self.now, &mut frames),
            }
            for frame in frames.drain(..) {
                self.send_up(index, frame);
            }
            self.frames = frames;
        }
    }

    fn send_up(&mut self, from: usize, frame: Bytes) {
        if let Some(Capture { writer, interface }) = &self.capture {
            let since_start = Duration::from_nanos(self.now.as_nanos());
            writer.record_at(
                *interface,
                Direction::Outbound,
                &Packet::from_frame(frame.clone()),
                since_start,
            );
        }
        self.carry(from, Way::Up, from, frame);
    }

    /// Sends a frame on to the node it is for, or to all others.
    fn switch(&mut self, from: usize, frame: &Bytes) {
        let Some(&destination) = frame.first_chunk::<6>() else { return };
        let station = MacAddr(destination);
        if station.is_unicast() {
            let to = self.nodes.iter().position(|node| node.mac == station);
            if let Some(to) = to {
                self.carry(to, Way::Down, from, frame.clone());
            }
            return;
        }
        for to in (0..self.nodes.len()).filter(|&to| to != from) {
            self.carry(to, Way::Down, from, frame.clone());
        }
    }

    fn carry(&mut self, node: usize, way: Way, from: usize, frame: Bytes) {
        let now = self.now;
        let (nodes, rng) = (&mut self.nodes, &mut self.rng);
        let link = match way {
            Way::Up => &mut nodes[node].up,
            Way::Down => &mut nodes[node].down,
        };
        let fate = link.carry(now, frame.clone(), rng);
        match fate {
            Fate::Arrives(at, frame, second) => {
                for at in [Some(at), second].into_iter().flatten() {
                    let frame = frame.clone();
                    match way {
                        Way::Up if at == now => self.switch(node, &frame),
                        Way::Up => self.schedule(at, Event::AtSwitch { from: node, frame }),
                        Way::Down => self.schedule(at, Event::AtNode { to: node, frame }),
                    }
                }
            }
            Fate::Lost => {}
            Fate::Reported { mtu } => {
                if let Some(report) = too_large_report(&frame, mtu) {
                    self.schedule(now, Event::AtNode { to: from, frame: report });
                }
            }
        }
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("now", &self.now).field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// How often applications that do nothing by chance are asked before they count as stuck.
const PATIENCE: u32 = 64;
/// Longer than every timer of a connection that ends: retransmissions with a backoff of up to two minutes, fifteen times.
const DRAIN_LIMIT: Duration = Duration::from_secs(3600);
