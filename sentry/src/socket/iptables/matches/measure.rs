//! Matches that measure: texts in packets, what flows have carried, connections of a host, the time.

use netstack::filter::{Carried, CarriedTest, ConnLimit, ContentTest, Side, Test, TimeTest};
use netstack::options::Family;

use super::{Tested, ip};
use crate::errno::Errno;
use crate::socket::iptables::blob::{half, long, text, word};

/// `struct xt_string_info`.
pub(super) fn string(data: &[u8]) -> Result<Tested, Errno> {
    let (from, to) = (half(data, 0), half(data, 2));
    let algorithm = data.get(4..20).ok_or(Errno::EINVAL)?;
    let &[len, flags] = data.get(148..150).ok_or(Errno::EINVAL)? else { return Err(Errno::EINVAL) };
    let pattern = data.get(20..148).and_then(|pattern| pattern.get(..usize::from(len)));
    let pattern = pattern.filter(|pattern| !pattern.is_empty()).ok_or(Errno::EINVAL)?;
    if from > to || algorithm[15] != 0 || flags & !(STRING_INVERT | STRING_IGNORE_CASE) != 0 {
        return Err(Errno::EINVAL);
    }
    // They differ in speed only. The third of Linux, fsm, has patterns that iptables cannot write.
    if !matches!(text(algorithm)?, "bm" | "kmp") {
        return Err(Errno::ENOENT);
    }
    let content = ContentTest {
        text: pattern.to_vec(),
        ignores_case: flags & STRING_IGNORE_CASE != 0,
        within: from..to,
    };
    Ok((Test::Content(content), flags & STRING_INVERT != 0))
}

/// `struct xt_connbytes_info`.
pub(super) fn bytes(data: &[u8]) -> Result<Tested, Errno> {
    let &[what, direction] = data.get(16..18).ok_or(Errno::EINVAL)? else { return Err(Errno::EINVAL) };
    let what = match what {
        0 => Carried::Packets,
        1 => Carried::Bytes,
        2 => Carried::BytesPerPacket,
        _ => return Err(Errno::EINVAL),
    };
    let is_original = match direction {
        0 => Some(true),
        1 => Some(false),
        2 => None,
        _ => return Err(Errno::EINVAL),
    };
    let (from, to) = (long(data, 0), long(data, 8));
    // The wrong way round it is an inversion.
    let (range, is_inverted) = if from <= to { (from..=to, false) } else { (to..=from, true) };
    Ok((Test::Carried(CarriedTest { what, is_original, range }), is_inverted))
}

/// `struct xt_connlimit_info`.
pub(super) fn connections(family: Family, data: &[u8]) -> Result<Tested, Errno> {
    let len = if family == Family::V4 { 4 } else { 16 };
    let mask = ip(data.get(..len).ok_or(Errno::EINVAL)?)?;
    let flags = word(data, 20);
    let side = if flags & CONNLIMIT_DESTINATION == 0 { Side::Source } else { Side::Destination };
    let limit = ConnLimit { above: word(data, 16), side, mask };
    Ok((Test::ConnLimit(limit), flags & CONNLIMIT_INVERT != 0))
}

/// `struct xt_time_info`. The kernel's time zone is UTC.
pub(super) fn time(data: &[u8]) -> Result<Tested, Errno> {
    let &[weekdays, flags] = data.get(20..22).ok_or(Errno::EINVAL)? else { return Err(Errno::EINVAL) };
    let (day_start, day_stop) = (word(data, 8), word(data, 12));
    if day_start >= DAY || day_stop >= DAY {
        return Err(Errno::EDOM);
    }
    let is_contiguous = flags & TIME_CONTIGUOUS != 0;
    if flags & !(TIME_LOCAL | TIME_CONTIGUOUS) != 0 || (is_contiguous && day_start < day_stop) {
        return Err(Errno::EINVAL);
    }
    let test = TimeTest {
        dates: u64::from(word(data, 0))..=u64::from(word(data, 4)),
        day_start,
        day_stop,
        is_contiguous,
        weekdays,
        month_days: word(data, 16),
    };
    Ok((Test::Time(test), false))
}

/// `XT_STRING_FLAG_INVERT`.
const STRING_INVERT: u8 = 1;
/// `XT_STRING_FLAG_IGNORECASE`.
const STRING_IGNORE_CASE: u8 = 2;
/// `XT_CONNLIMIT_INVERT`.
const CONNLIMIT_INVERT: u32 = 1;
/// `XT_CONNLIMIT_DADDR`.
const CONNLIMIT_DESTINATION: u32 = 2;
/// `XT_TIME_LOCAL_TZ`.
const TIME_LOCAL: u8 = 1;
/// `XT_TIME_CONTIGUOUS`.
const TIME_CONTIGUOUS: u8 = 2;
/// Seconds (`XT_TIME_MAX_DAYTIME` is one less).
const DAY: u32 = 86_400;
