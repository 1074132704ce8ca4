//! Echo requests through ping sockets, where the host permits them (`net.ipv4.ping_group_range`).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytes::Bytes;
use netstack::Forwarder;
use netstack::forward::{EchoRequest, Unreachable};

use crate::addresses::Addresses;
use crate::expiry::Expiry;
use crate::host::{self, Interest, Poller, Token};
use crate::slab::{Key, Slab};

/// One program of the guest that pings one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Ends {
    guest: IpAddr,
    remote: IpAddr,
    ident: u16,
}

/// All echo flows of a gateway.
#[derive(Debug)]
pub(crate) struct EchoFlows {
    flows: Slab<Flow>,
    by_ends: HashMap<Ends, Key>,
    expiry: Expiry,
    buffer: Box<[u8]>,
    refused: u64,
}

#[derive(Debug)]
struct Flow {
    ends: Ends,
    socket: UdpSocket,
    used: Instant,
}

impl EchoFlows {
    pub(crate) fn new() -> Self {
        let buffer = vec![0; MAX_MESSAGE].into_boxed_slice();
        Self {
            flows: Slab::default(),
            by_ends: HashMap::new(),
            expiry: Expiry::default(),
            buffer,
            refused: 0,
        }
    }

    /// How many requests were dropped because they would have been one program too many.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// The guest pings somebody.
    pub(crate) fn on_request(&mut self, poller: &Poller, addresses: &Addresses, request: EchoRequest) {
        let ends = Ends { guest: request.from(), remote: request.to(), ident: request.ident() };
        let key = match self.by_ends.get(&ends) {
            Some(key) => *key,
            None => match self.open(poller, addresses, ends) {
                Ok(key) => key,
                Err(error) => {
                    self.refused += u64::from(host::is_exhaustion(&error));
                    return decline(request, &error);
                }
            },
        };
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.used = Instant::now();
        let kind = if ends.remote.is_ipv4() { ECHO_REQUEST } else { ECHO_REQUEST_V6 };
        let [high, low] = request.sequence().to_be_bytes();
        // The host fills in checksum and identifier.
        let message = [&[kind, 0, 0, 0, 0, 0, high, low], &request.payload()[..]].concat();
        if let Err(error) = flow.socket.send(&message) {
            decline(request, &error);
        }
    }

    fn open(&mut self, poller: &Poller, addresses: &Addresses, ends: Ends) -> io::Result<Key> {
        let to = addresses.behind((ends.remote, 0).into());
        let to = to.ok_or_else(|| io::Error::from_raw_os_error(libc::EACCES))?;
        if self.flows.len() >= MAX_FLOWS {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let socket = host::connected_ping(to.ip())?;
        let used = Instant::now();
        let mut added = Ok(());
        let key = self.flows.insert_with(|key| {
            added = poller.add(&socket, Token::Echo(key), Interest::Readable);
            Flow { ends, socket, used }
        });
        if let Err(error) = added {
            self.flows.remove(key);
            return Err(error);
        }
        self.by_ends.insert(ends, key);
        self.expiry.push(used + LIFETIME, key);
        Ok(key)
    }

    /// Somebody answered, or the network did.
    pub(crate) fn on_host_event(&mut self, forwarder: &Forwarder, key: Key) {
        let Some(Flow { ends, socket, .. }) = self.flows.get_mut(key) else { return };
        for _ in 0..MAX_PER_TURN {
            // An error is the network's answer to one of the requests, and consumed by being returned once.
            let len = match socket.recv(&mut self.buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => continue,
            };
            let &[kind, _, _, _, _, _, high, low, ..] = &self.buffer[..len] else { continue };
            if kind != ECHO_REPLY && kind != ECHO_REPLY_V6 {
                continue;
            }
            let payload = Bytes::copy_from_slice(&self.buffer[HEADER_LEN..len]);
            let sequence = u16::from_be_bytes([high, low]);
            let _ = forwarder.send_echo_reply(ends.remote, ends.guest, ends.ident, sequence, payload);
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.expiry.next()
    }

    /// Ends the flows that nobody used.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(key) = self.expiry.pop_due(now) {
            let Some(flow) = self.flows.get_mut(key) else { continue };
            let end = flow.used + LIFETIME;
            if end > now {
                self.expiry.push(end, key);
            } else if let Some(flow) = self.flows.remove(key) {
                self.by_ends.remove(&flow.ends);
            }
        }
    }
}

fn decline(request: EchoRequest, error: &io::Error) {
    match error.raw_os_error() {
        Some(libc::EHOSTUNREACH | libc::EHOSTDOWN) => request.reject(Unreachable::Host),
        Some(libc::ENETUNREACH | libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => {
            request.reject(Unreachable::Network);
        }
        Some(libc::EACCES | libc::EPERM) => request.reject(Unreachable::Prohibited),
        _ => {}
    }
}

/// RFC 5508 REQ-1: an ICMP query session timer "MUST NOT expire in less than 60 seconds".
const LIFETIME: Duration = Duration::from_secs(60);
/// Programs that ping at a time; requests of others are dropped.
const MAX_FLOWS: usize = 256;
const MAX_PER_TURN: usize = 64;
const MAX_MESSAGE: usize = 65_536;
const HEADER_LEN: usize = 8;
/// RFC 792 and RFC 4443 section 4.
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;
