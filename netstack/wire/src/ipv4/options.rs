//! The options of IPv4 (RFC 791 section 3.1): whether a host may believe them.
//!
//! ```text
//! +--------+--------+--------+---------//--------+
//! |  kind  | length | pointer|     route data    |   record route, source routes; two kinds have no length
//! +--------+--------+--------+---------//--------+
//! ```

use core::net::Ipv4Addr;
use core::ops::Range;

/// What is the matter with the options of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OptionsError {
    /// A byte makes no sense.
    Malformed {
        /// Where it is, counted from the first option.
        offset: u8,
    },
    /// The sender chose a route. RFC 7126 sections 4.3 and 4.4: such packets "should" be dropped by default.
    SourceRouted,
}

/// Checks the options of a header, as strictly as Linux does.
pub fn check(options: &[u8]) -> Result<(), OptionsError> {
    let mut seen = Seen::default();
    for place in places(options) {
        let place = place.map_err(malformed)?;
        let at = place.start;
        seen.option(&options[place]).map_err(|offset| malformed(at + offset))?;
    }
    if seen.source_route { Err(OptionsError::SourceRouted) } else { Ok(()) }
}

/// What a host or router writes into the options of a packet that comes by.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<F> {
    /// Its address for a record of the route.
    pub address: Ipv4Addr,
    /// Its address beside a time.
    pub time_address: Ipv4Addr,
    /// Milliseconds since midnight UT (RFC 791 section 3.1).
    pub time: u32,
    /// Tells which addresses are its own: prespecified timestamps are for some hosts only.
    pub is_own: F,
}

/// What to do about a timestamp option without room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overflow {
    /// The option counts those that did not fit.
    Counted,
    /// Nothing.
    Ignored,
}

/// Puts a stamp into the options, which passed [`check`], that ask for one: record route and timestamp. False if an option
/// has room for a part of it only.
pub fn record(options: &mut [u8], stamp: &Stamp<impl Fn(Ipv4Addr) -> bool>, overflow: Overflow) -> bool {
    let mut next = place_from(options, 0);
    while let Some(place) = next {
        let Ok(place) = place else { return false };
        let end = place.end;
        let option = &mut options[place];
        let is_done = match option[0] {
            KIND_RECORD_ROUTE => record_route(option, stamp.address),
            KIND_TIMESTAMP => record_time(option, stamp, overflow),
            _ => true,
        };
        if !is_done {
            return false;
        }
        next = place_from(options, end);
    }
    true
}

fn record_route(option: &mut [u8], address: Ipv4Addr) -> bool {
    match room(option, 4) {
        Room::Full => true,
        Room::Partial => false,
        Room::At(at) => {
            option[at..at + 4].copy_from_slice(&address.octets());
            option[2] += 4;
            true
        }
    }
}

fn record_time(option: &mut [u8], stamp: &Stamp<impl Fn(Ipv4Addr) -> bool>, overflow: Overflow) -> bool {
    let Some(&flags) = option.get(3) else { return false };
    let len = if flags & 15 == TIME_ONLY { 4 } else { 8 };
    let at = match room(option, len) {
        Room::Full => {
            // `check` has seen that four bits are enough.
            if overflow == Overflow::Counted {
                option[3] = option[3].saturating_add(0x10);
            }
            return true;
        }
        Room::Partial => return false,
        Room::At(at) => at,
    };
    match flags & 15 {
        TIME_ONLY => {}
        TIME_AND_ADDRESS => option[at..at + 4].copy_from_slice(&stamp.time_address.octets()),
        TIME_PRESPECIFIED => {
            let octets = [option[at], option[at + 1], option[at + 2], option[at + 3]];
            if !(stamp.is_own)(Ipv4Addr::from(octets)) {
                return true;
            }
        }
        // As Linux, which leaves what it does not know alone.
        _ => return true,
    }
    let end = at + len;
    option[end - 4..end].copy_from_slice(&stamp.time.to_be_bytes());
    // At most 41.
    option[2] += len as u8;
    true
}

enum Room {
    Full,
    Partial,
    At(usize),
}

/// Where the pointer points to, if `len` bytes fit there.
fn room(option: &[u8], len: usize) -> Room {
    let Some(pointer) = option.get(2).map(|&pointer| usize::from(pointer)) else { return Room::Partial };
    match pointer.checked_sub(1) {
        _ if pointer > option.len() => Room::Full,
        Some(at) if at >= 3 && at + len <= option.len() => Room::At(at),
        _ => Room::Partial,
    }
}

/// The options of an answer: those that record are sent back (RFC 1122 section 3.2.2.6), the others are not. Padded to
/// a multiple of four bytes.
pub fn to_echo(received: &[u8]) -> ([u8; MAX_LEN], usize) {
    let (mut options, mut len) = ([KIND_END; MAX_LEN], 0);
    // In Linux's order.
    for wanted in [KIND_RECORD_ROUTE, KIND_TIMESTAMP] {
        for place in places(received).map_while(Result::ok) {
            let option = &received[place];
            if option[0] == wanted
                && let Some(out) = options.get_mut(len..len + option.len())
            {
                out.copy_from_slice(option);
                len += option.len();
            }
        }
    }
    (options, len.next_multiple_of(4))
}

