//! The queue of a forwarder: what waits for the program, and which TCP flows it still has to decide about.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use crate::sync::Mutex;
use netstack_wire::icmpv4;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::TcpFlags;
use netstack_wire::udp::{self, UdpRepr};

use crate::forward::request::{EchoAsked, SynAsked, UdpAsked};
use crate::forward::{EchoRequest, ForwardOptions, Forwarded, Request, TcpRequest, UdpRequest};
use crate::ip::{Egress, IpMeta, RouteQuery, Rx};
use crate::nic::NicId;
use crate::packet::{self, Body, Packet};
use crate::stack::Core;
use crate::stats::Counter;
use crate::tcp::{Flow, SegmentIn};
use crate::wait::{Readiness, WaitQueue};

/// The part of a forwarder that its NIC knows.
pub(crate) struct ForwardEndpoint {
    pub(super) nic: NicId,
    options: ForwardOptions,
    pub(super) waiters: WaitQueue,
    dropped: Counter,
    state: Mutex<State>,
}

/// What the lock protects.
#[derive(Default)]
struct State {
    queue: VecDeque<Asked>,
    queued_bytes: usize,
    /// TCP flows that wait or were taken, and are not decided about: their SYN may come again.
    undecided: HashSet<Flow>,
}

/// A request without its handle.
pub(super) enum Asked {
    Tcp(SynAsked),
    Udp(UdpAsked),
    Echo(EchoAsked),
}

impl Asked {
    fn len(&self) -> usize {
        match self {
            Self::Tcp(_) => 0,
            Self::Udp(asked) => asked.payload.iter().map(bytes::Bytes::len).sum(),
            Self::Echo(asked) => asked.message.len(),
        }
    }
}

impl ForwardEndpoint {
    pub(super) fn new(nic: NicId, options: ForwardOptions) -> Self {
        let (waiters, dropped) = (WaitQueue::new(), Counter::default());
        Self { nic, options, waiters, dropped, state: Mutex::default() }
    }

    pub(super) fn next(self: &Arc<Self>, core: &Arc<Core>) -> Option<Request> {
        let asked = {
            let mut state = self.state.lock();
            let asked = state.queue.pop_front()?;
            state.queued_bytes -= asked.len();
            asked
        };
        let (core, endpoint) = (Arc::clone(core), Arc::clone(self));
        Some(match asked {
            Asked::Tcp(asked) => Request::Tcp(TcpRequest::new(core, endpoint, asked)),
            Asked::Udp(asked) => Request::Udp(UdpRequest::new(core, asked)),
            Asked::Echo(asked) => Request::Echo(EchoRequest::new(core, asked)),
        })
    }

    pub(super) fn readiness(&self) -> Readiness {
        if self.state.lock().queue.is_empty() { Readiness::empty() } else { Readiness::IN }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    /// The program has decided about a flow, or the handshake goes its own way.
    pub(super) fn settle(&self, flow: &Flow) {
        self.state.lock().undecided.remove(flow);
    }

    fn wants(&self, kind: Forwarded) -> bool {
        self.options.kinds.contains(kind)
    }

    fn push(&self, asked: Asked) {
        {
            let mut state = self.state.lock();
            let max = self.options.max_pending;
            let is_full = state.queue.len() >= max || state.queued_bytes >= MAX_QUEUED_BYTES;
            match &asked {
                // The SYN again.
                Asked::Tcp(asked) if state.undecided.contains(&asked.flow) => return,
                Asked::Tcp(asked) if !is_full && state.undecided.len() < max => {
                    state.undecided.insert(asked.flow);
                }
                Asked::Udp(_) | Asked::Echo(_) if !is_full => {}
                Asked::Tcp(_) | Asked::Udp(_) | Asked::Echo(_) => return self.dropped.increment(),
            }
            state.queued_bytes += asked.len();
            state.queue.push_back(asked);
        }
        self.waiters.notify(Readiness::IN);
    }
}

/// Takes a segment that belongs to no connection and no listener; false if nobody here wants it either.
pub(crate) fn offer_syn(
    core: &Core,
    flow: &Flow,
    nic: NicId,
    segment: &SegmentIn,
    isn_above: Option<SeqNum>,
) -> bool {
    let flags = segment.repr.flags & (TcpFlags::SYN | TcpFlags::ACK | TcpFlags::RST | TcpFlags::FIN);
    if flags != TcpFlags::SYN {
        return false;
    }
    let Some(endpoint) = of_nic(core, nic, Forwarded::TCP) else { return false };
    endpoint.push(Asked::Tcp(SynAsked { flow: *flow, segment: segment.clone(), isn_above }));
    true
}

/// Takes a UDP datagram, or super-segment, that no socket wants; false if nobody here wants it either.
pub(crate) fn offer_datagram(rx: &Rx<'_>, ip: &IpMeta, header: &UdpRepr, packet: &Packet) -> bool {
    let Some(endpoint) = of_nic(rx.core, ip.nic, Forwarded::UDP) else { return false };
    let segment_size = packet.meta.gso.map(|gso| usize::from(gso.size)).filter(|&size| size > 0);
    let push = |payload: Body| {
        let (ip, header, packet) = (*ip, *header, packet.clone());
        endpoint.push(Asked::Udp(UdpAsked { ip, header, payload, packet }));
    };
    let whole = packet.clone().into_payload(ip.offset + udp::HEADER_LEN);
    match segment_size {
        None => push(whole),
        Some(size) => packet::cut(whole, size).into_iter().for_each(push),
    }
    true
}

/// Takes an echo request to an address that is not ours; false if nobody wants it.
pub(crate) fn offer_echo(rx: &Rx<'_>, ip: &IpMeta, ident: u16, sequence: u16, packet: &Packet) -> bool {
    let Some(endpoint) = of_nic(rx.core, ip.nic, Forwarded::ECHO) else { return false };
    let mut whole = packet.clone();
    let start = usize::from(packet.meta.l3_offset);
    whole.trim_front(start);
    let payload_at = ip.offset - start + icmpv4::HEADER_LEN;
    let message = whole.to_bytes();
    endpoint.push(Asked::Echo(EchoAsked { ip: *ip, ident, sequence, message, payload_at }));
    true
}

fn of_nic(core: &Core, nic: NicId, kind: Forwarded) -> Option<Arc<ForwardEndpoint>> {
    let endpoint = core.topology.load().interface(nic)?.forwarder()?;
    endpoint.wants(kind).then_some(endpoint)
}

/// The NIC with a forwarder that leads to `peer`, if one does: what comes from there may be for any of its addresses.
pub(crate) fn nic_towards(core: &Core, peer: IpAddr) -> Option<NicId> {
    let topology = core.topology.load();
    topology.nics.values().find(|entry| entry.interface.accepts_any())?;
    let query = RouteQuery { destination: peer, source: None, nic: None };
    let egress = Egress::resolve(core, query).ok()?;
    egress.interface.accepts_any().then_some(egress.interface.id)
}

/// The NIC that leads to the other end of what somebody here has sent from an address that is not ours.
pub(crate) fn nic_about(core: &Core, peer: IpAddr) -> Option<NicId> {
    let query = RouteQuery { destination: peer, source: None, nic: None };
    nic_towards(core, peer).or_else(|| Egress::resolve(core, query).ok().map(|egress| egress.interface.id))
}

impl std::fmt::Debug for ForwardEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForwardEndpoint").field("nic", &self.nic).finish_non_exhaustive()
    }
}

/// Bounds the memory of datagrams that wait.
const MAX_QUEUED_BYTES: usize = 4 << 20;
