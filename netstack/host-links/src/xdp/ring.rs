//! One of the four rings that an AF_XDP socket shares with the kernel: a single producer, a single consumer.

use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys::Mapping;

/// A ring of descriptors of type `T`, of which we have one end and the kernel the other.
#[derive(Debug)]
pub(super) struct Ring<T> {
    mapping: Mapping,
    producer: usize,
    consumer: usize,
    descriptors: usize,
    mask: u32,
    /// Our own end's position, ahead of what the kernel was told.
    own: u32,
    end: End,
    entry: PhantomData<T>,
}

/// Which end is ours; the first use says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Unused,
    Producer,
    Consumer,
}

impl<T: Copy> Ring<T> {
    /// Maps a ring of `len` descriptors, a power of two, that the socket was told to make.
    pub(super) fn map(
        fd: BorrowedFd<'_>,
        offsets: &libc::xdp_ring_offset,
        len: u32,
        page_offset: u64,
    ) -> io::Result<Self> {
        // The kernel's numbers are offsets within a few pages.
        let [producer, consumer, descriptors] =
            [offsets.producer, offsets.consumer, offsets.desc].map(|offset| offset as usize);
        let bytes = descriptors + size_of::<T>() * len as usize;
        let mapping = Mapping::shared(fd, bytes, page_offset)?;
        let is_sound = mapping.at(producer, size_of::<AtomicU32>()).is_some()
            && mapping.at(consumer, size_of::<AtomicU32>()).is_some()
            && producer.is_multiple_of(align_of::<AtomicU32>())
            && consumer.is_multiple_of(align_of::<AtomicU32>())
            && descriptors.is_multiple_of(align_of::<T>());
        if !is_sound {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (mask, entry) = (len - 1, PhantomData);
        Ok(Self { mapping, producer, consumer, descriptors, mask, own: 0, end: End::Unused, entry })
    }

    /// Puts a descriptor in; false if the ring is full. The kernel sees it after [`publish`](Self::publish).
    pub(super) fn push(&mut self, descriptor: T) -> bool {
        self.end = End::Producer;
        let consumed = self.position(self.consumer).load(Ordering::Acquire);
        if self.own.wrapping_sub(consumed) > self.mask {
            return false;
        }
        let slot = self.slot(self.own);
        // SAFETY: the slot is within the mapping and aligned (checked when it was mapped), and it is ours: the kernel has
        // consumed what was there, and reads it again only after `publish`.
        unsafe { slot.write(descriptor) };
        self.own = self.own.wrapping_add(1);
        true
    }

    /// Takes a descriptor out. The kernel may use its place again after [`publish`](Self::publish).
    pub(super) fn pop(&mut self) -> Option<T> {
        self.end = End::Consumer;
        let produced = self.position(self.producer).load(Ordering::Acquire);
        if produced == self.own {
            return None;
        }
        let slot = self.slot(self.own);
        // SAFETY: the slot is within the mapping and aligned (checked when it was mapped); the kernel has written it before
        // it moved the producer, which was loaded with acquire, and leaves it alone until `publish`. Any bytes are a valid T.
        let descriptor = unsafe { slot.read() };
        self.own = self.own.wrapping_add(1);
        Some(descriptor)
    }

    /// Tells the kernel how far we are.
    pub(super) fn publish(&mut self) {
        match self.end {
            End::Unused => {}
            End::Producer => self.position(self.producer).store(self.own, Ordering::Release),
            End::Consumer => self.position(self.consumer).store(self.own, Ordering::Release),
        }
    }

    fn position(&self, offset: usize) -> &AtomicU32 {
        let place = self.mapping.start().as_ptr().wrapping_add(offset).cast::<AtomicU32>();
        // SAFETY: offset and alignment were checked against the mapping, which lives as long as `self`; both sides access
        // the word atomically only.
        unsafe { &*place }
    }

    fn slot(&self, position: u32) -> NonNull<T> {
        let offset = self.descriptors + (position & self.mask) as usize * size_of::<T>();
        let start = self.mapping.start().as_ptr().wrapping_add(offset).cast::<T>();
        // SAFETY: an offset within the mapping, which does not start at address zero.
        unsafe { NonNull::new_unchecked(start) }
    }
}
