//! Named integer conversions: each says what happens at the edge.

/// The low 32 bits.
pub(super) fn low_u32(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0)
}

/// Saturates at `u32::MAX`; the lengths in here are bounded by buffers far below it.
pub(super) fn sat_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Lossless on every platform with 32-bit or wider pointers.
pub(super) fn usize_of(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Saturates at `u16::MAX`.
pub(super) fn sat_u16(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}
