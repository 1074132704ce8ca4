//! Neighbour discovery (RFC 4861 section 4): solicitations, advertisements and their options, without the checksum.
//!
//! ```text
//! NS (135) and NA (136): type, code, checksum, flags/reserved (4), target address (16), options
//! redirect (137):        type, code, checksum, reserved (4), target address (16), destination (16), options
//! RS (133):              type, code, checksum, reserved (4), options
//! RA (134):              type, code, checksum, hop limit, flags, lifetime (2), reachable (4), retransmit (4), options
//! option:                type, length in units of 8 bytes, value
//! ```

use core::net::Ipv6Addr;

use crate::ethernet::MacAddr;

/// The type of a router solicitation.
pub const ROUTER_SOLICITATION: u8 = 133;
/// The type of a router advertisement.
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// The type of a neighbour solicitation.
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// The type of a neighbour advertisement.
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// The type of a redirect.
pub const REDIRECT: u8 = 137;

const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
const PREFIX_INFORMATION: u8 = 3;
const REDIRECTED_HEADER: u8 = 4;
const MTU: u8 = 5;
/// RFC 4191 section 2.3.
const ROUTE_INFORMATION: u8 = 24;
/// RFC 8106 section 5.1.
const DNS_SERVERS: u8 = 25;
/// RFC 8106 section 5.2.
const DNS_SEARCH_LIST: u8 = 31;

const TARGET_OFFSET: usize = 8;
const NEIGHBOUR_LEN: usize = 24;
const REDIRECT_DESTINATION_OFFSET: usize = 24;
const REDIRECT_LEN: usize = 40;
const ROUTER_SOLICITATION_LEN: usize = 8;
const ROUTER_ADVERTISEMENT_LEN: usize = 16;
/// A link-address option for Ethernet.
const LINK_OPTION_LEN: usize = 8;

/// A message as values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NdpRepr {
    /// "Who has the target address?"
    NeighbourSolicitation {
        /// The address asked for.
        target: Ipv6Addr,
        /// The asker's station; absent in duplicate address detection.
        source_mac: Option<MacAddr>,
    },
    /// "I have it."
    NeighbourAdvertisement {
        /// The address answered for.
        target: Ipv6Addr,
        /// The answerer's station.
        target_mac: Option<MacAddr>,
        /// R: the sender is a router.
        is_router: bool,
        /// S: answers a solicitation.
        is_solicited: bool,
        /// O: replaces what is known.
        is_override: bool,
    },
    /// "Which routers are there?"
    RouterSolicitation {
        /// The asker's station.
        source_mac: Option<MacAddr>,
    },
    /// "I am a router."
    RouterAdvertisement(RouterAdvertisement),
    /// "Send packets for that destination elsewhere."
    Redirect {
        /// The better next hop; the destination itself if it is on the link.
        target: Ipv6Addr,
        /// The destination.
        destination: Ipv6Addr,
        /// The next hop's station.
        target_mac: Option<MacAddr>,
        /// As much as fits of the packet that caused it, from its IPv6 header on.
        quoted: Vec<u8>,
    },
}

/// A router advertisement.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RouterAdvertisement {
    /// The hop limit to use; zero leaves it open.
    pub hop_limit: u8,
    /// M: addresses by DHCPv6.
    pub is_managed: bool,
    /// O: other configuration by DHCPv6.
    pub has_other_config: bool,
    /// For how many seconds the router is a default router; zero for not at all.
    pub lifetime_s: u16,
    /// Reachable time in milliseconds; zero leaves it open.
    pub reachable_ms: u32,
    /// Retransmission timer in milliseconds; zero leaves it open.
    pub retransmit_ms: u32,
    /// The router's station.
    pub source_mac: Option<MacAddr>,
    /// The link's MTU.
    pub mtu: Option<u32>,
    /// The router's preference among default routers (RFC 4191).
    pub preference: Preference,
    /// The prefixes.
    pub prefixes: Vec<PrefixInformation>,
    /// Routes through the router (RFC 4191 section 2.3).
    pub routes: Vec<RouteInformation>,
    /// Name servers (RFC 8106), each with its lifetime in seconds.
    pub dns_servers: Vec<(Ipv6Addr, u32)>,
    /// Domains to search (RFC 8106), each with its lifetime in seconds.
    pub dns_search: Vec<(String, u32)>,
}

