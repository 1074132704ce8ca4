//! The device that takes everything and does nothing (`dummy`).

use netstack::link::{Capabilities, Link, LinkError, Medium};
use netstack::packet::Packet;
use netstack::wire::ethernet::MacAddr;

/// Its link.
pub(super) struct DummyLink(pub(super) MacAddr);

impl Link for DummyLink {
    fn medium(&self) -> Medium {
        Medium::Ethernet(self.0)
    }

    fn mtu(&self) -> usize {
        1500
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::IN_PROCESS
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        Ok(packets.len())
    }
}