/// Whether routers on the way are asked to look at the packet (RFC 2113), in options that passed [`check`].
pub fn has_router_alert(options: &[u8]) -> bool {
    places(options).map_while(Result::ok).any(|place| options[place.start] == KIND_ROUTER_ALERT)
}

/// Where the options are that have a length, up to the end of the list; the start of one whose length makes no sense, which is
/// the last.
fn places(options: &[u8]) -> impl Iterator<Item = Result<Range<usize>, usize>> {
    core::iter::successors(place_from(options, 0), |place| place_from(options, place.as_ref().ok()?.end))
}

/// The first of those at `from` or behind.
fn place_from(options: &[u8], from: usize) -> Option<Result<Range<usize>, usize>> {
    let at = from + options.get(from..)?.iter().take_while(|kind| **kind == KIND_NOP).count();
    if *options.get(at)? == KIND_END {
        return None;
    }
    let len = options.get(at + 1).map_or(0, |&len| usize::from(len));
    let is_sound = len >= 2 && at + len <= options.len();
    Some(if is_sound { Ok(at..at + len) } else { Err(at) })
}

/// The options that may occur once.
#[derive(Default)]
struct Seen {
    source_route: bool,
    record_route: bool,
    timestamp: bool,
}

impl Seen {
    /// Fails with the offset in the option of what makes no sense.
    fn option(&mut self, option: &[u8]) -> Result<(), usize> {
        match option[0] {
            KIND_LOOSE_ROUTE | KIND_STRICT_ROUTE => {
                once(&mut self.source_route)?;
                route(option)
            }
            KIND_RECORD_ROUTE => {
                once(&mut self.record_route)?;
                route(option)?;
                has_room(option, 4)
            }
            KIND_TIMESTAMP => {
                once(&mut self.timestamp)?;
                timestamp(option)
            }
            KIND_ROUTER_ALERT if option.len() < 4 => Err(1),
            // RFC 1122 section 3.2.1.8: "the IP layer MUST silently ignore" what it does not know.
            _ => Ok(()),
        }
    }
}

fn once(is_seen: &mut bool) -> Result<(), usize> {
    if core::mem::replace(is_seen, true) { Err(0) } else { Ok(()) }
}

/// A pointer behind kind, length and itself.
fn route(option: &[u8]) -> Result<(), usize> {
    match option.get(2) {
        None => Err(1),
        Some(..4) => Err(2),
        Some(_) => Ok(()),
    }
}

fn timestamp(option: &[u8]) -> Result<(), usize> {
    let &[_, _, pointer, flags, ..] = option else { return Err(1) };
    if pointer < 5 {
        return Err(2);
    }
    if usize::from(pointer) > option.len() {
        // Full; what did not fit is counted in four bits.
        return if flags >> 4 == 15 { Err(3) } else { Ok(()) };
    }
    // A time, or an address and a time.
    has_room(option, if flags & 15 == 0 { 4 } else { 8 })
}

/// Where the pointer is within the option, so are the `len` bytes that it points to (it counts from one).
fn has_room(option: &[u8], len: usize) -> Result<(), usize> {
    let pointer = usize::from(option[2]);
    if pointer <= option.len() && pointer - 1 + len > option.len() { Err(2) } else { Ok(()) }
}

/// At most 40 bytes of options.
fn malformed(offset: usize) -> OptionsError {
    OptionsError::Malformed { offset: u8::try_from(offset).unwrap_or(u8::MAX) }
}

