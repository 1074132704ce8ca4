//! Advertising a NIC's router to its link (RFC 4861 section 6.2).
//!
//! `Advertiser` decides when; the shell in `ip/advertise.rs` sends. It is turned on per NIC with
//! [`Stack::start_advertising`](crate::Stack::start_advertising).

use std::time::Duration;

use netstack_wire::ndp::RouterAdvertisement;

use crate::time::Instant;

/// What a router says, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvertiseOptions {
    /// The shortest time between unasked advertisements (`MinRtrAdvInterval`).
    pub min_interval: Duration,
    /// The longest (`MaxRtrAdvInterval`).
    pub max_interval: Duration,
    /// What is said. The station is the NIC's own; the lifetime counts only while the NIC forwards IPv6.
    pub advertisement: RouterAdvertisement,
}

impl AdvertiseOptions {
    /// The default intervals of RFC 4861 section 6.2.1, and a router's lifetime of three of them.
    pub fn new(mut advertisement: RouterAdvertisement) -> Self {
        let max_interval = Duration::from_secs(600);
        if advertisement.lifetime_s == 0 {
            advertisement.lifetime_s = 1800;
        }
        Self { min_interval: max_interval.mul_f64(0.33), max_interval, advertisement }
    }

    /// RFC 4861 section 6.2.1: "MUST be no less than 4 seconds and no greater than 1800 seconds"; "MUST be no less than 3
    /// seconds and no greater than .75 * MaxRtrAdvInterval"; the lifetime "MUST be either zero or between
    /// MaxRtrAdvInterval and 9000 seconds". Prefixes: preferred no longer than valid.
    pub(crate) fn is_valid(&self) -> bool {
        let Self { min_interval, max_interval, advertisement } = self;
        let lifetime = Duration::from_secs(advertisement.lifetime_s.into());
        let lifetime_fits = lifetime.is_zero() || (*max_interval..=MAX_LIFETIME).contains(&lifetime);
        let mut prefixes = advertisement.prefixes.iter();
        (Duration::from_secs(4)..=Duration::from_secs(1800)).contains(max_interval)
            && (Duration::from_secs(3)..=*max_interval * 3 / 4).contains(min_interval)
            && lifetime_fits
            && prefixes.all(|prefix| prefix.prefix_len <= 128 && prefix.preferred_s <= prefix.valid_s)
    }
}

/// When a router speaks.
///
/// Order of calls: [`new`](Self::new), then inputs; [`on_timer`](Self::on_timer) at
/// [`next_deadline`](Self::next_deadline) says whether to advertise.
#[derive(Debug)]
pub(crate) struct Advertiser {
    min_interval: Duration,
    max_interval: Duration,
    /// When the next one is due, asked or not.
    next: Instant,
    last: Option<Instant>,
    /// How many of the first, which come faster, were sent.
    initial: u8,
}

impl Advertiser {
    /// Starts at once.
    pub(crate) fn new(options: &AdvertiseOptions, now: Instant) -> Self {
        let AdvertiseOptions { min_interval, max_interval, advertisement: _ } = *options;
        Self { min_interval, max_interval, next: now, last: None, initial: 0 }
    }

    pub(crate) fn next_deadline(&self) -> Instant {
        self.next
    }

    /// A host asks. `random` is any number.
    pub(crate) fn on_solicitation(&mut self, now: Instant, random: u64) {
        // RFC 4861 section 6.2.6: "delay the response for a random amount of time between 0 and MAX_RA_DELAY_TIME", and
        // "consecutive Router Advertisements sent to the all-nodes multicast address MUST be rate limited to no more than
        // one advertisement every MIN_DELAY_BETWEEN_RAS seconds".
        let delay = spread(Duration::ZERO, MAX_DELAY, random);
        let earliest = self.last.map_or(now, |last| (last + MIN_BETWEEN).max(now));
        self.next = self.next.min(earliest + delay);
    }

    /// Whether an advertisement is due now.
    pub(crate) fn on_timer(&mut self, now: Instant, random: u64) -> bool {
        if now < self.next {
            return false;
        }
        let mut interval = spread(self.min_interval, self.max_interval, random);
        // Section 6.2.4: the first few come faster.
        if self.initial < INITIAL {
            self.initial += 1;
            interval = interval.min(MAX_INITIAL_INTERVAL);
        }
        self.last = Some(now);
        self.next = now + interval;
        true
    }
}

/// A time between two others.
fn spread(min: Duration, max: Duration, random: u64) -> Duration {
    // The upper half as a fraction.
    let fraction = f64::from((random >> 32) as u32) / f64::from(u32::MAX);
    min + max.saturating_sub(min).mul_f64(fraction)
}

/// RFC 4861 section 10.
const MAX_INITIAL_INTERVAL: Duration = Duration::from_secs(16);
const INITIAL: u8 = 3;
const MIN_BETWEEN: Duration = Duration::from_secs(3);
const MAX_DELAY: Duration = Duration::from_millis(500);
const MAX_LIFETIME: Duration = Duration::from_secs(9000);

#[cfg(test)]
mod tests {
    use super::*;

    fn advertiser() -> Advertiser {
        Advertiser::new(&AdvertiseOptions::new(RouterAdvertisement::default()), Instant::from_millis(1000))
    }

    #[test]
    fn the_first_come_fast() {
        let mut machine = advertiser();
        let mut gaps = Vec::new();
        for _ in 0..5 {
            let at = machine.next_deadline();
            assert!(machine.on_timer(at, u64::MAX));
            gaps.push((machine.next_deadline() - at).as_secs());
        }
        assert_eq!(gaps, [16, 16, 16, 600, 600]);
    }

    #[test]
    fn answers_are_delayed_and_limited() {
        let mut machine = advertiser();
        let start = Instant::from_millis(1000);
        assert!(machine.on_timer(start, 0));
        let later = Instant::from_millis(1500);
        machine.on_solicitation(later, u64::MAX);
        assert_eq!(machine.next_deadline(), Instant::from_millis(4500));
        machine.on_solicitation(later, 0);
        assert_eq!(machine.next_deadline(), Instant::from_millis(4000));
        assert!(!machine.on_timer(later, 0));
        assert!(machine.on_timer(Instant::from_millis(4000), 0));
        let much_later = Instant::from_millis(8000);
        machine.on_solicitation(much_later, 0);
        assert_eq!(machine.next_deadline(), much_later);
    }

    #[test]
    fn intervals_and_lifetimes_are_checked() {
        let fine = AdvertiseOptions::new(RouterAdvertisement::default());
        assert!(fine.is_valid());
        let short = AdvertiseOptions { max_interval: Duration::from_secs(3), ..fine.clone() };
        let near = AdvertiseOptions { min_interval: Duration::from_secs(500), ..fine.clone() };
        let mut fleeting = fine.clone();
        fleeting.advertisement.lifetime_s = 500;
        let mut never = fine;
        never.advertisement.lifetime_s = 0;
        assert!(!short.is_valid() && !near.is_valid() && !fleeting.is_valid() && never.is_valid());
    }
}
