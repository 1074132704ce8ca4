//! System call arguments as Linux decodes them from registers.

use crate::mm::UserAddr;
use crate::vfs::Fd;

/// The six argument registers of a system call (`syscall(2)`: rdi, rsi, rdx, r10, r8, r9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Args(pub [u64; 6]);

impl Args {
    /// Argument `n` as a 64-bit value.
    #[must_use]
    pub fn u64(&self, n: usize) -> u64 {
        self.0[n]
    }

    /// Argument `n` as `size_t`.
    #[must_use]
    pub fn usize(&self, n: usize) -> usize {
        // The sentry runs only on x86-64, where usize has 64 bits.
        self.0[n] as usize
    }

    /// Argument `n` as `long`.
    #[must_use]
    pub fn i64(&self, n: usize) -> i64 {
        self.0[n].cast_signed()
    }

    /// Argument `n` as `unsigned int`: Linux ignores the upper half of the register.
    #[must_use]
    pub fn u32(&self, n: usize) -> u32 {
        (self.0[n] & 0xffff_ffff) as u32
    }

    /// Argument `n` as `int`: Linux ignores the upper half of the register.
    #[must_use]
    pub fn i32(&self, n: usize) -> i32 {
        self.u32(n).cast_signed()
    }

    /// Argument `n` as a file descriptor.
    #[must_use]
    pub fn fd(&self, n: usize) -> Fd {
        Fd(self.i32(n))
    }

    /// Argument `n` as a guest address.
    #[must_use]
    pub fn addr(&self, n: usize) -> UserAddr {
        UserAddr(self.0[n])
    }
}
