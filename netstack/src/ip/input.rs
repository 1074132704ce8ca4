//! Input: from a link's frames to the transports.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use netstack_wire::ethernet::{self, EtherType, EthernetRepr, MacAddr};
use netstack_wire::ip::Protocol;

use crate::interface::Interface;
use crate::ip::{IpMeta, arp, group, icmp, input_v4, input_v6, pim_register, plain_input};
use crate::link::sniffer::Direction;
use crate::link::{FrameTap, Medium};
use crate::monitor::{PacketMonitor, Watch};
use crate::nic::NicId;
use crate::outbox::{Looped, LoopedBy, Outbox};
use crate::packet::{AddressedTo, Checksum, Packet};
use crate::socket;
use crate::stack::Core;
use crate::tcp_endpoint;
use crate::time::Instant;
use crate::topology::Topology;

/// What the receive path carries along.
pub(crate) struct Rx<'a> {
    pub(crate) core: &'a Arc<Core>,
    pub(crate) topology: &'a Topology,
    /// Of the topology, or an earlier one's.
    pub(crate) generation: u64,
    pub(crate) interface: &'a Arc<Interface>,
    pub(crate) now: Instant,
    pub(crate) outbox: &'a mut Outbox,
    /// The packet comes from ourselves and never was on a link.
    pub(crate) is_looped: bool,
    /// Source and destination of the last packet that was for us alone: those of a batch tend to be of one flow.
    pub(super) last_v4: Option<(Ipv4Addr, Ipv4Addr)>,
    /// The same for IPv6.
    pub(super) last_v6: Option<(Ipv6Addr, Ipv6Addr)>,
    pub(super) tally: Tally,
}

/// What a batch adds to the counters that each packet touches.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) in_receives: u64,
    pub(super) in_delivers: u64,
}

impl Tally {
    fn count(self, core: &Core) {
        let Self { in_receives, in_delivers } = self;
        core.counters.ip_in_receives.add(in_receives);
        core.counters.ip_in_delivers.add(in_delivers);
    }
}

/// Takes the frames of a link.
pub(crate) fn input(core: &Arc<Core>, nic: NicId, frames: &mut Vec<Packet>, outbox: &mut Outbox) {
    if let [frame] = &mut frames[..]
        && plain_input::take_single(core, nic, frame, outbox)
    {
        return frames.clear();
    }
    input_batch(core, nic, frames, outbox);
}

/// The same for any frames.
#[inline(never)]
fn input_batch(core: &Arc<Core>, nic: NicId, frames: &mut Vec<Packet>, outbox: &mut Outbox) {
    // Before the topology, so that what is found with it is never taken for newer than it is.
    let generation = core.topology.generation();
    let topology = core.topology.load();
    let Some(interface) = topology.interface(nic) else {
        frames.clear();
        return;
    };
    if !interface.is_up() {
        return refuse(core, interface, frames);
    }
    let now = outbox.now(core);
    interface.counters.rx_packets.add(frames.len() as u64);
    interface.counters.rx_bytes.add(frames.iter().map(|frame| frame.len() as u64).sum());
    if let Some(tap) = interface.tap() {
        give_to_tap(core, interface, &*tap, frames, now);
    }
    if let Some(monitor) = core.packet_sockets.monitor() {
        let mut rx = Rx::new(core, &topology, generation, interface, now, outbox);
        return rx.one_by_one(&*monitor, frames);
    }
    let mut rx = Rx::new(core, &topology, generation, interface, now, outbox);
    let count = frames.len();
    for (index, frame) in frames.iter_mut().enumerate() {
        if index + 1 == count {
            rx.outbox.begin_last();
        }
        if !plain_input::take(&mut rx, frame) {
            rx.frame(std::mem::take(frame));
        }
    }
    rx.outbox.end_batch();
    rx.tally.count(core);
    frames.clear();
}

/// Does away with the frames of a NIC that is down.
#[cold]
fn refuse(core: &Core, interface: &Interface, frames: &mut Vec<Packet>) {
    interface.counters.rx_dropped_down.add(frames.len() as u64);
    if let Some(monitor) = core.packet_sockets.monitor() {
        frames
            .iter()
            .for_each(|frame| interface.tell(&*monitor, Direction::Inbound, frame, &["rx_dropped_down"]));
    }
    frames.clear();
}

