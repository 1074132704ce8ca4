//! A learning bridge (IEEE 802.1D, without spanning tree) between any number of stacks of one process.
//!
//! A port is a link for the NIC of one stack, or a NIC that the bridge takes the frames of and sends frames through (a
//! [`BridgeMember`]). A frame is processed by the receiving stacks on the sender's thread, as over a
//! [`VethLink`](super::veth::VethLink). There is no spanning tree: frames that went through too many bridges are dropped.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::sync::{Mutex, RwLock};
use netstack_wire::ethernet::MacAddr;

use crate::error::ConfigError;
use crate::link::inbox::Inbox;
use crate::link::{Capabilities, FrameTap, Link, LinkError, Medium};
use crate::nic::NicId;
use crate::packet::Packet;
use crate::stack::{Core, Stack};
use crate::time::Instant;

/// The bridge. It lives as long as a port of it does.
pub struct Bridge {
    mtu: usize,
    is_off: AtomicBool,
    ports: RwLock<Ports>,
    /// Where a station was seen last.
    stations: Mutex<HashMap<MacAddr, Station>>,
}

#[derive(Default)]
struct Ports {
    next: PortNumber,
    open: HashMap<PortNumber, Exit<Weak<BridgePort>, Weak<BridgeMember>>>,
}

/// How frames leave the bridge: to a stack, or to a link.
enum Exit<P, M> {
    Port(P),
    Member(M),
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
    inbox: Arc<Inbox>,
    /// For its clock; none before the port is attached.
    core: RwLock<Weak<Core>>,
}

impl Bridge {
    /// Makes a bridge without ports, for IP packets of at most `mtu` bytes.
    pub fn new(mtu: usize) -> Arc<Self> {
        Arc::new(Self {
            mtu,
            is_off: AtomicBool::new(false),
            ports: RwLock::default(),
            stations: Mutex::default(),
        })
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
            inbox: Arc::default(),
            core: RwLock::default(),
        });
        ports.open.insert(number, Exit::Port(Arc::downgrade(&port)));
        port
    }

    /// Makes a NIC of an Ethernet link a port: the bridge takes all of its frames until the member is dropped.
    pub fn add_member(self: &Arc<Self>, stack: &Stack, nic: NicId) -> Result<Arc<BridgeMember>, ConfigError> {
        stack.nic(nic).ok_or(ConfigError::NoSuchNic)?.mac().ok_or(ConfigError::Invalid)?;
        let member = {
            let mut ports = self.ports.write();
            let number = ports.next;
            ports.next += 1;
            let member = Arc::new(BridgeMember {
                number,
                bridge: Arc::clone(self),
                core: Arc::downgrade(&stack.core),
                nic,
            });
            ports.open.insert(number, Exit::Member(Arc::downgrade(&member)));
            member
        };
        let tap: Weak<BridgeMember> = Arc::downgrade(&member);
        stack.set_frame_tap(nic, Some(Arc::new(MemberTap(tap))))?;
        Ok(member)
    }

    /// Turns the bridge on or off. One that is off loses all frames; a new one is on.
    pub fn set_on(&self, is_on: bool) {
        self.is_off.store(!is_on, Ordering::Relaxed);
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

    fn port(&self, number: PortNumber) -> Option<Exit<Arc<BridgePort>, Arc<BridgeMember>>> {
        self.ports.read().open.get(&number)?.upgrade()
    }

    fn others(&self, number: PortNumber) -> Vec<Exit<Arc<BridgePort>, Arc<BridgeMember>>> {
        let ports = self.ports.read();
        let others = ports.open.iter().filter(|(other, _)| **other != number);
        let mut others: Vec<_> =
            others.filter_map(|(number, port)| Some((*number, port.upgrade()?))).collect();
        // The order of a hash table differs between runs, and simulations repeat.
        others.sort_by_key(|(number, _)| *number);
        others.into_iter().map(|(_, port)| port).collect()
    }

    /// Carries frames. A port whose queue is full loses them, as in any switch.
    fn forward(&self, from: PortNumber, frames: impl Iterator<Item = Packet>, now: Instant) {
        if self.is_off.load(Ordering::Relaxed) {
            return;
        }
        // What goes to one port in a row goes there together.
        let (mut run, mut run_to) = (Vec::new(), None);
        for mut frame in frames {
            frame.meta.bridges = frame.meta.bridges.saturating_add(1);
            let Some(header) = addresses(&frame).filter(|_| frame.meta.bridges <= MAX_BRIDGES) else {
                continue;
            };
            // IEEE 802.1D table 7-10: addresses that bridges do not relay.
            if header[0].0[..5] == [0x01, 0x80, 0xc2, 0, 0] && header[0].0[5] < 0x10 {
                continue;
            }
            let to = self.learn(from, header, now);
            if run_to != to {
                self.send_run(run_to.take(), &mut run);
            }
            match to {
                Some(to) if to == from => {}
                Some(to) => {
                    run_to = Some(to);
                    run.push(frame);
                }
                None => self.others(from).iter().for_each(|port| port.send(&mut vec![frame.clone()])),
            }
        }
        self.send_run(run_to, &mut run);
    }

    fn send_run(&self, to: Option<PortNumber>, frames: &mut Vec<Packet>) {
        if let Some(port) = to.and_then(|to| self.port(to)) {
            port.send(frames);
        }
        frames.clear();
    }

    fn close(&self, number: PortNumber) {
        self.ports.write().open.remove(&number);
        self.stations.lock().retain(|_, station| station.port != number);
    }
}

