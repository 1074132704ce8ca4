//! The blocks of a pcapng file, packets with what it says about each (draft-ietf-opsawg-pcapng, 4).

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{Endianness, PcapError};

use super::{Aside, Course, Interface, Item, Packet};

/// Reads block after block.
pub(super) struct Items<R: Read> {
    reader: PcapNgReader<R>,
    /// The library keeps the first section's header to itself.
    has_told_first: bool,
    byte_order: Endianness,
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

impl<R: Read> Items<R> {
    pub(super) fn new(input: R) -> Result<Self, PcapError> {
        let reader = PcapNgReader::new(input)?;
        let byte_order = reader.section().endianness;
        Ok(Self { reader, has_told_first: false, byte_order, section: Vec::new(), earlier: 0 })
    }
}

impl<R: Read> Iterator for Items<R> {
    type Item = anyhow::Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { reader, has_told_first, byte_order, section, earlier } = self;
        if !std::mem::replace(has_told_first, true) {
            return Some(Ok(Aside::Section(reader.section().clone()).into()));
        }
        let block = match reader.next_block()? {
            Ok(block) => block,
            Err(e) => return Some(Err(e.into())),
        };
        let known = |id: u32| {
            let described = usize::try_from(id).ok().and_then(|id| section.get(id));
            described.ok_or(PcapError::InvalidInterfaceId(id))
        };
        let item = match block {
            Block::SectionHeader(block) => {
                *earlier += section.len();
                section.clear();
                *byte_order = block.endianness;
                Ok(Aside::Section(block.into_owned()).into())
            }
            Block::InterfaceDescription(block) => {
                let described = Described::new(*earlier + section.len(), &block);
                let interface = Arc::clone(&described.interface);
                section.push(described);
                Ok(Aside::Interface(interface, block.into_owned()).into())
            }
            Block::EnhancedPacket(block) => {
                known(block.interface_id).map(|described| described.packet(block).into())
            }
            // 4.4: it is of the first interface and has no time.
            Block::SimplePacket(block) => known(0).map(|described| {
                Item::Packet(Packet {
                    time: Duration::ZERO,
                    interface: Arc::clone(&described.interface),
                    course: None,
                    data: block.data.into_owned(),
                    original_len: block.original_len,
                    comments: Vec::new(),
                })
            }),
            // Statistics of an interface that is not there say nothing about the packets: no reason to stop.
            Block::InterfaceStatistics(block) => Ok(match known(block.interface_id) {
                Ok(described) => described.statistics(block.into_owned(), *byte_order),
                Err(_) => Aside::Unusable,
            }
            .into()),
            block => Ok(Aside::Block(block.into_owned()).into()),
        };
        Some(item.map_err(Into::into))
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

    /// With the file's stamps made nanoseconds since the epoch, the unit in which captures are written.
    fn statistics(&self, mut block: InterfaceStatisticsBlock<'static>, byte_order: Endianness) -> Aside {
        // 4.6: the upper half of a stamp comes first in either byte order; the library takes it for one number.
        let halves = |number: u64| match byte_order {
            Endianness::Big => number,
            Endianness::Little => number.rotate_left(32),
        };
        let nanos = |written: u64| {
            let ticks = halves(written);
            let time = self.resolution.time(ticks.into()).saturating_add(self.offset);
            halves(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        block.timestamp = nanos(block.timestamp);
        for option in &mut block.options {
            if let InterfaceStatisticsOption::IsbStartTime(time)
            | InterfaceStatisticsOption::IsbEndTime(time) = option
            {
                *time = nanos(*time);
            }
        }
        Aside::Statistics(Arc::clone(&self.interface), block)
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
