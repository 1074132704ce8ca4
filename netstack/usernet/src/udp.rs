//! The UDP flows: a host socket for each pair of ends, which ends by itself when nothing goes through it.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use bytes::Bytes;
use netstack::Forwarder;
use netstack::forward::{UdpRequest, Unreachable};
use nix::sys::socket::{MsgFlags, SockaddrStorage, sendmsg};
use smallvec::SmallVec;

use crate::addresses::Addresses;
use crate::expiry::Expiry;
use crate::host::{self, Interest, Poller, Token};
use crate::slab::{Key, Slab};

/// The two ends of a flow as the guest sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ends {
    pub(crate) guest: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// All UDP flows of a gateway.
#[derive(Debug)]
pub(crate) struct UdpFlows {
    flows: Slab<Flow>,
    by_ends: HashMap<Ends, Key>,
    /// Flows of forwarded ports, by the port's place in the list and the client.
    by_client: HashMap<(u32, SocketAddr), Key>,
    expiry: Expiry,
    buffer: Box<[u8]>,
    refused: u64,
}

#[derive(Debug)]
struct Flow {
    ends: Ends,
    path: Path,
    used: Instant,
}

/// How datagrams leave the host.
#[derive(Debug)]
enum Path {
    /// Through a socket of the flow's own, which is connected.
    Own(UdpSocket),
    /// Through the socket of a forwarded port, to the client that began the flow.
    Forward { index: u32, client: SocketAddr },
}

