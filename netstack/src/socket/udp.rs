//! UDP sockets (RFC 768).

mod cork;
mod input;
mod transmit;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use netstack_wire::ip::Protocol;
use netstack_wire::udp::UdpRepr;

use crate::bpf::Program;
use crate::cidr::family_of;
use crate::error::{BindError, ConnectError, RecvError};
use crate::forward::ForwardError;
use crate::ip::IpMeta;
use crate::options::{Family, RecvMessage, SocketOptions};
use crate::packet::Body;
use crate::port_table::Binding;
use crate::socket::datagram::{DatagramEndpoint, Queued, socket_addr};
use crate::socket::front::{datagram_front, membership_front};
use crate::socket::membership;
use crate::stack::{Core, Stack};

pub(crate) use cork::Corked;
pub(crate) use input::{Run, input, on_icmp, release_run};

/// A UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    core: Arc<Core>,
    endpoint: Arc<DatagramEndpoint>,
}

impl UdpSocket {
    /// Makes an unbound socket.
    pub fn new(stack: &Stack, family: Family) -> Self {
        Self { core: Arc::clone(&stack.core), endpoint: Arc::new(DatagramEndpoint::new(family)) }
    }

    /// Binds to a local address; port zero picks one. An IPv6 scope id is a NIC's number.
    pub fn bind(&self, local: SocketAddr) -> Result<(), BindError> {
        let parsed = self.endpoint.parse(local).ok_or(BindError::FamilyMismatch)?;
        let address = (!parsed.address.is_unspecified()).then_some(parsed.address);
        let mut state = self.endpoint.lock();
        if state.local_port != 0 {
            return Err(BindError::AlreadyBound);
        }
        if let Some(address) = address {
            check_local(&self.core, address, &state.options)?;
        }
        let binding = Binding {
            address,
            family: self.endpoint.family,
            only_v6: state.options.only_v6,
            nic: state.options.bound_nic.or(parsed.nic),
            reuse_address: state.options.reuse_address,
            reuse_port: state.options.reuse_port,
        };
        state.local_port = self.claim(parsed.port, binding, &state.options)?;
        if let Some(program) = state.group_filter.take() {
            self.core.udp.found(state.local_port, &self.endpoint, &program);
        }
        state.bound = address;
        Ok(())
    }

    /// The socket of a flow that a forwarder accepted, with its first datagram.
    pub(crate) fn of_flow(
        core: &Arc<Core>,
        ip: &IpMeta,
        header: &UdpRepr,
        payload: Body,
    ) -> Result<Self, ForwardError> {
        let family = family_of(ip.destination);
        let socket = Self { core: Arc::clone(core), endpoint: Arc::new(DatagramEndpoint::new(family)) };
        socket.set_options(|options| {
            options.transparent = true;
            options.reuse_address = true;
            options.bound_nic = Some(ip.nic);
        });
        let local = socket_addr(family, ip.destination, header.destination_port, Some(ip.nic));
        socket.bind(local).map_err(|_| ForwardError::Exists)?;
        let remote = socket_addr(family, ip.source, header.source_port, Some(ip.nic));
        socket.connect(remote).map_err(|_| ForwardError::NetworkUnreachable)?;
        let first = Queued::new(ip, header.source_port, header.destination_port, payload);
        input::enqueue(core, first, &socket.endpoint);
        Ok(socket)
    }

    /// Lets a program pick the member of the group of sockets that share the port (`SO_REUSEPORT`) for each datagram, by
    /// its number in the order of binding, from the payload (`SO_ATTACH_REUSEPORT_CBPF`). It is the group's: all members
    /// have it, and later ones get it. False unless the socket shares its port.
    pub fn set_group_filter(&self, program: Option<Program>) -> bool {
        let mut state = self.endpoint.lock();
        if state.local_port == 0 {
            state.group_filter = program.filter(|_| state.options.reuse_port);
            return state.options.reuse_port;
        }
        self.core.udp.steer(state.local_port, &self.endpoint, program.as_ref())
    }

    /// The program of the socket's group.
    pub fn group_filter(&self) -> Option<Program> {
        let state = self.endpoint.lock();
        let early = state.group_filter.clone();
        self.core.udp.steering(state.local_port, &self.endpoint).or(early)
    }

