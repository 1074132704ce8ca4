//! The sandbox's network stack over the interfaces that came with the request to start.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netstack::error::ConfigError;
use netstack::nic::InterfaceAddress;
use netstack::route::{Route, RouteOrigin};
use netstack::tcp::State;
use netstack::wire::ethernet::MacAddr;
use netstack::{IpCidr, NicId, Stack};
use netstack_host_links::{HostLink, PacketLink, PacketLinkParams, Pump, Reader, VnetHeaders};
use thiserror::Error;

use crate::boot::{IpAddress, LinkConfig, NetworkConfig, RouteConfig};

/// Why the network could not be set up.
#[derive(Debug, Error)]
pub(super) enum NetworkError {
    /// Fewer sockets came along than there are interfaces.
    #[error("interface {0}: its packet socket is missing")]
    NoSocket(String),
    /// An address or a gateway is none.
    #[error("interface {interface}: {address:?} is no address")]
    Address {
        /// The interface.
        interface: String,
        /// What came.
        address: IpAddress,
    },
    /// The stack refused an interface or one of its addresses.
    #[error("interface {interface}: {source}")]
    Interface {
        /// The interface.
        interface: String,
        /// Why.
        source: ConfigError,
    },
    /// The threads or descriptors of the stack's rim could not be made.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Gives `stack` the interfaces and routes of `config` and starts the thread that reads them and runs its timers.
pub(super) fn connect(
    stack: &Stack,
    config: NetworkConfig,
    sockets: Vec<OwnedFd>,
) -> Result<Reader, NetworkError> {
    let mut pump = Pump::new(stack.clone())?;
    let mut sockets = sockets.into_iter();
    let mut nics = Vec::new();
    for link in &config.links {
        let socket = sockets.next().ok_or_else(|| NetworkError::NoSocket(link.name.clone()))?;
        nics.push((link.index, add_link(stack, &mut pump, link, socket)?));
    }
    for route in &config.routes {
        let Some((_, nic)) = nics.iter().find(|(index, _)| *index == route.link) else {
            continue;
        };
        if let Err(error) = add_route(stack, route, *nic) {
            // A route that follows from an address is there already; one that the stack cannot have is no reason
            // not to start, as the host had it in a table of its own.
            tracing::debug!("route to {:?}: {error}", route.destination);
        }
    }
    Ok(Reader::spawn(pump)?)
}

fn add_link(
    stack: &Stack,
    pump: &mut Pump,
    config: &LinkConfig,
    socket: OwnedFd,
) -> Result<NicId, NetworkError> {
    let failed = |source| NetworkError::Interface { interface: config.name.clone(), source };
    let params = PacketLinkParams {
        mac: MacAddr(config.mac),
        mtu: usize::try_from(config.mtu).unwrap_or(usize::MAX),
        vnet_headers: if config.has_vnet_header { VnetHeaders::Present } else { VnetHeaders::Absent },
        udp_segmentation: config.has_vnet_header,
    };
    let link: Arc<dyn HostLink> = PacketLink::from_fd(socket, params);
    let nic = stack.add_nic(&config.name, Arc::<dyn HostLink>::clone(&link)).map_err(failed)?;
    pump.add(nic, link);
    for address in &config.addresses {
        let cidr = cidr(*address)
            .ok_or_else(|| NetworkError::Address { interface: config.name.clone(), address: *address })?;
        let own = InterfaceAddress { broadcast: cidr.broadcast(), ..InterfaceAddress::new(cidr) };
        stack.add_interface_address(nic, own).map_err(failed)?;
    }
    Ok(nic)
}

fn add_route(stack: &Stack, config: &RouteConfig, nic: NicId) -> Result<(), ConfigError> {
    let Some(destination) = cidr(config.destination) else {
        return Ok(());
    };
    stack.add_route(Route {
        gateway: config.gateway,
        origin: RouteOrigin::Static,
        ..Route::connected(destination, nic)
    })
}

fn cidr(address: IpAddress) -> Option<IpCidr> {
    IpCidr::new(address.address, address.prefix_len)
}

/// Lets connections that the guest closed hand over what it wrote: bytes that `write(2)` took are not lost with the
/// process (the host kernel goes on for orphans in the same way). Gives up when the peers have gone silent.
pub(super) fn drain(stack: &Stack) {
    let is_closing = |state: &State| matches!(state, State::FinWait1 | State::Closing | State::LastAck);
    let (mut heard, mut silent_since) = (stack.stats().tcp_in_segs, Instant::now());
    while stack.tcp_connections().iter().any(|(_, state)| is_closing(state)) {
        std::thread::sleep(DRAIN_STEP);
        let now_heard = stack.stats().tcp_in_segs;
        if now_heard != heard {
            (heard, silent_since) = (now_heard, Instant::now());
        } else if silent_since.elapsed() > DRAIN_SILENCE {
            tracing::warn!("the guest ended with data that a silent peer did not acknowledge");
            return;
        }
    }
}

/// How often [`drain`] looks.
const DRAIN_STEP: Duration = Duration::from_millis(2);
/// Long enough for a few retransmissions (RFC 6298, 2).
const DRAIN_SILENCE: Duration = Duration::from_secs(3);
