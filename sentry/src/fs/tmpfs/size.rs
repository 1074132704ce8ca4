//! How large a tmpfs may grow (`size=` and `nr_blocks=` of `tmpfs(5)`).

use crate::errno::Errno;
use crate::mm::PAGE_SIZE;

/// The most bytes that the files of a tmpfs hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeLimit {
    /// No limit but the sandbox's memory: what the sandbox mounts for itself, and `size=0`.
    Unlimited,
    /// This much of the sandbox's memory; without `size=`, half of it.
    Percent(u64),
    /// This many bytes.
    Bytes(u64),
}

impl SizeLimit {
    /// What a mount without `size=` has.
    pub const DEFAULT: Self = Self::Percent(50);

    /// Parses the value of `size=`.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn parse(text: &str) -> Result<Self, Errno> {
        if let Some(percent) = text.strip_suffix('%') {
            return percent.parse().map(Self::Percent).map_err(|_| Errno::EINVAL);
        }
        parse_number(text).map(Self::of_bytes)
    }

    /// Parses the value of `nr_blocks=`.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn parse_blocks(text: &str) -> Result<Self, Errno> {
        parse_number(text).map(|n| Self::of_bytes(n.saturating_mul(PAGE_SIZE)))
    }

    /// The limit in bytes where the sandbox has `memory`.
    #[must_use]
    pub fn bytes(self, memory: u64) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::Percent(percent) => Some((memory / 100).saturating_mul(percent)),
            Self::Bytes(bytes) => Some(bytes),
        }
    }

    fn of_bytes(bytes: u64) -> Self {
        if bytes == 0 { Self::Unlimited } else { Self::Bytes(bytes) }
    }
}

/// A number with an optional suffix k, m or g.
///
/// # Errors
/// `EINVAL`.
pub(super) fn parse_number(text: &str) -> Result<u64, Errno> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let n: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    n.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_blocks_or_parts_of_the_memory() {
        assert_eq!(SizeLimit::parse("64k").unwrap().bytes(1), Some(65536));
        assert_eq!(SizeLimit::parse("25%").unwrap().bytes(4000), Some(1000));
        assert_eq!(SizeLimit::parse_blocks("2").unwrap().bytes(1), Some(8192));
        assert_eq!(SizeLimit::parse("0").unwrap().bytes(1), None);
        assert_eq!(SizeLimit::DEFAULT.bytes(4000), Some(2000));
        for bad in ["", "x", "-1", "%", "k", "99999999999g"] {
            assert!(SizeLimit::parse(bad).is_err(), "{bad}");
        }
    }
}