impl UdpFlows {
    pub(crate) fn new() -> Self {
        Self {
            flows: Slab::default(),
            by_ends: HashMap::new(),
            by_client: HashMap::new(),
            expiry: Expiry::default(),
            buffer: vec![0; MAX_DATAGRAM].into_boxed_slice(),
            refused: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// How many datagrams were dropped because their flow would have been one too many.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// The guest sent a datagram. `forwards` are the sockets of the forwarded ports.
    pub(crate) fn on_request(
        &mut self,
        poller: &Poller,
        addresses: &Addresses,
        forwards: &[Option<UdpSocket>],
        request: UdpRequest,
    ) {
        let ends = Ends { guest: request.from(), remote: request.to() };
        let key = match self.by_ends.get(&ends) {
            Some(key) => *key,
            None => {
                let Some(to) = addresses.behind(ends.remote) else {
                    return request.reject(Unreachable::Port);
                };
                match self.open(poller, ends, to) {
                    Ok(key) => key,
                    Err(error) => {
                        self.refused += u64::from(host::is_exhaustion(&error));
                        return decline(request, &error);
                    }
                }
            }
        };
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.used = Instant::now();
        let sent = match &flow.path {
            Path::Own(socket) => send(socket, &request, None),
            Path::Forward { index, client } => match forwards.get(*index as usize) {
                Some(Some(socket)) => send(socket, &request, Some(*client)),
                _ => Ok(()),
            },
        };
        if let Err(error) = sent {
            decline(request, &error);
        }
    }

    fn open(&mut self, poller: &Poller, ends: Ends, to: SocketAddr) -> io::Result<Key> {
        if self.flows.len() >= MAX_FLOWS {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let socket = host::connected_udp(to)?;
        let mut added = Ok(());
        let key = self.insert(ends, |key| {
            added = poller.add(&socket, Token::Udp(key), Interest::Readable);
            Path::Own(socket)
        });
        match added {
            Ok(()) => Ok(key),
            Err(error) => {
                self.remove(key);
                Err(error)
            }
        }
    }

    fn insert(&mut self, ends: Ends, path: impl FnOnce(Key) -> Path) -> Key {
        let used = Instant::now();
        let key = self.flows.insert_with(|key| Flow { ends, path: path(key), used });
        self.by_ends.insert(ends, key);
        self.expiry.push(used + lifetime(ends), key);
        key
    }

    fn remove(&mut self, key: Key) {
        let Some(flow) = self.flows.remove(key) else { return };
        self.by_ends.remove(&flow.ends);
        if let Path::Forward { index, client } = flow.path {
            self.by_client.remove(&(index, client));
        }
    }

    /// A flow's host socket has datagrams, or an error.
    pub(crate) fn on_host_event(&mut self, forwarder: &Forwarder, key: Key) {
        let Some(Flow { ends, path: Path::Own(socket), used }) = self.flows.get_mut(key) else { return };
        for _ in 0..MAX_PER_TURN {
            match socket.recv(&mut self.buffer) {
                Ok(len) => {
                    *used = Instant::now();
                    let payload = Bytes::copy_from_slice(&self.buffer[..len]);
                    // Lost as any datagram may be.
                    let _ = forwarder.send_udp(ends.remote, ends.guest, payload);
                }
                Err(error) => match reason(&error) {
                    // The network's answer to what the guest sent.
                    Some(reason) => forwarder.reject_udp(ends.guest, ends.remote, reason),
                    None => return,
                },
            }
        }
    }

    /// A client sent datagrams to a forwarded port. `ends` says how its flow looks to the guest.
    pub(crate) fn on_forward(
        &mut self,
        forwarder: &Forwarder,
        index: u32,
        socket: &UdpSocket,
        guest: SocketAddr,
        gateway: SocketAddr,
    ) {
        for _ in 0..MAX_PER_TURN {
            let Ok((len, client)) = socket.recv_from(&mut self.buffer) else { return };
            let payload = Bytes::copy_from_slice(&self.buffer[..len]);
            let key = match self.by_client.get(&(index, client)) {
                Some(key) => *key,
                None => match self.begin_forward(index, client, guest, gateway) {
                    Some(key) => key,
                    None => continue,
                },
            };
            let Some(flow) = self.flows.get_mut(key) else { continue };
            flow.used = Instant::now();
            let _ = forwarder.send_udp(flow.ends.remote, flow.ends.guest, payload);
        }
    }

    /// Gives a client a port on the gateway's address, its own number if that is free.
    fn begin_forward(
        &mut self,
        index: u32,
        client: SocketAddr,
        guest: SocketAddr,
        gateway: SocketAddr,
    ) -> Option<Key> {
        if self.flows.len() >= MAX_FLOWS {
            self.refused += 1;
            return None;
        }
        let ports = std::iter::once(client.port()).chain(FIRST_PORT..=u16::MAX);
        let ends = ports
            .map(|port| Ends { guest, remote: SocketAddr::new(gateway.ip(), port) })
            .find(|ends| !self.by_ends.contains_key(ends))?;
        let key = self.insert(ends, |_| Path::Forward { index, client });
        self.by_client.insert((index, client), key);
        Some(key)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.expiry.next()
    }

    /// Ends the flows that nobody used.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(key) = self.expiry.pop_due(now) {
            let Some(flow) = self.flows.get_mut(key) else { continue };
            let end = flow.used + lifetime(flow.ends);
            if end > now {
                self.expiry.push(end, key);
            } else {
                self.remove(key);
            }
        }
    }
}

/// Sends a datagram's pieces.
fn send(socket: &UdpSocket, request: &UdpRequest, to: Option<SocketAddr>) -> io::Result<()> {
    let slices: SmallVec<[IoSlice<'_>; 4]> =
        request.payload().iter().map(|piece| IoSlice::new(piece)).collect();
    let to = to.map(SockaddrStorage::from);
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg(socket.as_raw_fd(), &slices, &[], flags, to.as_ref())?;
    Ok(())
}

/// What an error of the host's socket says about the destination; `None` if it says nothing.
fn reason(error: &io::Error) -> Option<Unreachable> {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => Some(Unreachable::Port),
        Some(libc::EHOSTUNREACH | libc::EHOSTDOWN) => Some(Unreachable::Host),
        Some(libc::ENETUNREACH | libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => Some(Unreachable::Network),
        Some(libc::EACCES | libc::EPERM) => Some(Unreachable::Prohibited),
        _ => None,
    }
}

fn decline(request: UdpRequest, error: &io::Error) {
    if let Some(reason) = reason(error) {
        request.reject(reason);
    }
}

/// How long a flow lives unused. RFC 4787 REQ-5: "a NAT UDP mapping timer MUST NOT expire in less than two minutes",
/// and less for well-known ports where that is known to do: a name server answers or does not.
fn lifetime(ends: Ends) -> Duration {
    match ends.remote.port() {
        53 => Duration::from_secs(20),
        _ => Duration::from_secs(120),
    }
}

/// As many as a process may have descriptors on a small host, with some left for TCP. What comes beyond is dropped.
const MAX_FLOWS: usize = 4096;
/// Datagrams of one flow before others have their turn.
const MAX_PER_TURN: usize = 64;
/// The largest payload, rounded up.
const MAX_DATAGRAM: usize = 65_536;
/// Ports of the gateway for clients whose own number is taken.
const FIRST_PORT: u16 = 49_152;
