//! Values from the fuzzer's bytes. At their end everything is zero.

/// A cursor over the bytes.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes([self.u8(), self.u8(), self.u8(), self.u8()])
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// A number near `base`, or anywhere: what a protocol compares is rarely far from what it expects.
    pub(crate) fn near(&mut self, base: u32) -> u32 {
        match self.u8() % 8 {
            0..=2 => base,
            3 => base.wrapping_add(self.u8().into()),
            4 => base.wrapping_sub(self.u8().into()),
            5 => base.wrapping_add(self.u16().into()),
            6 => base.wrapping_sub(self.u16().into()),
            _ => self.u32(),
        }
    }

    /// At most `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }
}
