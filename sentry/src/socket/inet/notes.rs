//! Small numbers that an internet socket keeps beside the stack's options.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use netstack::NicId;
use netstack::options::Family;

/// Independent values: relaxed ordering is enough.
#[derive(Debug, Default)]
pub struct Notes {
    backlog: AtomicU32,
    transmit_delay: AtomicI32,
    unicast_nics: [AtomicU32; 2],
    peer_label: AtomicU32,
    stamp_id: AtomicU32,
}

impl Notes {
    /// As asked for with listen(2), within `net.core.somaxconn`.
    #[must_use]
    pub fn backlog(&self) -> u32 {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Sets what [`backlog`](Self::backlog) shows.
    pub fn set_backlog(&self, backlog: u32) {
        self.backlog.store(backlog, Ordering::Relaxed);
    }

    /// `TCP_TX_DELAY` in microseconds, only shown.
    #[must_use]
    pub fn transmit_delay(&self) -> i32 {
        self.transmit_delay.load(Ordering::Relaxed)
    }

    /// Sets `TCP_TX_DELAY`.
    pub fn set_transmit_delay(&self, micros: i32) {
        self.transmit_delay.store(micros, Ordering::Relaxed);
    }

    /// The index of the interface that unicast datagrams of `family` leave through if nothing else says; zero for any
    /// (`IP_UNICAST_IF`, `IPV6_UNICAST_IF`).
    #[must_use]
    pub fn unicast_nic(&self, family: Family) -> u32 {
        self.unicast_nics[usize::from(family == Family::V6)].load(Ordering::Relaxed)
    }

    /// Sets what [`unicast_nic`](Self::unicast_nic) shows.
    pub fn set_unicast_nic(&self, family: Family, index: u32) {
        self.unicast_nics[usize::from(family == Family::V6)].store(index, Ordering::Relaxed);
    }

    /// The interface for a datagram that names none itself; `to` tells where it goes.
    pub(super) fn nic_for(&self, to: impl FnOnce() -> Option<SocketAddr>) -> Option<NicId> {
        // Hardly a socket sets it: look at nothing else before.
        if self.unicast_nics.iter().all(|nic| nic.load(Ordering::Relaxed) == 0) {
            return None;
        }
        let to = to()?.ip().to_canonical();
        let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
        NicId::from_index(self.unicast_nic(family)).filter(|_| !to.is_multicast() && !to.is_loopback())
    }

    /// The number of the next datagram whose times are told (`SOF_TIMESTAMPING_OPT_ID`).
    pub(super) fn take_stamp_id(&self) -> u32 {
        self.stamp_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Gives back the number of a datagram that was not sent.
    pub(super) fn untake_stamp_id(&self) {
        self.stamp_id.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts from zero again.
    pub fn restart_stamp_ids(&self) {
        self.stamp_id.store(0, Ordering::Relaxed);
    }

    /// The flow label in the address that the socket was last connected to.
    #[must_use]
    pub fn peer_label(&self) -> u32 {
        self.peer_label.load(Ordering::Relaxed)
    }

    /// Notes the label of an address that is connected to.
    pub(super) fn note_label(&self, remote: SocketAddr) {
        if let SocketAddr::V6(remote) = remote {
            self.peer_label.store(remote.flowinfo(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_for_unicast_of_their_family_to_others() {
        let notes = Notes::default();
        let to = |text: &str| Some(text.parse().unwrap());
        assert_eq!(notes.nic_for(|| to("10.0.0.1:1")), None);
        notes.set_unicast_nic(Family::V4, 3);
        assert_eq!(notes.nic_for(|| to("10.0.0.1:1")), NicId::from_index(3));
        assert_eq!(notes.nic_for(|| to("[::ffff:10.0.0.1]:1")), NicId::from_index(3));
        for other in ["127.0.0.1:1", "224.0.0.5:1", "[2001:db8::1]:1"] {
            assert_eq!(notes.nic_for(|| to(other)), None, "{other}");
        }
        assert_eq!(notes.nic_for(|| None), None);
    }
}
