//! Packets of an interface as they pass.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use pnet_datalink::{Channel, Config, DataLinkReceiver};

use crate::output::SNAP_LEN;
use crate::source::{Course, Interface, Packet};

/// A capture that goes on.
pub(crate) struct Live {
    receiver: Box<dyn DataLinkReceiver>,
    interface: Arc<Interface>,
    /// The station's own address.
    own: Option<[u8; 6]>,
    is_loopback: bool,
    last_on_loopback: Option<Vec<u8>>,
}

impl Live {
    /// # Errors
    /// When there is no such interface, or without `CAP_NET_RAW`.
    pub(crate) fn open(name: &str) -> anyhow::Result<Self> {
        let interfaces = pnet_datalink::interfaces();
        let Some(found) = interfaces.iter().find(|i| i.name == name) else {
            let names: Vec<&str> = interfaces.iter().map(|i| i.name.as_str()).collect();
            bail!("no interface {name:?}: there are {}", names.join(", "));
        };
        let config = Config {
            read_timeout: Some(TICK),
            read_buffer_size: usize::try_from(SNAP_LEN)?,
            ..Config::default()
        };
        let channel =
            pnet_datalink::channel(found, config).with_context(|| format!("cannot capture on {name}"))?;
        let Channel::Ethernet(_, receiver) = channel else { bail!("{name} is not an Ethernet interface") };
        Ok(Self {
            receiver,
            interface: Arc::new(Interface { number: 0, name: Some(name.to_owned()), link_type: 1 }),
            own: found.mac.map(|mac| mac.octets()).filter(|mac| *mac != [0; 6]),
            is_loopback: found.is_loopback(),
            last_on_loopback: None,
        })
    }

    /// The next packet; `None` if there is none for a fifth of a second.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Packet>> {
        let Self { receiver, interface, own, is_loopback, last_on_loopback } = self;
        let data = match receiver.next() {
            Ok(data) => data,
            Err(e) if matches!(e.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
                return Ok(None);
            }
            Err(e) => return Err(e).context("reading the interface"),
        };
        // A loopback interface shows each packet twice, on its way out and in.
        if *is_loopback {
            if last_on_loopback.as_deref() == Some(data) {
                *last_on_loopback = None;
                return Ok(None);
            }
            *last_on_loopback = Some(data.to_vec());
        }
        let source = data.get(6..12);
        let course = own.map(|own| if source == Some(&own) { Course::Outbound } else { Course::Inbound });
        Ok(Some(Packet {
            time: SystemTime::now().duration_since(UNIX_EPOCH)?,
            interface: Arc::clone(interface),
            course,
            data: data.to_vec(),
            original_len: u32::try_from(data.len())?,
            comments: Vec::new(),
        }))
    }
}

/// How long a read waits, so that limits are looked at and files are flushed.
const TICK: Duration = Duration::from_millis(200);
