//! Packets from pcap and pcapng files.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};

use crate::analysis::Analysis;
use crate::dissect::Dissection;

/// What a frame starts with (the link types of the pcap registry).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkType {
    /// An Ethernet header.
    Ethernet,
    /// An IP header.
    Ip,
    /// Something that is not dissected.
    Other(u32),
}

impl From<u32> for LinkType {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::Ethernet,
            12 | 101 | 228 | 229 => Self::Ip,
            other => Self::Other(other),
        }
    }
}

/// A captured packet.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    /// Since the epoch.
    pub(crate) time: Duration,
    pub(crate) link: LinkType,
    /// The captured part.
    pub(crate) data: Vec<u8>,
    /// The length on the wire.
    pub(crate) original_len: u32,
}

/// The packets of a file in order.
pub(crate) type Packets = Box<dyn Iterator<Item = anyhow::Result<Packet>>>;

/// Opens a capture of either format.
pub(crate) fn open(path: &Path) -> anyhow::Result<Packets> {
    let mut input: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?)
    };
    let mut magic = [0; 4];
    input.read_exact(&mut magic).with_context(|| format!("{}: not a capture file", path.display()))?;
    let input = BufReader::new(io::Cursor::new(magic).chain(input));
    match magic {
        [0x0a, 0x0d, 0x0d, 0x0a] => {
            Ok(Box::new(NgPackets { reader: PcapNgReader::new(input)?, links: Vec::new() }))
        }
        [0xa1, 0xb2, 0xc3 | 0x3c, _] | [_, 0xc3 | 0x3c, 0xb2, 0xa1] => {
            let reader = PcapReader::new(input)?;
            let link = LinkType::from(u32::from(reader.header().datalink));
            Ok(Box::new(OldPackets { reader, link }))
        }
        other => bail!("{}: neither pcap nor pcapng (starts with {other:02x?})", path.display()),
    }
}

/// Runs analysis over a whole file.
pub(crate) fn analyse(path: &Path) -> anyhow::Result<Analysis> {
    let mut analysis = Analysis::default();
    for packet in open(path)? {
        let packet = packet.with_context(|| path.display().to_string())?;
        if let Some(segment) = Dissection::of(&packet).and_then(|d| d.tcp) {
            analysis.on_segment(packet.time, &segment);
        }
    }
    Ok(analysis)
}

struct OldPackets<R: Read> {
    reader: PcapReader<R>,
    link: LinkType,
}

impl<R: Read> Iterator for OldPackets<R> {
    type Item = anyhow::Result<Packet>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.reader.next_packet()?;
        Some(next.map_err(Into::into).map(|p| Packet {
            time: p.timestamp,
            link: self.link,
            original_len: p.orig_len,
            data: p.data.into_owned(),
        }))
    }
}

struct NgPackets<R: Read> {
    reader: PcapNgReader<R>,
    links: Vec<LinkType>,
}

impl<R: Read> Iterator for NgPackets<R> {
    type Item = anyhow::Result<Packet>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.reader.next_block()? {
                Err(e) => return Some(Err(e.into())),
                Ok(Block::SectionHeader(_)) => self.links.clear(),
                Ok(Block::InterfaceDescription(i)) => self.links.push(u32::from(i.linktype).into()),
                Ok(Block::EnhancedPacket(p)) => {
                    let interface = usize::try_from(p.interface_id).unwrap_or(usize::MAX);
                    let link = self.links.get(interface).copied().unwrap_or(LinkType::Other(0));
                    let data = p.data.into_owned();
                    return Some(Ok(Packet { time: p.timestamp, link, data, original_len: p.original_len }));
                }
                Ok(_) => {}
            }
        }
    }
}
