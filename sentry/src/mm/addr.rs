//! Guest addresses.

use std::fmt;

use crate::errno::Errno;

/// An address in guest memory, unchecked until it is used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UserAddr(pub u64);

impl UserAddr {
    /// The null pointer.
    pub const NULL: Self = Self(0);

    /// True for the null pointer.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The address `n` bytes further.
    ///
    /// # Errors
    /// `EFAULT` on overflow.
    pub fn checked_add(self, n: u64) -> Result<Self, Errno> {
        self.0.checked_add(n).map(Self).ok_or(Errno::EFAULT)
    }
}

impl fmt::Debug for UserAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
