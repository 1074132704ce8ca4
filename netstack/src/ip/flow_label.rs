//! Flow labels of IPv6 (RFC 6437): what packets say of their flow so that routers on the way keep it together without
//! looking further.
//!
//! The rules are Linux's: a label that somebody asked for, or else one made of the flow's hash, unless socket or stack
//! do without (`auto_flowlabels`). A TCP connection takes another label when a timeout suggests that its path is broken.

use std::net::IpAddr;

use netstack_wire::ip::Protocol;

use crate::ip_config::{AutoFlowLabels, FlowLabels};
use crate::options::SocketOptions;
use crate::stack::Core;
use crate::tcp::{Flow, SynHeaders};

/// The settings of [`FlowLabels`] in one word, for every packet to read.
pub(crate) fn pack(settings: &FlowLabels) -> u8 {
    let FlowLabels { auto, are_stateless_marked, reflects_streams, reflects_resets, reflects_echo } =
        settings;
    let auto = match auto {
        AutoFlowLabels::Off => 0,
        AutoFlowLabels::OptOut => 1,
        AutoFlowLabels::OptIn => 2,
        AutoFlowLabels::Forced => 3,
    };
    let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
    let reflected =
        flag(*reflects_streams, STREAMS) | flag(*reflects_resets, RESETS) | flag(*reflects_echo, ECHO);
    auto | flag(*are_stateless_marked, MARKED) | reflected
}

/// The label of a packet that no socket sends, and nobody asked for.
pub(crate) fn automatic(core: &Core, source: IpAddr, destination: IpAddr, number: u64) -> u32 {
    if destination.is_ipv4() || !is_automatic(core, None) {
        return 0;
    }
    of_hash(core, core.secrets.hash_pair(source, destination, number))
}

/// The label of a socket's datagram.
pub(crate) fn of_datagram(
    core: &Core,
    own: Option<bool>,
    ends: (IpAddr, u16),
    to: (IpAddr, u16),
    protocol: Protocol,
) -> u32 {
    if to.0.is_ipv4() || !is_automatic(core, own) {
        return 0;
    }
    let ports = u64::from(ends.1) << 16 | u64::from(to.1);
    of_hash(core, core.secrets.hash_pair(ends.0, to.0, ports << 8 | u64::from(protocol.0)))
}

/// What a connection keeps of its label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ConnectionLabel {
    /// That of the flow's hash.
    #[default]
    OfFlow,
    /// Another one: the path did not work.
    Rethought(u32),
    /// What the user asked for.
    Fixed(u32),
}

impl ConnectionLabel {
    /// The label of the next segment.
    #[inline]
    pub(crate) fn label(self, core: &Core, flow: &Flow, options: &SocketOptions) -> u32 {
        match self {
            Self::Fixed(label) => label,
            _ if flow.remote_addr.is_ipv4() || !is_automatic(core, options.auto_flow_label) => 0,
            _ => self.computed(core, flow),
        }
    }

    #[inline(never)]
    fn computed(self, core: &Core, flow: &Flow) -> u32 {
        match self {
            Self::Fixed(label) => label,
            Self::OfFlow => of_hash(core, core.secrets.hash_flow(flow)),
            Self::Rethought(hash) => of_hash(core, hash.into()),
        }
    }

    /// That of a connection that others began, if theirs is taken over.
    #[inline]
    pub(crate) fn of_reflected(core: &Core, headers: Option<&SynHeaders>) -> Self {
        Self::of_headers(core, headers, STREAMS)
    }

    /// That of a reset for what nobody wants.
    pub(crate) fn of_reset(core: &Core, headers: Option<&SynHeaders>) -> Self {
        Self::of_headers(core, headers, RESETS)
    }

    fn of_headers(core: &Core, headers: Option<&SynHeaders>, flag: u8) -> Self {
        let Some(headers) = headers.filter(|_| core.flow_labels() & flag != 0) else { return Self::OfFlow };
        let word = headers.bytes.get(headers.network_offset..).and_then(|ip| ip.first_chunk::<4>());
        match word.map(|word| u32::from_be_bytes(*word)) {
            // As Linux: no label of theirs is none of ours.
            Some(word) if word >> 28 == 6 => Self::Fixed(word & MASK),
            _ => Self::OfFlow,
        }
    }

    /// Takes another path (Linux's `sk_rethink_txhash`).
    pub(crate) fn rethink(&mut self, core: &Core) {
        if !matches!(self, Self::Fixed(_)) {
            // The lower half.
            *self = Self::Rethought((core.secrets.random() & u64::from(u32::MAX)) as u32);
        }
    }
}

/// Whether labels are made where nobody asked for one, for a socket that said `own` about it.
fn is_automatic(core: &Core, own: Option<bool>) -> bool {
    match core.flow_labels() & AUTO {
        0 => false,
        3 => true,
        default => own.unwrap_or(default == 1),
    }
}

fn of_hash(core: &Core, hash: u64) -> u32 {
    // Never zero, which is no label: Linux then asks the hash again.
    let label = ((hash >> 20 ^ hash) & u64::from(MASK)).max(1) as u32;
    if core.flow_labels() & MARKED != 0 { label | STATELESS } else { label }
}

/// The label of the answer to an echo request that had one.
pub(crate) fn of_echo(core: &Core, received: u32) -> Option<u32> {
    (core.flow_labels() & ECHO != 0 && received != 0).then_some(received)
}

/// Whether labels of segments from `remote` are looked at.
#[inline]
pub(crate) fn reflects(core: &Core, remote: IpAddr) -> bool {
    core.flow_labels() & (STREAMS | RESETS) != 0 && remote.is_ipv6()
}

/// The 20 bits of a label.
pub(crate) const MASK: u32 = 0xf_ffff;
/// Linux's `IPV6_FLOWLABEL_STATELESS_FLAG`: the half of the labels that `flowlabel_state_ranges` leaves to hashes.
const STATELESS: u32 = 0x8_0000;
const AUTO: u8 = 3;
const MARKED: u8 = 4;
const ECHO: u8 = 8;
const STREAMS: u8 = 16;
const RESETS: u8 = 32;
