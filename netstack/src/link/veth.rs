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
    inbox: Arc<Inbox>,
    peer: RwLock<Weak<Self>>,
}

impl VethLink {
    /// Makes both ends. Add each to its stack as a NIC and then [`attach`](Self::attach) it.
    pub fn pair(mtu: usize, macs: [MacAddr; 2]) -> [Arc<Self>; 2] {
        let ends =
            macs.map(|mac| Arc::new(Self { mac, mtu, inbox: Arc::default(), peer: RwLock::default() }));
        *ends[0].peer.write() = Arc::downgrade(&ends[1]);
        *ends[1].peer.write() = Arc::downgrade(&ends[0]);
        ends
    }

    /// The other end, as long as it exists.
    pub fn peer(&self) -> Option<Arc<Self>> {
        self.peer.read().upgrade()
    }

    /// Tells the end which NIC it belongs to; before that, frames from the other end are refused. An end that moves to
    /// another stack is told again.
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
        // As Linux (____dev_forward_skb, skb_scrub_packet): what a sender says of its packets stays in its namespace.
        let is_abroad = !self.inbox.is_of_same_stack(&peer.inbox);
        for packet in packets.iter_mut() {
            packet.meta.priority = 0;
            if is_abroad {
                packet.meta.mark = 0;
            }
        }
        peer.inbox.send(packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::channel::ChannelLink;
    use crate::options::{Family, RecvFlags, SendMeta};
    use crate::route::Route;
    use crate::{IpCidr, TcpSocket, UdpSocket};

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
    fn marks_and_priorities_stay_in_the_stack() {
        let ends = VethLink::pair(1500, [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])]);
        let (a, b) = (host(&ends[0], "10.0.0.1/24"), host(&ends[1], "10.0.0.2/24"));
        let (near, far) = (UdpSocket::new(&a, Family::V4), UdpSocket::new(&b, Family::V4));
        near.bind("10.0.0.1:7".parse().unwrap()).unwrap();
        far.bind("10.0.0.2:7".parse().unwrap()).unwrap();
        let sender = UdpSocket::new(&a, Family::V4);
        sender.set_options(|options| (options.mark, options.priority) = (7, 5));
        for (to, socket, tags) in [("10.0.0.1:7", &near, (7, 5)), ("10.0.0.2:7", &far, (0, 0))] {
            let plain = SendMeta { to: Some(to.parse().unwrap()), ..SendMeta::default() };
            let meta = SendMeta { mark: Some(9), priority: Some(6), ..plain.clone() };
            let other = if tags == (0, 0) { tags } else { (9, 6) };
            // The third one is sent as the first.
            for (meta, tags) in [(&plain, tags), (&meta, other), (&plain, tags)] {
                sender.try_send(&mut &b"abc"[..], meta).unwrap();
                let datagram = socket.try_recv(&mut Vec::new(), RecvFlags::default()).unwrap();
                assert_eq!((datagram.mark, datagram.priority), tags, "{to}");
            }
        }
    }

    /// A router between a cable, which takes everything whole, and a link that finishes and cuts nothing.
    #[test]
    fn what_a_cable_left_open_is_finished_behind_a_router() {
        let ends = VethLink::pair(1500, [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])]);
        let (a, router) = (host(&ends[0], "10.0.0.1/24"), host(&ends[1], "10.0.0.2/24"));
        let inside = router.nic_by_name("veth0").unwrap();
        router.set_nic_options(inside, |options| options.forwards_v4 = true).unwrap();
        let b = Stack::builder().manual_clock().deterministic(1).build();
        let [left, right] = [(&router, 3), (&b, 4)].map(|(stack, number)| {
            let mac = MacAddr([2, 0, 0, 0, 0, number]);
            let link = ChannelLink::new(Medium::Ethernet(mac), 1500, Capabilities::default(), 1000);
            let nic = stack.add_nic("eth0", Arc::clone(&link) as Arc<dyn Link>).unwrap();
            stack.add_address(nic, format!("10.0.1.{number}/24").parse::<IpCidr>().unwrap()).unwrap();
            (link, nic)
        });
        router.set_nic_options(left.1, |options| options.forwards_v4 = true).unwrap();
        for (stack, via) in [(&a, "10.0.0.2"), (&b, "10.0.1.3")] {
            let nic = stack.nics().last().unwrap().id;
            let everywhere = "0.0.0.0/0".parse::<IpCidr>().unwrap();
            stack.add_route(Route::via(everywhere, via.parse().unwrap(), nic)).unwrap();
        }
        let listener = TcpSocket::new(&b, Family::V4);
        listener.bind("10.0.1.4:80".parse().unwrap()).unwrap();
        listener.listen(1).unwrap();
        let client = TcpSocket::new(&a, Family::V4);
        let _ = client.connect("10.0.1.4:80".parse().unwrap());
        let carry = || {
            for _ in 0..100 {
                let there = left.0.take();
                assert!(there.iter().all(|packet| packet.len() <= 1514 && packet.meta.gso.is_none()));
                b.deliver(right.1, &mut there.into_iter().map(plain).collect());
                router.deliver(left.1, &mut right.0.take().into_iter().map(plain).collect());
            }
        };
        carry();
        let (server, _) = listener.try_accept().unwrap();
        let (data, mut received) = (vec![7; 50_000], Vec::new());
        let mut sent = 0;
        while received.len() < data.len() {
            sent += client.try_send(&mut &data[sent..]).unwrap_or(0);
            carry();
            while server.try_recv(&mut received, RecvFlags::default()).is_ok() {}
        }
        assert_eq!(received, data);
    }

    /// A frame as it comes from a wire.
    fn plain(packet: Packet) -> Packet {
        Packet::from_frame(packet.to_vec().into())
    }

    #[test]
    fn a_lost_end_is_gone() {
        let [a, b] = VethLink::pair(1500, [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])]);
        assert_eq!(a.send_batch(&mut [Packet::default()]), Err(LinkError::Down));
        drop(b);
        assert_eq!(a.send_batch(&mut [Packet::default()]), Err(LinkError::Gone));
    }
}
