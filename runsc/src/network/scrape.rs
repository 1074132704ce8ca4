//! Taking the interfaces of a network namespace away from the host's stack, for the sandbox's own.
//!
//! Order: read everything, open the packet sockets, have it written down what is to be given back, and only then take
//! the addresses off, so that a failure or a sudden end leaves the namespace as it was or as it can be put right.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use sentry::boot::{IpAddress, RouteConfig};
use sentry_hostio::namespace;
use sentry_hostio::packet::{self, VnetHeader};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::network::netlink::{self, Netlink};

/// One interface, with the socket that carries its frames.
#[derive(Debug)]
pub(crate) struct Donated {
    pub(crate) name: String,
    pub(crate) index: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
    pub(crate) addresses: Vec<IpAddress>,
    pub(crate) socket: OwnedFd,
    pub(crate) has_vnet_header: bool,
}

/// Everything to be taken from a namespace.
#[derive(Debug)]
pub(crate) struct TakenOver {
    pub(crate) links: Vec<Donated>,
    pub(crate) routes: Vec<RouteConfig>,
    pub(crate) to_restore: Restore,
}

/// What to give back to the host's stack when the container is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restore {
    namespace: PathBuf,
    addresses: BTreeMap<u32, Vec<IpAddress>>,
    routes: Vec<RouteConfig>,
}

/// Why the interfaces of a namespace could not be taken over.
#[derive(Debug, Error)]
pub(crate) enum ScrapeError {
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The packet socket of an interface could not be opened.
    #[error("open a packet socket on {interface}: {source}")]
    PacketSocket {
        /// The interface.
        interface: String,
        /// Why.
        source: io::Error,
    },
    /// An address could not be taken off.
    #[error("take addresses off {interface}: {source}")]
    Address {
        /// The interface.
        interface: String,
        /// Why.
        source: io::Error,
    },
}

/// Gets ready to take over every Ethernet interface of the namespace at `path` that is up; [`TakenOver::take_addresses`]
/// then does it.
pub(crate) fn take_over(path: &Path) -> Result<TakenOver, ScrapeError> {
    namespace::in_net_namespace(path, || take_over_here(path))
}

impl TakenOver {
    /// Takes the addresses off the host's interfaces, once `to_restore` is where it survives us.
    pub(crate) fn take_addresses(&self) -> Result<(), ScrapeError> {
        namespace::in_net_namespace(&self.to_restore.namespace, || self.take_addresses_here())
    }

    fn take_addresses_here(&self) -> Result<(), ScrapeError> {
        let mut netlink = Netlink::open()?;
        let addresses = netlink.addresses()?;
        for link in &self.links {
            take_addresses_off(&mut netlink, link, &addresses)
                .map_err(|source| ScrapeError::Address { interface: link.name.clone(), source })?;
        }
        Ok(())
    }
}

/// Turns on the loopback of the namespace at `path`.
pub(crate) fn bring_loopback_up(path: &Path) -> io::Result<()> {
    // LOOPBACK_IFINDEX: the first device of every namespace.
    namespace::in_net_namespace(path, || Netlink::open()?.set_up(1))
}

impl Restore {
    /// Gives addresses and routes back, as far as the namespace and its interfaces still exist.
    pub(crate) fn restore(&self) {
        let restored = namespace::in_net_namespace(&self.namespace, || -> io::Result<()> {
            let mut netlink = Netlink::open()?;
            for (index, addresses) in &self.addresses {
                for address in addresses {
                    // The engine may have torn the interface down or configured it anew.
                    let _ = netlink.add_address(*index, (address.address, address.prefix_len));
                }
            }
            for route in &self.routes {
                if let Some(gateway) = route.gateway {
                    let to = (route.destination.address, route.destination.prefix_len);
                    let _ = netlink.add_route(route.link, to, gateway);
                }
            }
            Ok(())
        });
        // The namespace is gone: then nothing is left to restore.
        drop(restored);
    }
}

