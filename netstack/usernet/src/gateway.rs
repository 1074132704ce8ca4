//! The gateway: one thread that waits for the link and the host's sockets, and gives each what it waits for.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netstack::error::ConfigError;
use netstack::forward::{ForwardOptions, Forwarder, Request};
use netstack::gauges::Gauges;
use netstack::packet::Packet;
use netstack::tcp::{self, BufferSizes};
use netstack::{IpCidr, NicId, Stack};
use netstack_host_links::{HostLink, ReceiveError};
use thiserror::Error;

use crate::addresses::Addresses;
use crate::config::Config;
use crate::dhcp::DhcpServer;
use crate::echo::EchoFlows;
use crate::flows::TcpFlows;
use crate::host::{Interest, Poller, Token};
use crate::port_forward::{PortForwards, bind_forwards};
use crate::router::{self, Router};
use crate::udp::UdpFlows;

/// Why a gateway could not be made, or had to stop.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// The configuration names impossible addresses.
    #[error("the guest's network: {0}")]
    Network(#[from] ConfigError),
    /// The host refused something.
    #[error("{step}: {source}")]
    Host {
        /// What was being done.
        step: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

/// What a gateway carries at the moment, and has carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// TCP connections now.
    pub tcp_flows: usize,
    /// TCP connections since the start.
    pub tcp_opened: u64,
    /// UDP flows now.
    pub udp_flows: usize,
    /// Requests of the guest that were dropped because too many were undecided.
    pub dropped: u64,
    /// What was turned away because the host's descriptors or memory had run out, or a table was full.
    pub refused: Refused,
}

/// What was turned away for want of room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refused {
    /// Connections of the guest, which were reset.
    pub tcp: u64,
    /// Datagrams that would have begun a flow.
    pub udp: u64,
    /// Echo requests that would have begun a flow.
    pub echo: u64,
    /// Clients of forwarded ports, which were reset.
    pub clients: u64,
}

/// Carries a guest's traffic over the host's sockets.
pub struct Gateway {
    stack: Stack,
    nic: NicId,
    link: Arc<dyn HostLink>,
    forwarder: Forwarder,
    poller: Poller,
    addresses: Addresses,
    tcp: TcpFlows,
    udp: UdpFlows,
    echo: EchoFlows,
    forwards: PortForwards,
    dhcp: Option<DhcpServer>,
    router: Option<Router>,
    frames: Vec<Packet>,
}

/// Whether the guest is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guest {
    There,
    Gone,
}

impl Gateway {
    /// Makes a gateway for the guest at the other end of `link`, and binds the forwarded ports.
    pub fn new(link: Arc<dyn HostLink>, config: &Config) -> Result<Self, GatewayError> {
        let bound = |source| GatewayError::Host { step: "bind a forwarded port", source };
        let sockets = bind_forwards(&config.forwards).map_err(bound)?;
        Self::with_sockets(link, config, sockets)
    }

    /// The same with the sockets of the forwarded ports from [`bind_forwards`].
    pub fn with_sockets(
        link: Arc<dyn HostLink>,
        config: &Config,
        sockets: Vec<OwnedFd>,
    ) -> Result<Self, GatewayError> {
        let host = |step| move |source| GatewayError::Host { step, source };
        let stack = Stack::builder().without_loopback().tcp_config(tcp_config()).build();
        let nic = stack.add_nic("guest", Arc::clone(&link) as _)?;
        for cidr in own_addresses(config) {
            stack.add_address(nic, cidr.ok_or(ConfigError::Invalid)?)?;
        }
        let options = ForwardOptions { max_pending: MAX_PENDING, ..ForwardOptions::default() };
        let forwarder = Forwarder::new(&stack, nic, options)?;
        let poller = Poller::new().map_err(host("epoll_create"))?;
        poller.add(link.fd(), Token::Link, Interest::Readable).map_err(host("watch the link"))?;
        let forwards = PortForwards::new(config, sockets, &poller).map_err(host("watch a forwarded port"))?;
        Ok(Self {
            dhcp: DhcpServer::new(&stack, nic, config),
            router: Router::new(&stack, nic, config),
            stack,
            nic,
            link,
            forwarder,
            poller,
            addresses: Addresses::new(config),
            tcp: TcpFlows::new(),
            udp: UdpFlows::new(),
            echo: EchoFlows::new(),
            forwards,
            frames: Vec::new(),
        })
    }

    /// Works until the link is gone.
    pub fn run(&mut self) -> Result<(), GatewayError> {
        while self.turn(None)? == Guest::There {}
        Ok(())
    }

