//! A learning bridge (IEEE 802.1D, without spanning tree) between any number of stacks of one process.
//!
//! Each port is a link for the NIC of one stack. A frame is processed by the receiving stacks on the sender's thread, as
//! over a [`VethLink`](super::veth::VethLink). Bridges cannot be connected to one another, so there are no loops.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::sync::{Mutex, RwLock};
use netstack_wire::ethernet::MacAddr;

use crate::link::inbox::Inbox;
use crate::link::{Capabilities, Link, LinkError, Medium};
use crate::nic::NicId;
use crate::packet::Packet;
use crate::stack::{Core, Stack};
use crate::time::Instant;

/// The bridge. It lives as long as a port of it does.
pub struct Bridge {
    mtu: usize,
    ports: RwLock<Ports>,
    /// Where a station was seen last.
    stations: Mutex<HashMap<MacAddr, Station>>,
}

#[derive(Default)]
struct Ports {
    next: PortNumber,
    open: HashMap<PortNumber, Weak<BridgePort>>,
}

type PortNumber = u32;

struct Station {
    port: PortNumber,
    seen: Instant,
}

/// A port of a bridge: the link of one NIC.
pub struct BridgePort {
    number: PortNumber,
    mac: MacAddr,
    bridge: Arc<Bridge>,
    /// Frames for the stack at this port.
    inbox: Inbox,
    /// For its clock; none before the port is attached.
    core: RwLock<Weak<Core>>,
}

impl Bridge {
    /// Makes a bridge without ports, for IP packets of at most `mtu` bytes.
    pub fn new(mtu: usize) -> Arc<Self> {
        Arc::new(Self { mtu, ports: RwLock::default(), stations: Mutex::default() })
    }

    /// Adds a port for a station with that address. Add it to a stack as a NIC and then [`attach`](BridgePort::attach) it.
    pub fn add_port(self: &Arc<Self>, mac: MacAddr) -> Arc<BridgePort> {
        let mut ports = self.ports.write();
        let number = ports.next;
        ports.next += 1;
        let port = Arc::new(BridgePort {
            number,
            mac,
            bridge: Arc::clone(self),
            inbox: Inbox::default(),
            core: RwLock::default(),
        });
        ports.open.insert(number, Arc::downgrade(&port));
        port
    }

    /// How many stations the bridge knows the port of.
    pub fn known_stations(&self) -> usize {
        self.stations.lock().len()
    }

    /// Notes where a frame came from, and says where it goes: to one port, or to all others if nobody knows.
    fn learn(&self, from: PortNumber, header: [MacAddr; 2], now: Instant) -> Option<PortNumber> {
        let [destination, source] = header;
        let mut stations = self.stations.lock();
        let is_station = !source.is_multicast();
        if is_station && stations.len() >= MAX_STATIONS && !stations.contains_key(&source) {
            stations.retain(|_, station| now - station.seen < AGEING);
        }
        if is_station && (stations.len() < MAX_STATIONS || stations.contains_key(&source)) {
            stations.insert(source, Station { port: from, seen: now });
        }
        if destination.is_multicast() {
            return None;
        }
        let known = stations.get(&destination).filter(|station| now - station.seen < AGEING);
        known.map(|station| station.port)
    }

    fn port(&self, number: PortNumber) -> Option<Arc<BridgePort>> {
        self.ports.read().open.get(&number)?.upgrade()
    }

    fn others(&self, number: PortNumber) -> Vec<Arc<BridgePort>> {
        let ports = self.ports.read();
        let others = ports.open.iter().filter(|(other, _)| **other != number);
        let mut others: Vec<_> = others.filter_map(|(_, port)| port.upgrade()).collect();
        // The order of a hash table differs between runs, and simulations repeat.
        others.sort_by_key(|port| port.number);
        others
    }

    /// Carries one frame. A port whose queue is full loses it, as in any switch.
    fn forward(&self, from: PortNumber, frame: Packet, now: Instant) {
        let Some(header) = addresses(&frame) else { return };
        match self.learn(from, header, now) {
            Some(to) if to == from => {}
            Some(to) => {
                if let Some(port) = self.port(to) {
                    let _ = port.inbox.send(&mut [frame]);
                }
            }
            None => {
                for port in self.others(from) {
                    let _ = port.inbox.send(&mut [frame.clone()]);
                }
            }
        }
    }
}

impl BridgePort {
    /// Tells the port which NIC it belongs to; before that it receives nothing.
    pub fn attach(&self, stack: &Stack, nic: NicId) {
        *self.core.write() = Arc::downgrade(&stack.core);
        self.inbox.attach(stack, nic);
    }
}

