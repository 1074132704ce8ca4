//! Forwarders: a program decides about flows that no local socket wants.
//!
//! A [`Forwarder`] makes its NIC take packets for *any* unicast destination, as a transparent proxy does, and hands the
//! program a [`Request`] for each TCP connection that somebody tries to open, each UDP datagram and each echo request
//! for which the stack has neither a socket nor (for echo) an address. The program accepts, refuses, rejects with an
//! ICMP error, or ignores; whatever it sends back carries the address that the other end had asked for.
//!
//! Like everything else here a forwarder never waits: [`Forwarder::next`] says `None` when nothing is pending and
//! [`Forwarder::wait_queue`] tells when to ask again, in manual mode too.
//!
//! ```
//! use netstack::forward::{ForwardOptions, Forwarder, Request};
//! use netstack::link::{Capabilities, Medium, channel::ChannelLink};
//! use netstack::Stack;
//!
//! let stack = Stack::builder().manual_clock().build();
//! let link = ChannelLink::new(Medium::Ip, 1500, Capabilities::default(), 64);
//! let nic = stack.add_nic("tun0", link.clone()).unwrap();
//! // Answers need a route back.
//! stack.add_address(nic, "10.0.2.2/24".parse().unwrap()).unwrap();
//! let forwarder = Forwarder::new(&stack, nic, ForwardOptions::default()).unwrap();
//!
//! // ... frames arrive: stack.deliver(nic, &mut frames) ...
//!
//! while let Some(request) = forwarder.next() {
//!     match request {
//!         // Connect outwards first, and accept when that has succeeded: until then the SYN stays unanswered.
//!         Request::Tcp(request) if request.to().port() == 25 => request.refuse(),
//!         Request::Tcp(request) => drop(request.accept()),
//!         Request::Udp(request) => println!("{} bytes for {}", request.payload_len(), request.to()),
//!         Request::Echo(request) => request.reply(),
//!     }
//! }
//! ```
//!
//! # Limits
//! At most [`ForwardOptions::max_pending`] requests wait for `next` or, for TCP, for their decision. What comes beyond
//! that is dropped and counted ([`Forwarder::dropped`]): a SYN is repeated by its sender.
//!
//! Sockets of the same stack that are bound to the unspecified address see forwarded traffic to their port first, as
//! they see that of every local address.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{ConfigError, SendError};
use crate::nic::NicId;
use crate::stack::{Core, Stack};
use crate::wait::{Readiness, WaitQueue};

mod endpoint;
mod reply;
mod request;

pub(crate) use endpoint::{ForwardEndpoint, nic_about, nic_towards, offer_datagram, offer_echo, offer_syn};
pub use request::{EchoRequest, Request, TcpRequest, UdpRequest};

bitflags::bitflags! {
    /// What a forwarder is asked about.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Forwarded: u8 {
        /// TCP connections.
        const TCP = 1;
        /// UDP datagrams.
        const UDP = 2;
        /// ICMP and ICMPv6 echo requests to addresses that are not the stack's.
        const ECHO = 4;
    }
}

/// How a forwarder works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardOptions {
    /// What it is asked about; the rest is answered as on any host.
    pub kinds: Forwarded,
    /// How many requests may be undecided.
    pub max_pending: usize,
}

impl Default for ForwardOptions {
    /// Everything; 1024 requests.
    fn default() -> Self {
        Self { kinds: Forwarded::all(), max_pending: 1024 }
    }
}

/// Why a destination cannot be reached, for ICMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unreachable {
    /// Nobody listens on the port.
    Port,
    /// The host does not answer.
    Host,
    /// There is no way to the network.
    Network,
    /// Somebody does not want it.
    Prohibited,
}

/// Why a connection could not be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// No route leads back to the one who asked.
    #[error("network unreachable")]
    NetworkUnreachable,
    /// The flow has a connection already.
    #[error("connection exists")]
    Exists,
}

/// Takes what no socket wants from a NIC. Dropping it makes the NIC's stack an ordinary host again; connections that
/// were accepted live on.
#[derive(Debug)]
pub struct Forwarder {
    core: Arc<Core>,
    endpoint: Arc<ForwardEndpoint>,
}

impl Forwarder {
    /// Starts to take requests from a NIC, which can have one forwarder.
    pub fn new(stack: &Stack, nic: NicId, options: ForwardOptions) -> Result<Self, ConfigError> {
        let core = Arc::clone(&stack.core);
        let topology = core.topology.load();
        let interface = topology.interface(nic).ok_or(ConfigError::NoSuchNic)?;
        let endpoint = Arc::new(ForwardEndpoint::new(nic, options));
        if !interface.set_forwarder(&endpoint) {
            return Err(ConfigError::Exists);
        }
        Ok(Self { core, endpoint })
    }

    /// The NIC.
    pub fn nic(&self) -> NicId {
        self.endpoint.nic
    }

    /// Takes the oldest request.
    pub fn next(&self) -> Option<Request> {
        self.endpoint.next(&self.core)
    }

    /// Readable while there is a request to take.
    pub fn readiness(&self) -> Readiness {
        self.endpoint.readiness()
    }

    /// Where to wait for requests.
    pub fn wait_queue(&self) -> &WaitQueue {
        &self.endpoint.waiters
    }

    /// How many requests were dropped because too many were pending.
    pub fn dropped(&self) -> u64 {
        self.endpoint.dropped()
    }

    /// Sends a UDP datagram on the NIC with any source: the answer to a [`UdpRequest`] goes from its `to` to its
    /// `from`.
    pub fn send_udp(&self, from: SocketAddr, to: SocketAddr, payload: Bytes) -> Result<(), SendError> {
        reply::send_udp(&self.core, self.endpoint.nic, from, to, payload)
    }

    /// Tells the sender of a datagram with an ICMP error that it could not be delivered; for programs that learn it
    /// after they have let go of the [`UdpRequest`].
    pub fn reject_udp(&self, from: SocketAddr, to: SocketAddr, reason: Unreachable) {
        reply::reject_udp(&self.core, from, to, reason);
    }

    /// Sends an echo reply on the NIC with any source; for programs that answer later than from within
    /// [`EchoRequest::reply`].
    pub fn send_echo_reply(
        &self,
        from: IpAddr,
        to: IpAddr,
        ident: u16,
        sequence: u16,
        payload: Bytes,
    ) -> Result<(), SendError> {
        reply::send_echo_reply(&self.core, self.endpoint.nic, from, to, (ident, sequence), payload)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        if let Some(interface) = self.core.topology.load().interface(self.endpoint.nic) {
            interface.clear_forwarder(&self.endpoint);
        }
    }
}
