//! A veth pair between the host and a namespace that only the sandbox's packet socket keeps alive.
//!
//! The namespace has no name and no process: when the last copy of the socket is closed, by whatever death of the
//! sandbox, the kernel frees the namespace, the end in it and with it the host's end.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage};
use sentry_hostio::namespace;
use sentry_hostio::packet::{self, VnetHeader};
use thiserror::Error;

use crate::network::netlink::{Netlink, Prefix};
use crate::network::scrape;

/// Name of the sandbox's end, and of the interface that the guest sees.
const GUEST_NAME: &str = "eth0";

/// What pair to make.
#[derive(Debug, Clone)]
pub(crate) struct VethRequest {
    /// Name of the host's end.
    pub(crate) name: String,
    /// Address of the host's end.
    pub(crate) host: Prefix,
    /// Address of the sandbox's end; the host's stack never has it.
    pub(crate) guest: Prefix,
    /// Largest IP packet.
    pub(crate) mtu: u32,
}

/// A pair. Dropping the value removes it.
#[derive(Debug)]
pub(crate) struct Veth {
    host_name: String,
    /// Taken by whoever donates it.
    pub(crate) donated: Option<scrape::Donated>,
}

/// Why a pair could not be made.
#[derive(Debug, Error)]
pub(crate) enum VethError {
    /// A namespace could not be made or a link not configured.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The pair itself could not be made.
    #[error("create veth pair {name}: {source}")]
    Create {
        /// The host's end.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The host's end could not be given its address.
    #[error("add {address} to {name}: {source}")]
    Address {
        /// The host's end.
        name: String,
        /// The address.
        address: IpAddr,
        /// Why.
        source: io::Error,
    },
}

impl Veth {
    /// Makes a pair between the calling thread's namespace and a new one.
    pub(crate) fn create(request: &VethRequest) -> Result<Self, VethError> {
        let host_namespace = File::open("/proc/thread-self/ns/net")?;
        let donated = namespace::in_new_net_namespace(|| guest_end(request, &host_namespace))?;
        let veth = Self { host_name: request.name.clone(), donated: Some(donated) };
        let mut netlink = Netlink::open()?;
        let link =
            netlink.link_named(&request.name)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
        let index = link.header.index;
        netlink.add_address(index, request.host).map_err(|source| VethError::Address {
            name: request.name.clone(),
            address: request.host.0,
            source,
        })?;
        netlink.set_up(index)?;
        Ok(veth)
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        // Nothing better can be done; a sweep at the next start tries again.
        let _ = remove_by_name(&self.host_name);
    }
}

/// Removes the pair whose host end is `name`; fine when there is none.
pub(crate) fn remove_by_name(name: &str) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let Some(link) = netlink.link_named(name)? else {
        return Ok(());
    };
    match netlink.delete_link(link.header.index) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        outcome => outcome,
    }
}

/// Runs in the new namespace.
fn guest_end(request: &VethRequest, host_namespace: &File) -> Result<scrape::Donated, VethError> {
    let mut netlink = Netlink::open()?;
    netlink
        .create_link(pair(request, host_namespace))
        .map_err(|source| VethError::Create { name: request.name.clone(), source })?;
    // The host's stack must not speak on this end. Without IPv6 in the kernel there is nothing to switch off.
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{GUEST_NAME}/disable_ipv6"), "1");
    let link = netlink.link_named(GUEST_NAME)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    let index = link.header.index;
    let socket = packet::open(index)?;
    netlink.set_up(index)?;
    Ok(scrape::Donated {
        name: GUEST_NAME.to_owned(),
        index,
        mac: scrape::mac(&link).unwrap_or_default(),
        mtu: scrape::mtu(&link),
        addresses: vec![sentry::boot::IpAddress { address: request.guest.0, prefix_len: request.guest.1 }],
        has_vnet_header: socket.vnet_header == VnetHeader::Present,
        socket: socket.fd,
    })
}

fn pair(request: &VethRequest, host_namespace: &File) -> LinkMessage {
    let mut peer = LinkMessage::default();
    peer.attributes.push(LinkAttribute::IfName(request.name.clone()));
    peer.attributes.push(LinkAttribute::Mtu(request.mtu));
    peer.attributes.push(LinkAttribute::NetNsFd(host_namespace.as_raw_fd()));
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(GUEST_NAME.to_owned()));
    link.attributes.push(LinkAttribute::Mtu(request.mtu));
    link.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    link
}
