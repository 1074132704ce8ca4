//! Router advertisements for the guest (RFC 4861 section 6.2): the prefix for its addresses, the MTU, the name server.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use netstack::options::{Family, RecvFlags, SendMeta};
use netstack::socket::{Icmp6Filter, RawSocket};
use netstack::wire::ip::Protocol;
use netstack::wire::ndp::{NdpRepr, Preference, PrefixInformation, ROUTER_SOLICITATION, RouterAdvertisement};
use netstack::{NicId, Stack};

use crate::config::{Config, Network6};

/// The router's voice, in the gateway's stack.
#[derive(Debug)]
pub(crate) struct Router {
    socket: RawSocket,
    nic: NicId,
    advertisement: Vec<u8>,
    next: Instant,
}

impl Router {
    /// Starts to advertise; `None` without an IPv6 network.
    pub(crate) fn new(stack: &Stack, nic: NicId, config: &Config) -> Option<Self> {
        let network = config.v6?;
        let socket = RawSocket::new(stack, Family::V6, Protocol::ICMPV6.0);
        let mut blocked = [u32::MAX; 8];
        blocked[usize::from(ROUTER_SOLICITATION / 32)] &= !(1 << (ROUTER_SOLICITATION % 32));
        socket.set_icmp6_filter(Icmp6Filter(blocked));
        socket.set_options(|options| options.bound_nic = Some(nic));
        socket.join_group(ALL_ROUTERS.into(), Some(nic)).ok()?;
        Some(Self { socket, nic, advertisement: advertisement(config, &network), next: Instant::now() })
    }

    /// When [`work`](Self::work) has something to say unasked.
    pub(crate) fn next_deadline(&self) -> Instant {
        self.next
    }

    /// Answers solicitations, and repeats the advertisement now and then.
    pub(crate) fn work(&mut self, now: Instant) {
        let mut message = Vec::new();
        let mut is_due = now >= self.next;
        while let Ok(solicitation) = self.socket.try_recv(&mut message, RecvFlags::default()) {
            // RFC 4861 section 6.1.1.
            is_due |= solicitation.ttl == HOP_LIMIT && NdpRepr::parse(&message).is_some();
            message.clear();
        }
        if is_due {
            self.next = now + INTERVAL;
            let meta = SendMeta {
                to: Some(SocketAddr::from((ALL_NODES, 0))),
                nic: Some(self.nic),
                ttl: Some(HOP_LIMIT),
                ..SendMeta::default()
            };
            // A guest that is not there yet asks when it is.
            let _ = self.socket.try_send(&mut &self.advertisement[..], &meta);
        }
    }
}

fn advertisement(config: &Config, network: &Network6) -> Vec<u8> {
    let mut segments = network.gateway.segments();
    segments[4..].fill(0);
    let prefix = PrefixInformation {
        prefix: Ipv6Addr::from(segments),
        prefix_len: 64,
        is_on_link: true,
        is_autonomous: true,
        valid_s: u32::MAX,
        preferred_s: u32::MAX,
    };
    let repr = NdpRepr::RouterAdvertisement(RouterAdvertisement {
        hop_limit: 64,
        is_managed: false,
        has_other_config: false,
        lifetime_s: LIFETIME_S,
        reachable_ms: 0,
        retransmit_ms: 0,
        source_mac: Some(config.mac),
        mtu: Some(config.mtu),
        preference: Preference::Medium,
        prefixes: vec![prefix],
        routes: Vec::new(),
        dns_servers: vec![(network.dns, u32::from(LIFETIME_S))],
        dns_search: Vec::new(),
    });
    repr.to_vec()
}

/// The router's link-local address.
pub(crate) const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const HOP_LIMIT: u8 = 255;
/// RFC 4861 section 6.2.1: a lifetime of three intervals at the default of 600 s, and a shorter interval.
const LIFETIME_S: u16 = 1800;
const INTERVAL: Duration = Duration::from_secs(300);
