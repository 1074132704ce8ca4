//! Where application bytes come from and go to.
//!
//! Sockets take a [`Source`] and a [`Sink`] rather than slices, so that an embedder whose application memory is not a
//! Rust slice (a sandbox's guest memory) copies exactly once as well. No lock is held while they are called.

use std::io::{IoSlice, IoSliceMut};

/// The application's memory could not be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("application memory is not accessible")]
pub struct Fault;

/// Bytes to send.
pub trait Source {
    /// How many bytes are left.
    fn remaining(&self) -> usize;

    /// Copies the next bytes into `out`, fully, and consumes them. `out` is never longer than
    /// [`remaining`](Self::remaining).
    fn read_into(&mut self, out: &mut [u8]) -> Result<(), Fault>;
}

/// Room for received bytes.
pub trait Sink {
    /// How many bytes fit still.
    fn room(&self) -> usize;

    /// Copies all of `data` and uses up that much room. `data` is never longer than [`room`](Self::room).
    fn write_from(&mut self, data: &[u8]) -> Result<(), Fault>;
}

impl Source for &[u8] {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn read_into(&mut self, out: &mut [u8]) -> Result<(), Fault> {
        let (now, later) = self.split_at(out.len());
        out.copy_from_slice(now);
        *self = later;
        Ok(())
    }
}

impl Sink for &mut [u8] {
    fn room(&self) -> usize {
        self.len()
    }

    fn write_from(&mut self, data: &[u8]) -> Result<(), Fault> {
        let (now, later) = std::mem::take(self).split_at_mut(data.len());
        now.copy_from_slice(data);
        *self = later;
        Ok(())
    }
}

impl Sink for Vec<u8> {
    /// A vector grows; it takes whatever one receive call can return.
    fn room(&self) -> usize {
        VEC_ROOM
    }

    fn write_from(&mut self, data: &[u8]) -> Result<(), Fault> {
        self.extend_from_slice(data);
        Ok(())
    }
}

/// The most bytes that one receive call puts into a vector: the largest datagram, rounded up.
const VEC_ROOM: usize = 1 << 16;

/// A list of slices as a source, in order.
#[derive(Debug)]
pub struct Gather<'a, 'b> {
    slices: &'a [IoSlice<'b>],
    /// Bytes of the first slice that were consumed already.
    skip: usize,
    remaining: usize,
}

impl<'a, 'b> Gather<'a, 'b> {
    /// Makes a source of the slices.
    pub fn new(slices: &'a [IoSlice<'b>]) -> Self {
        Self { slices, skip: 0, remaining: slices.iter().map(|slice| slice.len()).sum() }
    }
}

impl Source for Gather<'_, '_> {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn read_into(&mut self, out: &mut [u8]) -> Result<(), Fault> {
        let mut done = 0;
        while done < out.len() {
            let Some((first, rest)) = self.slices.split_first() else { return Err(Fault) };
            let available = &first[self.skip..];
            let count = available.len().min(out.len() - done);
            out[done..done + count].copy_from_slice(&available[..count]);
            done += count;
            self.skip += count;
            self.remaining -= count;
            if self.skip == first.len() {
                self.slices = rest;
                self.skip = 0;
            }
        }
        Ok(())
    }
}

/// A list of slices as a sink, in order.
#[derive(Debug)]
pub struct Scatter<'a, 'b> {
    slices: &'a mut [IoSliceMut<'b>],
    index: usize,
    skip: usize,
    room: usize,
}

impl<'a, 'b> Scatter<'a, 'b> {
    /// Makes a sink of the slices.
    pub fn new(slices: &'a mut [IoSliceMut<'b>]) -> Self {
        let room = slices.iter().map(|slice| slice.len()).sum();
        Self { slices, index: 0, skip: 0, room }
    }
}

impl Sink for Scatter<'_, '_> {
    fn room(&self) -> usize {
        self.room
    }

    fn write_from(&mut self, data: &[u8]) -> Result<(), Fault> {
        let mut data = data;
        while !data.is_empty() {
            let Some(slice) = self.slices.get_mut(self.index) else { return Err(Fault) };
            let free = &mut slice[self.skip..];
            let count = free.len().min(data.len());
            free[..count].copy_from_slice(&data[..count]);
            data = &data[count..];
            self.skip += count;
            self.room -= count;
            if self.skip == slice.len() {
                self.index += 1;
                self.skip = 0;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gather_crosses_slices_and_skips_empty_ones() {
        let slices = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cdef")];
        let mut source = Gather::new(&slices);
        assert_eq!(source.remaining(), 6);
        let (mut first, mut second) = ([0; 3], [0; 3]);
        source.read_into(&mut first).unwrap();
        source.read_into(&mut second).unwrap();
        assert_eq!((&first, &second, source.remaining()), (b"abc", b"def", 0));
    }

    #[test]
    fn scatter_crosses_slices_and_skips_empty_ones() {
        let (mut a, mut b, mut c) = ([0; 2], [0; 0], [0; 3]);
        let mut slices = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b), IoSliceMut::new(&mut c)];
        let mut sink = Scatter::new(&mut slices);
        sink.write_from(b"abc").unwrap();
        assert_eq!(sink.room(), 2);
        sink.write_from(b"de").unwrap();
        assert_eq!((&a, &c), (b"ab", b"cde"));
    }
}
