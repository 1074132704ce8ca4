//! The path MTU cache: what ICMP told about destinations whose path is narrower than the first link.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::sync::Mutex;

use crate::time::Instant;

/// Path MTUs by destination, bounded.
#[derive(Default)]
pub(crate) struct PmtuCache {
    /// The number of entries, so that the usual look-up in an empty cache takes no lock.
    len: AtomicUsize,
    entries: Mutex<HashMap<IpAddr, Entry>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    mtu: u32,
    expires: Instant,
}

impl PmtuCache {
    pub(crate) fn lookup(&self, destination: IpAddr, now: Instant) -> Option<u32> {
        if self.len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let entries = self.entries.lock();
        entries.get(&destination).filter(|entry| now < entry.expires).map(|entry| entry.mtu)
    }

    /// Notes a smaller path MTU. Returns false if it is not smaller than what is known.
    pub(crate) fn reduce(&self, destination: IpAddr, mtu: u32, now: Instant) -> bool {
        let mtu = mtu.max(match destination {
            IpAddr::V4(_) => MIN_V4,
            IpAddr::V6(_) => MIN_V6,
        });
        let mut entries = self.entries.lock();
        if entries.get(&destination).is_some_and(|known| now < known.expires && known.mtu <= mtu) {
            return false;
        }
        if entries.len() >= MAX_ENTRIES {
            entries.retain(|_, entry| now < entry.expires);
        }
        if entries.len() >= MAX_ENTRIES {
            // Forged messages may have filled it; starting over costs honest paths one more ICMP round.
            entries.clear();
        }
        entries.insert(destination, Entry { mtu, expires: now + LIFETIME });
        self.len.store(entries.len(), Ordering::Relaxed);
        true
    }
}

/// Linux's `net.ipv4.route.mtu_expires`; RFC 1191 section 6.3 and RFC 8201 section 5.3 recommend 10 minutes as well.
const LIFETIME: Duration = Duration::from_secs(600);
/// Linux's `net.ipv4.route.min_pmtu`: smaller values are more likely an attack than a link.
const MIN_V4: u32 = 552;
/// RFC 8201 section 4: "A node MUST NOT reduce its estimate of the Path MTU below the IPv6 minimum link MTU".
const MIN_V6: u32 = 1280;
/// Bounds the memory that forged ICMP messages can take.
const MAX_ENTRIES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reductions_count_and_they_expire() {
        let cache = PmtuCache::default();
        let host: IpAddr = "192.0.2.1".parse().unwrap();
        let (start, later) = (Instant::from_millis(0), Instant::from_millis(600_001));
        assert_eq!(cache.lookup(host, start), None);
        assert!(cache.reduce(host, 1400, start));
        assert!(!cache.reduce(host, 1450, start));
        assert!(cache.reduce(host, 100, start));
        assert_eq!(cache.lookup(host, start), Some(MIN_V4));
        assert_eq!(cache.lookup(host, later), None);
        assert!(cache.reduce("2001:db8::1".parse().unwrap(), 100, start));
        assert_eq!(cache.lookup("2001:db8::1".parse().unwrap(), start), Some(1280));
    }
}