/// Lets the tap of a NIC have its frames, which packet sockets see before.
#[cold]
fn give_to_tap(
    core: &Core,
    interface: &Interface,
    tap: &dyn FrameTap,
    frames: &mut Vec<Packet>,
    now: Instant,
) {
    let (mut taken, rest) =
        std::mem::take(frames).into_iter().partition::<Vec<_>, _>(|frame| tap.wants(frame));
    *frames = rest;
    if !core.packet_sockets.is_empty() {
        let monitor = core.packet_sockets.monitor();
        for frame in &taken {
            let mut destination = [0; 6];
            frame.copy_to(0, &mut destination);
            let addressed_to = AddressedTo::of(MacAddr(destination), interface.mac());
            core.packet_sockets.deliver(interface, frame, addressed_to, now, &core.secrets, None);
            if let Some(monitor) = &monitor {
                interface.tell(&**monitor, Direction::Inbound, frame, &[]);
            }
        }
    }
    if !taken.is_empty() {
        tap.receive(&mut taken);
    }
}

/// Takes packets that we sent to ourselves.
pub(crate) fn input_looped(
    core: &Arc<Core>,
    mut packets: impl ExactSizeIterator<Item = Looped>,
    outbox: &mut Outbox,
) {
    let generation = core.topology.generation();
    let topology = core.topology.load();
    let now = outbox.now(core);
    while let Some(Looped { nic, mut packet, by }) = packets.next() {
        if packets.len() == 0 {
            outbox.begin_last();
        }
        let Some(interface) = topology.interface(nic) else { continue };
        if interface.is_loopback() {
            let counters = &interface.counters;
            counters.tx_packets.increment();
            counters.tx_bytes.add(packet.len() as u64);
            counters.rx_packets.increment();
            counters.rx_bytes.add(packet.len() as u64);
            if !core.packet_sockets.is_empty() {
                core.packet_sockets.deliver(
                    interface,
                    &packet,
                    AddressedTo::Outgoing,
                    now,
                    &core.secrets,
                    None,
                );
                core.packet_sockets.deliver(interface, &packet, AddressedTo::Host, now, &core.secrets, None);
            }
        }
        // The bytes never left the machine; an unfinished checksum is as good as a right one. A finished one may be a program's.
        if let Checksum::Partial { .. } = packet.meta.checksum {
            packet.meta.checksum = Checksum::Verified;
        }
        packet.meta.l3_offset = 0;
        let mut rx = Rx::new(core, &topology, generation, interface, now, outbox);
        rx.is_looped = by == LoopedBy::Network;
        match core.packet_sockets.monitor().filter(|_| interface.is_loopback()) {
            Some(monitor) => rx.watched(&*monitor, packet, Rx::ip),
            None => rx.ip(packet),
        }
        rx.tally.count(core);
    }
    outbox.end_batch();
}

impl<'a> Rx<'a> {
    fn new(
        core: &'a Arc<Core>,
        topology: &'a Topology,
        generation: u64,
        interface: &'a Arc<Interface>,
        now: Instant,
        outbox: &'a mut Outbox,
    ) -> Self {
        Self {
            core,
            topology,
            generation,
            interface,
            now,
            outbox,
            is_looped: false,
            last_v4: None,
            last_v6: None,
            tally: Tally::default(),
        }
    }

    /// Tells a monitor of each frame what became of it, before anything that the frame causes is sent.
    #[cold]
    fn one_by_one(&mut self, monitor: &dyn PacketMonitor, frames: &mut Vec<Packet>) {
        for frame in frames.drain(..) {
            self.outbox.begin_last();
            self.watched(monitor, frame, Self::frame);
            self.outbox.end_batch();
            std::mem::take(&mut self.tally).count(self.core);
            self.outbox.flush(self.core);
        }
    }

    /// Deals with a packet that came, and tells a monitor.
    fn watched(&mut self, monitor: &dyn PacketMonitor, packet: Packet, deal: impl FnOnce(&mut Self, Packet)) {
        let (copy, watch) = (packet.clone(), Watch::begin(self.core, self.interface));
        deal(self, packet);
        let discarded = watch.end(self.core, self.interface);
        self.interface.tell(monitor, Direction::Inbound, &copy, &discarded);
    }

