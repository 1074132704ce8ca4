//! Capturing an interface.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pnet_datalink::{Channel, Config};

/// Super-segments of 64 KiB with their headers.
const SNAP_LEN: usize = 65_536 + 256;
/// How long a read waits, so that the limits are looked at and the file is flushed.
const TICK: Duration = Duration::from_millis(200);

/// Writes what passes `interface` to a pcap file until a limit is reached or the program is ended. The file is complete
/// up to the last tick.
///
/// # Errors
/// When there is no such interface, without `CAP_NET_RAW`, or when the file cannot be written.
pub(crate) fn run(
    interface: &str,
    file: &Path,
    count: Option<u64>,
    limit: Option<Duration>,
) -> anyhow::Result<()> {
    let interfaces = pnet_datalink::interfaces();
    let Some(found) = interfaces.iter().find(|i| i.name == interface) else {
        let names: Vec<&str> = interfaces.iter().map(|i| i.name.as_str()).collect();
        bail!("no interface {interface:?}: there are {}", names.join(", "));
    };
    let config = Config { read_timeout: Some(TICK), read_buffer_size: SNAP_LEN, ..Config::default() };
    let channel =
        pnet_datalink::channel(found, config).with_context(|| format!("cannot capture on {interface}"))?;
    let Channel::Ethernet(_, mut receiver) = channel else {
        bail!("{interface} is not an Ethernet interface")
    };
    let output: Box<dyn Write> = if file.as_os_str() == "-" {
        Box::new(io::stdout())
    } else {
        Box::new(File::create(file).with_context(|| format!("cannot write {}", file.display()))?)
    };
    let header = PcapHeader { snaplen: u32::try_from(SNAP_LEN)?, ..PcapHeader::default() };
    let output = Shared(Rc::new(RefCell::new(BufWriter::new(output))));
    let mut writer = PcapWriter::with_header(output.clone(), header)?;
    let start = Instant::now();
    let mut written = 0;
    // A loopback interface shows each packet twice, on its way out and in.
    let mut last_on_loopback: Option<Vec<u8>> = None;
    while count.is_none_or(|c| written < c) && limit.is_none_or(|l| start.elapsed() < l) {
        match receiver.next() {
            Ok(data) => {
                if found.is_loopback() {
                    if last_on_loopback.as_deref() == Some(data) {
                        last_on_loopback = None;
                        continue;
                    }
                    last_on_loopback = Some(data.to_vec());
                }
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
                writer.write_packet(&PcapPacket::new(now, u32::try_from(data.len())?, data))?;
                written += 1;
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
                output.clone().flush()?;
            }
            Err(e) => return Err(e).with_context(|| format!("reading {interface}")),
        }
    }
    output.clone().flush()?;
    Ok(())
}

/// An output that can be flushed while the pcap writer, which has no flush, holds it.
#[derive(Clone)]
struct Shared(Rc<RefCell<BufWriter<Box<dyn Write>>>>);

impl Write for Shared {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().flush()
    }
}
