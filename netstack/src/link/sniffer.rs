//! A link that writes down what passes: pcapng with a block per frame, direction included.
//!
//! ```text
//! section header block, interface description block, enhanced packet block ...
//! (draft-ietf-opsawg-pcapng sections 4.1 to 4.3; all little-endian, padded to 32 bits)
//! ```

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::sync::Mutex;

use crate::link::{Capabilities, Link, LinkError, Medium};
use crate::packet::Packet;

/// Writes frames to a pcapng stream. Share it between links to get one file.
pub struct PcapWriter {
    inner: Mutex<Writer>,
    snap_len: usize,
}

struct Writer {
    out: Box<dyn Write + Send>,
    /// An error ends the recording, never the traffic.
    error: Option<io::Error>,
    interfaces: u32,
}

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the stack.
    Inbound,
    /// From the stack.
    Outbound,
}

impl PcapWriter {
    /// Starts a recording that keeps the first `snap_len` bytes of each frame.
    pub fn new(mut out: Box<dyn Write + Send>, snap_len: usize) -> io::Result<Arc<Self>> {
        let mut header = Vec::new();
        // Byte-order magic, version 1.0, section length unknown.
        header.extend(0x1a2b_3c4d_u32.to_le_bytes());
        header.extend([1, 0, 0, 0]);
        header.extend((-1_i64).to_le_bytes());
        write_block(&mut out, SECTION_HEADER, &header)?;
        let inner = Mutex::new(Writer { out, error: None, interfaces: 0 });
        Ok(Arc::new(Self { inner, snap_len }))
    }

    /// Describes an interface and returns its number in the recording.
    pub fn add_interface(&self, name: &str, medium: Medium) -> u32 {
        let link_type: u16 = match medium {
            Medium::Ethernet(_) => LINKTYPE_ETHERNET,
            Medium::Ip | Medium::Loopback => LINKTYPE_RAW,
        };
        let mut body = Vec::new();
        body.extend(link_type.to_le_bytes());
        body.extend([0, 0]);
        body.extend(u32::try_from(self.snap_len).unwrap_or(0).to_le_bytes());
        push_option(&mut body, OPTION_IF_NAME, name.as_bytes());
        // Nanoseconds.
        push_option(&mut body, OPTION_IF_TSRESOL, &[9]);
        push_option(&mut body, OPTION_END, &[]);
        let mut writer = self.inner.lock();
        writer.write(INTERFACE_DESCRIPTION, &body);
        writer.interfaces += 1;
        writer.interfaces - 1
    }

    /// Records a frame.
    pub fn record(&self, interface: u32, direction: Direction, packet: &Packet) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.record_at(interface, direction, packet, now);
    }

    /// Records a frame with a time of the caller's, counted from 1970.
    pub fn record_at(&self, interface: u32, direction: Direction, packet: &Packet, since_epoch: Duration) {
        self.record_noted(interface, direction, packet, since_epoch, "");
    }

    /// The same with a comment, if that is not empty, of which the first 4 KiB are kept.
    pub fn record_noted(
        &self,
        interface: u32,
        direction: Direction,
        packet: &Packet,
        since_epoch: Duration,
        comment: &str,
    ) {
        let nanos = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        let len = packet.len();
        let mut kept = vec![0; len.min(self.snap_len)];
        packet.copy_to(0, &mut kept);
        let mut body = Vec::with_capacity(kept.len() + 64);
        body.extend(interface.to_le_bytes());
        // The upper and the lower half.
        body.extend(((nanos >> 32) as u32).to_le_bytes());
        body.extend((nanos as u32).to_le_bytes());
        body.extend(u32::try_from(kept.len()).unwrap_or(u32::MAX).to_le_bytes());
        body.extend(u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        body.extend(&kept);
        pad(&mut body);
        let flags: u32 = match direction {
            Direction::Inbound => 1,
            Direction::Outbound => 2,
        };
        push_option(&mut body, OPTION_EPB_FLAGS, &flags.to_le_bytes());
        if !comment.is_empty() {
            let most = comment.len().min(MAX_COMMENT);
            let end = (0..=most).rev().find(|end| comment.is_char_boundary(*end)).unwrap_or(0);
            push_option(&mut body, OPTION_COMMENT, &comment.as_bytes()[..end]);
        }
        push_option(&mut body, OPTION_END, &[]);
        self.inner.lock().write(ENHANCED_PACKET, &body);
    }

    /// Writes out what is buffered, and reports the first error of the recording, once.
    pub fn flush(&self) -> io::Result<()> {
        let mut writer = self.inner.lock();
        match writer.error.take() {
            Some(error) => Err(error),
            None => writer.out.flush(),
        }
    }
}

