//! The floating-point and vector state of a guest thread.

/// An XSAVE area in the standard (not compacted) format, as in a signal frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FpuState(Vec<u8>);

impl FpuState {
    /// The legacy region (FXSAVE).
    pub const LEGACY_LEN: usize = 512;
    /// The legacy region and the XSAVE header.
    pub const MIN_LEN: usize = Self::LEGACY_LEN + 64;

    const XSTATE_BV: std::ops::Range<usize> = 512..520;
    const MXCSR: std::ops::Range<usize> = 24..28;

    /// Takes an XSAVE area; `None` when it is shorter than the legacy region and header.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() >= Self::MIN_LEN).then_some(Self(bytes))
    }

    /// The state after `execve(2)`: x87 control word 0x37f, MXCSR 0x1f80, everything else initial.
    #[must_use]
    pub fn initial() -> Self {
        let mut bytes = vec![0; Self::MIN_LEN];
        bytes[0..2].copy_from_slice(&0x37f_u16.to_le_bytes());
        bytes[Self::MXCSR].copy_from_slice(&0x1f80_u32.to_le_bytes());
        // XSTATE_BV: x87 and SSE are in use as stored here.
        bytes[Self::XSTATE_BV].copy_from_slice(&3_u64.to_le_bytes());
        Self(bytes)
    }

    /// The bytes of the area.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The state in an area of `len` bytes that a processor with these features can load: reserved bits are cleared,
    /// and components that are missing here are in their initial state.
    pub(crate) fn padded(&self, len: usize, features: u64) -> Vec<u8> {
        let mut bytes = self.0.clone();
        let is_cut = bytes.len() > len;
        bytes.resize(len, 0);
        let mut header = [0; 8];
        header.copy_from_slice(&bytes[Self::XSTATE_BV]);
        let x87_and_sse = 3;
        let kept = if is_cut { x87_and_sse } else { features };
        let present = u64::from_le_bytes(header) & kept;
        bytes[Self::XSTATE_BV].copy_from_slice(&present.to_le_bytes());
        // XCOMP_BV and the reserved part of the header.
        bytes[Self::XSTATE_BV.end..Self::MIN_LEN].fill(0);
        // Bits above 15 of MXCSR are reserved.
        bytes[Self::MXCSR.start + 2..Self::MXCSR.end].fill(0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_bits_are_cleared() {
        let padded = FpuState::new(vec![0xff; 576]).unwrap().padded(832, 7);
        assert_eq!(padded.len(), 832);
        assert_eq!(padded[24..28], [0xff, 0xff, 0, 0]);
        assert_eq!(padded[512..520], 7_u64.to_le_bytes());
        assert!(padded[520..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn components_behind_the_end_are_initial() {
        let cut = FpuState::new(vec![0xff; 2048]).unwrap().padded(832, 0xe7);
        assert_eq!(cut[512..520], 3_u64.to_le_bytes());
    }
}
