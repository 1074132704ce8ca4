//! The Fast Open cookies of servers (RFC 7413 section 4.1.3): one per server address, with the MSS that it had.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::sync::Mutex;
use netstack_wire::tcp::FastOpenCookie;

/// A bounded table; when it is full, a new server takes the place of some old one.
#[derive(Debug, Default)]
pub(crate) struct FastOpenCache {
    servers: Mutex<HashMap<IpAddr, Remembered>>,
}

/// What a server has told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remembered {
    pub(crate) cookie: FastOpenCookie,
    pub(crate) mss: u16,
}

impl FastOpenCache {
    pub(crate) fn get(&self, server: IpAddr) -> Option<Remembered> {
        self.servers.lock().get(&server).copied()
    }

    pub(crate) fn store(&self, server: IpAddr, cookie: FastOpenCookie, mss: u16) {
        let mut servers = self.servers.lock();
        if servers.len() >= MAX_SERVERS && !servers.contains_key(&server) {
            let victim = servers.keys().next().copied();
            victim.map(|victim| servers.remove(&victim));
        }
        servers.insert(server, Remembered { cookie, mss });
    }
}

/// Linux keeps the cookies in its table of TCP metrics, whose buckets of five hold a few thousand hosts.
const MAX_SERVERS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn the_table_is_bounded_and_keeps_the_newest() {
        let cache = FastOpenCache::default();
        let server = |number: u32| IpAddr::V4(Ipv4Addr::from_bits(number));
        for number in 0..2 * u32::try_from(MAX_SERVERS).unwrap() {
            cache.store(server(number), FastOpenCookie::new(&number.to_be_bytes()).unwrap(), 1460);
            let known = cache.get(server(number)).unwrap();
            assert_eq!((known.cookie.as_slice(), known.mss), (&number.to_be_bytes()[..], 1460));
        }
        assert_eq!(cache.servers.lock().len(), MAX_SERVERS);
    }
}
