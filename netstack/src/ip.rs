//! The network layer: IPv4 and IPv6 with ARP, ICMP and neighbour discovery, from links to transports and back.

mod advertise;
mod arp;
mod autoconf;
mod edge;
mod egress;
mod extension;
mod filtered;
pub(crate) mod flow_label;
mod forward;
mod fragment;
mod group;
mod gso;
mod guard;
pub(crate) mod icmp;
mod icmp_error;
mod input;
mod input_v4;
mod input_v6;
mod kept;
mod limiter;
mod multicast_forward;
mod ndp;
mod output;
mod pim_register;
mod plain_input;
mod plain_output;
mod pmtu;
mod reassembly;
mod redirect;
mod redirected;
mod source;
mod template;
mod transit;
mod ways;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use netstack_wire::ip::Protocol;
use netstack_wire::{ipv4, ipv6};

use crate::interface::Interface;
use crate::nic::NicId;
use crate::options::{Ipv4Options, ReceivedExtensions};
use crate::outbox::Outbox;
use crate::packet::Packet;
use crate::stack::Core;
use crate::time::Instant;

pub(crate) use advertise::RouterVoice;
pub(crate) use autoconf::Autoconf;
pub(crate) use edge::{report_unreachable_neighbour, send_to_station, solicit};
pub(crate) use egress::{Delivery, Egress, Origin, RouteQuery};
pub(crate) use extension::send_with_extensions;
pub(crate) use group::{Groups, MemberId, join_group, leave_group, set_membership};
pub(crate) use gso::{frames_behind, segments};
pub(crate) use guard::AddressGuard;
pub(crate) use icmp_error::{IcmpReason, reject, report, report_unfiltered};
pub(crate) use input::{Rx, input, input_looped};
pub(crate) use limiter::RateLimiter;
pub(crate) use multicast_forward::MulticastForwarding;
pub(crate) use ndp::{Detection, begin_detection, solicited_group};
pub(crate) use output::{
    Fragmenting, IpOutput, OutputError, send, send_unfiltered, send_with_header, send_with_options,
};
pub(crate) use plain_input::{Arrival, count};
pub(crate) use plain_output::{PlainHeader, plain_frame, plain_way, send_plain};
pub(crate) use pmtu::{PathMtu, PmtuCache};
pub(crate) use reassembly::ReassemblyShell;
pub(crate) use redirected::Redirects;
pub(crate) use template::Template;
pub(crate) use transit::Transit;
pub(crate) use ways::Ways;

/// What the network layer found out about a received packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IpMeta {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    /// Zero in IPv4.
    pub(crate) flow_label: u32,
    /// The NIC it arrived on.
    pub(crate) nic: NicId,
    pub(crate) cast: Cast,
    /// Where the transport header is in the packet.
    pub(crate) offset: usize,
    /// The length from there.
    pub(crate) len: usize,
    pub(crate) arrival: Instant,
}

impl IpMeta {
    /// The options of the packet's IPv4 header, or its extension headers of IPv6, if there are any.
    #[inline]
    pub(crate) fn options(&self, packet: &Packet) -> Option<Box<IpExtra>> {
        let start = usize::from(packet.meta.l3_offset);
        let header_len = if self.source.is_ipv6() { ipv6::HEADER_LEN } else { ipv4::MIN_HEADER_LEN };
        if self.offset <= start + header_len {
            return None;
        }
        self.extra(packet, start, header_len)
    }

    #[cold]
    fn extra(&self, packet: &Packet, start: usize, header_len: usize) -> Option<Box<IpExtra>> {
        let bytes = packet.get(start + header_len, self.offset - start - header_len)?;
        let extra = match self.source {
            IpAddr::V4(_) => IpExtra::V4(Ipv4Options::new(bytes)?),
            IpAddr::V6(_) => {
                let first = *packet.contiguous(start).get(ipv6::NEXT_HEADER_OFFSET)?;
                IpExtra::V6(Arc::new(ReceivedExtensions::new(Protocol(first), bytes)))
            }
        };
        Some(Box::new(extra))
    }
}

/// What few packets have between their IP header and the transport's.
#[derive(Debug, Clone)]
pub(crate) enum IpExtra {
    V4(Ipv4Options),
    V6(Arc<ReceivedExtensions>),
}

/// How many a packet is addressed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cast {
    Unicast,
    /// The same, and rules have said for which socket: [`Carried`](crate::conntrack::Carried) has it.
    Assigned,
    Broadcast,
    Multicast,
}

/// Another node has an address that was tentative: autoconfiguration tries another one.
pub(crate) fn on_duplicate(
    core: &Arc<Core>,
    interface: &Arc<Interface>,
    address: IpAddr,
    outbox: &mut Outbox,
) {
    if let (IpAddr::V6(address), Some(autoconf)) = (address, interface.autoconf()) {
        autoconf.on_duplicate(core, interface, address, outbox);
    }
}

/// Tells everybody on the link that an address is ours.
pub(crate) fn announce(interface: &Arc<Interface>, address: IpAddr, outbox: &mut Outbox) {
    match address {
        IpAddr::V4(address) => arp::announce_own(interface, address, outbox),
        IpAddr::V6(address) => ndp::announce_own(interface, address, outbox),
    }
}

/// The zone that tells equal link-local addresses of different links apart; zero for other addresses.
pub(crate) fn zone_of(address: IpAddr, nic: NicId) -> u32 {
    match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => nic.index(),
        IpAddr::V4(_) | IpAddr::V6(_) => 0,
    }
}

/// An IPv4-mapped address as the IPv4 address it stands for; others unchanged.
pub(crate) fn unmapped(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The unspecified address of the same family.
pub(crate) fn unspecified_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}