/// A router's preference (RFC 4191 section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Preference {
    /// Below the others.
    Low,
    /// The usual one; also stands for the reserved value.
    #[default]
    Medium,
    /// Above the others.
    High,
}

impl Preference {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            1 => Self::High,
            3 => Self::Low,
            _ => Self::Medium,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Low => 3,
            Self::Medium => 0,
            Self::High => 1,
        }
    }
}

/// A route-information option (RFC 4191 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteInformation {
    /// The network.
    pub prefix: Ipv6Addr,
    /// Its length.
    pub prefix_len: u8,
    /// The router's preference for it.
    pub preference: Preference,
    /// For how many seconds it is valid; all ones is forever.
    pub lifetime_s: u32,
}

/// A prefix-information option (RFC 4861 section 4.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixInformation {
    /// The prefix.
    pub prefix: Ipv6Addr,
    /// Its length.
    pub prefix_len: u8,
    /// L: addresses in it are on the link.
    pub is_on_link: bool,
    /// A: hosts may make their addresses of it.
    pub is_autonomous: bool,
    /// For how many seconds it is valid; all ones is forever.
    pub valid_s: u32,
    /// For how many seconds its addresses are preferred.
    pub preferred_s: u32,
}

impl NdpRepr {
    /// Reads a whole ICMPv6 message; `None` for other types and malformed ones. RFC 4861 sections 6.1 and 7.1: "All
    /// included options have a length that is greater than zero", code zero. (Hop limit and addresses: the caller.)
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let (&kind, &code) = (message.first()?, message.get(1)?);
        if code != 0 {
            return None;
        }
        match kind {
            ROUTER_SOLICITATION => {
                let options = Options::parse(message.get(ROUTER_SOLICITATION_LEN..)?)?;
                Some(Self::RouterSolicitation { source_mac: options.source_mac })
            }
            ROUTER_ADVERTISEMENT => parse_advertisement(message),
            NEIGHBOUR_SOLICITATION => {
                let options = Options::parse(message.get(NEIGHBOUR_LEN..)?)?;
                let target = target(message)?;
                Some(Self::NeighbourSolicitation { target, source_mac: options.source_mac })
            }
            NEIGHBOUR_ADVERTISEMENT => {
                let options = Options::parse(message.get(NEIGHBOUR_LEN..)?)?;
                let flags = message[4];
                Some(Self::NeighbourAdvertisement {
                    target: target(message)?,
                    target_mac: options.target_mac,
                    is_router: flags & 0x80 != 0,
                    is_solicited: flags & 0x40 != 0,
                    is_override: flags & 0x20 != 0,
                })
            }
            REDIRECT => {
                let options = Options::parse(message.get(REDIRECT_LEN..)?)?;
                let destination: &[u8; 16] = message.get(REDIRECT_DESTINATION_OFFSET..)?.first_chunk()?;
                let destination = Ipv6Addr::from(*destination);
                // RFC 4861 section 8.1: "does not contain a multicast address".
                (!destination.is_multicast()).then_some(Self::Redirect {
                    target: target(message)?,
                    destination,
                    target_mac: options.target_mac,
                    quoted: options.quoted,
                })
            }
            _ => None,
        }
    }

    /// Returns the message, with a zero checksum.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(NEIGHBOUR_LEN + LINK_OPTION_LEN);
        match self {
            Self::NeighbourSolicitation { target, source_mac } => {
                out.extend([NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
                out.extend(target.octets());
                push_mac(&mut out, SOURCE_LINK_ADDRESS, *source_mac);
            }
            Self::NeighbourAdvertisement { target, target_mac, is_router, is_solicited, is_override } => {
                let flags =
                    u8::from(*is_router) << 7 | u8::from(*is_solicited) << 6 | u8::from(*is_override) << 5;
                out.extend([NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0]);
                out.extend(target.octets());
                push_mac(&mut out, TARGET_LINK_ADDRESS, *target_mac);
            }
            Self::RouterSolicitation { source_mac } => {
                out.extend([ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
                push_mac(&mut out, SOURCE_LINK_ADDRESS, *source_mac);
            }
            Self::RouterAdvertisement(advertisement) => push_advertisement(&mut out, advertisement),
            Self::Redirect { target, destination, target_mac, quoted } => {
                out.extend([REDIRECT, 0, 0, 0, 0, 0, 0, 0]);
                out.extend(target.octets());
                out.extend(destination.octets());
                push_mac(&mut out, TARGET_LINK_ADDRESS, *target_mac);
                // Whole units of eight bytes, the header of the option being the first.
                let units = quoted.len() / 8;
                if let (1.., Ok(length)) = (units, u8::try_from(units + 1)) {
                    out.extend([REDIRECTED_HEADER, length, 0, 0, 0, 0, 0, 0]);
                    out.extend(&quoted[..units * 8]);
                }
            }
        }
        out
    }
}

fn target(message: &[u8]) -> Option<Ipv6Addr> {
    let octets: &[u8; 16] = message.get(TARGET_OFFSET..)?.first_chunk()?;
    let target = Ipv6Addr::from(*octets);
    // RFC 4861 section 7.1: "Target Address is not a multicast address."
    (!target.is_multicast()).then_some(target)
}

fn parse_advertisement(message: &[u8]) -> Option<NdpRepr> {
    let h: &[u8; ROUTER_ADVERTISEMENT_LEN] = message.first_chunk()?;
    let options = Options::parse(&message[ROUTER_ADVERTISEMENT_LEN..])?;
    Some(NdpRepr::RouterAdvertisement(RouterAdvertisement {
        hop_limit: h[4],
        is_managed: h[5] & 0x80 != 0,
        has_other_config: h[5] & 0x40 != 0,
        lifetime_s: u16::from_be_bytes([h[6], h[7]]),
        reachable_ms: u32::from_be_bytes([h[8], h[9], h[10], h[11]]),
        retransmit_ms: u32::from_be_bytes([h[12], h[13], h[14], h[15]]),
        source_mac: options.source_mac,
        mtu: options.mtu,
        preference: Preference::from_bits(h[5] >> 3),
        prefixes: options.prefixes,
        routes: options.routes,
        dns_servers: options.dns_servers,
        dns_search: options.dns_search,
    }))
}

fn push_advertisement(out: &mut Vec<u8>, advertisement: &RouterAdvertisement) {
    let RouterAdvertisement {
        hop_limit,
        is_managed,
        has_other_config,
        lifetime_s,
        reachable_ms,
        retransmit_ms,
        source_mac,
        mtu,
        preference,
        prefixes,
        routes,
        dns_servers,
        dns_search,
    } = advertisement;
    let flags = u8::from(*is_managed) << 7 | u8::from(*has_other_config) << 6 | preference.bits() << 3;
    out.extend([ROUTER_ADVERTISEMENT, 0, 0, 0, *hop_limit, flags]);
    out.extend(lifetime_s.to_be_bytes());
    out.extend(reachable_ms.to_be_bytes());
    out.extend(retransmit_ms.to_be_bytes());
    push_mac(out, SOURCE_LINK_ADDRESS, *source_mac);
    if let Some(mtu) = mtu {
        out.extend([MTU, 1, 0, 0]);
        out.extend(mtu.to_be_bytes());
    }
    for prefix in prefixes {
        let PrefixInformation { prefix, prefix_len, is_on_link, is_autonomous, valid_s, preferred_s } =
            prefix;
        let flags = u8::from(*is_on_link) << 7 | u8::from(*is_autonomous) << 6;
        out.extend([PREFIX_INFORMATION, 4, *prefix_len, flags]);
        out.extend(valid_s.to_be_bytes());
        out.extend(preferred_s.to_be_bytes());
        out.extend([0; 4]);
        out.extend(prefix.octets());
    }
    for RouteInformation { prefix, prefix_len, preference, lifetime_s } in routes {
        out.extend([ROUTE_INFORMATION, 3, *prefix_len, preference.bits() << 3]);
        out.extend(lifetime_s.to_be_bytes());
        out.extend(prefix.octets());
    }
    for (server, lifetime_s) in dns_servers {
        out.extend([DNS_SERVERS, 3, 0, 0]);
        out.extend(lifetime_s.to_be_bytes());
        out.extend(server.octets());
    }
    for (domain, lifetime_s) in dns_search {
        push_domain(out, domain, *lifetime_s);
    }
}

/// A domain as labels (RFC 1035 section 3.1), padded with zeros. One that cannot be written so is left out.
fn push_domain(out: &mut Vec<u8>, domain: &str, lifetime_s: u32) {
    let mut name = Vec::new();
    for label in domain.split('.') {
        let Ok(len @ 1..=63) = u8::try_from(label.len()) else { return };
        name.push(len);
        name.extend(label.as_bytes());
    }
    name.push(0);
    let units = 1 + name.len().div_ceil(8);
    let Ok(length) = u8::try_from(units) else { return };
    name.resize((units - 1) * 8, 0);
    out.extend([DNS_SEARCH_LIST, length, 0, 0]);
    out.extend(lifetime_s.to_be_bytes());
    out.extend(name);
}

/// Reads domains until the padding; stops at what makes no sense.
fn parse_domains(mut bytes: &[u8], lifetime_s: u32, out: &mut Vec<(String, u32)>) {
    let mut domain = String::new();
    while let Some((&len, rest)) = bytes.split_first() {
        if len == 0 {
            if domain.is_empty() {
                return;
            }
            out.push((std::mem::take(&mut domain), lifetime_s));
            bytes = rest;
            continue;
        }
        let label = rest.get(..usize::from(len)).filter(|label| len < 64 && label.iter().all(is_of_names));
        let Some(label) = label.and_then(|label| std::str::from_utf8(label).ok()) else { return };
        if !domain.is_empty() {
            domain.push('.');
        }
        domain.push_str(label);
        bytes = &rest[usize::from(len)..];
    }
}

/// RFC 1035 section 2.3.1, and the underscore of service names. Anything else, a newline above all, would mean something
/// to the files and programs that names end up in.
fn is_of_names(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn push_mac(out: &mut Vec<u8>, kind: u8, mac: Option<MacAddr>) {
    if let Some(mac) = mac {
        out.extend([kind, 1]);
        out.extend(mac.0);
    }
}

/// The options that this stack knows.
#[derive(Default)]
struct Options {
    source_mac: Option<MacAddr>,
    target_mac: Option<MacAddr>,
    mtu: Option<u32>,
    prefixes: Vec<PrefixInformation>,
    routes: Vec<RouteInformation>,
    dns_servers: Vec<(Ipv6Addr, u32)>,
    dns_search: Vec<(String, u32)>,
    quoted: Vec<u8>,
}

impl Options {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (mut found, mut bytes) = (Self::default(), bytes);
        while !bytes.is_empty() {
            let len = usize::from(*bytes.get(1)?) * 8;
            if len == 0 {
                return None;
            }
            let option = bytes.get(..len)?;
            found.take(option);
            bytes = &bytes[len..];
        }
        Some(found)
    }

    /// RFC 4861 section 4.6: "Receivers MUST silently ignore any options they do not recognize".
    fn take(&mut self, option: &[u8]) {
        let word =
            |at: usize| u32::from_be_bytes([option[at], option[at + 1], option[at + 2], option[at + 3]]);
        match (option[0], option.len()) {
            (SOURCE_LINK_ADDRESS, LINK_OPTION_LEN) => self.source_mac = mac(option),
            (TARGET_LINK_ADDRESS, LINK_OPTION_LEN) => self.target_mac = mac(option),
            (MTU, 8) => self.mtu = Some(word(4)),
            (REDIRECTED_HEADER, 16..) => self.quoted = option[8..].to_vec(),
            // RFC 4191: the length says how much of the prefix is there.
            (ROUTE_INFORMATION, len @ (8 | 16 | 24)) if usize::from(option[2]) <= (len - 8) * 8 => {
                let mut prefix = [0; 16];
                prefix[..len - 8].copy_from_slice(&option[8..]);
                self.routes.push(RouteInformation {
                    prefix: Ipv6Addr::from(prefix),
                    prefix_len: option[2],
                    preference: Preference::from_bits(option[3] >> 3),
                    lifetime_s: word(4),
                });
            }
            (DNS_SERVERS, 24..) => {
                let (addresses, _) = option[8..].as_chunks::<16>();
                self.dns_servers.extend(addresses.iter().map(|address| (Ipv6Addr::from(*address), word(4))));
            }
            (DNS_SEARCH_LIST, 16..) => parse_domains(&option[8..], word(4), &mut self.dns_search),
            (PREFIX_INFORMATION, 32) => {
                let octets: [u8; 16] = option[16..32].try_into().unwrap_or_default();
                self.prefixes.push(PrefixInformation {
                    prefix: Ipv6Addr::from(octets),
                    prefix_len: option[2],
                    is_on_link: option[3] & 0x80 != 0,
                    is_autonomous: option[3] & 0x40 != 0,
                    valid_s: word(4),
                    preferred_s: word(8),
                });
            }
            _ => {}
        }
    }
}

fn mac(option: &[u8]) -> Option<MacAddr> {
    option.get(2..8)?.try_into().ok().map(MacAddr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        let mac = Some(MacAddr([2, 0, 0, 0, 0, 9]));
        let target: Ipv6Addr = "fe80::9".parse().unwrap();
        let prefix = PrefixInformation {
            prefix: "2001:db8::".parse().unwrap(),
            prefix_len: 64,
            is_on_link: true,
            is_autonomous: false,
            valid_s: 86_400,
            preferred_s: u32::MAX,
        };
        for message in [
            NdpRepr::NeighbourSolicitation { target, source_mac: mac },
            NdpRepr::NeighbourSolicitation { target, source_mac: None },
            NdpRepr::NeighbourAdvertisement {
                target,
                target_mac: mac,
                is_router: false,
                is_solicited: true,
                is_override: true,
            },
            NdpRepr::RouterSolicitation { source_mac: mac },
            NdpRepr::RouterAdvertisement(RouterAdvertisement {
                hop_limit: 64,
                is_managed: false,
                has_other_config: true,
                lifetime_s: 1800,
                reachable_ms: 30_000,
                retransmit_ms: 1000,
                source_mac: mac,
                mtu: Some(1500),
                preference: Preference::High,
                prefixes: vec![prefix],
                routes: vec![RouteInformation {
                    prefix: "2001:db8:1::".parse().unwrap(),
                    prefix_len: 48,
                    preference: Preference::Low,
                    lifetime_s: 600,
                }],
                dns_servers: vec![("2001:db8::53".parse().unwrap(), 1200)],
                dns_search: vec![("example.org".to_owned(), 1200), ("lan".to_owned(), 0)],
            }),
            NdpRepr::Redirect { target, destination: target, target_mac: mac, quoted: vec![0x60; 48] },
        ] {
            assert_eq!(NdpRepr::parse(&message.to_vec()), Some(message));
        }
    }

    #[test]
    fn malformed_messages_are_refused() {
        let target: Ipv6Addr = "fe80::9".parse().unwrap();
        let good = NdpRepr::NeighbourSolicitation { target, source_mac: Some(MacAddr::ZERO) }.to_vec();
        for (index, value) in [(0, 137), (1, 1), (8, 0xff), (25, 0), (25, 2)] {
            let mut bad = good.clone();
            bad[index] = value;
            assert_eq!(NdpRepr::parse(&bad), None, "byte {index} = {value}");
        }
        for len in 0..24 {
            assert_eq!(NdpRepr::parse(&good[..len]), None, "length {len}");
        }
    }
}
