//! What is measured.

use clap::ValueEnum;

use crate::{ours, peer};

/// Two stacks with open sockets, ready to do the operations of one scenario.
pub(crate) trait Pair {
    /// Does about `count` operations and returns how many there were.
    fn run(&mut self, count: u64) -> u64;
}

/// Whose stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StackKind {
    Ours,
    Smoltcp,
}

/// What is measured. One operation of a bulk scenario is [`PACKET`] bytes that reached the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// A stream at MTU 1500.
    Bulk,
    /// The same without checksums.
    BulkUnchecked,
    /// A stream of segments of 64 KiB, without checksums.
    BulkSuper,
    /// One byte there and one back on an open connection.
    RoundTrip,
    /// A connection, opened and closed in order.
    Connection,
    /// A datagram of 64 bytes, in bursts of 32 that are sent and received with one call each.
    Datagram,
    /// The same with a call for each datagram.
    DatagramSingle,
}

/// The payload of a full segment with timestamps at MTU 1500.
pub(crate) const PACKET: u64 = 1448;

impl Scenario {
    pub(crate) const ALL: [Self; 7] = [
        Self::Bulk,
        Self::BulkUnchecked,
        Self::BulkSuper,
        Self::RoundTrip,
        Self::Connection,
        Self::Datagram,
        Self::DatagramSingle,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::BulkUnchecked => "bulk-unchecked",
            Self::BulkSuper => "bulk-super",
            Self::RoundTrip => "round-trip",
            Self::Connection => "connection",
            Self::Datagram => "datagram",
            Self::DatagramSingle => "datagram-single",
        }
    }

    pub(crate) fn open(self, stack: StackKind) -> Box<dyn Pair> {
        match stack {
            StackKind::Ours => ours::open(self),
            StackKind::Smoltcp => peer::open(self),
        }
    }

    /// A rate as people write it: the value and its unit.
    pub(crate) fn readable(self, per_second: f64) -> (f64, &'static str) {
        match self {
            // PACKET is small.
            Self::Bulk | Self::BulkUnchecked | Self::BulkSuper => {
                (per_second * PACKET as f64 * 8.0 / 1e9, "Gbit/s")
            }
            Self::RoundTrip | Self::Connection | Self::Datagram | Self::DatagramSingle => {
                (per_second / 1e3, "k/s")
            }
        }
    }

    /// How many operations a count of instructions spans.
    pub(crate) fn work(self) -> u64 {
        match self {
            Self::Bulk | Self::BulkUnchecked => 20_000,
            Self::BulkSuper => 100_000,
            Self::RoundTrip | Self::Datagram | Self::DatagramSingle => 5_000,
            Self::Connection => 1_000,
        }
    }
}
