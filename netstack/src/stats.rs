//! Counters. Every discarded packet has a reason here; the names follow the SNMP MIBs where those have one.

use std::sync::atomic::{AtomicU64, Ordering};

/// One counter. Relaxed: each is an independent value that only ever grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares a struct of counters and the plain struct of values that a reader gets.
macro_rules! counters {
    ($(#[$doc:meta])* $live:ident => $(#[$snapshot_doc:meta])* $snapshot:ident {
        $($(#[$field_doc:meta])* $field:ident,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $live {
            $(pub(crate) $field: Counter,)*
        }

        impl $live {
            /// Reads all counters, one after the other.
            pub(crate) fn snapshot(&self) -> $snapshot {
                let Self { $($field,)* } = self;
                $snapshot { $($field: $field.get(),)* }
            }
        }

        $(#[$snapshot_doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $snapshot {
            $($(#[$field_doc])* pub $field: u64,)*
        }

        impl $snapshot {
            /// The counters with their names, in the order of declaration.
            pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> {
                let Self { $($field,)* } = *self;
                [$((stringify!($field), $field),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Live counters of a NIC.
    NicCounters =>
    /// What a NIC counted.
    NicStats {
        /// Packets received.
        rx_packets,
        /// Bytes received, link headers included.
        rx_bytes,
        /// Packets received for a group.
        rx_multicast,
        /// Packets dropped on arrival because the NIC is down.
        rx_dropped_down,
        /// Frames for another station.
        rx_dropped_other_host,
        /// Frames too short for the headers they announce, or with other nonsense.
        rx_dropped_malformed,
        /// Frames of an unknown protocol.
        rx_dropped_unknown_protocol,
        /// Packets sent.
        tx_packets,
        /// Bytes sent, link headers included.
        tx_bytes,
        /// Packets the link refused because its queue is full.
        tx_dropped_full,
        /// Packets dropped because the NIC or the link is down.
        tx_dropped_down,
        /// Packets the link refused as too large.
        tx_dropped_too_large,
        /// Packets dropped because the next hop could not be resolved.
        tx_dropped_unresolved,
        /// Packets dropped because too many wait for a resolution.
        tx_dropped_resolution_queue,
        /// ARP requests and neighbour solicitations sent.
        neighbour_probes_sent,
        /// Resolutions that failed.
        neighbour_failures,
    }
}
