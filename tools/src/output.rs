//! Writing captures: pcapng with all that is known about a packet, or pcap.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::SectionHeaderBlock;
use pcap_file::pcapng::{Block, PcapNgWriter};
use pcap_file::{DataLink, TsResolution};

use crate::source::{Aside, Course, Interface, Packet};

/// A capture that is being written.
pub(crate) enum Output<W: Write> {
    /// With nanoseconds; no interfaces, directions or comments.
    Pcap(PcapWriter<W>),
    /// With everything.
    PcapNg {
        /// The library's writer.
        writer: PcapNgWriter<W>,
        /// The file's own numbers of the interfaces written so far.
        interfaces: Vec<Interface>,
    },
}

/// The formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Pcap,
    PcapNg,
}

impl Format {
    /// As the file's name ends.
    pub(crate) fn of(path: &Path) -> Self {
        match path.extension() {
            Some(extension) if extension.eq_ignore_ascii_case("pcapng") => Self::PcapNg,
            _ => Self::Pcap,
        }
    }
}

impl<W: Write> Output<W> {
    /// Starts a file.
    pub(crate) fn new(out: W, format: Format) -> anyhow::Result<Self> {
        Ok(match format {
            Format::Pcap => {
                let header = PcapHeader {
                    snaplen: SNAP_LEN,
                    ts_resolution: TsResolution::NanoSecond,
                    ..PcapHeader::default()
                };
                Self::Pcap(PcapWriter::with_header(out, header)?)
            }
            Format::PcapNg => Self::PcapNg { writer: PcapNgWriter::new(out)?, interfaces: Vec::new() },
        })
    }

    /// Starts a pcapng file whose first section has this header.
    pub(crate) fn in_section(out: W, mut header: SectionHeaderBlock<'static>) -> anyhow::Result<Self> {
        header.section_length = UNKNOWN_LENGTH;
        let writer = PcapNgWriter::with_section_header(out, header)?;
        Ok(Self::PcapNg { writer, interfaces: Vec::new() })
    }

    /// Adds what is not a packet, where the format has it.
    pub(crate) fn write_aside(&mut self, aside: Aside) -> anyhow::Result<()> {
        let Self::PcapNg { writer, interfaces } = self else { return Ok(()) };
        match aside {
            Aside::Section(mut header) => {
                // What follows has another length than it had.
                header.section_length = UNKNOWN_LENGTH;
                writer.write_pcapng_block(header)?;
                interfaces.clear();
            }
            Aside::Interface(interface, mut block) => {
                use InterfaceDescriptionOption::{IfTsOffset, IfTsResol};
                block.options.retain(|option| !matches!(option, IfTsResol(_) | IfTsOffset(_)));
                block.options.push(IfTsResol(NANOSECONDS));
                writer.write_pcapng_block(block)?;
                interfaces.push(Interface::clone(&interface));
            }
            Aside::Statistics(interface, mut block) => {
                if let Some(number) = interfaces.iter().position(|i| *i == *interface) {
                    block.interface_id = u32::try_from(number)?;
                    writer.write_pcapng_block(block)?;
                }
            }
            // 4.7: such a block says of itself that it is not for copies.
            Aside::Block(Block::Unknown(block)) if block.type_ == CUSTOM_NOT_FOR_COPIES => {}
            Aside::Block(block) => {
                writer.write_block(&block)?;
            }
            Aside::Unusable => {}
        }
        Ok(())
    }

    /// Adds a packet, and its interface when it is new.
    pub(crate) fn write(&mut self, packet: &Packet) -> anyhow::Result<()> {
        match self {
            Self::Pcap(writer) => {
                let packet = PcapPacket::new(packet.time, packet.original_len, &packet.data);
                writer.write_packet(&packet).context("cannot write")?;
            }
            Self::PcapNg { writer, interfaces } => {
                let number = match interfaces.iter().position(|i| *i == *packet.interface) {
                    Some(number) => number,
                    None => {
                        writer.write_pcapng_block(description(&packet.interface))?;
                        interfaces.push(Interface::clone(&packet.interface));
                        interfaces.len() - 1
                    }
                };
                writer.write_pcapng_block(EnhancedPacketBlock {
                    interface_id: u32::try_from(number)?,
                    timestamp: packet.time,
                    original_len: packet.original_len,
                    data: Cow::Borrowed(&packet.data),
                    options: options(packet),
                })?;
            }
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            // The library's pcap writer hides what it writes to: that must be flushed from outside.
            Self::Pcap(_) => Ok(()),
            Self::PcapNg { writer, .. } => writer.get_mut().flush(),
        }
    }
}

fn description(interface: &Interface) -> InterfaceDescriptionBlock<'static> {
    let mut options = Vec::new();
    if let Some(name) = &interface.name {
        options.push(InterfaceDescriptionOption::IfName(Cow::Owned(name.clone())));
    }
    options.push(InterfaceDescriptionOption::IfTsResol(NANOSECONDS));
    InterfaceDescriptionBlock { linktype: DataLink::from(interface.link_type), snaplen: SNAP_LEN, options }
}

fn options(packet: &Packet) -> Vec<EnhancedPacketOption<'_>> {
    let flags = packet.course.map(|course| match course {
        Course::Inbound => 1,
        Course::Outbound => 2,
    });
    // An option's length has 16 bits.
    let comments = packet.comments.iter().map(|text| {
        let end =
            (0..=text.len().min(MAX_COMMENT)).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        EnhancedPacketOption::Comment(Cow::Borrowed(text.get(..end).unwrap_or_default()))
    });
    flags.map(EnhancedPacketOption::Flags).into_iter().chain(comments).collect()
}

/// Super-segments of 64 KiB with their headers.
pub(crate) const SNAP_LEN: u32 = 65_536 + 256;
/// if_tsresol of 10^-9.
const NANOSECONDS: u8 = 9;
/// The length of a section whose end is that of the file, or where the next one begins (4.1).
const UNKNOWN_LENGTH: i64 = -1;
/// The type of custom blocks that tools which write changed copies leave out (4.7).
const CUSTOM_NOT_FOR_COPIES: u32 = 0x4000_0bad;
const MAX_COMMENT: usize = 32_768;