    fn frame(&mut self, mut packet: Packet) {
        if packet.meta.arrival.is_none() {
            packet.meta.arrival = Some(self.now);
        }
        // An unfinished sum stays what it is, for those who forward it; it needs no verification either.
        if self.interface.capabilities().rx_checksum_trusted && packet.meta.checksum == Checksum::Plain {
            packet.meta.checksum = Checksum::Verified;
        }
        match self.interface.medium() {
            Medium::Ethernet(own) => self.ethernet(own, packet),
            Medium::Ip | Medium::Loopback => {
                self.tap(&packet, AddressedTo::Host);
                self.ip(packet);
            }
        }
    }

    fn ethernet(&mut self, own: MacAddr, mut packet: Packet) {
        if !packet.make_contiguous(0, ethernet::HEADER_LEN) {
            return self.interface.counters.rx_dropped_malformed.increment();
        }
        let Some(header) = EthernetRepr::parse(packet.contiguous(0)) else {
            return self.interface.counters.rx_dropped_malformed.increment();
        };
        let addressed_to = AddressedTo::of(header.destination, Some(own));
        packet.meta.addressed_to = addressed_to;
        self.tap(&packet, addressed_to);
        match addressed_to {
            AddressedTo::OtherHost => return self.interface.counters.rx_dropped_other_host.increment(),
            AddressedTo::Multicast => self.interface.counters.rx_multicast.increment(),
            AddressedTo::Host | AddressedTo::Broadcast | AddressedTo::Outgoing => {}
        }
        // ETHERNET_HEADER_LEN is 14.
        packet.meta.l3_offset = ethernet::HEADER_LEN as u16;
        match header.ether_type {
            EtherType::IPV4 => input_v4::input(self, packet),
            EtherType::IPV6 => input_v6::input(self, packet),
            EtherType::ARP => arp::input(self, &packet),
            _ => self.interface.counters.rx_dropped_unknown_protocol.increment(),
        }
    }

    /// Whether packets for addresses that are not ours are taken here, for a forwarder.
    pub(super) fn takes_for_others(&self) -> bool {
        self.interface.accepts_any() && !self.is_looped
    }

    /// An IP packet at the offset in its metadata.
    fn ip(&mut self, packet: Packet) {
        let version = packet.contiguous(usize::from(packet.meta.l3_offset)).first().map(|byte| byte >> 4);
        match version {
            Some(4) => input_v4::input(self, packet),
            Some(6) => input_v6::input(self, packet),
            _ => self.interface.counters.rx_dropped_malformed.increment(),
        }
    }

    fn tap(&self, packet: &Packet, addressed_to: AddressedTo) {
        if !self.core.packet_sockets.is_empty() {
            self.core.packet_sockets.deliver(
                self.interface,
                packet,
                addressed_to,
                self.now,
                &self.core.secrets,
                None,
            );
        }
    }

    /// Hands a whole packet for us to its transport; gives it back if there is none for its protocol.
    pub(super) fn transport(&mut self, ip: &IpMeta, mut packet: Packet) -> Option<Packet> {
        self.tally.in_delivers += 1;
        // The offsets were checked against the packet, which is not much longer than 64 KiB.
        packet.meta.l4_offset = u16::try_from(ip.offset).unwrap_or(u16::MAX);
        let was_raw = socket::raw::deliver(self, ip, &packet);
        match ip.protocol {
            Protocol::TCP => tcp_endpoint::input(self, ip, packet),
            Protocol::UDP => socket::udp::input(self, ip, packet),
            Protocol::ICMP if ip.source.is_ipv4() => icmp::input_v4(self, ip, packet),
            Protocol::ICMPV6 if ip.source.is_ipv6() => icmp::input_v6(self, ip, packet),
            Protocol::IGMP if ip.source.is_ipv4() => group::input_igmp(self, ip, &packet),
            Protocol::PIM => pim_register::input(self, ip, &packet),
            Protocol::NO_NEXT => {}
            _ if was_raw => {}
            _ => return Some(packet),
        }
        None
    }
}
