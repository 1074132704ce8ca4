//! Flows by number: the number goes to the kernel (epoll) and to observers, and outlives the flow harmlessly.

/// Names an entry; stale once the entry was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// As 56 bits, for a token.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The inverse of [`to_bits`](Self::to_bits).
    pub(crate) fn from_bits(bits: u64) -> Self {
        // Both halves were made of such numbers.
        let index = u32::try_from(bits & 0xffff_ffff).unwrap_or(0);
        let generation = u32::try_from(bits >> 32).unwrap_or(0) & MAX_GENERATION;
        Self { index, generation }
    }
}

/// A table whose entries have numbers.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Adds what `make` makes of the key.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, value: None });
            // Descriptors run out long before.
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        let entry = &mut self.entries[index as usize];
        let key = Key { index, generation: entry.generation };
        entry.value = Some(make(key));
        key
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        entry.value.as_mut().filter(|_| entry.generation == key.generation)
    }

    /// Replaces an entry with what `change` makes of it, or removes it.
    pub(crate) fn update(&mut self, key: Key, change: impl FnOnce(T) -> Option<T>) {
        let Some(entry) = self.entries.get_mut(key.index as usize) else { return };
        if entry.generation != key.generation {
            return;
        }
        let Some(value) = entry.value.take() else { return };
        entry.value = change(value);
        if entry.value.is_none() {
            entry.generation = (entry.generation + 1) & MAX_GENERATION;
            self.free.push(key.index);
        }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let entry =
            self.entries.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation)?;
        let value = entry.value.take()?;
        entry.generation = (entry.generation + 1) & MAX_GENERATION;
        self.free.push(key.index);
        Some(value)
    }
}

/// 24 bits: a token has room for them beside its kind.
const MAX_GENERATION: u32 = 0xff_ffff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_keys_find_nothing() {
        let mut slab = Slab::default();
        let first = slab.insert_with(|_| 'a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert_with(|_| 'b');
        assert_ne!(first, second);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(Key::from_bits(second.to_bits())), Some(&mut 'b'));
        assert_eq!(slab.len(), 1);
    }
}
