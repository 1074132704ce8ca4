//! The host's ends of port forwards: listeners and datagram sockets that were bound before the gateway runs.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use netstack::options::Family;
use netstack::{Stack, TcpSocket};

use crate::config::{Config, PortForward, Transport};
use crate::flows::TcpFlows;
use crate::host::{self, Interest, Poller, Token};

/// All forwarded ports. A place in the lists is the number in the ports' tokens.
#[derive(Debug, Default)]
pub(crate) struct PortForwards {
    listeners: Vec<Option<TcpListener>>,
    /// At the places of datagram ports.
    pub(crate) sockets: Vec<Option<UdpSocket>>,
    /// The guest's ends.
    guests: Vec<SocketAddr>,
    gateways: Vec<IpAddr>,
    /// Given up for a moment to refuse clients when all others are in use.
    spare: Option<OwnedFd>,
    refused: u64,
}

/// Binds the host's ends of the forwarded ports, in their order: the part of a gateway that may need privilege, so that
/// a process which has it can do it for one that has not.
pub fn bind_forwards(forwards: &[PortForward]) -> io::Result<Vec<OwnedFd>> {
    let bind = |forward: &PortForward| match forward.transport {
        Transport::Tcp => TcpListener::bind(forward.host).map(OwnedFd::from),
        Transport::Udp => UdpSocket::bind(forward.host).map(OwnedFd::from),
    };
    forwards.iter().map(bind).collect()
}

impl PortForwards {
    /// Takes the bound sockets of the ports.
    pub(crate) fn new(config: &Config, sockets: Vec<OwnedFd>, poller: &Poller) -> io::Result<Self> {
        let mut forwards = Self { spare: Some(host::spare_descriptor()?), ..Self::default() };
        for ((index, forward), socket) in (0..).zip(&config.forwards).zip(sockets) {
            poller.add(&socket, Token::Forward(index), Interest::Readable)?;
            forwards.add(config, forward, socket)?;
        }
        Ok(forwards)
    }

    fn add(&mut self, config: &Config, forward: &PortForward, socket: OwnedFd) -> io::Result<()> {
        // A guest with one family is reached through that, whatever the client's.
        let v4 = config.v4.map(|net| (IpAddr::V4(net.guest), IpAddr::V4(net.gateway)));
        let v6 = config.v6.map(|net| (IpAddr::V6(net.guest), IpAddr::V6(net.gateway)));
        let (guest, gateway) = if forward.host.is_ipv6() { v6.or(v4) } else { v4.or(v6) }
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
        let (mut listener, mut datagrams) = (None, None);
        match forward.transport {
            Transport::Tcp => {
                let socket = TcpListener::from(socket);
                socket.set_nonblocking(true)?;
                listener = Some(socket);
            }
            Transport::Udp => {
                let socket = UdpSocket::from(socket);
                socket.set_nonblocking(true)?;
                datagrams = Some(socket);
            }
        }
        self.listeners.push(listener);
        self.sockets.push(datagrams);
        self.guests.push(SocketAddr::new(guest, forward.guest_port));
        self.gateways.push(gateway);
        Ok(())
    }

    /// How many clients were refused because descriptors had run out.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// The datagram socket of a port, with the guest's and the gateway's end.
    pub(crate) fn datagrams(&self, index: u32) -> Option<(&UdpSocket, SocketAddr, SocketAddr)> {
        let at = index as usize;
        let socket = self.sockets.get(at)?.as_ref()?;
        Some((socket, *self.guests.get(at)?, SocketAddr::new(*self.gateways.get(at)?, 0)))
    }

    /// Accepts clients of a port and connects to the guest for each.
    pub(crate) fn accept(&mut self, index: u32, stack: &Stack, poller: &Poller, flows: &mut TcpFlows) {
        let at = index as usize;
        let (Some(Some(listener)), Some(guest)) = (self.listeners.get(at), self.guests.get(at)) else {
            return;
        };
        for _ in 0..MAX_PER_TURN {
            // Level-triggered: an error of one client passes.
            let host = match listener.accept() {
                Ok((host, _)) => host,
                Err(error) if host::is_exhaustion(&error) => {
                    // A client that is left waiting would wake this loop for ever.
                    self.spare = None;
                    if let Ok((host, _)) = listener.accept() {
                        self.refused += 1;
                        host::set_reset_on_close(&host);
                    }
                    self.spare = host::spare_descriptor().ok();
                    continue;
                }
                Err(_) => return,
            };
            if host.set_nonblocking(true).is_err() || host.set_nodelay(true).is_err() {
                continue;
            }
            let family = if guest.is_ipv4() { Family::V4 } else { Family::V6 };
            let socket = TcpSocket::new(stack, family);
            socket.set_tcp_options(|options| options.no_delay = true);
            match socket.connect(*guest) {
                Ok(()) => flows.reach(poller, host, socket),
                Err(_) => host::set_reset_on_close(&host),
            }
        }
    }
}

/// Clients of one port before others have their turn.
const MAX_PER_TURN: usize = 64;
