//! The memory of frames that an AF_XDP socket shares with the kernel.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use bytes::Bytes;

use crate::sys::{self, Mapping};

/// Frames of one length. Who may touch a frame is said by the rings: a frame is the kernel's from when its address is
/// given to a ring until it comes back from another one.
#[derive(Debug)]
pub(super) struct Umem {
    memory: Mapping,
}

impl Umem {
    /// Makes the memory and tells the socket.
    pub(super) fn register(fd: BorrowedFd<'_>, frames: u32) -> io::Result<Self> {
        let len = FRAME_LEN * usize::try_from(frames).unwrap_or(0);
        let memory = Mapping::anonymous(len)?;
        let registration = libc::xdp_umem_reg {
            addr: memory.start().as_ptr().addr() as u64,
            len: len as u64,
            // 2048.
            chunk_size: FRAME_LEN as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        sys::set_option(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &registration)?;
        Ok(Self { memory })
    }

    /// Copies what the kernel has put at `address`; `None` if that is not within the memory.
    pub(super) fn copy_out(&self, address: u64, len: u32) -> Option<Bytes> {
        let len = usize::try_from(len).ok()?;
        let start = self.place(address, len)?;
        let mut bytes = Vec::with_capacity(len);
        // SAFETY: `place` has checked that `len` bytes from `start` are within the mapping, `bytes` has that capacity, and
        // the two do not overlap. The frame is ours now: the kernel has given it back.
        unsafe { std::ptr::copy_nonoverlapping(start.as_ptr(), bytes.as_mut_ptr(), len) };
        // SAFETY: the bytes up to `len` were written just now, and the capacity is as much.
        unsafe { bytes.set_len(len) };
        Some(bytes.into())
    }

    /// Writes pieces to the frame at `address`, one behind the other. What does not fit the frame is left out.
    pub(super) fn fill<'a>(&self, address: u64, pieces: impl Iterator<Item = &'a [u8]>) {
        let mut done = 0;
        for piece in pieces {
            let Some(start) = self.place(address + done as u64, piece.len()) else { return };
            done += piece.len();
            if done > FRAME_LEN {
                return;
            }
            // SAFETY: `place` has checked that the piece fits the mapping from `start` on; the caller's piece is elsewhere.
            // The frame is ours: its address was taken from the free ones and is in no ring.
            unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), start.as_ptr(), piece.len()) };
        }
    }

    fn place(&self, address: u64, len: usize) -> Option<NonNull<u8>> {
        let offset = usize::try_from(address).ok()?;
        self.memory.at(offset, len)
    }
}

/// A frame of MTU 1500 fits behind what the kernel keeps free in front of it; also the smallest that the kernel takes.
pub(super) const FRAME_LEN: usize = 2048;
