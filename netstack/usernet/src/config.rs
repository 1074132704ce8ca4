//! What a gateway is to look like to its guest, and what of the host it opens.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use netstack::MacAddr;

/// A gateway's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The gateway's station address.
    pub mac: MacAddr,
    /// The guest's IPv4 network; none without it.
    pub v4: Option<Network4>,
    /// The guest's IPv6 network; none without it.
    pub v6: Option<Network6>,
    /// The largest IP packet on the link, which the guest learns by DHCP and router advertisement.
    pub mtu: u32,
    /// The host's name servers, the first of which is asked.
    pub resolvers: Vec<IpAddr>,
    /// Whether the guest reaches the host's loopback.
    pub host_loopback: HostLoopback,
    /// Ports of the host that lead into the guest.
    pub forwards: Vec<PortForward>,
}

/// Whether the guest reaches services on the host's loopback addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostLoopback {
    /// It does not; connections to the gateway are refused.
    Denied,
    /// The gateway's addresses stand for 127.0.0.1 and ::1.
    Gateway,
}

/// The guest's IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network4 {
    /// The gateway.
    pub gateway: Ipv4Addr,
    /// The length of the network's prefix.
    pub prefix_len: u8,
    /// The guest, by DHCP or by its own configuration.
    pub guest: Ipv4Addr,
    /// Stands for the host's name server.
    pub dns: Ipv4Addr,
}

/// The guest's IPv6 network, a /64: the guest chooses its address there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network6 {
    /// The gateway.
    pub gateway: Ipv6Addr,
    /// Stands for the host's name server.
    pub dns: Ipv6Addr,
    /// Where ports of the host lead.
    pub guest: Ipv6Addr,
}

/// A port of the host that leads into the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortForward {
    /// Where the host listens.
    pub host: SocketAddr,
    /// The guest's port.
    pub guest_port: u16,
    /// The protocol.
    pub transport: Transport,
}

/// What is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Not `[ADDRESS:]HOSTPORT:GUESTPORT[/udp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a port forward is [ADDRESS:]HOSTPORT:GUESTPORT[/udp]")]
pub struct ParseForwardError;

impl Default for Config {
    fn default() -> Self {
        Self {
            mac: MacAddr([0x52, 0x55, 0x0a, 0, 2, 2]),
            v4: Some(Network4 {
                gateway: Ipv4Addr::new(10, 0, 2, 2),
                prefix_len: 24,
                guest: Ipv4Addr::new(10, 0, 2, 15),
                dns: Ipv4Addr::new(10, 0, 2, 3),
            }),
            v6: Some(Network6 {
                gateway: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
                dns: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3),
                guest: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xf),
            }),
            mtu: MAX_MTU,
            resolvers: Vec::new(),
            host_loopback: HostLoopback::Denied,
            forwards: Vec::new(),
        }
    }
}

impl fmt::Display for PortForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, guest_port, transport } = self;
        let suffix = match transport {
            Transport::Tcp => "",
            Transport::Udp => "/udp",
        };
        write!(f, "{host}:{guest_port}{suffix}")
    }
}

impl FromStr for PortForward {
    type Err = ParseForwardError;

    /// The address is 127.0.0.1 if it is left out; an IPv6 address is in brackets.
    fn from_str(text: &str) -> Result<Self, ParseForwardError> {
        let (text, transport) = match text.rsplit_once('/') {
            Some((text, "udp")) => (text, Transport::Udp),
            Some((text, "tcp")) => (text, Transport::Tcp),
            Some(_) => return Err(ParseForwardError),
            None => (text, Transport::Tcp),
        };
        let (host, guest) = text.rsplit_once(':').ok_or(ParseForwardError)?;
        let port = |text: &str| text.parse::<u16>().ok().filter(|&port| port != 0).ok_or(ParseForwardError);
        let host = match host.contains(':') {
            true => host.parse().map_err(|_| ParseForwardError)?,
            false => SocketAddr::from((Ipv4Addr::LOCALHOST, port(host)?)),
        };
        Ok(Self { host, guest_port: port(guest)?, transport })
    }
}

/// Nothing on the way cuts frames, so they may be as large as IP and an Ethernet header allow: a multiple of 8 below
/// 65535 - 14.
const MAX_MTU: u32 = 65_520;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_read_as_they_are_written() {
        let forward = |host: &str, guest_port, transport| {
            Ok(PortForward { host: host.parse().unwrap(), guest_port, transport })
        };
        assert_eq!("8080:80".parse(), forward("127.0.0.1:8080", 80, Transport::Tcp));
        assert_eq!("0.0.0.0:8080:80/tcp".parse(), forward("0.0.0.0:8080", 80, Transport::Tcp));
        assert_eq!("[::1]:53:5353/udp".parse(), forward("[::1]:53", 5353, Transport::Udp));
        let text = "[::1]:53:5353/udp";
        assert_eq!(text.parse::<PortForward>().unwrap().to_string(), text);
        for wrong in
            ["", "80", "80:", ":80", "0:80", "80:0", "80:80/sctp", "1.2.3.4:80", "a:80:80", "80:65536"]
        {
            assert_eq!(wrong.parse::<PortForward>(), Err(ParseForwardError), "{wrong}");
        }
    }
}
