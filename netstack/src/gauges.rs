//! Gauges: what a stack holds at a moment. All are zero once everything that was opened has ended.

use crate::stack::Core;
use crate::tcp_endpoint::ListenEndpoint;

/// What a stack holds. Each figure is the length of the table itself, so none of them can drift.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// TCP connections in any state, TIME-WAIT included.
    pub tcp_connections: usize,
    /// TCP ports in use by sockets or connections.
    pub tcp_ports: usize,
    /// Handshakes under way at listeners.
    pub tcp_half_open: usize,
    /// Connections that wait to be accepted.
    pub tcp_accept_queue: usize,
    /// UDP ports in use.
    pub udp_ports: usize,
    /// Identifiers of ping sockets.
    pub ping_idents: usize,
    /// Entries of the timer queue.
    pub timers: usize,
    /// IP packets of which fragments are missing.
    pub reassemblies: usize,
    /// Bytes held for those, bookkeeping included.
    pub reassembly_bytes: usize,
    /// Packets that wait for a neighbour's address.
    pub waiting_packets: usize,
    /// Blocks of send buffers that hold data.
    pub send_blocks: usize,
}

impl Gauges {
    pub(crate) fn of(core: &Core) -> Self {
        let (v4, v6) = (core.reassembly_v4.usage(), core.reassembly_v6.usage());
        let topology = core.topology.load();
        Self {
            tcp_connections: core.tcp.len(),
            tcp_ports: core.tcp_ports.len(),
            tcp_half_open: core.tcp_ports.sum(|listener: &ListenEndpoint| listener.queue_lens().1),
            tcp_accept_queue: core.tcp_ports.sum(|listener| listener.queue_lens().0),
            udp_ports: core.udp.len(),
            ping_idents: core.ping.len(),
            timers: core.timers.len(),
            reassemblies: v4.0 + v6.0,
            reassembly_bytes: v4.1 + v6.1,
            waiting_packets: topology.nics.values().map(|nic| nic.interface.neighbours.waiting()).sum(),
            send_blocks: core.send_pool.shared_blocks(),
        }
    }

    /// The gauges with their names.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let Self {
            tcp_connections,
            tcp_ports,
            tcp_half_open,
            tcp_accept_queue,
            udp_ports,
            ping_idents,
            timers,
            reassemblies,
            reassembly_bytes,
            waiting_packets,
            send_blocks,
        } = *self;
        [
            ("tcp_connections", tcp_connections),
            ("tcp_ports", tcp_ports),
            ("tcp_half_open", tcp_half_open),
            ("tcp_accept_queue", tcp_accept_queue),
            ("udp_ports", udp_ports),
            ("ping_idents", ping_idents),
            ("timers", timers),
            ("reassemblies", reassemblies),
            ("reassembly_bytes", reassembly_bytes),
            ("waiting_packets", waiting_packets),
            ("send_blocks", send_blocks),
        ]
        .into_iter()
    }
}
