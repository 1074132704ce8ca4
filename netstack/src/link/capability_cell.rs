//! What a link does, for the packet path: read with each packet, and changed hardly ever.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::link::Capabilities;

/// Capabilities that may change. Who reads meanwhile may see some of the old ones and some of the new ones; a link that
/// changes takes packets made for either.
pub(crate) struct CapabilityCell {
    tx_checksum: AtomicBool,
    rx_checksum_trusted: AtomicBool,
    gso_max_v4: AtomicU32,
    gso_max_v6: AtomicU32,
    gso_max_udp: AtomicU32,
}

impl CapabilityCell {
    pub(crate) fn new(capabilities: Capabilities) -> Self {
        let Capabilities { tx_checksum, rx_checksum_trusted, gso_max_v4, gso_max_v6, gso_max_udp } =
            capabilities;
        Self {
            tx_checksum: AtomicBool::new(tx_checksum),
            rx_checksum_trusted: AtomicBool::new(rx_checksum_trusted),
            gso_max_v4: AtomicU32::new(gso_max_v4),
            gso_max_v6: AtomicU32::new(gso_max_v6),
            gso_max_udp: AtomicU32::new(gso_max_udp),
        }
    }

    /// The fields that are not used cost nothing.
    #[inline]
    pub(crate) fn get(&self) -> Capabilities {
        Capabilities {
            tx_checksum: self.tx_checksum.load(Ordering::Relaxed),
            rx_checksum_trusted: self.rx_checksum_trusted.load(Ordering::Relaxed),
            gso_max_v4: self.gso_max_v4.load(Ordering::Relaxed),
            gso_max_v6: self.gso_max_v6.load(Ordering::Relaxed),
            gso_max_udp: self.gso_max_udp.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn set(&self, capabilities: Capabilities) {
        let Capabilities { tx_checksum, rx_checksum_trusted, gso_max_v4, gso_max_v6, gso_max_udp } =
            capabilities;
        self.tx_checksum.store(tx_checksum, Ordering::Relaxed);
        self.rx_checksum_trusted.store(rx_checksum_trusted, Ordering::Relaxed);
        self.gso_max_v4.store(gso_max_v4, Ordering::Relaxed);
        self.gso_max_v6.store(gso_max_v6, Ordering::Relaxed);
        self.gso_max_udp.store(gso_max_udp, Ordering::Relaxed);
    }
}