impl Link for BridgePort {
    fn medium(&self) -> Medium {
        Medium::Ethernet(self.mac)
    }

    fn mtu(&self) -> usize {
        self.bridge.mtu
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::IN_PROCESS
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        let core = self.core.read().upgrade().ok_or(LinkError::Down)?;
        let now = core.clock.now();
        for packet in &mut *packets {
            self.bridge.forward(self.number, std::mem::take(packet), now);
        }
        Ok(packets.len())
    }
}

impl Drop for BridgePort {
    fn drop(&mut self) {
        self.bridge.ports.write().open.remove(&self.number);
        self.bridge.stations.lock().retain(|_, station| station.port != self.number);
    }
}

/// Destination and source of a frame; `None` if it is too short for them.
fn addresses(frame: &Packet) -> Option<[MacAddr; 2]> {
    let mut bytes = [0; 12];
    if frame.copy_to(0, &mut bytes) < bytes.len() {
        return None;
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
    Some([MacAddr([a, b, c, d, e, f]), MacAddr([g, h, i, j, k, l])])
}

/// IEEE 802.1D's default ageing time.
const AGEING: Duration = Duration::from_secs(300);
/// Beyond that many, unknown stations are flooded rather than learnt: a sender of made-up addresses costs time, not memory.
const MAX_STATIONS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IpCidr;
    use crate::UdpSocket;
    use crate::options::{Family, RecvFlags, SendMeta};

    fn mac(number: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, number])
    }

    fn host(bridge: &Arc<Bridge>, number: u8) -> (Stack, NicId) {
        let port = bridge.add_port(mac(number));
        let stack = Stack::builder().manual_clock().deterministic(u64::from(number)).build();
        let nic = stack.add_nic("eth0", Arc::clone(&port) as Arc<dyn Link>).unwrap();
        port.attach(&stack, nic);
        stack.add_address(nic, format!("10.0.0.{number}/24").parse::<IpCidr>().unwrap()).unwrap();
        (stack, nic)
    }

    fn received(stack: &Stack, nic: NicId) -> u64 {
        stack.nic(nic).unwrap().stats.rx_packets
    }

    #[test]
    fn frames_to_a_known_station_reach_it_alone() {
        let bridge = Bridge::new(1500);
        let hosts: Vec<_> = (1..=3).map(|number| host(&bridge, number)).collect();
        let [(a, _), (b, _), (c, c_nic)] = &hosts[..] else { unreachable!() };
        let [sender, receiver] = [a, b].map(|stack| UdpSocket::new(stack, Family::V4));
        receiver.bind("10.0.0.2:9".parse().unwrap()).unwrap();
        sender.connect("10.0.0.2:9".parse().unwrap()).unwrap();
        let mut buffer = [0; 8];
        // The request for the address is a broadcast, and teaches the bridge who is where.
        sender.try_send(&mut &b"one"[..], &SendMeta::default()).unwrap();
        receiver.try_recv(&mut &mut buffer[..], RecvFlags::default()).unwrap();
        let before = received(c, *c_nic);
        assert!(before > 0);
        sender.try_send(&mut &b"two"[..], &SendMeta::default()).unwrap();
        let datagram = receiver.try_recv(&mut &mut buffer[..], RecvFlags::default()).unwrap();
        assert_eq!(&buffer[..datagram.copied], b"two");
        assert_eq!(received(c, *c_nic), before);
        assert_eq!(bridge.known_stations(), 2);
    }

    #[test]
    fn a_port_that_goes_takes_its_stations_along() {
        let bridge = Bridge::new(1500);
        let (a, b) = (host(&bridge, 1), host(&bridge, 2));
        let sender = UdpSocket::new(&a.0, Family::V4);
        sender.connect("10.0.0.2:9".parse().unwrap()).unwrap();
        sender.try_send(&mut &b"x"[..], &SendMeta::default()).unwrap();
        assert_eq!(bridge.known_stations(), 2);
        b.0.remove_nic(b.1).unwrap();
        assert_eq!(bridge.known_stations(), 1);
    }

    #[test]
    fn made_up_stations_cost_no_memory() {
        let bridge = Bridge::new(1500);
        let (stack, _) = host(&bridge, 1);
        let now = stack.now();
        for number in 0..2 * u32::try_from(MAX_STATIONS).unwrap() {
            let [a, b, c, d] = number.to_be_bytes();
            bridge.learn(0, [MacAddr::BROADCAST, MacAddr([2, 1, a, b, c, d])], now);
        }
        assert_eq!(bridge.known_stations(), MAX_STATIONS);
        bridge.learn(0, [MacAddr::BROADCAST, mac(1)], now + AGEING);
        assert_eq!(bridge.known_stations(), 1);
    }
}