fn take_over_here(path: &Path) -> Result<TakenOver, ScrapeError> {
    let mut netlink = Netlink::open()?;
    let addresses = netlink.addresses()?;
    let mut links = Vec::new();
    for link in netlink.links()?.iter().filter(|link| is_ethernet_and_up(link)) {
        links.push(donate(link, &addresses)?);
    }
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let found = netlink.routes(family)?;
        routes.extend(found.iter().filter_map(route_config));
    }
    routes.retain(|route| links.iter().any(|link| link.index == route.link));
    let to_restore = Restore {
        namespace: path.to_owned(),
        addresses: links.iter().map(|link| (link.index, link.addresses.clone())).collect(),
        routes: routes.clone(),
    };
    Ok(TakenOver { links, routes, to_restore })
}

fn is_ethernet_and_up(link: &LinkMessage) -> bool {
    link.header.link_layer_type == LinkLayerType::Ether
        && link.header.flags.contains(LinkFlags::Up)
        && !link.header.flags.contains(LinkFlags::Loopback)
}

fn donate(link: &LinkMessage, addresses: &[AddressMessage]) -> Result<Donated, ScrapeError> {
    let index = link.header.index;
    let name = netlink::link_name(link).unwrap_or_default().to_owned();
    let socket = packet::open(index)
        .map_err(|source| ScrapeError::PacketSocket { interface: name.clone(), source })?;
    Ok(Donated {
        index,
        mac: mac(link).unwrap_or_default(),
        mtu: mtu(link),
        addresses: addresses
            .iter()
            .filter(|message| message.header.index == index && !is_link_local(message))
            .filter_map(ip_address)
            .collect(),
        has_vnet_header: socket.vnet_header == VnetHeader::Present,
        socket: socket.fd,
        name,
    })
}

pub(crate) fn mac(link: &LinkMessage) -> Option<[u8; 6]> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    })
}

pub(crate) fn mtu(link: &LinkMessage) -> u32 {
    let found = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    // Ethernet's (RFC 894), should the kernel ever leave it out.
    found.unwrap_or(1500)
}

/// The stack makes its own link-local addresses.
fn is_link_local(message: &AddressMessage) -> bool {
    message.header.family == AddressFamily::Inet6 && message.header.scope == AddressScope::Link
}

/// rtnetlink(7): on a point-to-point link IFA_ADDRESS is the peer's, IFA_LOCAL ours; IPv6 has only the former.
fn ip_address(message: &AddressMessage) -> Option<IpAddress> {
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(other) => address = address.or(Some(*other)),
            _ => {}
        }
    }
    Some(IpAddress { address: address?, prefix_len: message.header.prefix_len })
}

fn take_addresses_off(
    netlink: &mut Netlink,
    link: &Donated,
    addresses: &[AddressMessage],
) -> Result<(), io::Error> {
    for message in addresses.iter().filter(|message| message.header.index == link.index) {
        match netlink.delete_address(message.clone()) {
            // Gone with the primary address of its network.
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

fn route_config(route: &RouteMessage) -> Option<RouteConfig> {
    if route.header.kind != RouteType::Unicast {
        return None;
    }
    let mut destination = match route.header.address_family {
        AddressFamily::Inet => IpAddr::from([0u8; 4]),
        AddressFamily::Inet6 => IpAddr::from([0u8; 16]),
        _ => return None,
    };
    let (mut gateway, mut link) = (None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = plain(address)?,
            RouteAttribute::Gateway(address) => gateway = Some(plain(address)?),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    // fe80::/64 comes with the link-local address that the stack makes itself.
    if matches!(destination, IpAddr::V6(address) if address.is_unicast_link_local() || address.is_multicast())
    {
        return None;
    }
    let prefix_len = route.header.destination_prefix_length;
    Some(RouteConfig { destination: IpAddress { address: destination, prefix_len }, gateway, link: link? })
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "scrape_tests.rs"]
mod tests;
