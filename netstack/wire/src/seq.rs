//! TCP sequence numbers: 32 bits, compared modulo 2^32 (RFC 9293 section 3.4).

use core::fmt;
use core::ops::{Add, AddAssign, Sub, SubAssign};

/// A sequence number. The order is circular, so the type has no `Ord`; use [`SeqNum::lt`] and friends, which are right
/// for numbers less than 2^31 apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// Returns whether `self` comes before `other`.
    #[must_use]
    pub const fn lt(self, other: Self) -> bool {
        self.distance_from(other) < 0
    }

    /// Returns whether `self` is `other` or comes before it.
    #[must_use]
    pub const fn le(self, other: Self) -> bool {
        self.distance_from(other) <= 0
    }

    /// Returns whether `self` comes after `other`.
    #[must_use]
    pub const fn gt(self, other: Self) -> bool {
        self.distance_from(other) > 0
    }

    /// Returns whether `self` is `other` or comes after it.
    #[must_use]
    pub const fn ge(self, other: Self) -> bool {
        self.distance_from(other) >= 0
    }

    /// Returns whether `self` lies in `[start, start + len)`.
    #[must_use]
    pub const fn is_within(self, start: Self, len: u32) -> bool {
        self.0.wrapping_sub(start.0) < len
    }

    /// Returns the later of the two.
    #[must_use]
    pub const fn max(self, other: Self) -> Self {
        if self.lt(other) { other } else { self }
    }

    /// Returns the earlier of the two.
    #[must_use]
    pub const fn min(self, other: Self) -> Self {
        if other.lt(self) { other } else { self }
    }

    /// Returns the signed distance from `other` to `self`.
    #[must_use]
    pub const fn distance_from(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0).cast_signed()
    }

    /// Returns how many sequence numbers `self` is past `earlier`, zero if it is not past it.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> u32 {
        if self.gt(earlier) { self.0.wrapping_sub(earlier.0) } else { 0 }
    }
}

impl Add<u32> for SeqNum {
    type Output = Self;

    fn add(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }
}

impl AddAssign<u32> for SeqNum {
    fn add_assign(&mut self, n: u32) {
        *self = *self + n;
    }
}

impl Sub<u32> for SeqNum {
    type Output = Self;

    fn sub(self, n: u32) -> Self {
        Self(self.0.wrapping_sub(n))
    }
}

impl SubAssign<u32> for SeqNum {
    fn sub_assign(&mut self, n: u32) {
        *self = *self - n;
    }
}

/// The distance modulo 2^32: only for `self` at or past `earlier`.
impl Sub for SeqNum {
    type Output = u32;

    fn sub(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_wraps_around_zero() {
        let before = SeqNum(u32::MAX - 1);
        let after = before + 5;
        assert_eq!(after, SeqNum(3));
        assert!(before.lt(after) && after.gt(before) && before.le(before));
        assert_eq!(after - before, 5);
        assert_eq!(before.saturating_since(after), 0);
        assert_eq!(before.max(after), after);
        assert!(SeqNum(0).is_within(before, 3) && !SeqNum(1).is_within(before, 3));
    }
}
