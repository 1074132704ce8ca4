//! What rules look at.

use std::net::IpAddr;
use std::sync::Arc;

use super::owner::AssignedSocket;
use super::rule::{AddressKinds, Side};
use crate::NicId;
use crate::conntrack::{ConnState, Tracking};
use crate::interface::Interface;
use crate::ip::{Egress, RouteQuery, Transit};
use crate::stack::Core;
use crate::time::Instant;

/// A packet at a hook.
pub(super) struct Subject<'a> {
    pub(super) core: &'a Core,
    pub(super) transit: &'a mut Transit,
    /// The NIC it came in through.
    pub(super) input: Option<&'a Arc<Interface>>,
    /// The NIC it leaves through.
    pub(super) output: Option<&'a Arc<Interface>>,
    /// The largest packet for where it goes, if that is known.
    pub(super) path_mtu: Option<u32>,
    /// Its flow.
    pub(super) tracking: Option<&'a Tracking>,
    /// What it is to its flow.
    pub(super) state: ConnState,
    /// A rule said not to track it.
    pub(super) is_untracked: bool,
    /// The socket that rules have given it to.
    pub(super) assigned: Option<AssignedSocket>,
    pub(super) now: Instant,
}

impl Subject<'_> {
    /// The packet shall not be tracked, unless it is already.
    pub(super) fn leave_untracked(&mut self) {
        if self.tracking.is_none() {
            self.is_untracked = true;
            self.state = ConnState::UNTRACKED;
        }
    }

    pub(super) fn input_name(&self) -> Option<Arc<str>> {
        self.input.map(|interface| interface.name())
    }

    pub(super) fn output_name(&self) -> Option<Arc<str>> {
        self.output.map(|interface| interface.name())
    }

    /// The NIC at one of the packet's ends.
    pub(super) fn nic(&self, side: Side) -> Option<NicId> {
        let interface = match side {
            Side::Source => self.input,
            Side::Destination => self.output,
        };
        interface.map(|interface| interface.id)
    }

    /// What an address is to this stack; `limited_to` a NIC, if it is set.
    pub(super) fn address_kinds(&self, address: IpAddr, limited_to: Option<Option<NicId>>) -> AddressKinds {
        let topology = self.core.topology.load();
        let local = topology.local_address(address);
        let is_local = local.is_some_and(|local| match limited_to {
            Some(nic) => Some(local.nic) == nic,
            None => true,
        });
        match address {
            // Linux's inet_addr_type: the local table, and unicast for what is not in it.
            IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0 || topology.is_broadcast(v4) => {
                AddressKinds::BROADCAST
            }
            address if address.is_multicast() => AddressKinds::MULTICAST,
            IpAddr::V4(_) if is_local => AddressKinds::LOCAL,
            IpAddr::V4(_) => AddressKinds::UNICAST,
            IpAddr::V6(v6) if v6.is_unspecified() => AddressKinds::UNSPECIFIED,
            IpAddr::V6(_) if is_local => AddressKinds::LOCAL | AddressKinds::UNICAST,
            // And of IPv6 addresses, those without a route are unreachable.
            IpAddr::V6(_) => {
                let query = RouteQuery { destination: address, source: None, nic: None };
                match Egress::resolve(self.core, query) {
                    Ok(_) => AddressKinds::UNICAST,
                    Err(_) => AddressKinds::UNREACHABLE | AddressKinds::UNICAST,
                }
            }
        }
    }
}
