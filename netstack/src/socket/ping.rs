//! Ping sockets: ICMP echo without privilege (Linux `socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)`).

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use netstack_wire::icmpv4::{self, Icmpv4Message};
use netstack_wire::icmpv6::Icmpv6Message;
use netstack_wire::ip::Protocol;

use crate::buffer::Source;
use crate::error::{BindError, ConnectError, SendError};
use crate::ip::icmp::{Notice, Quote};
use crate::ip::{IpExtra, IpMeta, Rx, icmp};
use crate::options::{Family, SendMeta, SocketOptions};
use crate::outbox::Outbox;
use crate::packet::{Body, Packet};
use crate::port_table::{Binding, Found, Target};
use crate::socket::datagram::{DatagramEndpoint, Queued, gather};
use crate::socket::front::datagram_front;
use crate::socket::udp::check_local;
use crate::stack::{Core, Stack};

/// A ping socket. The port of its local address is the ICMP identifier.
///
/// What is sent is an echo request starting at its type byte; the identifier and checksum are filled in. What is
/// received starts at the type byte as well.
#[derive(Debug)]
pub struct PingSocket {
    core: Arc<Core>,
    endpoint: Arc<DatagramEndpoint>,
}

impl PingSocket {
    /// Makes an unbound socket.
    pub fn new(stack: &Stack, family: Family) -> Self {
        let endpoint = DatagramEndpoint::new(family);
        // The protocol of the socket is ICMP of one version; there is nothing to map.
        endpoint.set_options(|options| options.only_v6 = true);
        Self { core: Arc::clone(&stack.core), endpoint: Arc::new(endpoint) }
    }

    /// Binds to a local address; port (identifier) zero picks one.
    pub fn bind(&self, local: SocketAddr) -> Result<(), BindError> {
        let parsed = self.endpoint.parse(local).ok_or(BindError::FamilyMismatch)?;
        let address = (!parsed.address.is_unspecified()).then_some(parsed.address);
        if let Some(address) = address {
            check_local(&self.core, address, &self.endpoint.lock().options)?;
        }
        let mut state = self.endpoint.lock();
        if state.local_port != 0 {
            return Err(BindError::AlreadyBound);
        }
        let binding = self.binding(&state.options, address);
        if parsed.port == 0 {
            state.local_port = self.claim_any(binding)?;
        } else {
            let claimed = self.core.ping.bind(parsed.port, binding, &self.endpoint);
            claimed.map_err(|_| BindError::AddressInUse)?;
            state.local_port = parsed.port;
        }
        state.bound = address;
        Ok(())
    }

    fn binding(&self, options: &SocketOptions, address: Option<std::net::IpAddr>) -> Binding {
        Binding {
            address,
            family: self.endpoint.family,
            only_v6: true,
            nic: options.bound_nic,
            reuse_address: options.reuse_address,
            reuse_port: false,
        }
    }

    fn claim_any(&self, binding: Binding) -> Result<u16, BindError> {
        let claimed = self.core.ping.bind_any(&(1..=u16::MAX), &self.core.secrets, binding, &self.endpoint);
        claimed.map_err(|_| BindError::NoFreePort)
    }

    fn autobind(&self) -> Result<u16, BindError> {
        let mut state = self.endpoint.lock();
        if state.local_port == 0 {
            let binding = self.binding(&state.options, None);
            state.local_port = self.claim_any(binding)?;
        }
        Ok(state.local_port)
    }

    fn protocol(&self) -> Protocol {
        match self.endpoint.family {
            Family::V4 => Protocol::ICMP,
            Family::V6 => Protocol::ICMPV6,
        }
    }

    /// Fixes the peer: sends need no destination.
    pub fn connect(&self, remote: SocketAddr) -> Result<(), ConnectError> {
        let peer = self.endpoint.parse(remote).ok_or(ConnectError::FamilyMismatch)?;
        self.endpoint.connect(&self.core, self.protocol(), peer)?;
        self.autobind().map_err(|_| ConnectError::NoFreePort)?;
        Ok(())
    }

