//! A virtual cable between two stacks of one process, or two NICs of one stack.

use std::sync::{Arc, Weak};

use netstack_wire::ethernet::MacAddr;
use parking_lot::{Mutex, RwLock};

use crate::link::{Capabilities, Link, LinkError, Medium};
use crate::nic::NicId;
use crate::packet::{Checksum, Packet};
use crate::stack::{Core, Stack};

/// One end of a cable.
///
/// Frames reach the other stack on the sender's thread: its call to `send_batch` returns when the far stack has processed
/// them. The far stack's answers come back on the same thread, one level deep: an end that is being delivered to only
/// queues what comes meanwhile, and the deliverer takes it when it is done. Super-segments and unfinished checksums pass
/// as they are.
pub struct VethLink {
    mac: MacAddr,
    mtu: usize,
    /// Where frames from the other end go.
    home: RwLock<Option<Home>>,
    peer: RwLock<Weak<Self>>,
    inbox: Mutex<Inbox>,
}

struct Home {
    /// Weak: the stack owns the link.
    core: Weak<Core>,
    nic: NicId,
}

#[derive(Default)]
struct Inbox {
    frames: Vec<Packet>,
    /// Some thread delivers frames here and will look again.
    is_delivering: bool,
}

impl VethLink {
    /// Makes both ends. Add each to its stack as a NIC and then [`attach`](Self::attach) it.
    pub fn pair(mtu: usize, macs: [MacAddr; 2]) -> [Arc<Self>; 2] {
        let ends = macs.map(|mac| {
            Arc::new(Self {
                mac,
                mtu,
                home: RwLock::default(),
                peer: RwLock::default(),
                inbox: Mutex::default(),
            })
        });
        *ends[0].peer.write() = Arc::downgrade(&ends[1]);
        *ends[1].peer.write() = Arc::downgrade(&ends[0]);
        ends
    }

    /// Tells the end which NIC it belongs to; before that, frames from the other end are refused.
    pub fn attach(&self, stack: &Stack, nic: NicId) {
        *self.home.write() = Some(Home { core: Arc::downgrade(&stack.core), nic });
    }

    /// Delivers what waits here, unless somebody is at it.
    fn deliver(&self) {
        let home = self.home.read().as_ref().and_then(|home| Some((home.core.upgrade()?, home.nic)));
        let Some((core, nic)) = home else { return };
        let stack = Stack { core };
        loop {
            let mut frames = {
                let mut inbox = self.inbox.lock();
                if inbox.is_delivering || inbox.frames.is_empty() {
                    return;
                }
                inbox.is_delivering = true;
                std::mem::take(&mut inbox.frames)
            };
            stack.deliver(nic, &mut frames);
            self.inbox.lock().is_delivering = false;
        }
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
        Capabilities {
            tx_checksum: true,
            rx_checksum_trusted: false,
            gso_max_v4: 65_535,
            gso_max_v6: 65_535,
            gso_max_udp: 0,
        }
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        let peer = self.peer.read().upgrade().ok_or(LinkError::Gone)?;
        if peer.home.read().is_none() {
            return Err(LinkError::Down);
        }
        let taken = {
            let mut inbox = peer.inbox.lock();
            let taken = BACKLOG.saturating_sub(inbox.frames.len()).min(packets.len());
            for packet in &mut packets[..taken] {
                let mut frame = std::mem::take(packet);
                // The bytes stay in the process, so an unfinished checksum is as good as a right one. A finished one
                // comes from a wrapper that may have damaged the frame, and is looked at.
                if frame.meta.checksum != Checksum::Plain {
                    frame.meta.checksum = Checksum::Verified;
                }
                inbox.frames.push(frame);
            }
            taken
        };
        peer.deliver();
        if taken == 0 && !packets.is_empty() { Err(LinkError::Full) } else { Ok(taken) }
    }
}

/// Linux's `net.core.netdev_max_backlog`.
const BACKLOG: usize = 1000;

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
