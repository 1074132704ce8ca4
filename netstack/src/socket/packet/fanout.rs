//! Groups of packet sockets that share the frames of a NIC (`PACKET_FANOUT`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::RwLock;
use netstack_wire::ip::Protocol;

use super::endpoint::PacketEndpoint;
use super::frame::Frame;
use crate::bpf::{self, Program};
use crate::error::FanoutError;
use crate::secret::Secrets;

/// How a group picks the member for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FanoutMode {
    /// By the flow; both directions have the same member.
    Hash,
    /// One after the other.
    RoundRobin,
    /// By the processor that receives: the first member, since the stack does not tell.
    Processor,
    /// The first one, until its buffer is full.
    Rollover,
    /// By chance.
    Random,
    /// By the queue of the NIC: the first member, since there is one.
    Queue,
    /// By a program.
    Program,
}

/// A group.
pub(crate) struct FanoutGroup {
    pub(super) id: u16,
    mode: FanoutMode,
    next: AtomicUsize,
    pub(super) program: bpf::Slot,
    members: RwLock<Vec<Arc<PacketEndpoint>>>,
}

impl FanoutGroup {
    pub(super) fn new(id: u16, mode: FanoutMode) -> Self {
        Self {
            id,
            mode,
            next: AtomicUsize::new(0),
            program: bpf::Slot::default(),
            members: RwLock::default(),
        }
    }

    pub(super) fn mode(&self) -> FanoutMode {
        self.mode
    }

    pub(super) fn set_program(&self, program: Option<Program>) {
        self.program.set(program);
    }

    pub(super) fn len(&self) -> usize {
        self.members.read().len()
    }

    /// Adds a socket, which must want the same as the others do (`fanout_add`).
    pub(super) fn add(&self, endpoint: &Arc<PacketEndpoint>, mode: FanoutMode) -> Result<(), FanoutError> {
        let mut members = self.members.write();
        let bound_as = |endpoint: &PacketEndpoint| {
            let state = endpoint.state.lock();
            (state.nic, state.protocol)
        };
        let fits = members.first().is_none_or(|first| bound_as(first) == bound_as(endpoint));
        if mode != self.mode || !fits {
            return Err(FanoutError::OtherGroup);
        }
        if members.len() >= MAX_MEMBERS {
            return Err(FanoutError::Full);
        }
        members.push(Arc::clone(endpoint));
        Ok(())
    }

    pub(super) fn contains(&self, endpoint: &Arc<PacketEndpoint>) -> bool {
        self.members.read().iter().any(|member| Arc::ptr_eq(member, endpoint))
    }

    pub(super) fn remove(&self, endpoint: &Arc<PacketEndpoint>) {
        self.members.write().retain(|other| !Arc::ptr_eq(other, endpoint));
    }

    /// The member that a frame is for, if the group wants it.
    pub(super) fn choose(&self, frame: &Frame<'_>, secrets: &Secrets) -> Option<Arc<PacketEndpoint>> {
        let members = self.members.read();
        if !members.first()?.wants(&frame.from) {
            return None;
        }
        let count = members.len();
        let index = match self.mode {
            // All of these are below the number of members.
            FanoutMode::Hash => (flow_hash(frame, secrets) % count as u64) as usize,
            FanoutMode::RoundRobin => self.next.fetch_add(1, Ordering::Relaxed) % count,
            FanoutMode::Processor | FanoutMode::Queue => 0,
            FanoutMode::Rollover => members.iter().position(|member| member.has_room()).unwrap_or(0),
            FanoutMode::Random => (secrets.random() % count as u64) as usize,
            FanoutMode::Program => {
                let answer = self.program.get().map_or(0, |program| program.run(&frame.subject(secrets)));
                usize::try_from(answer).unwrap_or(0) % count
            }
        };
        members.get(index).cloned()
    }
}

/// The same for both directions of a flow.
fn flow_hash(frame: &Frame<'_>, secrets: &Secrets) -> u64 {
    let mut header = [0; 60];
    let len = frame.packet.copy_to(frame.link_len, &mut header);
    let header = &header[..len];
    let word = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|word| word.try_into().ok());
        u64::from(bytes.map_or(0, u32::from_be_bytes))
    };
    let ports = |at: usize, protocol: u8| match Protocol(protocol) {
        // The order of the two must not matter.
        Protocol::TCP | Protocol::UDP => (word(at) >> 16) ^ (word(at) & 0xffff),
        _ => 0,
    };
    let words = match header.first().map(|byte| byte >> 4) {
        Some(4) if len >= 20 => {
            let is_fragment = word(4) & 0x3fff != 0;
            let at = usize::from(header[0] & 0xf) * 4;
            [word(12) ^ word(16), u64::from(header[9]), if is_fragment { 0 } else { ports(at, header[9]) }]
        }
        Some(6) if len >= 40 => {
            let pair = |at: usize| (word(at) << 32) | word(at + 4);
            let addresses = (pair(8) ^ pair(24)) ^ (pair(16) ^ pair(32)).rotate_left(13);
            [addresses, u64::from(header[6]), ports(40, header[6])]
        }
        _ => [u64::from(frame.from.protocol.0), 0, 0],
    };
    crate::secret::hash_words(secrets.stable_key(), &words)
}

/// Linux's `PACKET_FANOUT_MAX` without a wish of the first member.
const MAX_MEMBERS: usize = 256;
