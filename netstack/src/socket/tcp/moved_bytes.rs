//! The bytes of a connection that is on its way between stacks.
//!
//! A version, then the fields in their order, numbers in network order; bytes have their length in front of them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use bytes::Bytes;

use super::moved::StreamSnapshot;
use crate::tcp::Snapshot;

/// Why bytes are no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamSnapshotError {
    /// They are of a version that is not known here.
    #[error("version {0} of a snapshot is not known")]
    Version(u8),
    /// They end too early, or say what no snapshot says.
    #[error("snapshot is malformed")]
    Malformed,
}

impl StreamSnapshot {
    /// The connection as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { local, remote, connection } = self;
        let Snapshot {
            snd_una,
            unacked,
            sent,
            is_write_shut,
            snd_wnd,
            snd_wl1,
            max_wnd,
            rcv_nxt,
            unread,
            is_read_over,
            rcv_wnd,
            rcv_wup,
            window_shifts,
            peer_mss,
            advertised_mss,
            has_sack,
            has_ecn,
            timestamps,
            srtt,
        } = connection;
        let mut out = Writer(vec![VERSION]);
        out.address(local);
        out.address(remote);
        for flag in [*is_write_shut, *is_read_over, *has_sack, *has_ecn] {
            out.0.push(flag.into());
        }
        for number in [snd_una, sent, snd_wnd, snd_wl1, max_wnd, rcv_nxt, rcv_wnd, rcv_wup] {
            out.number(*number);
        }
        out.number(u32::from(*peer_mss) << 16 | u32::from(*advertised_mss));
        out.pair(window_shifts.map(|(snd, rcv)| (snd.into(), rcv.into())));
        out.pair(*timestamps);
        // Seconds and nanoseconds.
        let seconds = |span: &Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        out.pair(srtt.as_ref().map(|srtt| (seconds(srtt), srtt.subsec_nanos())));
        out.bytes(unacked);
        out.bytes(unread);
        out.0
    }

    /// The connection that [`to_bytes`](Self::to_bytes) has made the bytes of.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StreamSnapshotError> {
        match bytes.first() {
            Some(&VERSION) => {}
            Some(version) => return Err(StreamSnapshotError::Version(*version)),
            None => return Err(StreamSnapshotError::Malformed),
        }
        let mut reader = Reader(&bytes[1..]);
        let found = reader.snapshot().filter(|_| reader.0.is_empty());
        found.ok_or(StreamSnapshotError::Malformed)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn pair(&mut self, pair: Option<(u32, u32)>) {
        self.0.push(pair.is_some().into());
        let (one, other) = pair.unwrap_or_default();
        self.number(one);
        self.number(other);
    }

    fn bytes(&mut self, bytes: &Bytes) {
        // Queues are bounded by windows.
        self.number(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    fn address(&mut self, address: &SocketAddr) {
        let (family, ip, scope) = match address {
            SocketAddr::V4(address) => (4, address.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(address) => (6, *address.ip(), address.scope_id()),
        };
        self.0.push(family);
        self.0.extend_from_slice(&ip.octets());
        self.number(address.port().into());
        self.number(scope);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn snapshot(&mut self) -> Option<StreamSnapshot> {
        let (local, remote) = (self.address()?, self.address()?);
        let (is_write_shut, is_read_over) = (self.flag()?, self.flag()?);
        let (has_sack, has_ecn) = (self.flag()?, self.flag()?);
        let (snd_una, sent, snd_wnd, snd_wl1) =
            (self.number()?, self.number()?, self.number()?, self.number()?);
        let (max_wnd, rcv_nxt, rcv_wnd, rcv_wup) =
            (self.number()?, self.number()?, self.number()?, self.number()?);
        let sizes = self.number()?;
        let window_shifts = match self.pair()? {
            Some((snd, rcv)) => Some((u8::try_from(snd).ok()?, u8::try_from(rcv).ok()?)),
            None => None,
        };
        let timestamps = self.pair()?;
        let srtt = match self.pair()? {
            Some((seconds, nanos)) if nanos < NANOS_PER_SECOND => Some(Duration::new(seconds.into(), nanos)),
            Some(_) => return None,
            None => None,
        };
        let (unacked, unread) = (self.bytes()?, self.bytes()?);
        let connection = Snapshot {
            snd_una,
            unacked,
            sent,
            is_write_shut,
            snd_wnd,
            snd_wl1,
            max_wnd,
            rcv_nxt,
            unread,
            is_read_over,
            rcv_wnd,
            rcv_wup,
            window_shifts,
            peer_mss: u16::try_from(sizes >> 16).ok()?,
            advertised_mss: u16::try_from(sizes & 0xffff).ok()?,
            has_sack,
            has_ecn,
            timestamps,
            srtt,
        };
        Some(StreamSnapshot { local, remote, connection })
    }

    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let (now, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(now)
    }

    fn number(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.take(1)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn pair(&mut self) -> Option<Option<(u32, u32)>> {
        let is_there = self.flag()?;
        let pair = (self.number()?, self.number()?);
        Some(is_there.then_some(pair))
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let len = usize::try_from(self.number()?).ok()?;
        self.take(len).map(Bytes::copy_from_slice)
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let family = *self.take(1)?.first()?;
        let ip = Ipv6Addr::from(<[u8; 16]>::try_from(self.take(16)?).ok()?);
        let port = u16::try_from(self.number()?).ok()?;
        let scope = self.number()?;
        match family {
            4 => Some(SocketAddr::new(IpAddr::V4(ip.to_ipv4_mapped()?), port)),
            6 => Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope))),
            _ => None,
        }
    }
}

const VERSION: u8 = 1;
const NANOS_PER_SECOND: u32 = 1_000_000_000;
