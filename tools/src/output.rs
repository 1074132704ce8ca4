//! Writing captures: pcapng with all that is known about a packet, or pcap.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, TsResolution};

use crate::source::{Course, Interface, Packet};

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
const MAX_COMMENT: usize = 32_768;
