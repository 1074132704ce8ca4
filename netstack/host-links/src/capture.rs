//! Capturing frames through a ring of blocks in shared memory (TPACKET_V3, `Documentation/networking/packet_mmap.rst`).
//!
//! The kernel copies frames into the ring where they arrive, and wakes the reader once for a whole block: a tenth of the
//! reader's work of any other way. A block is handed over when it is full or after its time, a millisecond or more, so this
//! is for looking at traffic, not for a stack.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::device::Device;
use crate::error::OpenError;
use crate::packet_link::{Filter, make_promiscuous};
use crate::sys::{self, Mapping};

/// A packet socket on an interface with a ring that the kernel fills.
#[derive(Debug)]
pub struct CaptureRing {
    fd: OwnedFd,
    ring: Mapping,
    options: CaptureOptions,
    /// The block that is filled next.
    next: usize,
}

/// How to capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureOptions {
    /// Which frames to see; those that the host sends are seen in any case.
    pub filter: Filter,
    /// Bytes of a block: pages, a power of two.
    pub block_len: u32,
    /// How many blocks there are.
    pub blocks: u32,
    /// After which time a block is handed over that is not full.
    pub block_time: Duration,
}

impl Default for CaptureOptions {
    /// Eight megabytes, handed over at least ten times a second.
    fn default() -> Self {
        let (filter, block_time) = (Filter::Promiscuous, Duration::from_millis(100));
        Self { filter, block_len: 1 << 20, blocks: 8, block_time }
    }
}

/// A frame in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapturedFrame<'a> {
    /// When it passed, since the epoch.
    pub time: Duration,
    /// The captured bytes.
    pub data: &'a [u8],
    /// How many there were on the wire.
    pub wire_len: u32,
    /// The VLAN tag's value; the kernel takes the tag out of the frame.
    pub vlan: Option<u16>,
}

/// What the socket counted since it was asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureStats {
    /// Frames that came, dropped ones included.
    pub frames: u32,
    /// Frames for which the ring had no room.
    pub dropped: u32,
}

impl CaptureRing {
    /// Opens an interface of the calling thread's network namespace. Needs `CAP_NET_RAW` in it.
    pub fn open(interface: &str, options: CaptureOptions) -> Result<Self, OpenError> {
        let device = Device::query(interface)?;
        let at = |call| OpenError::host(interface, call);
        let fd =
            sys::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, 0).map_err(at("socket"))?;
        sys::set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_VERSION, &TPACKET_V3)
            .map_err(at("PACKET_VERSION"))?;
        let request = libc::tpacket_req3 {
            tp_block_size: options.block_len,
            tp_block_nr: options.blocks,
            tp_frame_size: FRAME_LEN,
            tp_frame_nr: (options.block_len / FRAME_LEN).saturating_mul(options.blocks),
            tp_retire_blk_tov: u32::try_from(options.block_time.as_millis()).unwrap_or(u32::MAX).max(1),
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        sys::set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_RX_RING, &request)
            .map_err(at("PACKET_RX_RING"))?;
        let len = options.block_len as usize * options.blocks as usize;
        let ring = Mapping::shared(fd.as_fd(), len, 0).map_err(at("mmap"))?;
        if options.filter == Filter::Promiscuous {
            make_promiscuous(fd.as_fd(), device.index).map_err(at("PACKET_ADD_MEMBERSHIP"))?;
        }
        sys::bind_packet(fd.as_fd(), device.index).map_err(at("bind"))?;
        Ok(Self { fd, ring, options, next: 0 })
    }

    /// The descriptor; readable when a block waits.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Waits for a block, at most for `limit`, shows its frames in order, and gives it back. Returns how many there were;
    /// none after `limit`, and in a block that was handed over empty.
    pub fn read(
        &mut self,
        limit: Option<Duration>,
        mut visit: impl FnMut(CapturedFrame<'_>),
    ) -> io::Result<usize> {
        let start = self.next * self.options.block_len as usize;
        if self.status(start)?.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            sys::poll(&mut [sys::readable(self.fd.as_fd())], limit)?;
        }
        if self.status(start)?.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return Ok(0);
        }
        let count = self.show(start, &mut visit);
        self.status(start)?.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % self.options.blocks as usize;
        count
    }

    /// What was captured and lost since the last call.
    pub fn stats(&self) -> io::Result<CaptureStats> {
        let [frames, dropped, _frozen]: [u32; 3] =
            sys::get_words(self.fd.as_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS)?;
        Ok(CaptureStats { frames, dropped })
    }

    /// Shows the frames of a block that is ours.
    fn show(&self, start: usize, visit: &mut dyn FnMut(CapturedFrame<'_>)) -> io::Result<usize> {
        let block_len = self.options.block_len as usize;
        let header: libc::tpacket_hdr_v1 = self.read_at(start + BLOCK_HEADER)?;
        let mut offset = header.offset_to_first_pkt as usize;
        for _ in 0..header.num_pkts {
            let frame: libc::tpacket3_hdr = self.read_at(start + offset)?;
            let (from, len) = (offset + usize::from(frame.tp_mac), frame.tp_snaplen as usize);
            if from.saturating_add(len) > block_len {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let data = self.ring.at(start + from, len).ok_or(io::ErrorKind::InvalidData)?;
            // SAFETY: the bytes are within the mapping, which outlives the visit. The block is ours until its status says
            // otherwise, which happens after the visit: the kernel does not write to it, and nobody else maps it.
            let data = unsafe { std::slice::from_raw_parts(data.as_ptr(), len) };
            let has_tag = frame.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
            visit(CapturedFrame {
                time: Duration::new(frame.tp_sec.into(), frame.tp_nsec),
                data,
                wire_len: frame.tp_len,
                // The tag's value has 16 bits.
                vlan: has_tag.then_some((frame.hv1.tp_vlan_tci & 0xffff) as u16),
            });
            offset += frame.tp_next_offset as usize;
        }
        Ok(header.num_pkts as usize)
    }

    /// The word that says whose a block is.
    fn status(&self, start: usize) -> io::Result<&AtomicU32> {
        let word = self.ring.at(start + BLOCK_HEADER, size_of::<AtomicU32>());
        let word = word.ok_or(io::ErrorKind::InvalidData)?.cast::<AtomicU32>();
        // SAFETY: within the mapping, and aligned: blocks are pages, and the word stands at a multiple of eight. Both sides
        // access it atomically.
        Ok(unsafe { word.as_ref() })
    }

    /// Reads a structure of numbers.
    fn read_at<T: Copy>(&self, offset: usize) -> io::Result<T> {
        let place = self.ring.at(offset, size_of::<T>()).ok_or(io::ErrorKind::InvalidData)?;
        // SAFETY: within the mapping and read without asking for alignment; any bytes are a valid T, which is of numbers.
        Ok(unsafe { place.cast::<T>().read_unaligned() })
    }
}

/// `enum tpacket_versions`.
const TPACKET_V3: libc::c_int = 2;
/// Where `struct tpacket_block_desc` has its union, behind the version and an offset.
const BLOCK_HEADER: usize = 8;
/// Only divides the ring into the number of frames that the kernel wants to hear; frames of any size are put in.
const FRAME_LEN: u32 = 2048;
