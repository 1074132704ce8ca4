//! A node that is smoltcp, an independent stack.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use netstack::MacAddr;
use netstack::tcp::Algorithm;
use netstack::time::Instant;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, IpEndpoint};

use crate::host::{mac_of, v4_of, v6_of};

/// How a smoltcp node is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmoltcpSpec {
    /// The MTU of its interface.
    pub mtu: usize,
    /// The size of each socket's receive and of its send buffer; smoltcp does not tune them.
    pub buffer: usize,
    /// Congestion control of its sockets; `None` is none at all, smoltcp's default without features.
    pub congestion: Option<Algorithm>,
}

impl Default for SmoltcpSpec {
    fn default() -> Self {
        Self { mtu: 1500, buffer: 256 << 10, congestion: Some(Algorithm::Cubic) }
    }
}

/// smoltcp with one interface, and addresses like those of a [`Host`](crate::Host).
pub struct SmoltcpHost {
    pub(crate) mac: MacAddr,
    spec: SmoltcpSpec,
    queues: Queues,
    interface: Interface,
    sockets: SocketSet<'static>,
    deadline: Option<Instant>,
}

impl SmoltcpHost {
    pub(crate) fn new(number: u16, spec: &SmoltcpSpec, now: Instant) -> Self {
        let mac = mac_of(number);
        let mut queues = Queues { mtu: spec.mtu, ..Queues::default() };
        let mut config = Config::new(EthernetAddress(mac.0).into());
        config.random_seed = number.into();
        let mut interface = Interface::new(config, &mut queues, time(now));
        interface.update_ip_addrs(|addresses| {
            for (address, len) in [(IpAddr::V4(v4_of(number)), 16), (v6_of(number).into(), 64)] {
                addresses.push(IpCidr::new(address.into(), len)).expect("room for two addresses");
            }
        });
        Self { mac, spec: *spec, queues, interface, sockets: SocketSet::new(Vec::new()), deadline: None }
    }

    fn add_socket(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; self.spec.buffer]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_congestion_control(match self.spec.congestion {
            None => tcp::CongestionControl::None,
            Some(Algorithm::NewReno) => tcp::CongestionControl::Reno,
            // It has nothing newer.
            Some(_) => tcp::CongestionControl::Cubic,
        });
        self.sockets.add(socket)
    }

    /// A socket that waits for one connection.
    ///
    /// # Panics
    /// If the port is zero.
    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let handle = self.add_socket();
        self.socket(handle).listen(port).expect("a new socket listens");
        handle
    }

    /// A socket that has begun to connect from a port of its own.
    ///
    /// # Panics
    /// If a port is zero.
    pub fn connect(&mut self, remote: SocketAddr, local_port: u16) -> SocketHandle {
        let handle = self.add_socket();
        let remote = IpEndpoint::new(IpAddress::from(remote.ip()), remote.port());
        let Self { interface, sockets, .. } = self;
        let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(interface.context(), remote, local_port).expect("a new socket connects");
        handle
    }

    /// A socket.
    pub fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Forgets a socket.
    pub fn remove(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn deliver(&mut self, now: Instant, frames: Vec<Bytes>) {
        self.queues.inbound.extend(frames);
        self.poll(now);
    }

    pub(crate) fn advance_to(&mut self, now: Instant) {
        if self.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.poll(now);
        }
    }

    pub(crate) fn take_frames(&mut self, now: Instant, out: &mut Vec<Bytes>) {
        // What the application did since shows in its segments only now.
        self.poll(now);
        out.append(&mut self.queues.outbound);
    }

    fn poll(&mut self, now: Instant) {
        self.interface.poll(time(now), &mut self.queues, &mut self.sockets);
        let next = self.interface.poll_at(time(now), &self.sockets);
        // What it cannot do just now it calls due at once, for ever.
        let earliest = now + Duration::from_micros(1);
        let next = next.and_then(|at| u64::try_from(at.total_micros()).ok()).map(Instant::from_micros);
        self.deadline = next.map(|at| at.max(earliest));
    }
}

impl std::fmt::Debug for SmoltcpHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmoltcpHost").field("mac", &self.mac).finish_non_exhaustive()
    }
}

fn time(now: Instant) -> smoltcp::time::Instant {
    // 292 thousand years of microseconds fit.
    smoltcp::time::Instant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

/// smoltcp's side of the links.
#[derive(Default)]
struct Queues {
    mtu: usize,
    inbound: VecDeque<Bytes>,
    outbound: Vec<Bytes>,
}

struct Rx(Bytes);
struct Tx<'a>(&'a mut Vec<Bytes>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = vec![0; len];
        let result = write(&mut frame);
        self.0.push(frame.into());
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Rx, Tx<'_>)> {
        let frame = self.inbound.pop_front()?;
        Some((Rx(frame), Tx(&mut self.outbound)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.outbound))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities
    }
}
