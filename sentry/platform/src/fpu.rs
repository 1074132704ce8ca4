//! The floating-point and vector state of a guest thread.

/// An XSAVE area in the standard (not compacted) format, as in a signal frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FpuState(Vec<u8>);

impl FpuState {
    /// The legacy region and the XSAVE header.
    pub const MIN_LEN: usize = 512 + 64;

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
        bytes[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
        // XSTATE_BV: x87 and SSE are in use as stored here.
        bytes[512..520].copy_from_slice(&3_u64.to_le_bytes());
        Self(bytes)
    }

    /// The bytes of the area.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