    /// Undoes [`connect`](Self::connect).
    pub fn disconnect(&self) {
        self.endpoint.disconnect();
    }

    /// Sends all that is left of `data` as one echo request and returns its length.
    pub fn try_send(&self, data: &mut dyn Source, meta: &SendMeta) -> Result<usize, SendError> {
        let len = data.remaining();
        if len > usize::from(u16::MAX) - 60 {
            return Err(SendError::MessageTooLong);
        }
        let mut outgoing = self.endpoint.outgoing(&self.core, self.protocol(), meta)?;
        outgoing.label(&self.core, 0);
        let ident = self.autobind().map_err(|_| SendError::NoFreePort)?;
        let message = gather(data)?;
        let mut packet = request(self.endpoint.family, ident, &message).ok_or(SendError::Invalid)?;
        icmp::fill_checksum(&mut packet, outgoing.output.source, outgoing.output.destination);
        outgoing.tag(&mut packet);
        let mut outbox = Outbox::default();
        let sent = self.endpoint.dispatch(&self.core, &mut outgoing, packet, &mut outbox);
        outbox.flush(&self.core);
        self.endpoint.keep(outgoing.way);
        match sent {
            Ok(()) => Ok(len),
            Err(error) => {
                Err(self.endpoint.output_failed(error, (outgoing.output.destination, outgoing.port)))
            }
        }
    }
}

datagram_front!(PingSocket);

impl Drop for PingSocket {
    fn drop(&mut self) {
        let port = self.endpoint.lock().local_port;
        if port != 0 {
            self.core.ping.unbind(port, &self.endpoint);
        }
    }
}

/// The user's echo request with our identifier; `None` if it is none.
fn request(family: Family, ident: u16, message: &Bytes) -> Option<Packet> {
    let mut header = [0; icmpv4::HEADER_LEN];
    match family {
        Family::V4 => match Icmpv4Message::parse(message)? {
            Icmpv4Message::EchoRequest { sequence, .. } => {
                Icmpv4Message::EchoRequest { ident, sequence }.emit(&mut header);
            }
            _ => return None,
        },
        Family::V6 => match Icmpv6Message::parse(message)? {
            Icmpv6Message::EchoRequest { sequence, .. } => {
                Icmpv6Message::EchoRequest { ident, sequence }.emit(&mut header);
            }
            _ => return None,
        },
    }
    let mut packet = Packet::from_body(Body::from_iter([message.slice(icmpv4::HEADER_LEN..)]));
    packet.push_header(header.len()).copy_from_slice(&header);
    Some(packet)
}

/// Takes an echo reply.
pub(crate) fn deliver(
    rx: &mut Rx<'_>,
    ip: &IpMeta,
    ident: u16,
    message: &Bytes,
    options: Option<Box<IpExtra>>,
) {
    let target =
        Target { local: ip.destination, local_port: ident, remote: ip.source, remote_port: 0, nic: ip.nic };
    let Some(endpoint) = rx.core.ping.lookup(&target, || 0).map(Found::by_hash) else { return };
    let mut packet = Packet::from_frame(message.clone());
    if endpoint.filter.admits(rx, ip, &mut packet, 0, 0) {
        endpoint.enqueue(Queued::new(ip, 0, ident, packet.into_body()).with_options(options));
    }
}

/// An ICMP error about an echo request of ours.
pub(crate) fn on_icmp(core: &Core, quote: &Quote<'_>, notice: &Notice) -> bool {
    let &[_, _, _, _, a, b, ..] = quote.bytes else { return false };
    let Some(nic) = core.topology.load().local_address(quote.source).map(|local| local.nic) else {
        return false;
    };
    let ident = u16::from_be_bytes([a, b]);
    let target =
        Target { local: quote.source, local_port: ident, remote: quote.destination, remote_port: 0, nic };
    let Some(endpoint) = core.ping.lookup(&target, || 0).map(Found::by_hash) else { return false };
    endpoint.on_icmp(notice, (quote.destination, 0), quote.bytes);
    true
}
