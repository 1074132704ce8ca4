//! The options of IPv4 (RFC 791 section 3.1): whether a host may believe them.
//!
//! ```text
//! +--------+--------+--------+---------//--------+
//! |  kind  | length | pointer|     route data    |   record route, source routes; two kinds have no length
//! +--------+--------+--------+---------//--------+
//! ```

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
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        if kind == KIND_END {
            break;
        }
        if kind == KIND_NOP {
            at += 1;
            continue;
        }
        let len = options.get(at + 1).map_or(0, |&len| usize::from(len));
        let option = options.get(at..at + len).filter(|option| option.len() >= 2).ok_or(malformed(at))?;
        seen.option(option).map_err(|offset| malformed(at + offset))?;
        at += len;
    }
    if seen.source_route { Err(OptionsError::SourceRouted) } else { Ok(()) }
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

const KIND_END: u8 = 0;
const KIND_NOP: u8 = 1;
const KIND_RECORD_ROUTE: u8 = 7;
const KIND_TIMESTAMP: u8 = 68;
const KIND_LOOSE_ROUTE: u8 = 131;
const KIND_STRICT_ROUTE: u8 = 137;
const KIND_ROUTER_ALERT: u8 = 148;

#[cfg(test)]
mod tests {
    use super::{OptionsError, check};

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
