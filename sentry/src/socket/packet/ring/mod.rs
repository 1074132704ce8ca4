//! Rings that a packet socket shares with its application (`PACKET_RX_RING`, `PACKET_TX_RING`, the kernel's packet_mmap documentation).
//!
//! The ring is a range of the memory file, which the application maps. It belongs to the application as much as to us:
//! nothing that is read from there is believed, and a place that the application has not given back is not written.

mod blocks;
mod frames;
mod memory;
mod transmit;

use std::sync::Arc;

use netstack::packet::{AddressedTo, Checksum};
use netstack::socket::{Frame, FrameSink, PacketMode};
use sentry_abi::packet::{
    TP_STATUS_CSUM_VALID, TP_STATUS_CSUMNOTREADY, TP_STATUS_USER, TPACKET_V1, TPACKET_V2, TPACKET_V3,
    TpacketReq3,
};
use zerocopy::IntoBytes;

use crate::errno::Errno;
use crate::kernel::Clocks;
use crate::mm::PAGE_SIZE;
use crate::socket::NetNamespace;
use crate::socket::packet::vnet_header::{self, FrameState, VnetHeader};

pub(super) use blocks::BlockRing;
pub(super) use frames::FrameRing;
pub(super) use memory::{RingMapping, RingMemory};
pub(super) use transmit::{TransmitMode, TransmitRing};

/// The layout of a ring (`PACKET_VERSION`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// `TPACKET_V1`: a slot per frame, microseconds.
    #[default]
    V1,
    /// `TPACKET_V2`: a slot per frame, nanoseconds.
    V2,
    /// `TPACKET_V3`: frames of any length in blocks.
    V3,
}

impl Version {
    /// The version with a number.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        match number {
            TPACKET_V1 => Some(Self::V1),
            TPACKET_V2 => Some(Self::V2),
            TPACKET_V3 => Some(Self::V3),
            _ => None,
        }
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::V1 => TPACKET_V1,
            Self::V2 => TPACKET_V2,
            Self::V3 => TPACKET_V3,
        }
    }

    /// The length of the header of a frame, without the address behind it (`PACKET_HDRLEN`).
    #[must_use]
    pub fn header_len(self) -> u32 {
        match self {
            Self::V1 | Self::V2 => 32,
            Self::V3 => 48,
        }
    }

    /// With the address (`TPACKET_HDRLEN`).
    fn full_header_len(self) -> u32 {
        self.header_len() + ADDRESS_LEN
    }
}

/// A ring as it is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct RingRequest {
    /// Its sizes.
    pub(super) sizes: TpacketReq3,
    /// Its layout.
    pub(super) version: Version,
    /// Bytes to leave free in front of each frame (`PACKET_RESERVE`).
    pub(super) reserve: u32,
}

impl RingRequest {
    /// The length of the ring in bytes (`packet_set_ring`).
    ///
    /// # Errors
    /// `EINVAL` for sizes that make no ring.
    fn check(&self) -> Result<u64, Errno> {
        let TpacketReq3 { block_size, block_nr, frame_size, frame_nr, sizeof_priv, .. } = self.sizes;
        let least = self.version.full_header_len().checked_add(self.reserve).ok_or(Errno::EINVAL)?;
        let is_sane = i32::try_from(block_size).is_ok_and(|size| size > 0)
            && u64::from(block_size).is_multiple_of(PAGE_SIZE)
            && frame_size >= least
            && frame_size.is_multiple_of(ALIGNMENT)
            && frame_size <= block_size
            && (block_size / frame_size).checked_mul(block_nr) == Some(frame_nr);
        let has_room = self.version != Version::V3
            || u64::from(block_size) >= blocks::first_offset(sizeof_priv) + u64::from(least);
        let len = u64::from(block_size) * u64::from(block_nr);
        match is_sane && has_room && len <= MAX_LEN {
            true => Ok(len),
            false if len > MAX_LEN => Err(Errno::ENOMEM),
            false => Err(Errno::EINVAL),
        }
    }
}

