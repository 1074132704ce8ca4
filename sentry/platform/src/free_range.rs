//! Free page ranges of a file.

use std::collections::BTreeMap;

/// Free ranges by offset; neighbours are merged. First fit keeps the file compact.
pub(crate) struct FreeRanges {
    by_offset: BTreeMap<u64, u64>,
}

impl FreeRanges {
    /// One free range from zero.
    pub(crate) fn new(span: u64) -> Self {
        Self { by_offset: BTreeMap::from([(0, span)]) }
    }

    /// Takes the first range of `len` bytes at a multiple of `align`.
    pub(crate) fn take(&mut self, len: u64, align: u64) -> Option<u64> {
        let (start, free, at) = self.by_offset.iter().find_map(|(&start, &free)| {
            let at = start.checked_next_multiple_of(align)?;
            (at - start + len <= free).then_some((start, free, at))
        })?;
        self.by_offset.remove(&start);
        if at > start {
            self.by_offset.insert(start, at - start);
        }
        let end = start + free;
        if at + len < end {
            self.by_offset.insert(at + len, end - (at + len));
        }
        Some(at)
    }

    /// Gives a range back.
    pub(crate) fn put(&mut self, mut offset: u64, mut len: u64) {
        if let Some((&before, &n)) = self.by_offset.range(..offset).next_back()
            && before + n == offset
        {
            self.by_offset.remove(&before);
            offset = before;
            len += n;
        }
        if let Some(n) = self.by_offset.remove(&(offset + len)) {
            len += n;
        }
        self.by_offset.insert(offset, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_merge_and_alignment_holds() {
        let mut free = FreeRanges::new(1 << 30);
        let a = free.take(4096, 4096).unwrap();
        let b = free.take(4096, 1 << 21).unwrap();
        assert_eq!((a, b), (0, 1 << 21));
        free.put(a, 4096);
        free.put(b, 4096);
        assert_eq!(free.by_offset, BTreeMap::from([(0, 1 << 30)]));
    }
}
