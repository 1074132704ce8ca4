//! Which address of the host's world stands behind an address that the guest uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::{Config, HostLoopback};

/// The mapping of a gateway.
#[derive(Debug)]
pub(crate) struct Addresses {
    gateways: Vec<IpAddr>,
    name_servers: Vec<IpAddr>,
    resolver: Option<IpAddr>,
    host_loopback: HostLoopback,
}

impl Addresses {
    pub(crate) fn new(config: &Config) -> Self {
        let Config { v4, v6, resolvers, host_loopback, .. } = config;
        let gateways =
            v4.iter().map(|net| IpAddr::V4(net.gateway)).chain(v6.iter().map(|net| net.gateway.into()));
        let name_servers =
            v4.iter().map(|net| IpAddr::V4(net.dns)).chain(v6.iter().map(|net| net.dns.into()));
        Self {
            gateways: gateways.collect(),
            name_servers: name_servers.collect(),
            resolver: resolvers.first().copied(),
            host_loopback: *host_loopback,
        }
    }

    /// Where the host connects or sends for the guest; `None` if that is nowhere.
    pub(crate) fn behind(&self, to: SocketAddr) -> Option<SocketAddr> {
        let address = to.ip();
        let address = if self.gateways.contains(&address) {
            match (self.host_loopback, address) {
                (HostLoopback::Denied, _) => return None,
                (HostLoopback::Gateway, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
                (HostLoopback::Gateway, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
            }
        } else if self.name_servers.contains(&address) {
            self.resolver.filter(|_| to.port() == DNS_PORT)?
        } else if is_loopback(address) {
            return None;
        } else {
            address
        };
        Some(SocketAddr::new(address, to.port()))
    }
}

/// 127.0.0.0/8 and ::1 in all their spellings: they would bypass [`HostLoopback`]. So would the unspecified address,
/// which Linux takes for the loopback.
fn is_loopback(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// RFC 1035 section 4.2.
const DNS_PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_opened_is_reached() {
        let to = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mut config = Config { resolvers: vec!["192.0.2.53".parse().unwrap()], ..Config::default() };
        let addresses = Addresses::new(&config);
        assert_eq!(addresses.behind(to("198.51.100.1:80")), Some(to("198.51.100.1:80")));
        assert_eq!(addresses.behind(to("10.0.2.3:53")), Some(to("192.0.2.53:53")));
        assert_eq!(addresses.behind(to("[fd00::3]:53")), Some(to("192.0.2.53:53")));
        for nowhere in [
            "10.0.2.2:22",
            "[fd00::2]:22",
            "10.0.2.3:54",
            "127.1.2.3:22",
            "[::1]:22",
            "0.0.0.0:22",
            "[::ffff:127.0.0.1]:22",
        ] {
            assert_eq!(addresses.behind(to(nowhere)), None, "{nowhere}");
        }
        config.host_loopback = HostLoopback::Gateway;
        let addresses = Addresses::new(&config);
        assert_eq!(addresses.behind(to("10.0.2.2:22")), Some(to("127.0.0.1:22")));
        assert_eq!(addresses.behind(to("[fd00::2]:22")), Some(to("[::1]:22")));
        assert_eq!(addresses.behind(to("127.0.0.1:22")), None);
    }
}
