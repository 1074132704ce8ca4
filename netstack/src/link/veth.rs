//! A virtual cable between two stacks of one process, or two NICs of one stack.

use std::sync::{Arc, Weak};

use crate::sync::RwLock;
use netstack_wire::ethernet::MacAddr;

use crate::link::inbox::Inbox;
use crate::link::{Capabilities, Link, LinkError, Medium};
use crate::nic::NicId;
use crate::packet::Packet;
use crate::stack::Stack;

/// One end of a cable.
///
/// Frames reach the other stack on the sender's thread: its call to `send_batch` returns when the far stack has processed
/// them. Super-segments and unfinished checksums pass as they are.
pub struct VethLink {
    mac: MacAddr,
    mtu: usize,
    /// Frames from the other end.
    inbox: Inbox,
    peer: RwLock<Weak<Self>>,
}

impl VethLink {
    /// Makes both ends. Add each to its stack as a NIC and then [`attach`](Self::attach) it.
    pub fn pair(mtu: usize, macs: [MacAddr; 2]) -> [Arc<Self>; 2] {
        let ends =
            macs.map(|mac| Arc::new(Self { mac, mtu, inbox: Inbox::default(), peer: RwLock::default() }));
        *ends[0].peer.write() = Arc::downgrade(&ends[1]);
        *ends[1].peer.write() = Arc::downgrade(&ends[0]);
        ends
    }

    /// Tells the end which NIC it belongs to; before that, frames from the other end are refused.
    pub fn attach(&self, stack: &Stack, nic: NicId) {
        self.inbox.attach(stack, nic);
    }
}

impl Link for VethLink {
    fn medium(&self) -> Medium {
        Medium::Ethernet(self.mac)
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::IN_PROCESS
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        let peer = self.peer.read().upgrade().ok_or(LinkError::Gone)?;
        peer.inbox.send(packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Family, RecvFlags};
    use crate::{IpCidr, TcpSocket};

    fn host(end: &Arc<VethLink>, address: &str) -> Stack {
        let stack = Stack::builder().manual_clock().deterministic(1).build();
        let nic = stack.add_nic("veth0", Arc::clone(end) as Arc<dyn Link>).unwrap();
        end.attach(&stack, nic);
        stack.add_address(nic, address.parse::<IpCidr>().unwrap()).unwrap();
        stack
    }

    #[test]
    fn a_connection_over_the_cable_runs_on_the_senders_thread() {
        let ends = VethLink::pair(1500, [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])]);
        let (a, b) = (host(&ends[0], "10.0.0.1/24"), host(&ends[1], "10.0.0.2/24"));
        let listener = TcpSocket::new(&b, Family::V4);
        listener.bind("10.0.0.2:80".parse().unwrap()).unwrap();
        listener.listen(1).unwrap();
        let client = TcpSocket::new(&a, Family::V4);
        client.connect("10.0.0.2:80".parse().unwrap()).unwrap();
        let (server, _) = listener.try_accept().unwrap();
        let data = vec![7; 100_000];
        let (mut sent, mut received) = (0, Vec::new());
        while sent < data.len() {
            sent += client.try_send(&mut &data[sent..]).unwrap();
            while server.try_recv(&mut received, RecvFlags::default()).is_ok() {}
        }
        assert_eq!(received, data);
    }

    #[test]
    fn a_lost_end_is_gone() {
        let [a, b] = VethLink::pair(1500, [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])]);
        assert_eq!(a.send_batch(&mut [Packet::default()]), Err(LinkError::Down));
        drop(b);
        assert_eq!(a.send_batch(&mut [Packet::default()]), Err(LinkError::Gone));
    }
}
