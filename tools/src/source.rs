//! Packets from pcap and pcapng files.

mod pcapng;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use pcap_file::pcap::PcapReader;

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
pub(crate) type Packets = Box<dyn Iterator<Item = anyhow::Result<Packet>>>;

/// Opens a capture of either format.
pub(crate) fn open(path: &Path) -> anyhow::Result<Packets> {
    let name = path.display().to_string();
    if path.as_os_str() == "-" {
        return read(io::stdin(), name);
    }
    let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    read(file, name)
}

/// Reads a capture of either format; `name` is for messages.
pub(crate) fn read(mut input: impl Read + 'static, name: String) -> anyhow::Result<Packets> {
    let mut magic = [0; 4];
    input.read_exact(&mut magic).with_context(|| format!("{name}: not a capture file"))?;
    let input = BufReader::new(io::Cursor::new(magic).chain(input));
    let packets: Packets = match magic {
        [0x0a, 0x0d, 0x0d, 0x0a] => Box::new(pcapng::Packets::new(input)?),
        [0xa1, 0xb2, 0xc3 | 0x3c, _] | [_, 0xc3 | 0x3c, 0xb2, 0xa1] => {
            let reader = PcapReader::new(input)?;
            let link_type = u32::from(reader.header().datalink);
            let interface = Arc::new(Interface { number: 0, name: None, link_type });
            Box::new(OldPackets { reader, interface })
        }
        other => bail!("{name}: neither pcap nor pcapng (starts with {other:02x?})"),
    };
    let numbered = (1_u64..).zip(packets);
    let mut has_failed = false;
    // A reader does not get past what it cannot read.
    Ok(Box::new(numbered.map_while(move |(number, packet)| {
        if has_failed {
            return None;
        }
        has_failed = packet.is_err();
        Some(packet.with_context(|| format!("{name}: packet {number}")))
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
