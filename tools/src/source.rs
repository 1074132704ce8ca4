//! Packets from pcap and pcapng files.

mod pcapng;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::Block;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsBlock;
use pcap_file::pcapng::blocks::section_header::SectionHeaderBlock;

/// What a frame starts with (the link types of the pcap registry).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkType {
    /// An Ethernet header.
    Ethernet,
    /// An IP header.
    Ip,
    /// Something that is not dissected.
    Other,
}

impl From<u32> for LinkType {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::Ethernet,
            12 | 101 | 228 | 229 => Self::Ip,
            _ => Self::Other,
        }
    }
}

/// Where packets were captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Counted over the whole file: sections of a pcapng file start again at zero.
    pub(crate) number: usize,
    pub(crate) name: Option<String>,
    /// The number in the pcap registry.
    pub(crate) link_type: u32,
}

/// Which way a packet went through its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Course {
    /// It arrived.
    Inbound,
    /// It was sent.
    Outbound,
}

/// A captured packet.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    /// Since the epoch.
    pub(crate) time: Duration,
    pub(crate) interface: Arc<Interface>,
    /// Where the file says it.
    pub(crate) course: Option<Course>,
    /// The captured part.
    pub(crate) data: Vec<u8>,
    /// The length on the wire.
    pub(crate) original_len: u32,
    /// What others wrote about it.
    pub(crate) comments: Vec<String>,
}

impl Packet {
    pub(crate) fn link(&self) -> LinkType {
        self.interface.link_type.into()
    }
}

/// The packets of a file in order.
pub(crate) type Packets = Box<dyn Iterator<Item = anyhow::Result<Packet>> + Send>;

/// What a file has, in order.
pub(crate) type Items = Box<dyn Iterator<Item = anyhow::Result<Item>> + Send>;

/// A piece of a capture.
pub(crate) enum Item {
    Packet(Packet),
    Aside(Box<Aside>),
}

/// What a pcapng file has beside packets.
pub(crate) enum Aside {
    /// A section begins, the first one, too: its interfaces and its byte order are its own.
    Section(SectionHeaderBlock<'static>),
    Interface(Arc<Interface>, InterfaceDescriptionBlock<'static>),
    /// All times in nanoseconds.
    Statistics(Arc<Interface>, InterfaceStatisticsBlock<'static>),
    /// Names, secrets, journal entries, custom blocks: as they are.
    Block(Block<'static>),
    /// It refers to an interface that the file does not have.
    Unusable,
}

impl Item {
    pub(crate) fn is_section(&self) -> bool {
        matches!(self, Self::Aside(aside) if matches!(**aside, Aside::Section(_)))
    }
}

impl From<Packet> for Item {
    fn from(packet: Packet) -> Self {
        Self::Packet(packet)
    }
}

impl From<Aside> for Item {
    fn from(aside: Aside) -> Self {
        Self::Aside(Box::new(aside))
    }
}

/// Opens a capture of either format.
pub(crate) fn open(path: &Path) -> anyhow::Result<Packets> {
    Ok(only_packets(open_whole(path)?))
}

/// The same with what is not packets.
pub(crate) fn open_whole(path: &Path) -> anyhow::Result<Items> {
    let name = path.display().to_string();
    if path.as_os_str() == "-" {
        return read_whole(io::stdin(), name);
    }
    let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    read_whole(file, name)
}

/// Reads a capture of either format; `name` is for messages.
#[cfg(test)]
pub(crate) fn read(input: impl Read + Send + 'static, name: String) -> anyhow::Result<Packets> {
    Ok(only_packets(read_whole(input, name)?))
}

fn only_packets(items: Items) -> Packets {
    Box::new(items.filter_map(|item| match item {
        Ok(Item::Packet(packet)) => Some(Ok(packet)),
        Ok(Item::Aside(_)) => None,
        Err(e) => Some(Err(e)),
    }))
}

fn read_whole(mut input: impl Read + Send + 'static, name: String) -> anyhow::Result<Items> {
    let mut magic = [0; 4];
    input.read_exact(&mut magic).with_context(|| format!("{name}: not a capture file"))?;
    let input = BufReader::new(io::Cursor::new(magic).chain(input));
    let items: Items = match magic {
        [0x0a, 0x0d, 0x0d, 0x0a] => Box::new(pcapng::Items::new(input)?),
        [0xa1, 0xb2, 0xc3 | 0x3c, _] | [_, 0xc3 | 0x3c, 0xb2, 0xa1] => {
            let reader = PcapReader::new(input)?;
            let link_type = u32::from(reader.header().datalink);
            let interface = Arc::new(Interface { number: 0, name: None, link_type });
            Box::new(OldPackets { reader, interface }.map(|packet| packet.map(Item::Packet)))
        }
        other => bail!("{name}: neither pcap nor pcapng (starts with {other:02x?})"),
    };
    let (mut number, mut has_failed) = (1_u64, false);
    // A reader does not get past what it cannot read.
    Ok(Box::new(items.map_while(move |item| {
        if has_failed {
            return None;
        }
        has_failed = item.is_err();
        let item = item.with_context(|| format!("{name}: packet {number}"));
        number += u64::from(matches!(item, Ok(Item::Packet(_))));
        Some(item)
    })))
}

struct OldPackets<R: Read> {
    reader: PcapReader<R>,
    interface: Arc<Interface>,
}

impl<R: Read> Iterator for OldPackets<R> {
    type Item = anyhow::Result<Packet>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.reader.next_packet()?;
        Some(next.map_err(Into::into).map(|p| Packet {
            time: p.timestamp,
            interface: Arc::clone(&self.interface),
            course: None,
            original_len: p.orig_len,
            data: p.data.into_owned(),
            comments: Vec::new(),
        }))
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
