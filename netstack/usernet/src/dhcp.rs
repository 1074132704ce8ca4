//! The DHCP server for the one guest (RFC 2131): it always has the same address to give.

use std::net::{Ipv4Addr, SocketAddr};

use netstack::options::{Family, RecvFlags, SendMeta};
use netstack::{IpCidr, NicId, Stack, UdpSocket};

use crate::config::{Config, Network4};
use crate::dhcp_wire::{
    Answer, Asked, INTERFACE_MTU, LEASE_TIME, NAME_SERVER, Query, ROUTER, SERVER_IDENTIFIER, SUBNET_MASK,
};

/// The server's socket, in the gateway's stack.
#[derive(Debug)]
pub(crate) struct DhcpServer {
    socket: UdpSocket,
    network: Network4,
    mtu: u32,
}

impl DhcpServer {
    /// Starts to serve; `None` without an IPv4 network.
    pub(crate) fn new(stack: &Stack, nic: NicId, config: &Config) -> Option<Self> {
        let network = config.v4?;
        let socket = UdpSocket::new(stack, Family::V4);
        socket.set_options(|options| {
            options.broadcast = true;
            options.bound_nic = Some(nic);
        });
        // Nobody else is on a new stack.
        socket.bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, SERVER_PORT))).ok()?;
        Some(Self { socket, network, mtu: config.mtu })
    }

    /// Answers what has come.
    pub(crate) fn work(&self) {
        let mut message = Vec::new();
        while self.socket.try_recv(&mut message, RecvFlags::default()).is_ok() {
            if let Some(answer) = Query::parse(&message).and_then(|query| self.answer(&query)) {
                // To everybody: a client without an address cannot be asked for its station.
                let to = Some(SocketAddr::from((Ipv4Addr::BROADCAST, CLIENT_PORT)));
                let _ = self.socket.try_send(&mut &answer[..], &SendMeta { to, ..SendMeta::default() });
            }
            message.clear();
        }
    }

    fn answer(&self, query: &Query) -> Option<Vec<u8>> {
        let Network4 { gateway, prefix_len, guest, dns } = self.network;
        if query.server.is_some_and(|server| server != gateway) {
            return None;
        }
        let answer = match query.asked {
            Asked::Discover => Answer::Offer,
            Asked::Request if query.wanted == Some(guest) => Answer::Acknowledge,
            Asked::Request => {
                let server = [(SERVER_IDENTIFIER, gateway.octets().to_vec())];
                return Some(query.answer(Answer::Refuse, Ipv4Addr::UNSPECIFIED, &server));
            }
            Asked::Inform => Answer::Acknowledge,
        };
        let mask = IpCidr::new(guest.into(), prefix_len).map_or(0, |_| netmask(prefix_len));
        let mut options = vec![
            (SERVER_IDENTIFIER, gateway.octets().to_vec()),
            (SUBNET_MASK, mask.to_be_bytes().to_vec()),
            (ROUTER, gateway.octets().to_vec()),
            (NAME_SERVER, dns.octets().to_vec()),
            (INTERFACE_MTU, u16::try_from(self.mtu).unwrap_or(u16::MAX).to_be_bytes().to_vec()),
        ];
        let yours = match query.asked {
            // RFC 2131 section 3.4: no address and no lease for those that have one.
            Asked::Inform => Ipv4Addr::UNSPECIFIED,
            Asked::Discover | Asked::Request => {
                options.push((LEASE_TIME, LEASE_S.to_be_bytes().to_vec()));
                guest
            }
        };
        Some(query.answer(answer, yours, &options))
    }
}

fn netmask(prefix_len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix_len.min(32))).unwrap_or(0)
}

/// A day, as most home routers say; the address never changes hands.
const LEASE_S: u32 = 86_400;
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