    fn claim(&self, port: u16, binding: Binding, options: &SocketOptions) -> Result<u16, BindError> {
        let table = &self.core.udp;
        if port != 0 {
            return match table.bind(port, binding, &self.endpoint) {
                Ok(()) => Ok(port),
                Err(_) => Err(BindError::AddressInUse),
            };
        }
        let range = self.core.ephemeral_ports(options);
        let picked = table.bind_any(&range, &self.core.secrets, binding, &self.endpoint);
        picked.map_err(|_| BindError::NoFreePort)
    }

    /// Gives an unbound socket a port, as sending and connecting do.
    fn autobind(&self) -> Result<u16, BindError> {
        let mut state = self.endpoint.lock();
        if state.local_port == 0 {
            let binding = Binding {
                address: None,
                family: self.endpoint.family,
                only_v6: state.options.only_v6,
                nic: state.options.bound_nic,
                reuse_address: state.options.reuse_address,
                reuse_port: state.options.reuse_port,
            };
            state.local_port = self.claim(0, binding, &state.options)?;
        }
        Ok(state.local_port)
    }

    /// Fixes the peer: only its datagrams (and errors) are received, and sends need no destination.
    pub fn connect(&self, remote: SocketAddr) -> Result<(), ConnectError> {
        let peer = self.endpoint.parse(remote).ok_or(ConnectError::FamilyMismatch)?;
        // inet_dgram_connect binds first, which shows where rules look at ports.
        if self.core.topology.load().rules.are_particular() {
            self.autobind().map_err(|_| ConnectError::NoFreePort)?;
        }
        let source = self.endpoint.connect(&self.core, Protocol::UDP, peer)?;
        let port = self.autobind().map_err(|_| ConnectError::NoFreePort)?;
        let peer = self.endpoint.lock().peer;
        let peer = peer.map(|peer| (peer.address, peer.port));
        self.core.udp.narrow(port, &self.endpoint, Some(source), peer);
        Ok(())
    }

    /// Undoes [`connect`](Self::connect).
    pub fn disconnect(&self) {
        self.endpoint.disconnect();
        let (port, bound) = {
            let state = self.endpoint.lock();
            (state.local_port, state.bound)
        };
        self.core.udp.narrow(port, &self.endpoint, bound, None);
    }
}

impl UdpSocket {
    /// Receives as many datagrams as there are, one into each message, as recvmmsg(2), and returns how many there were.
    ///
    /// # Errors
    /// `WouldBlock` if there is none. An error of the application's memory ends the call early after the first datagram.
    pub fn try_recv_many(&self, messages: &mut [RecvMessage<'_>]) -> Result<usize, RecvError> {
        self.endpoint.receive_many(messages)
    }
}

datagram_front!(UdpSocket);
membership_front!(UdpSocket);

impl Drop for UdpSocket {
    fn drop(&mut self) {
        membership::leave_all(&self.core, &self.endpoint);
        let port = self.endpoint.lock().local_port;
        if port != 0 {
            self.core.udp.unbind(port, &self.endpoint);
        }
    }
}

/// An address to bind to must be ours, a group, or a broadcast address.
pub(super) fn check_local(core: &Core, address: IpAddr, options: &SocketOptions) -> Result<(), BindError> {
    let topology = core.topology.load();
    let is_special = match address {
        IpAddr::V4(address) => address.is_multicast() || topology.is_broadcast(address),
        IpAddr::V6(address) => address.is_multicast(),
    };
    let is_anywhere = options.free_bind || options.transparent;
    let is_fine = is_special || is_anywhere || topology.local_address(address).is_some();
    if is_fine { Ok(()) } else { Err(BindError::AddressNotAvailable) }
}

/// Whether packets may leave with a bound address that is not ours (any more). As Linux: IPv4 looks at each way that is looked for
/// (`ip_route_output_key_hash_rcu`), IPv6 at binding only.
pub(super) fn may_send_from(core: &Core, source: IpAddr, options: &SocketOptions) -> bool {
    let IpAddr::V4(address) = source else { return true };
    let topology = core.topology.load();
    options.transparent
        || options.header_included
        || topology.local_address(source).is_some()
        // Those who listen there; what they send comes from elsewhere.
        || address.is_multicast()
        || topology.is_broadcast(address)
}
