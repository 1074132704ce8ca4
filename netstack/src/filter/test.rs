//! Whether a packet passes a test.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::sync::Mutex;
use netstack_wire::ip::Protocol;
use netstack_wire::tcp::TcpFlags;

use super::compile::CompiledRule;
use super::rule::Test;
use super::subject::Subject;
use crate::time::Instant;

/// The bucket of a [`Test::Limit`].
#[derive(Debug)]
pub(super) struct LimitState {
    interval: Duration,
    burst: u32,
    bucket: Mutex<Option<Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: u32,
    /// Up to when tokens were added.
    filled: Instant,
}

impl LimitState {
    pub(super) fn of(test: &Test) -> Option<Self> {
        match *test {
            Test::Limit { interval, burst } => Some(Self { interval, burst, bucket: Mutex::new(None) }),
            _ => None,
        }
    }

    fn allow(&self, now: Instant) -> bool {
        let mut bucket = self.bucket.lock();
        let full = Bucket { tokens: self.burst, filled: now };
        let current = bucket.get_or_insert(full);
        let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        let elapsed = now.as_nanos().saturating_sub(current.filled.as_nanos());
        let fresh = u32::try_from(elapsed / interval).unwrap_or(u32::MAX);
        current.tokens = current.tokens.saturating_add(fresh).min(self.burst);
        // Keeps the remainder, so that the rate is exact.
        current.filled = Instant::from_nanos(now.as_nanos() - elapsed % interval);
        let allowed = current.tokens > 0;
        current.tokens -= u32::from(allowed);
        allowed
    }
}

/// Tells whether a packet passes all tests of a rule. They are asked in order: a packet that fails before a limit takes no
/// token of it.
pub(super) fn matches(rule: &CompiledRule, subject: &Subject<'_>) -> bool {
    let mut limits = rule.limits.iter();
    rule.tests.iter().all(|(test, is_inverted)| {
        let passes = match test {
            Test::Limit { .. } => limits.next().is_some_and(|limit| limit.allow(subject.now)),
            test => passes(test, subject),
        };
        passes != *is_inverted
    })
}

fn passes(test: &Test, subject: &Subject<'_>) -> bool {
    let transit = &*subject.transit;
    match test {
        Test::Source(network) => network.contains(transit.source),
        Test::Destination(network) => network.contains(transit.destination),
        Test::InputNic(name) => subject.input.is_some_and(|nic| is_named(name, nic)),
        Test::OutputNic(name) => subject.output.is_some_and(|nic| is_named(name, nic)),
        Test::Protocol(protocol) => transit.protocol == *protocol,
        Test::SourcePort(ranges) => ports(subject).is_some_and(|(source, _)| is_in(ranges, source)),
        Test::DestinationPort(ranges) => ports(subject).is_some_and(|(_, to)| is_in(ranges, to)),
        Test::EitherPort(ranges) => {
            ports(subject).is_some_and(|(source, to)| is_in(ranges, source) || is_in(ranges, to))
        }
        Test::TcpFlags { mask, set } => {
            let flags =
                transit.transport().get(TCP_FLAGS_OFFSET).map(|&byte| TcpFlags::from_bits_retain(byte));
            transit.protocol == Protocol::TCP && flags.is_some_and(|flags| flags & *mask == *set)
        }
        Test::Icmp { kind, code } => {
            let is_icmp = matches!(transit.protocol, Protocol::ICMP | Protocol::ICMPV6);
            let header = transit.transport();
            is_icmp && header.first() == Some(kind) && code.is_none_or(|code| header.get(1) == Some(&code))
        }
        Test::State(states) => states.intersects(subject.state),
        Test::Mark(mark) => mark.matches(transit.packet.meta.mark),
        Test::Owner(owner) => transit.packet.meta.owner == *owner,
        Test::Ttl(range) => range.contains(&transit.ttl()),
        // Asked by the caller, who has the state.
        Test::Limit { .. } => false,
    }
}

/// A name, or the beginning of one before a `+`.
fn is_named(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('+') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

fn ports(subject: &Subject<'_>) -> Option<(u16, u16)> {
    let has_ports = matches!(subject.transit.protocol, Protocol::TCP | Protocol::UDP);
    let &[a, b, c, d, ..] = subject.transit.transport() else { return None };
    has_ports.then(|| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

fn is_in(ranges: &[RangeInclusive<u16>], port: u16) -> bool {
    ranges.iter().any(|range| range.contains(&port))
}

const TCP_FLAGS_OFFSET: usize = 13;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_end_in_anything() {
        assert!(is_named("eth0", "eth0") && is_named("eth+", "eth12") && is_named("+", "lo"));
        assert!(!is_named("eth0", "eth01") && !is_named("eth+", "wlan0"));
    }

    #[test]
    fn a_limit_lets_a_burst_through_and_then_its_rate() {
        let test = Test::Limit { interval: Duration::from_secs(1), burst: 5 };
        let limit = LimitState::of(&test).unwrap();
        let at = |millis| Instant::from_millis(millis);
        assert_eq!((0..10).filter(|_| limit.allow(at(100))).count(), 5);
        assert!(!limit.allow(at(1099)));
        assert!(limit.allow(at(1100)) && !limit.allow(at(1100)));
        assert_eq!((0..10).filter(|_| limit.allow(at(60_000))).count(), 5);
    }
}
