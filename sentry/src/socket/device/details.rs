//! What an interface is besides a NIC of the stack, for who lists interfaces.

use std::sync::Arc;

use netstack::NicId;
use netstack::nic::NicInfo;

use crate::socket::NetNamespace;
use crate::socket::device::Device;
use crate::socket::net_ioctl::{if_flags, station};
use crate::socket::packet::hardware_type;
use crate::socket::tun::TunDetails;

/// What is shown of an interface.
#[derive(Debug, Clone)]
pub struct LinkDetails {
    /// `IFF_*`.
    pub flags: u32,
    /// Whether something is connected.
    pub has_carrier: bool,
    /// The station address.
    pub address: Option<[u8; 6]>,
    /// `ARPHRD_*`.
    pub hardware_type: u16,
    /// The name of its kind, for those that guests made.
    pub kind: Option<&'static str>,
    /// The bridge that it is a port of.
    pub master: Option<Master>,
    /// What it is on top of, or the other end.
    pub lower: Option<Lower>,
    /// The id of a virtual LAN.
    pub vlan: Option<u16>,
    /// What is known about a tunnel.
    pub tun: Option<TunDetails>,
}

/// The bridge of a port.
#[derive(Debug, Clone)]
pub struct Master {
    /// Its number.
    pub nic: NicId,
    /// Its name.
    pub name: String,
}

/// What an interface is on top of, or the other end of a pair.
#[derive(Debug, Clone, Copy)]
pub struct Lower {
    /// Its number in its namespace.
    pub nic: NicId,
    /// The id of its namespace, where that is another.
    pub namespace: Option<i32>,
}

impl LinkDetails {
    /// The state as RFC 2863 has it, in Linux's spelling.
    #[must_use]
    pub fn operational_state(&self) -> &'static str {
        match self.operational_number() {
            OPER_DOWN => "down",
            OPER_LOWER_DOWN => "lowerlayerdown",
            OPER_UP => "up",
            _ => "unknown",
        }
    }

    /// The state as a number (`IF_OPER_*`; `default_operstate`).
    pub(crate) fn operational_number(&self) -> u8 {
        let is_up = self.flags & IFF_UP != 0;
        match (is_up, self.has_carrier) {
            (true, true) if self.is_plain() => OPER_UNKNOWN,
            (true, true) => OPER_UP,
            (true, false) if self.lower.is_some() => OPER_LOWER_DOWN,
            _ => OPER_DOWN,
        }
    }

    /// How many packets wait at most before it (`DEFAULT_TX_QUEUE_LEN`).
    #[must_use]
    pub fn queue_len(&self) -> u32 {
        self.tun.map_or(1000, |tun| tun.queue_len())
    }

    /// Those whose driver never tells of a carrier.
    fn is_plain(&self) -> bool {
        self.flags & IFF_LOOPBACK != 0 || matches!(self.kind, Some("dummy" | "tun"))
    }
}

impl NetNamespace {
    /// What is shown of an interface.
    #[must_use]
    pub fn link_details(self: &Arc<Self>, nic: &NicInfo) -> LinkDetails {
        let device = self.devices().get(nic.id);
        let device = device.as_deref();
        let tun = device.and_then(Device::tun).map(|tun| tun.details());
        LinkDetails {
            flags: if_flags(self, nic).bits(),
            has_carrier: nic.is_up && device.is_none_or(Device::has_carrier),
            address: station(nic),
            hardware_type: tun.and_then(|tun| tun.hardware_type).unwrap_or_else(|| hardware_type(nic)),
            kind: device.and_then(Device::kind_name),
            master: device.and_then(Device::master),
            lower: device.and_then(|device| device.lower(self)),
            vlan: device.and_then(Device::vlan_id),
            tun,
        }
    }
}

const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const OPER_UNKNOWN: u8 = 0;
const OPER_DOWN: u8 = 2;
const OPER_LOWER_DOWN: u8 = 3;
const OPER_UP: u8 = 6;
