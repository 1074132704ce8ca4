//! Texts in packets, times of day, and connections by whom they are from (iptables' `string`, `time` and `connlimit`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use super::rule::{Carried, CarriedTest, ConnLimit, ContentTest, TimeTest};
use super::state::masked;
use crate::conntrack::{Conn, Direction, Tracking};
use crate::ip::Transit;
use crate::sync::Mutex;

/// Whether a text is in a packet (`xt_string`, `skb_find_text`).
pub(super) fn contains(test: &ContentTest, transit: &Transit) -> bool {
    let start = test.within.start;
    let end = test.within.end.min(transit.len());
    if test.text.is_empty() || start >= end {
        return false;
    }
    let mut bytes = vec![0; end - start];
    let len = transit.copy_to(start, &mut bytes);
    bytes.truncate(len);
    bytes.windows(test.text.len()).any(|window| match test.ignores_case {
        true => window.eq_ignore_ascii_case(&test.text),
        false => window == test.text,
    })
}

/// Whether a flow has carried as much as asked for (`xt_connbytes`).
pub(super) fn has_carried(test: &CarriedTest, tracking: &Tracking) -> bool {
    let ([original, reply], [original_bytes, reply_bytes]) = tracking.conn.carried();
    let (packets, bytes) = match test.is_original {
        Some(true) => (original, original_bytes),
        Some(false) => (reply, reply_bytes),
        None => (original + reply, original_bytes + reply_bytes),
    };
    test.range.contains(&match test.what {
        Carried::Packets => packets,
        Carried::Bytes => bytes,
        Carried::BytesPerPacket => bytes.checked_div(packets).unwrap_or(0),
    })
}

/// Whether a rule holds at a time, in seconds since 1970 (`xt_time`).
pub(super) fn is_time(test: &TimeTest, now: u64) -> bool {
    if !test.dates.contains(&now) {
        return false;
    }
    let mut day = now / DAY;
    // Less than a day.
    let second = (now % DAY) as u32;
    if test.day_start < test.day_stop {
        if second < test.day_start || second > test.day_stop {
            return false;
        }
    } else {
        if second < test.day_start && second > test.day_stop {
            return false;
        }
        if test.is_contiguous && second <= test.day_stop {
            day = day.saturating_sub(1);
        }
    }
    // 1970-01-01 was a Thursday, the fourth day.
    let weekday = (day + 3) % 7 + 1;
    test.weekdays & 1 << weekday != 0 && test.month_days & 1 << day_of_month(day) != 0
}

/// The day of the month, from 1 on, of a day since 1970-01-01.
fn day_of_month(mut day: u64) -> u64 {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    // Whole cycles of the calendar first, so that the loop is bounded.
    day %= DAYS_OF_400_YEARS;
    let mut year = 1970;
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    for len in [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < len {
            break;
        }
        day -= len;
    }
    day + 1
}

/// The connections that a rule has seen, by the address that counts.
#[derive(Debug, Default)]
pub(super) struct ConnCounts(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    by_address: HashMap<IpAddr, Vec<Weak<Conn>>>,
    /// How many addresses there may be before those without connections are forgotten.
    sweep_at: usize,
}

impl ConnCounts {
    /// Whether the connections of an address, with the packet's own, are more than the limit (`nf_conncount`).
    pub(super) fn is_above(&self, limit: &ConnLimit, address: IpAddr, tracking: &Tracking) -> bool {
        let mut counted = self.0.lock();
        let Counted { by_address, sweep_at } = &mut *counted;
        if by_address.len() > (*sweep_at).max(MIN_SWEEP) {
            by_address.retain(|_, conns| conns.iter().any(|conn| conn.strong_count() > 0));
            *sweep_at = by_address.len() * 2;
        }
        let conns = by_address.entry(masked(address, limit.mask)).or_default();
        let mut is_known = false;
        conns.retain(|conn| {
            let Some(conn) = conn.upgrade() else { return false };
            is_known |= Arc::ptr_eq(&conn, &tracking.conn);
            // Both ends have let go of it ("already_closed").
            Arc::ptr_eq(&conn, &tracking.conn) || !conn.is_closed()
        });
        if !is_known {
            conns.push(Arc::downgrade(&tracking.conn));
        }
        u32::try_from(conns.len()).unwrap_or(u32::MAX) > limit.above
    }
}

impl Conn {
    /// Packets and bytes by direction.
    fn carried(&self) -> ([u64; 2], [u64; 2]) {
        let packets = [self.packets(Direction::Original), self.packets(Direction::Reply)];
        (packets, self.bytes())
    }
}

const DAY: u64 = 86_400;
const DAYS_OF_400_YEARS: u64 = 146_097;
/// Addresses that are kept without a look at whether they have connections still.
const MIN_SWEEP: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: TimeTest = TimeTest {
        dates: 0..=u64::MAX,
        day_start: 0,
        day_stop: 86_399,
        is_contiguous: false,
        weekdays: 0xfe,
        month_days: 0xffff_fffe,
    };

    #[test]
    fn days_are_those_of_the_calendar() {
        // From date(1): seconds, weekday and day of the month.
        for (now, weekday, month_day) in [
            (0, 4, 1),
            (951_782_400, 2, 29),
            (951_868_800, 3, 1),
            (1_709_164_800, 4, 29),
            (4_107_456_000, 7, 28),
            (4_107_542_400, 1, 1),
            (1_767_225_599, 3, 31),
        ] {
            assert!(is_time(&ALWAYS, now));
            assert!(is_time(&TimeTest { weekdays: 1 << weekday, ..ALWAYS }, now), "{now} is day {weekday}");
            assert!(!is_time(&TimeTest { weekdays: 0xfe ^ 1 << weekday, ..ALWAYS }, now), "{now}");
            assert!(
                is_time(&TimeTest { month_days: 1 << month_day, ..ALWAYS }, now),
                "{now} is the {month_day}th"
            );
        }
    }

    #[test]
    fn a_time_over_midnight_may_belong_to_the_day_before() {
        let night = TimeTest { day_start: 22 * 3600, day_stop: 3600, ..ALWAYS };
        assert!(is_time(&night, 23 * 3600) && is_time(&night, 3600) && !is_time(&night, 2 * 3600));
        // The Friday that follows the Thursday.
        let thursday = TimeTest { weekdays: 1 << 4, ..night.clone() };
        assert!(!is_time(&thursday, 86_400 + 1800));
        assert!(is_time(&TimeTest { is_contiguous: true, ..thursday }, 86_400 + 1800));
        assert!(!is_time(&TimeTest { dates: 5..=9, ..ALWAYS }, 10));
    }
}
