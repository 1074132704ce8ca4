//! TCP Fast Open (RFC 7413): data in the SYN of a client that has connected before.
//!
//! The server proves by a cookie that the client owns its address ([`SeedGenerator::fast_open_cookie`]), the client keeps
//! the cookie for the next time and sends it along with data ([`FastOpen`]). What the server's side of such a handshake
//! needs until it is complete is in `unconfirmed.rs`.

use super::flow::Flow;
use super::isn::{Secret, SeedGenerator};
use super::segment::Payload;
use super::siphash::SipHasher;
use core::hash::Hasher;
use core::net::IpAddr;
use netstack_wire::tcp::FastOpenCookie;

bitflags::bitflags! {
    /// Who may use Fast Open, numbered as `tcp_fastopen`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct FastOpenModes: u16 {
        /// Connections that ask for it send data in their SYN.
        const CLIENT = 0x1;
        /// Listeners with a `TCP_FASTOPEN` queue take it.
        const SERVER = 0x2;
        /// Clients send data without a cookie.
        const CLIENT_WITHOUT_COOKIE = 0x4;
        /// Listeners take data without a cookie.
        const SERVER_WITHOUT_COOKIE = 0x200;
    }
}

/// What a client sends in its SYN.
#[derive(Clone, Debug)]
pub struct FastOpen {
    /// The cookie of an earlier connection; [`FastOpenCookie::REQUEST`] asks for one, and no data is sent with it.
    pub cookie: Option<FastOpenCookie>,
    /// The MSS that the server had then: the SYN carries no more than fits it.
    pub mss: u16,
    /// The first bytes of the stream. What the SYN has no room for, or the server does not take, follows later.
    pub data: Payload,
}

impl FastOpen {
    /// Asks for a cookie.
    #[must_use]
    pub fn request() -> Self {
        Self { cookie: Some(FastOpenCookie::REQUEST), mss: 0, data: Payload::new() }
    }

    /// The part of the data that goes into the SYN, on a path that carries segments of `path_mss`.
    pub(super) fn syn_payload(&self, path_mss: u16) -> Payload {
        if self.cookie.is_some_and(|cookie| cookie.is_request()) {
            return Payload::new();
        }
        let mut payload = self.data.clone();
        payload.truncate(usize::from(self.mss.min(path_mss).saturating_sub(MAX_OPTIONS)));
        payload
    }
}

/// The keys of a server's cookies (`TCP_FASTOPEN_KEY`): hosts that share them take each other's, and a server that changes
/// its key still takes the cookies of the one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FastOpenKeys {
    /// Makes cookies.
    pub primary: [u8; 16],
    /// Cookies that it made are taken, too; their clients get one of the primary key.
    pub backup: Option<[u8; 16]>,
}

impl SeedGenerator {
    /// The keys of cookies for listeners without keys of their own.
    #[must_use]
    pub fn fast_open_keys(&self) -> FastOpenKeys {
        let mut primary = [0; 16];
        let (first, second) = primary.split_at_mut(8);
        first.copy_from_slice(&self.hash(&(DOMAIN, 0_u8)).to_le_bytes());
        second.copy_from_slice(&self.hash(&(DOMAIN, 1_u8)).to_le_bytes());
        FastOpenKeys { primary, backup: None }
    }
}

/// The cookie of a client: a keyed hash of both addresses (RFC 7413 section 4.1.2), the same for all ports. Linux makes the
/// same of the same key, so that servers of both kinds can share one.
#[must_use]
pub fn fast_open_cookie(key: [u8; 16], flow: &Flow) -> FastOpenCookie {
    let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| key[at + i]));
    let mut hasher = SipHasher::new(Secret([word(0), word(8)]));
    for address in [flow.remote_addr, flow.local_addr] {
        match address {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&address.octets()),
        }
    }
    // Eight bytes are a valid length.
    FastOpenCookie::new(&hasher.finish().to_le_bytes()).unwrap_or_default()
}

/// Keeps cookies apart from the other hashes of the generator.
const DOMAIN: &str = "fast open";
/// RFC 9293 section 3.1: options take at most 40 bytes, which a SYN leaves free for them (as Linux does).
const MAX_OPTIONS: u16 = 40;
