//! The packets of a pcapng file with what it says about each (draft-ietf-opsawg-pcapng, 4).

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use pcap_file::PcapError;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{Block, PcapNgReader};

use super::{Course, Interface, Packet};

/// Reads block after block.
pub(super) struct Packets<R: Read> {
    reader: PcapNgReader<R>,
    section: Vec<Described>,
    /// How many interfaces earlier sections had.
    earlier: usize,
}

/// An interface of the current section.
struct Described {
    interface: Arc<Interface>,
    resolution: Resolution,
    /// Seconds to add to each stamp.
    offset: Duration,
}

impl<R: Read> Packets<R> {
    pub(super) fn new(input: R) -> Result<Self, PcapError> {
        Ok(Self { reader: PcapNgReader::new(input)?, section: Vec::new(), earlier: 0 })
    }
}

impl<R: Read> Iterator for Packets<R> {
    type Item = anyhow::Result<Packet>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { reader, section, earlier } = self;
        loop {
            match reader.next_block()? {
                Err(e) => return Some(Err(e.into())),
                Ok(Block::SectionHeader(_)) => {
                    *earlier += section.len();
                    section.clear();
                }
                Ok(Block::InterfaceDescription(block)) => {
                    section.push(Described::new(*earlier + section.len(), &block));
                }
                Ok(Block::EnhancedPacket(block)) => {
                    let Some(described) =
                        usize::try_from(block.interface_id).ok().and_then(|id| section.get(id))
                    else {
                        return Some(Err(PcapError::InvalidInterfaceId(block.interface_id).into()));
                    };
                    return Some(Ok(described.packet(block)));
                }
                Ok(Block::SimplePacket(block)) => {
                    // 4.4: it is of the first interface and has no time.
                    let Some(described) = section.first() else {
                        return Some(Err(PcapError::InvalidInterfaceId(0).into()));
                    };
                    return Some(Ok(Packet {
                        time: Duration::ZERO,
                        interface: Arc::clone(&described.interface),
                        course: None,
                        data: block.data.into_owned(),
                        original_len: block.original_len,
                        comments: Vec::new(),
                    }));
                }
                Ok(_) => {}
            }
        }
    }
}

impl Described {
    fn new(number: usize, block: &InterfaceDescriptionBlock<'_>) -> Self {
        let mut described = Self {
            interface: Arc::new(Interface { number, name: None, link_type: block.linktype.into() }),
            resolution: Resolution::default(),
            offset: Duration::ZERO,
        };
        for option in &block.options {
            match option {
                InterfaceDescriptionOption::IfName(name) => {
                    Arc::make_mut(&mut described.interface).name = Some(name.to_string());
                }
                InterfaceDescriptionOption::IfTsResol(value) => described.resolution = Resolution(*value),
                InterfaceDescriptionOption::IfTsOffset(seconds) => {
                    described.offset = Duration::from_secs(*seconds);
                }
                _ => {}
            }
        }
        described
    }

    fn packet(&self, block: EnhancedPacketBlock<'_>) -> Packet {
        // The library hands out the stamp's number as nanoseconds, whatever its unit is.
        let ticks = block.timestamp.as_nanos();
        let mut course = None;
        let mut comments = Vec::new();
        for option in block.options {
            match option {
                EnhancedPacketOption::Comment(text) => comments.push(text.into_owned()),
                // 4.3: the lowest two bits.
                EnhancedPacketOption::Flags(flags) => {
                    course = match flags & 3 {
                        1 => Some(Course::Inbound),
                        2 => Some(Course::Outbound),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
        Packet {
            time: self.resolution.time(ticks).saturating_add(self.offset),
            interface: Arc::clone(&self.interface),
            course,
            data: block.data.into_owned(),
            original_len: block.original_len,
            comments,
        }
    }
}

/// if_tsresol (4.2): the negative power of 10 that is a tick, or of 2 if the highest bit is set.
#[derive(Clone, Copy)]
struct Resolution(u8);

impl Default for Resolution {
    fn default() -> Self {
        Self(6)
    }
}

impl Resolution {
    /// Zero where the unit is absurdly small.
    fn time(self, ticks: u128) -> Duration {
        let (base, exponent) = if self.0 & 0x80 == 0 { (10_u128, self.0) } else { (2, self.0 & 0x7f) };
        let Some(per_second) = base.checked_pow(exponent.into()) else { return Duration::ZERO };
        let seconds = u64::try_from(ticks / per_second).unwrap_or(u64::MAX);
        let nanos = (ticks % per_second).checked_mul(1_000_000_000).map_or(0, |n| n / per_second);
        Duration::new(seconds, u32::try_from(nanos).unwrap_or(0))
    }
}