impl Writer {
    fn write(&mut self, kind: u32, body: &[u8]) {
        if self.error.is_none() {
            self.error = write_block(&mut self.out, kind, body).err();
        }
    }
}

fn write_block(out: &mut dyn Write, kind: u32, body: &[u8]) -> io::Result<()> {
    // Type, length, body (padded already), length.
    let len = u32::try_from(body.len() + 12).map_err(|_| io::ErrorKind::InvalidInput)?;
    let block = [&kind.to_le_bytes()[..], &len.to_le_bytes(), body, &len.to_le_bytes()].concat();
    out.write_all(&block)
}

fn push_option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    // Names of interfaces and comments are short.
    body.extend(u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const LINKTYPE_ETHERNET: u16 = 1;
const LINKTYPE_RAW: u16 = 101;
const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
/// The longest comment that is kept; an option has at most 64 KiB.
const MAX_COMMENT: usize = 4096;
const OPTION_IF_NAME: u16 = 2;
const OPTION_EPB_FLAGS: u16 = 2;
const OPTION_IF_TSRESOL: u16 = 9;

/// Wraps a link and records what the stack sends through it. What arrives is recorded by whoever delivers it, with
/// [`SnifferLink::inbound`].
pub struct SnifferLink {
    inner: Arc<dyn Link>,
    writer: Arc<PcapWriter>,
    interface: u32,
}

impl SnifferLink {
    /// Wraps `inner` under a name for the recording.
    pub fn new(inner: Arc<dyn Link>, name: &str, writer: Arc<PcapWriter>) -> Arc<Self> {
        let interface = writer.add_interface(name, inner.medium());
        Arc::new(Self { inner, writer, interface })
    }

    /// Records frames that are about to be delivered.
    pub fn inbound(&self, frames: &[Packet]) {
        frames.iter().for_each(|frame| self.writer.record(self.interface, Direction::Inbound, frame));
    }
}

impl Link for SnifferLink {
    fn medium(&self) -> Medium {
        self.inner.medium()
    }

    fn mtu(&self) -> usize {
        self.inner.mtu()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        packets.iter().for_each(|packet| self.writer.record(self.interface, Direction::Outbound, packet));
        self.inner.send_batch(packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MacAddr;
    use crate::link::channel::ChannelLink;
    use bytes::Bytes;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The blocks of a file: type and body.
    fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut blocks = Vec::new();
        let word = |at: &[u8]| u32::from_le_bytes(at[..4].try_into().unwrap());
        while !file.is_empty() {
            let len = word(&file[4..]) as usize;
            assert_eq!(len % 4, 0);
            assert_eq!(word(&file[len - 4..]) as usize, len);
            blocks.push((word(file), file[8..len - 4].to_vec()));
            file = &file[len..];
        }
        blocks
    }

    #[test]
    fn both_directions_are_recorded_and_cut() {
        let out = Shared::default();
        let writer = PcapWriter::new(Box::new(out.clone()), 5).unwrap();
        let medium = Medium::Ethernet(MacAddr::ZERO);
        let channel = ChannelLink::new(medium, 1500, Capabilities::default(), 10);
        let link = SnifferLink::new(channel.clone(), "eth0", Arc::clone(&writer));
        let frame = Packet::from_frame(Bytes::from_static(b"0123456789"));
        link.send_batch(&mut [frame.clone()]).unwrap();
        link.inbound(&[frame]);
        writer.flush().unwrap();
        assert_eq!(channel.take().len(), 1);
        let file = out.0.lock().clone();
        let blocks = blocks(&file);
        let kinds: Vec<_> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [SECTION_HEADER, INTERFACE_DESCRIPTION, ENHANCED_PACKET, ENHANCED_PACKET]);
        for (block, flag) in blocks[2..].iter().zip([2, 1]) {
            let body = &block.1;
            assert_eq!((&body[12..16], &body[16..20]), (&[5, 0, 0, 0][..], &[10, 0, 0, 0][..]));
            assert_eq!(&body[20..28], b"01234\0\0\0");
            assert_eq!(body[32], flag);
        }
    }
}
