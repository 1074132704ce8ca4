//! Numbers computed from a packet's bytes (iptables' `u32`).

use super::rule::{U32Step, U32Test};
use crate::ip::Transit;

/// Tells whether all numbers are where they should be; a packet that is too short fails.
pub(super) fn all_in(tests: &[U32Test], transit: &Transit) -> bool {
    tests.iter().all(|test| {
        number(test, transit).is_some_and(|number| test.ranges.iter().any(|range| range.contains(&number)))
    })
}

fn number(test: &U32Test, transit: &Transit) -> Option<u32> {
    let mut base = 0_usize;
    let mut value = read(transit, base, test.start)?;
    for step in &test.steps {
        value = match *step {
            U32Step::And(mask) => value & mask,
            U32Step::Left(bits) => value.checked_shl(bits).unwrap_or(0),
            U32Step::Right(bits) => value.checked_shr(bits).unwrap_or(0),
            U32Step::At(offset) => {
                base = base.checked_add(usize::try_from(value).ok()?)?;
                read(transit, base, offset)?
            }
        };
    }
    Some(value)
}

fn read(transit: &Transit, base: usize, offset: u32) -> Option<u32> {
    let at = base.checked_add(usize::try_from(offset).ok()?)?;
    let mut bytes = [0; 4];
    (transit.copy_to(at, &mut bytes) == bytes.len()).then(|| u32::from_be_bytes(bytes))
}
