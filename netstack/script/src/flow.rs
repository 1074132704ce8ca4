//! Flows: what relative sequence numbers, scaled windows and timestamps of a connection are relative to.

use std::net::IpAddr;

use crate::packet::{Body, Packet, Segment, TcpOption, flags};

/// One connection (or pair of UDP ports) of the script.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    /// The name in the script; empty for the main one.
    pub(crate) label: String,
    /// The port of the stack under test.
    pub(crate) local_port: u16,
    /// The port of the peer.
    pub(crate) peer_port: u16,
    /// The initial sequence number of the stack, once a SYN has shown it.
    pub(crate) local_iss: Option<u32>,
    /// The initial sequence number of the peer.
    pub(crate) peer_iss: u32,
    local_shift: Option<u8>,
    peer_shift: Option<u8>,
    has_local_timestamps: bool,
    has_peer_timestamps: bool,
    /// The first timestamp of the stack: its zero.
    first_timestamp: Option<u32>,
    /// The latest timestamp of the stack.
    last_timestamp: u32,
    /// What the peer's clock shows at the script's zero.
    peer_clock: u32,
    /// The latest Fast Open cookie of the stack.
    pub(crate) cookie: Vec<u8>,
}

impl Flow {
    fn new(label: &str, local_port: u16, peer_port: u16, peer_iss: u32) -> Self {
        Self {
            label: label.to_owned(),
            local_port,
            peer_port,
            local_iss: None,
            peer_iss,
            local_shift: None,
            peer_shift: None,
            has_local_timestamps: false,
            has_peer_timestamps: false,
            first_timestamp: None,
            last_timestamp: 0,
            peer_clock: 10_000,
            cookie: Vec::new(),
        }
    }

    /// The initial sequence number that the stack's are relative to.
    #[must_use]
    pub(crate) fn local_base(&self) -> u32 {
        self.local_iss.unwrap_or(0)
    }

    /// Whether both SYNs carried timestamps.
    #[must_use]
    pub(crate) fn has_timestamps(&self) -> bool {
        self.has_local_timestamps && self.has_peer_timestamps
    }

    /// The shift of the peer's windows outside of SYNs.
    #[must_use]
    pub(crate) fn peer_window_shift(&self) -> u8 {
        self.peer_shift.filter(|_| self.local_shift.is_some()).unwrap_or(0)
    }

    /// The shift of the stack's windows outside of SYNs.
    #[must_use]
    pub(crate) fn local_window_shift(&self) -> u8 {
        self.local_shift.filter(|_| self.peer_shift.is_some()).unwrap_or(0)
    }

    /// The peer's timestamp at `millis`.
    #[must_use]
    pub(crate) fn peer_timestamp(&self, millis: u32) -> u32 {
        self.peer_clock.wrapping_add(millis)
    }

    /// The echo that a peer would send now.
    #[must_use]
    pub(crate) fn last_timestamp(&self) -> u32 {
        self.last_timestamp
    }

    /// A timestamp of the stack, counted from its first.
    #[must_use]
    pub(crate) fn relative_timestamp(&self, value: u32) -> u32 {
        value.wrapping_sub(self.first_timestamp.unwrap_or(0))
    }

    /// The timestamp of the stack that is `relative` after its first.
    #[must_use]
    pub(crate) fn absolute_timestamp(&self, relative: u32) -> u32 {
        relative.wrapping_add(self.first_timestamp.unwrap_or(0))
    }

    /// The script chose a timestamp for the peer: its clock goes on from there.
    pub(crate) fn set_peer_timestamp(&mut self, value: u32, millis: u32) {
        self.peer_clock = value.wrapping_sub(millis);
    }

    /// The peer sends `segment`.
    pub(crate) fn note_sent_by_peer(&mut self, segment: &Segment) {
        if segment.has(flags::SYN) {
            self.peer_shift = segment.window_scale().map(|shift| shift.min(14));
            self.has_peer_timestamps = segment.timestamps().is_some();
        }
    }

    /// The stack has sent `segment`.
    pub(crate) fn note_sent_by_stack(&mut self, segment: &Segment) {
        if segment.has(flags::SYN) {
            if self.local_iss != Some(segment.seq) {
                self.first_timestamp = None;
            }
            self.local_iss = Some(segment.seq);
            self.local_shift = segment.window_scale();
            self.has_local_timestamps = segment.timestamps().is_some();
        }
        if let Some((value, _)) = segment.timestamps() {
            self.first_timestamp.get_or_insert(value);
            self.last_timestamp = value;
        }
        for option in &segment.options {
            if let TcpOption::FastOpen(cookie) = option
                && !cookie.is_empty()
            {
                self.cookie.clone_from(cookie);
            }
        }
    }
}

/// All flows of a run.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    flows: Vec<Flow>,
    local: Option<IpAddr>,
}

impl Flows {
    /// Begins without any; `local` is the stack's address.
    #[must_use]
    pub(crate) fn new(local: IpAddr) -> Self {
        Self { flows: Vec::new(), local: Some(local) }
    }

    /// The flow with that label.
    #[must_use]
    pub(crate) fn get(&self, label: &str) -> Option<&Flow> {
        self.flows.iter().find(|flow| flow.label == label)
    }

    /// The same to change it.
    pub(crate) fn get_mut(&mut self, label: &str) -> Option<&mut Flow> {
        self.flows.iter_mut().find(|flow| flow.label == label)
    }

    /// The Fast Open cookie that the stack gave to the peer, on whichever flow: it is for the peer's address.
    #[must_use]
    pub(crate) fn cookie(&self) -> Vec<u8> {
        self.flows
            .iter()
            .rev()
            .map(|flow| &flow.cookie)
            .find(|cookie| !cookie.is_empty())
            .cloned()
            .unwrap_or_default()
    }

    /// The flow that the peer opens, made if it is new.
    pub(crate) fn opened_by_peer(&mut self, label: &str, local_port: u16, peer_iss: u32) -> &mut Flow {
        let index = self.flows.iter().position(|flow| flow.label == label).unwrap_or_else(|| {
            let number = u16::try_from(self.flows.len()).unwrap_or(u16::MAX);
            let peer_port = FIRST_PEER_PORT.saturating_add(number);
            self.flows.push(Flow::new(label, local_port, peer_port, peer_iss));
            self.flows.len() - 1
        });
        &mut self.flows[index]
    }

    /// The flow that the stack opens or speaks on with these ports.
    pub(crate) fn opened_by_stack(&mut self, label: &str, local_port: u16, peer_port: u16, peer_iss: u32) {
        self.flows.retain(|flow| flow.label != label);
        self.flows.push(Flow::new(label, local_port, peer_port, peer_iss));
    }

    /// The flow of a packet.
    #[must_use]
    pub(crate) fn of(&self, packet: &Packet) -> Option<&Flow> {
        let (source, destination) = ports(packet)?;
        let (local, peer) =
            if Some(packet.source) == self.local { (source, destination) } else { (destination, source) };
        self.flows.iter().find(|flow| flow.local_port == local && flow.peer_port == peer)
    }
}

/// Source and destination port.
#[must_use]
pub(crate) fn ports(packet: &Packet) -> Option<(u16, u16)> {
    match &packet.body {
        Body::Tcp(segment) => Some((segment.source_port, segment.destination_port)),
        Body::Udp { source_port, destination_port, .. } => Some((*source_port, *destination_port)),
        Body::Icmp { .. } | Body::Other(_) => None,
    }
}

/// The peer's port of the first flow that it opens; the others follow.
const FIRST_PEER_PORT: u16 = 40_001;