/// The most bytes of options that a header has (RFC 791 section 3.1).
pub const MAX_LEN: usize = 40;
const TIME_ONLY: u8 = 0;
const TIME_AND_ADDRESS: u8 = 1;
const TIME_PRESPECIFIED: u8 = 3;
const KIND_END: u8 = 0;
const KIND_NOP: u8 = 1;
const KIND_RECORD_ROUTE: u8 = 7;
const KIND_TIMESTAMP: u8 = 68;
const KIND_LOOSE_ROUTE: u8 = 131;
const KIND_STRICT_ROUTE: u8 = 137;
const KIND_ROUTER_ALERT: u8 = 148;

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::{OptionsError, Overflow, Stamp, check, has_router_alert, record, to_echo};

    #[test]
    fn sane_options_pass() {
        for options in [
            &[][..],
            &[0, 0xff, 0xff, 0xff],
            &[1, 1, 1, 0],
            &[0x94, 4, 0, 0],
            &[7, 7, 4, 0, 0, 0, 0, 0],
            &[7, 7, 8, 9, 9, 9, 9, 0],
            &[68, 8, 5, 0, 0, 0, 0, 0],
            &[68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x9e, 4, 1, 2],
        ] {
            assert_eq!(check(options), Ok(()), "{options:?}");
        }
    }

    #[test]
    fn stamps_go_where_the_pointer_says() {
        let (address, time_address) = ([10, 0, 0, 9].into(), [10, 0, 0, 8].into());
        let stamp = Stamp {
            address,
            time_address,
            time: 0x0102_0304,
            is_own: |own| own == Ipv4Addr::new(10, 0, 0, 7),
        };
        for (before, after, is_whole) in [
            (&[7, 7, 4, 0, 0, 0, 0][..], &[7, 7, 8, 10, 0, 0, 9][..], true),
            (&[1, 7, 7, 8, 1, 2, 3, 4], &[1, 7, 7, 8, 1, 2, 3, 4], true),
            (&[7, 9, 8, 1, 2, 3, 4, 0, 0], &[7, 9, 8, 1, 2, 3, 4, 0, 0], false),
            (&[68, 8, 5, 0, 0, 0, 0, 0], &[68, 8, 9, 0, 1, 2, 3, 4], true),
            (&[68, 8, 9, 0x10, 1, 1, 1, 1], &[68, 8, 9, 0x20, 1, 1, 1, 1], true),
            (&[68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0], &[68, 12, 13, 1, 10, 0, 0, 8, 1, 2, 3, 4], true),
            (&[68, 12, 5, 3, 10, 0, 0, 7, 0, 0, 0, 0], &[68, 12, 13, 3, 10, 0, 0, 7, 1, 2, 3, 4], true),
            (&[68, 12, 5, 3, 10, 0, 0, 8, 0, 0, 0, 0], &[68, 12, 5, 3, 10, 0, 0, 8, 0, 0, 0, 0], true),
            (&[0x94, 4, 0, 0, 0, 7, 7, 4], &[0x94, 4, 0, 0, 0, 7, 7, 4], true),
        ] {
            let mut options = before.to_vec();
            assert_eq!(record(&mut options, &stamp, Overflow::Counted), is_whole, "{before:?}");
            assert_eq!(options, after);
            // Nothing that a sender makes up panics.
            for at in 0..options.len() {
                for value in [0, 1, 3, 7, 40, 68, 0xff] {
                    let mut options = before.to_vec();
                    options[at] = value;
                    record(&mut options, &stamp, Overflow::Ignored);
                    to_echo(&options);
                }
            }
        }
    }

    #[test]
    fn only_what_records_is_sent_back() {
        let received = [1, 0x94, 4, 0, 0, 68, 8, 9, 0, 1, 2, 3, 4, 7, 7, 8, 10, 0, 0, 9, 0];
        let (options, len) = to_echo(&received);
        assert_eq!(&options[..len], [7, 7, 8, 10, 0, 0, 9, 68, 8, 9, 0, 1, 2, 3, 4, 0]);
        assert_eq!(to_echo(&[1, 1, 0x94, 4, 0, 0]).1, 0);
    }

    #[test]
    fn router_alerts_are_found_behind_others() {
        assert!(has_router_alert(&[1, 7, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0]));
        for options in [&[][..], &[1, 0, 0x94, 4], &[7, 7, 4, 0x94, 4, 0, 0, 0], &[7, 0]] {
            assert!(!has_router_alert(options), "{options:?}");
        }
    }

    #[test]
    fn nonsense_is_pointed_at() {
        for (options, offset) in [
            (&[7, 0, 0, 0][..], 0),
            (&[7, 1, 4, 0], 0),
            (&[7, 32, 4, 0], 0),
            (&[1, 1, 1, 7], 3),
            (&[7, 2, 1, 0], 1),
            (&[7, 7, 3, 0, 0, 0, 0, 0], 2),
            (&[7, 6, 4, 0, 0, 0, 0, 0], 2),
            (&[7, 7, 4, 0, 0, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0, 0], 7),
            (&[68, 3, 5, 0], 1),
            (&[68, 4, 3, 0], 2),
            (&[68, 8, 5, 1, 0, 0, 0, 0], 2),
            (&[68, 4, 5, 0xf0], 3),
            (&[0x94, 3, 0, 0], 1),
        ] {
            assert_eq!(check(options), Err(OptionsError::Malformed { offset }), "{options:?}");
        }
    }

    #[test]
    fn source_routes_are_told_apart_from_nonsense() {
        for kind in [131, 137] {
            let route = [kind, 7, 4, 10, 0, 0, 1, 0];
            assert_eq!(check(&route), Err(OptionsError::SourceRouted));
            let again = [route, route].concat();
            // The end of options ends the first.
            assert_eq!(check(&again), Err(OptionsError::SourceRouted));
            let twice = [&route[..7], &route[..7]].concat();
            assert_eq!(check(&twice), Err(OptionsError::Malformed { offset: 7 }));
        }
    }
}