impl Exit<Weak<BridgePort>, Weak<BridgeMember>> {
    fn upgrade(&self) -> Option<Exit<Arc<BridgePort>, Arc<BridgeMember>>> {
        match self {
            Self::Port(port) => port.upgrade().map(Exit::Port),
            Self::Member(member) => member.upgrade().map(Exit::Member),
        }
    }
}

impl Exit<Arc<BridgePort>, Arc<BridgeMember>> {
    /// Gives frames to the port, and forgets them.
    fn send(&self, frames: &mut Vec<Packet>) {
        match self {
            Self::Port(port) => {
                // A full queue loses what comes.
                let _ = port.inbox.send(frames);
                frames.clear();
            }
            Self::Member(member) => member.transmit(frames),
        }
    }
}

/// A NIC that is a port of a bridge.
pub struct BridgeMember {
    number: PortNumber,
    bridge: Arc<Bridge>,
    core: Weak<Core>,
    nic: NicId,
}

impl BridgeMember {
    fn transmit(&self, frames: &mut Vec<Packet>) {
        match self.core.upgrade() {
            Some(core) => Stack { core }.transmit(self.nic, frames),
            None => frames.clear(),
        }
    }
}

impl Drop for BridgeMember {
    fn drop(&mut self) {
        self.bridge.close(self.number);
        if let Some(core) = self.core.upgrade() {
            // The NIC may be gone.
            let _ = Stack { core }.set_frame_tap(self.nic, None);
        }
    }
}

/// What the stack of a member knows of it.
struct MemberTap(Weak<BridgeMember>);

impl FrameTap for MemberTap {
    fn wants(&self, _: &Packet) -> bool {
        true
    }

    fn receive(&self, frames: &mut Vec<Packet>) {
        let Some(member) = self.0.upgrade() else { return };
        let Some(core) = member.core.upgrade() else { return };
        member.bridge.forward(member.number, frames.drain(..), core.clock.now());
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
        self.bridge.forward(self.number, packets.iter_mut().map(std::mem::take), now);
        Ok(packets.len())
    }
}

impl Drop for BridgePort {
    fn drop(&mut self) {
        self.bridge.close(self.number);
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

/// Frames that went through more bridges go round in circles.
const MAX_BRIDGES: u8 = 64;

/// IEEE 802.1D's default ageing time.
const AGEING: Duration = Duration::from_secs(300);
/// Beyond that many, unknown stations are flooded rather than learnt: a sender of made-up addresses costs time, not memory.
const MAX_STATIONS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IpCidr;
    use crate::UdpSocket;
    use crate::link::veth::VethLink;
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

    /// A router with a bridge of its own, `br0` with 10.0.0.254, and two hosts at cables that are its members.
    #[test]
    fn members_are_ports_whose_frames_do_not_reach_their_own_stack() {
        let bridge = Bridge::new(1500);
        let (router, _) = host(&bridge, 254);
        let mut members = Vec::new();
        let hosts: Vec<_> = (1..=2)
            .map(|number| {
                let [near, far] = VethLink::pair(1500, [mac(number), mac(100 + number)]);
                let nic =
                    router.add_nic(&format!("veth{number}"), Arc::clone(&far) as Arc<dyn Link>).unwrap();
                far.attach(&router, nic);
                members.push(bridge.add_member(&router, nic).unwrap());
                let stack = Stack::builder().manual_clock().deterministic(number.into()).build();
                let own = stack.add_nic("eth0", Arc::clone(&near) as Arc<dyn Link>).unwrap();
                near.attach(&stack, own);
                stack.add_address(own, format!("10.0.0.{number}/24").parse::<IpCidr>().unwrap()).unwrap();
                stack
            })
            .collect();
        assert!(talk(&hosts[0], &hosts[1], "10.0.0.2:9"));
        assert!(talk(&hosts[1], &router, "10.0.0.254:9"));
        bridge.set_on(false);
        assert!(!talk(&hosts[0], &hosts[1], "10.0.0.2:10"));
        bridge.set_on(true);
        members.clear();
        assert!(!talk(&hosts[0], &hosts[1], "10.0.0.2:11"));
    }

    /// Both ends of a cable in one bridge: what is flooded would go round for ever.
    #[test]
    fn a_loop_ends() {
        let bridge = Bridge::new(1500);
        let (router, _) = host(&bridge, 1);
        let ends = VethLink::pair(1500, [mac(11), mac(12)]);
        let members: Vec<_> = ends
            .iter()
            .enumerate()
            .map(|(index, end)| {
                let nic = router.add_nic(&format!("veth{index}"), Arc::clone(end) as Arc<dyn Link>).unwrap();
                end.attach(&router, nic);
                bridge.add_member(&router, nic).unwrap()
            })
            .collect();
        assert!(!talk(&router, &router, "10.0.0.2:9"));
        drop(members);
    }

    fn talk(from: &Stack, to: &Stack, address: &str) -> bool {
        let [sender, receiver] = [from, to].map(|stack| UdpSocket::new(stack, Family::V4));
        let _ = receiver.bind(address.parse().unwrap());
        sender.connect(address.parse().unwrap()).unwrap();
        let mut buffer = [0; 8];
        sender.try_send(&mut &b"hello"[..], &SendMeta::default()).unwrap();
        receiver.try_recv(&mut &mut buffer[..], RecvFlags::default()).is_ok()
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