/// What both layouts of rings know about the frames that they get.
pub(super) struct Shape {
    pub(super) version: Version,
    pub(super) reserve: u32,
    pub(super) vnet_header: VnetHeader,
    pub(super) mode: PacketMode,
    pub(super) namespace: Arc<NetNamespace>,
    pub(super) clocks: Clocks,
}

/// Where the parts of a frame go, counted from its header.
#[derive(Debug, Clone, Copy)]
struct Places {
    mac: u32,
    net: u32,
}

impl Shape {
    /// When a frame arrived, in nanoseconds since 1970.
    fn time_of(&self, frame: &Frame<'_>) -> u64 {
        let age = self.namespace.stack().now().saturating_duration_since(frame.arrival());
        self.clocks.realtime_ns().saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(0))
    }

    /// The places of a frame; `None` where they do not fit their fields (`tpacket_rcv`).
    fn places(&self, frame: &Frame<'_>) -> Option<Places> {
        let header = self.version.full_header_len();
        let link = u32::try_from(frame.link_len()).ok()?;
        let places = match self.mode {
            PacketMode::Cooked => {
                let net = header.next_multiple_of(ALIGNMENT) + MIN_LINK + self.reserve;
                Places { mac: net, net }
            }
            PacketMode::Raw => {
                let vnet = u32::try_from(self.vnet_header.len()).ok()?;
                let net = (header + link.max(MIN_LINK)).next_multiple_of(ALIGNMENT) + self.reserve + vnet;
                Places { mac: net - link, net }
            }
        };
        (places.net <= u32::from(u16::MAX)).then_some(places)
    }
}

/// Describes a frame in front of it, if that is wanted and it has a place.
fn write_vnet_header(shape: &Shape, memory: &RingMemory, slot: u64, places: Places, frame: &Frame<'_>) {
    let len = vnet_header::PLAIN_LEN as u64;
    if let (false, Some(at)) = (shape.vnet_header.is_empty(), u64::from(places.mac).checked_sub(len)) {
        let header = vnet_header::encode(&FrameState {
            checksum: frame.checksum(),
            gso: frame.gso(),
            headers_len: frame.headers_len(),
            has_cwr: frame.has_cwr(),
            addressed_to: frame.from().addressed_to,
        });
        memory.write(slot + at, header.as_bytes());
    }
}

/// The status of a frame that is handed over.
fn status(frame: &Frame<'_>) -> u32 {
    let is_outgoing = frame.from().addressed_to == AddressedTo::Outgoing;
    TP_STATUS_USER
        | match frame.checksum() {
            Checksum::Partial { .. } => TP_STATUS_CSUMNOTREADY,
            Checksum::Verified if !is_outgoing => TP_STATUS_CSUM_VALID,
            Checksum::Verified | Checksum::Plain => 0,
        }
}

/// A ring of either layout.
#[derive(Clone)]
pub(super) enum Ring {
    Frames(Arc<FrameRing>),
    Blocks(Arc<BlockRing>),
}

impl Ring {
    pub(super) fn memory(&self) -> &Arc<RingMemory> {
        match self {
            Self::Frames(ring) => ring.memory(),
            Self::Blocks(ring) => ring.memory(),
        }
    }

    pub(super) fn sink(&self) -> Arc<dyn FrameSink> {
        match self {
            Self::Frames(ring) => ring.clone(),
            Self::Blocks(ring) => ring.clone(),
        }
    }
}

/// `TPACKET_ALIGNMENT`.
const ALIGNMENT: u32 = 16;
/// `sizeof(struct sockaddr_ll)`.
const ADDRESS_LEN: u32 = 20;
/// The room that is left for a link-layer header at least.
const MIN_LINK: u32 = 16;
/// Bounds a ring: the memory is the sandbox's.
const MAX_LEN: u64 = 256 << 20;
