//! The path MTU cache: what ICMP told about destinations whose path is narrower than the first link.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::ip_config::IpConfig;
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
    mtu: PathMtu,
    expires: Instant,
}

/// The largest packet that a path takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathMtu {
    pub(crate) mtu: u32,
    /// The path has said that it takes less than we believe anybody (`min_pmtu`). Should that be true, packets of this size have
    /// to be fragmented on their way, so they must not forbid it.
    pub(crate) is_locked: bool,
}

impl PathMtu {
    /// What an ICMP message about the path to a destination is taken for; `None` if it has to be discarded.
    pub(crate) fn told(destination: IpAddr, mtu: u32, config: &IpConfig) -> Option<Self> {
        match destination {
            IpAddr::V4(_) => {
                let least = config.min_path_mtu;
                Some(Self { mtu: mtu.max(least), is_locked: mtu < least })
            }
            IpAddr::V6(_) => (mtu >= MIN_V6).then_some(Self { mtu, is_locked: false }),
        }
    }
}

impl PmtuCache {
    pub(crate) fn lookup(&self, destination: IpAddr, now: Instant) -> Option<PathMtu> {
        if self.len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let entries = self.entries.lock();
        entries.get(&destination).filter(|entry| now < entry.expires).map(|entry| entry.mtu)
    }

    /// Notes a smaller path MTU for some time. Returns false if it is not smaller than what is known.
    pub(crate) fn reduce(&self, destination: IpAddr, mtu: PathMtu, now: Instant, lifetime: Duration) -> bool {
        let mut entries = self.entries.lock();
        if entries.get(&destination).is_some_and(|known| now < known.expires && known.mtu.mtu <= mtu.mtu) {
            return false;
        }
        if entries.len() >= MAX_ENTRIES {
            entries.retain(|_, entry| now < entry.expires);
        }
        if entries.len() >= MAX_ENTRIES {
            // Forged messages may have filled it; starting over costs honest paths one more ICMP round.
            entries.clear();
        }
        entries.insert(destination, Entry { mtu, expires: now + lifetime });
        self.len.store(entries.len(), Ordering::Relaxed);
        true
    }
}

/// RFC 8201 section 4: "If a node receives a Packet Too Big message reporting a next-hop MTU that is less than the IPv6 minimum
/// link MTU, it MUST discard it."
const MIN_V6: u32 = 1280;
/// Bounds the memory that forged ICMP messages can take.
const MAX_ENTRIES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(600);

    #[test]
    fn only_reductions_count_and_they_expire() {
        let cache = PmtuCache::default();
        let host: IpAddr = "192.0.2.1".parse().unwrap();
        let (start, later) = (Instant::from_millis(0), Instant::from_millis(600_001));
        let of = |mtu| PathMtu { mtu, is_locked: false };
        assert_eq!(cache.lookup(host, start), None);
        assert!(cache.reduce(host, of(1400), start, LIFETIME));
        assert!(!cache.reduce(host, of(1450), start, LIFETIME));
        assert!(cache.reduce(host, of(600), start, LIFETIME));
        assert_eq!(cache.lookup(host, start), Some(of(600)));
        assert_eq!(cache.lookup(host, later), None);
    }

    #[test]
    fn what_is_too_small_is_fragmented_or_discarded() {
        let config = IpConfig::default();
        let [v4, v6]: [IpAddr; 2] = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().unwrap());
        let told = |destination, mtu| PathMtu::told(destination, mtu, &config);
        assert_eq!(told(v4, 1400), Some(PathMtu { mtu: 1400, is_locked: false }));
        assert_eq!(told(v4, 552), Some(PathMtu { mtu: 552, is_locked: false }));
        assert_eq!(told(v4, 551), Some(PathMtu { mtu: 552, is_locked: true }));
        assert_eq!(told(v6, 1280), Some(PathMtu { mtu: 1280, is_locked: false }));
        assert_eq!(told(v6, 1279), None);
    }
}
