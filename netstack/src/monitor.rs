//! Watching a stack's packets: what came and went, and why the stack did away with what it discarded.
//!
//! A packet socket sees packets, and counters say how many were discarded and why; neither says which packet it was. A
//! monitor is told both. While one is set, packets take no short cuts and are looked at one by one, so that a counter
//! that moves belongs to a packet; without one it costs nothing.
//!
//! ```
//! use std::sync::Arc;
//! use netstack::Stack;
//! use netstack::link::sniffer::{Direction, PcapWriter};
//! use netstack::monitor::PcapMonitor;
//!
//! let stack = Stack::builder().build();
//! let writer = PcapWriter::new(Box::new(Vec::new()), 96)?;
//! stack.set_packet_monitor(Some(Arc::new(PcapMonitor::new(writer))));
//! # Ok::<(), std::io::Error>(())
//! ```

mod discards;
mod flow;
mod pcap;

use std::sync::Arc;

use crate::link::Medium;
use crate::link::sniffer::Direction;
use crate::nic::NicId;
use crate::packet::Packet;

pub(crate) use discards::Watch;
pub use pcap::{Notes, PcapMonitor};

/// Is told of each packet. See [`Stack::set_packet_monitor`](crate::Stack::set_packet_monitor).
pub trait PacketMonitor: Send + Sync {
    /// A packet has come and was dealt with, or is about to leave. Called on the thread that carries the packet, with no
    /// lock held, in the order in which the thread has to do with them: an answer comes after what it answers.
    fn packet(&self, seen: &Seen<'_>);
}

/// A packet that a monitor sees.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// The NIC.
    pub nic: NicId,
    /// Its name.
    pub interface: &'a Arc<str>,
    /// What it carries.
    pub medium: Medium,
    /// Which way the packet goes. One on a loopback NIC is seen once, as it comes.
    pub direction: Direction,
    /// The packet from its link header on; of a loopback NIC or a tun device from its IP header. Super-segments are whole, and
    /// checksums that the link finishes are not finished.
    pub packet: &'a Packet,
    /// Names of the counters ([`StackStats`](crate::stats::StackStats), [`NicStats`](crate::stats::NicStats)) by which
    /// the stack discarded the packet; none if it did not. The first is the one nearest to the link.
    ///
    /// Only what the same thread discards at once: neither a fragment whose packet stays incomplete, nor a segment that waits for
    /// a socket that another thread works on. With more than seven threads that carry packets, those beyond the seventh
    /// share counters, and one may be told of another's discards.
    pub discarded: &'a [&'static str],
}
