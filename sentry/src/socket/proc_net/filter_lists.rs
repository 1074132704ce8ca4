//! What rules of iptables remember: `/proc/net/xt_recent`, `/proc/net/ipt_hashlimit` and `/proc/net/ip6t_hashlimit`, each a
//! folder with a file for each name that rules use.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Weak;
use std::time::Duration;

use netstack::filter::HashLimitInfo;
use netstack::options::Family;
use netstack::time::Instant;

use crate::errno::Errno;
use crate::fs::proc::NetFolder;
use crate::socket::NetNamespace;
use crate::socket::iptables::hash_limit_prefix;

/// The lists of the match `recent`.
pub(super) struct Recent(pub(super) Weak<NetNamespace>);

impl NetFolder for Recent {
    fn permissions(&self) -> u32 {
        0o644
    }

    fn names(&self) -> Vec<String> {
        self.0.upgrade().map(|net| net.stack().recent_lists()).unwrap_or_default()
    }

    fn text(&self, name: &str) -> Option<String> {
        let mut list = self.0.upgrade()?.stack().recent_addresses(name)?;
        list.sort_unstable_by_key(|(address, ..)| *address);
        let mut text = String::new();
        for (address, ttl, times) in list {
            let last = times.last().copied().map_or(0, jiffies);
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "src={} ttl: {ttl} last_seen: {last} oldest_pkt: {}",
                spelled(address),
                times.len()
            );
            for (index, time) in times.into_iter().enumerate() {
                let _ = write!(text, "{} {}", if index > 0 { "," } else { "" }, jiffies(time));
            }
            text.push('\n');
        }
        Some(text)
    }

    /// `recent_mt_proc_write`: `+ADDRESS` enters one, `-ADDRESS` removes it, `/` removes all. One per call; what follows a line is
    /// not looked at, nor is what is longer than any address.
    fn store(&self, name: &str, data: &[u8]) -> Result<(), Errno> {
        let namespace = self.0.upgrade().ok_or(Errno::ESRCH)?;
        let data = &data[..data.len().min(LONGEST)];
        let Some((command, rest)) = data.split_first() else { return Ok(()) };
        let is_there = match command {
            b'/' => {
                namespace.stack().set_recent_address(name, None, false);
                return Ok(());
            }
            b'+' => true,
            b'-' => false,
            _ => return Err(Errno::EINVAL),
        };
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = std::str::from_utf8(line).map_err(|_| Errno::EINVAL)?;
        let address = match line.contains(':') {
            true => line.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
            false => line.parse::<Ipv4Addr>().map(IpAddr::V4).ok(),
        };
        namespace.stack().set_recent_address(name, Some(address.ok_or(Errno::EINVAL)?), is_there);
        Ok(())
    }
}

/// The tables of the match `hashlimit` of one family.
pub(super) struct HashLimits(pub(super) Weak<NetNamespace>, pub(super) Family);

impl NetFolder for HashLimits {
    fn permissions(&self) -> u32 {
        0o444
    }

    fn names(&self) -> Vec<String> {
        let prefix = hash_limit_prefix(self.1);
        let all = self.0.upgrade().map(|net| net.stack().hash_limits()).unwrap_or_default();
        all.iter().filter_map(|name| name.strip_prefix(prefix).map(str::to_owned)).collect()
    }

    fn text(&self, name: &str) -> Option<String> {
        let entries =
            self.0.upgrade()?.stack().hash_limit_entries(&format!("{}{name}", hash_limit_prefix(self.1)))?;
        let mut text = String::new();
        for HashLimitInfo {
            source,
            destination,
            source_port,
            destination_port,
            expires_in,
            credit,
            interval,
            burst,
        } in entries
        {
            let any = match self.1 {
                Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            let [source, destination] = [source, destination].map(|end| spelled(end.unwrap_or(any)));
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{} {source}:{source_port}->{destination}:{destination_port} {} {} {}",
                expires_in.as_secs(),
                credits(credit),
                credits(interval.saturating_mul(burst)),
                credits(interval)
            );
        }
        Some(text)
    }
}

/// IPv6 addresses are shown in full (`%pI6`).
fn spelled(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let words: Vec<_> = address.segments().iter().map(|word| format!("{word:04x}")).collect();
            words.join(":")
        }
    }
}

/// The ticks of Linux's clock at a time; they wrap five minutes after the start, to show who cannot deal with that.
fn jiffies(time: Instant) -> u64 {
    (1 << 32) - 300 * HZ + time.as_nanos() / (1_000_000_000 / HZ)
}

/// The units of `xt_hashlimit` (`user2credits` since revision 2) for a time.
fn credits(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).saturating_mul(CREDITS_PER_MICROSECOND)
}

/// Of Debian's and most other kernels.
const HZ: u64 = 250;
/// The largest power of two that lets a jiffy's worth be counted for a day, times `HZ`, over a million.
const CREDITS_PER_MICROSECOND: u64 = (1 << 39) * HZ / 1_000_000;
/// `sizeof("+b335:1d35:1e55:dead:c0de:1715:5afe:c0de")`.
const LONGEST: usize = 41;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_are_those_of_linux() {
        // Five per second with a burst of seven, as Linux 6.18 shows them.
        assert_eq!(credits(Duration::from_millis(200)), 27_487_790_600_000);
        assert_eq!(credits(Duration::from_millis(1400)), 192_414_534_200_000);
    }
}