    /// Works for about `span`, for a caller with other things to do in between. Returns whether the link is still there.
    pub fn run_for(&mut self, span: Duration) -> Result<bool, GatewayError> {
        let end = Instant::now() + span;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if self.turn(Some(left))? == Guest::Gone {
                return Ok(false);
            }
            if left.is_zero() {
                return Ok(true);
            }
        }
    }

    /// What it carries.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            tcp_flows: self.tcp.len(),
            tcp_opened: self.tcp.opened(),
            udp_flows: self.udp.len(),
            dropped: self.forwarder.dropped(),
            refused: Refused {
                tcp: self.tcp.refused(),
                udp: self.udp.refused(),
                echo: self.echo.refused(),
                clients: self.forwards.refused(),
            },
        }
    }

    /// What its stack holds.
    pub fn gauges(&self) -> Gauges {
        self.stack.gauges()
    }

    /// Waits once, at most for `limit`, and does all that there is to do.
    fn turn(&mut self, limit: Option<Duration>) -> Result<Guest, GatewayError> {
        let wait = |source| GatewayError::Host { step: "epoll_wait", source };
        let patience = self.patience().into_iter().chain(limit).min();
        let count = self.poller.wait(patience).map_err(wait)?;
        for index in 0..count {
            let (token, events) = self.poller.event(index);
            match token {
                Token::Link => {
                    if self.receive() == Guest::Gone {
                        return Ok(Guest::Gone);
                    }
                }
                Token::Tcp(key) => self.tcp.on_host_event(key, events),
                Token::Udp(key) => self.udp.on_host_event(&self.forwarder, key),
                Token::Echo(key) => self.echo.on_host_event(&self.forwarder, key),
                Token::Forward(index) => self.on_forward(index),
            }
        }
        self.answer_requests();
        self.tcp.work(&self.poller);
        self.run_timers();
        Ok(Guest::There)
    }

    /// How long there is nothing to do unasked.
    fn patience(&self) -> Option<Duration> {
        if self.tcp.has_work() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let router = self.router.as_ref().map(Router::next_deadline);
        let own = [self.udp.next_deadline(), self.echo.next_deadline(), router];
        let own = own.into_iter().flatten().map(|at| at.saturating_duration_since(now)).min();
        let stack = self.stack.next_deadline().map(|at| at - self.stack.now());
        own.into_iter().chain(stack).min()
    }

    /// Carries a batch of frames into the stack.
    fn receive(&mut self) -> Guest {
        let mut leader = self.link.lead();
        match leader.receive(&mut self.frames) {
            Ok(_) => self.stack.deliver(self.nic, &mut self.frames),
            Err(ReceiveError::Down) => {}
            Err(ReceiveError::Gone) => return Guest::Gone,
        }
        drop(leader);
        if let Some(dhcp) = &self.dhcp {
            dhcp.work();
        }
        if let Some(router) = &mut self.router {
            router.work(Instant::now());
        }
        Guest::There
    }

    fn answer_requests(&mut self) {
        while let Some(request) = self.forwarder.next() {
            match request {
                Request::Tcp(request) => self.tcp.open(&self.poller, &self.addresses, request),
                Request::Udp(request) => {
                    let sockets = &self.forwards.sockets;
                    self.udp.on_request(&self.poller, &self.addresses, sockets, request);
                }
                Request::Echo(request) => self.echo.on_request(&self.poller, &self.addresses, request),
            }
        }
    }

    fn on_forward(&mut self, index: u32) {
        match self.forwards.datagrams(index) {
            Some((socket, guest, gateway)) => {
                self.udp.on_forward(&self.forwarder, index, socket, guest, gateway);
            }
            None => self.forwards.accept(index, &self.stack, &self.poller, &mut self.tcp),
        }
    }

    fn run_timers(&mut self) {
        if self.stack.next_deadline().is_some_and(|at| at <= self.stack.now()) {
            self.stack.run_timers();
        }
        let now = Instant::now();
        self.udp.expire(now);
        self.echo.expire(now);
        if let Some(router) = self.router.as_mut().filter(|router| router.next_deadline() <= now) {
            router.work(now);
        }
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}

/// The gateway's own addresses with their networks; `None` for an impossible one.
fn own_addresses(config: &Config) -> Vec<Option<IpCidr>> {
    let v4 =
        config.v4.iter().flat_map(|net| [net.gateway, net.dns].map(|own| (IpAddr::V4(own), net.prefix_len)));
    let v6 = config.v6.iter().flat_map(|net| [net.gateway, net.dns, router::LINK_LOCAL]);
    let v6 = v6.map(|own| (IpAddr::V6(own), 64));
    v4.chain(v6).map(|(own, prefix_len)| IpCidr::new(own, prefix_len)).collect()
}

/// The path to the guest has no delay, so that buffers need not be large: what is in flight should fit the cache.
fn tcp_config() -> tcp::Config {
    let usual = tcp::Config::default();
    tcp::Config {
        receive_buffer: BufferSizes { default: 1 << 20, max: 2 << 20, ..usual.receive_buffer },
        send_buffer: BufferSizes { default: 512 << 10, max: 1 << 20, ..usual.send_buffer },
        // Nothing on the link delays a segment; at ten thousand connections a second a minute of them is much.
        time_wait: Duration::from_secs(1),
        ..usual
    }
}

/// Connections of the guest that the host is making: a burst of a busy client.
const MAX_PENDING: usize = 4096;
