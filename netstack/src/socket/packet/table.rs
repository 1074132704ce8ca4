//! The packet sockets of a stack, their groups, and its monitor.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::RwLock;
use netstack_wire::ethernet::{self, EtherType, EthernetRepr, MacAddr};

use super::endpoint::PacketEndpoint;
use super::fanout::{FanoutGroup, FanoutMode};
use super::frame::Frame;
use crate::error::FanoutError;
use crate::interface::Interface;
use crate::link::Medium;
use crate::link::sniffer::Direction;
use crate::monitor::PacketMonitor;
use crate::packet::{AddressedTo, Packet};
use crate::secret::Secrets;
use crate::time::Instant;

/// The packet sockets of a stack.
#[derive(Default)]
pub(crate) struct PacketSockets {
    /// The number of sockets and monitors, so that frames need not take the lock when there is none.
    count: AtomicUsize,
    members: RwLock<Members>,
}

#[derive(Default)]
struct Members {
    /// Those that are in no group.
    single: Vec<Arc<PacketEndpoint>>,
    groups: Vec<Arc<FanoutGroup>>,
    monitor: Option<Arc<dyn PacketMonitor>>,
}

impl Members {
    fn count(&self) -> usize {
        let in_groups = self.groups.iter().map(|group| group.len()).sum::<usize>();
        self.single.len() + in_groups + usize::from(self.monitor.is_some())
    }
}

impl PacketSockets {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub(super) fn add(&self, endpoint: &Arc<PacketEndpoint>) {
        let mut members = self.members.write();
        members.single.push(Arc::clone(endpoint));
        self.count.store(members.count(), Ordering::Release);
    }

    pub(super) fn remove(&self, endpoint: &Arc<PacketEndpoint>) {
        let mut members = self.members.write();
        members.single.retain(|other| !Arc::ptr_eq(other, endpoint));
        members.groups.retain(|group| {
            group.remove(endpoint);
            group.len() > 0
        });
        self.count.store(members.count(), Ordering::Release);
    }

    /// Sets who is told of each packet, and returns who was.
    pub(crate) fn set_monitor(
        &self,
        monitor: Option<Arc<dyn PacketMonitor>>,
    ) -> Option<Arc<dyn PacketMonitor>> {
        let mut members = self.members.write();
        let previous = std::mem::replace(&mut members.monitor, monitor);
        self.count.store(members.count(), Ordering::Release);
        previous
    }

    /// Who is told of each packet.
    pub(crate) fn monitor(&self) -> Option<Arc<dyn PacketMonitor>> {
        if self.is_empty() { None } else { self.members.read().monitor.clone() }
    }

    /// Puts a socket into a group, which begins with its first member (`PACKET_FANOUT`).
    pub(super) fn join(
        &self,
        endpoint: &Arc<PacketEndpoint>,
        id: u16,
        mode: FanoutMode,
    ) -> Result<Arc<FanoutGroup>, FanoutError> {
        let mut members = self.members.write();
        let place = members.single.iter().position(|other| Arc::ptr_eq(other, endpoint));
        let place = place.ok_or(FanoutError::AlreadyMember)?;
        let found = members.groups.iter().find(|group| group.id == id).cloned();
        let group = match found {
            Some(group) => group,
            None => {
                let group = Arc::new(FanoutGroup::new(id, mode));
                members.groups.push(Arc::clone(&group));
                group
            }
        };
        group.add(endpoint, mode)?;
        members.single.remove(place);
        Ok(group)
    }

    /// A number that no group has.
    pub(super) fn free_group_id(&self, secrets: &Secrets) -> Option<u16> {
        let members = self.members.read();
        let is_free = |id: &u16| !members.groups.iter().any(|group| group.id == *id);
        let first = secrets.random_below(u32::from(u16::MAX) + 1);
        // Within 16 bits.
        (0..=u32::from(u16::MAX)).map(|step| ((first + step) & 0xffff) as u16).find(is_free)
    }

    /// Shows a frame to the sockets that want it, but not to the one that sent it.
    pub(crate) fn deliver(
        &self,
        interface: &Interface,
        packet: &Packet,
        addressed_to: AddressedTo,
        now: Instant,
        secrets: &Secrets,
        sender: Option<&Arc<PacketEndpoint>>,
    ) {
        // What came is told of when it is known what became of it; on a loopback NIC that is all there is.
        if addressed_to == AddressedTo::Outgoing
            && interface.medium() != Medium::Loopback
            && let Some(monitor) = self.monitor()
        {
            interface.tell(&*monitor, Direction::Outbound, packet, &[]);
        }
        // Linux's loopback device has Ethernet headers, all zero.
        if interface.medium() == Medium::Loopback {
            let mut packet = packet.clone();
            let is_v6 = packet.contiguous(0).first().is_some_and(|byte| byte >> 4 == 6);
            let ether_type = if is_v6 { EtherType::IPV6 } else { EtherType::IPV4 };
            let header = EthernetRepr { destination: MacAddr::ZERO, source: MacAddr::ZERO, ether_type };
            header.emit(packet.push_header(ethernet::HEADER_LEN));
            self.show(interface, &packet, addressed_to, now, secrets, sender);
        } else {
            self.show(interface, packet, addressed_to, now, secrets, sender);
        }
    }

    fn show(
        &self,
        interface: &Interface,
        packet: &Packet,
        addressed_to: AddressedTo,
        now: Instant,
        secrets: &Secrets,
        sender: Option<&Arc<PacketEndpoint>>,
    ) {
        let Some(frame) = Frame::parse(interface, packet, addressed_to, now) else { return };
        let (single, groups) = {
            let members = self.members.read();
            (members.single.clone(), members.groups.clone())
        };
        let is_other = |endpoint: &Arc<PacketEndpoint>| sender.is_none_or(|own| !Arc::ptr_eq(own, endpoint));
        for endpoint in single.iter().filter(|endpoint| is_other(endpoint) && endpoint.wants(&frame.from)) {
            endpoint.take(&frame, secrets);
        }
        for group in groups {
            // Linux: match_fanout_group.
            if sender.is_some_and(|own| group.contains(own)) {
                continue;
            }
            if let Some(endpoint) = group.choose(&frame, secrets) {
                endpoint.take(&frame, secrets);
            }
        }
    }
}
