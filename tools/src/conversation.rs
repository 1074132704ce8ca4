//! Flows without connections: UDP (with DNS), ICMP echo, ARP and the rest.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::dissect::{Content, Dissection, EchoKind};

/// What the packets of a flow have in common, with the lower address first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Udp(SocketAddr, SocketAddr),
    Icmp { is_v6: bool, addresses: (IpAddr, IpAddr), echo: Option<u16> },
    Arp(IpAddr, IpAddr),
    Ip(IpAddr, IpAddr, u8),
}

/// Packets between two places.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    /// `UDP`, `DNS`, `ICMP` ...
    pub(crate) protocol: String,
    /// Who sent the first packet, to whom.
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) first: Duration,
    pub(crate) last: Duration,
    /// From the one that spoke first, and from the other.
    pub(crate) packets: [u64; 2],
    pub(crate) bytes: [u64; 2],
    /// DNS and ping: requests that got no answer.
    pub(crate) unanswered: u64,
    /// The longest time to an answer.
    pub(crate) slowest: Option<Duration>,
    /// What was asked: the latest question of DNS.
    pub(crate) note: Option<String>,
    first_source: Option<IpAddr>,
    first_port: Option<u16>,
    /// When the request with each number was sent.
    pending: HashMap<u16, Duration>,
}

/// All of them, in the order of their first packets.
#[derive(Debug, Default)]
pub(crate) struct Conversations {
    pub(crate) all: Vec<Conversation>,
    by_key: HashMap<Key, usize>,
}

impl Conversations {
    /// Takes a packet that is not TCP; returns the index of its flow.
    pub(crate) fn on_packet(&mut self, time: Duration, len: u32, dissection: &Dissection) -> Option<usize> {
        let key = Key::of(dissection)?;
        let index = match self.by_key.get(&key) {
            Some(&index) => index,
            None => {
                self.all.push(Conversation::new(time, dissection)?);
                self.by_key.insert(key, self.all.len() - 1);
                self.all.len() - 1
            }
        };
        self.all.get_mut(index)?.on_packet(time, len, dissection);
        Some(index)
    }
}

impl Key {
    fn of(dissection: &Dissection) -> Option<Self> {
        let (source, destination) = dissection.addresses?;
        let addresses = (source.min(destination), source.max(destination));
        Some(match &dissection.content {
            Content::Tcp(_) => return None,
            Content::Udp(datagram) => {
                let (a, b) = (datagram.endpoints.source, datagram.endpoints.destination);
                Self::Udp(a.min(b), a.max(b))
            }
            Content::Icmp(icmp) => {
                Self::Icmp { is_v6: icmp.is_v6, addresses, echo: icmp.echo.map(|(_, id, _)| id) }
            }
            Content::Arp => Self::Arp(addresses.0, addresses.1),
            Content::Other(protocol) => Self::Ip(addresses.0, addresses.1, (*protocol)?),
        })
    }
}

impl Conversation {
    fn new(time: Duration, dissection: &Dissection) -> Option<Self> {
        let (source, destination) = dissection.addresses?;
        let protocol = match &dissection.content {
            Content::Tcp(_) => "TCP".to_owned(),
            Content::Udp(datagram) if datagram.dns.is_some() => "DNS".to_owned(),
            Content::Udp(_) => "UDP".to_owned(),
            Content::Icmp(icmp) if icmp.is_v6 => "ICMPv6".to_owned(),
            Content::Icmp(_) => "ICMP".to_owned(),
            Content::Arp => "ARP".to_owned(),
            Content::Other(number) => format!("IP protocol {}", (*number)?),
        };
        let endpoints = dissection.endpoints();
        let (from, to) = match endpoints {
            Some(endpoints) => (endpoints.source.to_string(), endpoints.destination.to_string()),
            None => (source.to_string(), destination.to_string()),
        };
        Some(Self {
            protocol,
            from,
            to,
            first: time,
            last: time,
            packets: [0; 2],
            bytes: [0; 2],
            unanswered: 0,
            slowest: None,
            note: None,
            first_source: Some(source),
            first_port: endpoints.map(|e| e.source.port()),
            pending: HashMap::new(),
        })
    }

    fn on_packet(&mut self, time: Duration, len: u32, dissection: &Dissection) {
        self.last = time;
        let is_first = dissection.addresses.map(|(source, _)| source) == self.first_source
            && dissection.endpoints().map(|e| e.source.port()) == self.first_port;
        let side = usize::from(!is_first);
        if let (Some(packets), Some(bytes)) = (self.packets.get_mut(side), self.bytes.get_mut(side)) {
            *packets += 1;
            *bytes += u64::from(len);
        }
        match &dissection.content {
            Content::Udp(datagram) => {
                if let Some(dns) = &datagram.dns {
                    self.note = Some(dns.to_string());
                    if dns.is_response { self.on_answer(time, dns.id) } else { self.on_request(time, dns.id) }
                }
            }
            Content::Icmp(icmp) => match icmp.echo {
                Some((EchoKind::Request, _, seq)) => self.on_request(time, seq),
                Some((EchoKind::Reply, _, seq)) => self.on_answer(time, seq),
                None => {}
            },
            _ => {}
        }
    }

    fn on_request(&mut self, time: Duration, id: u16) {
        self.unanswered += 1;
        self.pending.insert(id, time);
    }

    fn on_answer(&mut self, time: Duration, id: u16) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if let Some(taken) = self.pending.remove(&id).and_then(|asked| time.checked_sub(asked)) {
            self.slowest = Some(self.slowest.map_or(taken, |slowest| slowest.max(taken)));
        }
    }
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
