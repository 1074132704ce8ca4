//! IPv6 autoconfiguration: routers, prefixes and addresses from router advertisements (RFC 4861 section 6.3, RFC 4862),
//! with stable (RFC 7217) and temporary (RFC 8981) interface identifiers.
//!
//! `Machine` decides; the shell in `ip/autoconf.rs` sends its solicitations and applies its actions. It is turned on per NIC
//! with [`Stack::start_autoconf`](crate::Stack::start_autoconf).

use std::net::Ipv6Addr;

use netstack_wire::ndp::Preference;

use crate::cidr::IpCidr;
use crate::time::Instant;

mod identifier;
mod machine;
mod prefix;

pub(crate) use identifier::Identity;
pub(crate) use machine::{Action, Machine};

/// How a NIC configures itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoconfOptions {
    /// Whether addresses that change are made besides the stable ones.
    pub temporary: TemporaryAddresses,
    /// What stable identifiers depend on besides the network; the stack's own secret if not set. Keep it to get the
    /// same addresses in the same networks after a restart (RFC 7217 section 5).
    pub stable_secret: Option<[u64; 2]>,
}

impl Default for AutoconfOptions {
    fn default() -> Self {
        Self { temporary: TemporaryAddresses::Off, stable_secret: None }
    }
}

/// Whether addresses that change are made (`use_tempaddr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemporaryAddresses {
    /// No.
    Off,
    /// Yes, and preferred for outgoing connections.
    Prefer,
}

/// What a NIC learned from routers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AutoconfInfo {
    /// The default routers, best first.
    pub routers: Vec<RouterInfo>,
    /// The addresses made, with their lifetimes.
    pub addresses: Vec<AutoconfAddress>,
    /// Networks on the link, with the time until which they are; `None` is forever.
    pub prefixes: Vec<(IpCidr, Option<Instant>)>,
    /// Name servers (RFC 8106).
    pub dns_servers: Vec<Ipv6Addr>,
    /// Domains to search (RFC 8106).
    pub dns_search: Vec<String>,
    /// Some router says that addresses are to be had by DHCPv6.
    pub is_managed: bool,
    /// Some router says that other settings are to be had by DHCPv6.
    pub has_other_config: bool,
}

/// A default router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterInfo {
    /// Its link-local address.
    pub address: Ipv6Addr,
    /// Its preference.
    pub preference: Preference,
    /// Until when it may be used.
    pub expires: Instant,
}

/// An address that was made by autoconfiguration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoconfAddress {
    /// The address.
    pub address: Ipv6Addr,
    /// Whether it changes.
    pub is_temporary: bool,
    /// Until when new connections use it; `None` is forever.
    pub preferred_until: Option<Instant>,
    /// Until when it exists; `None` is forever.
    pub valid_until: Option<Instant>,
}

#[cfg(test)]
#[path = "autoconf/tests.rs"]
mod tests;
