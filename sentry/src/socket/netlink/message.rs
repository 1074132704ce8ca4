//! Netlink messages and attributes: a cursor over what a guest sent, a builder for what it gets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sentry_abi::netlink::{NlMsgHdr, RtAttr, nl_align};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::Errno;

/// Size of a message header.
pub(super) const HEADER_LEN: usize = size_of::<NlMsgHdr>();
const ATTR_LEN: usize = size_of::<RtAttr>();

/// One message of a guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub header: NlMsgHdr,
    /// What follows the header.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// Takes the next message off `buf`; `None` at the end and for a length that leaves the buffer.
    pub(super) fn next(buf: &mut &'a [u8]) -> Option<Self> {
        let (header, _) = NlMsgHdr::read_from_prefix(buf).ok()?;
        let len = usize::try_from(header.len).ok()?;
        let body = buf.get(HEADER_LEN..len)?;
        *buf = buf.get(nl_align(len)..).unwrap_or(&[]);
        Some(Self { header, body })
    }

    /// True where every bit of `flags` is set.
    pub(super) fn has(&self, flags: u16) -> bool {
        self.header.flags & flags == flags
    }

    /// The fixed part of the body and the attributes after it. Dump requests may be cut short (old programs send one
    /// byte): what is missing is zero.
    pub(super) fn split<T: FromBytes + IntoBytes>(&self) -> (T, Attributes<'a>) {
        let mut fixed = T::new_zeroed();
        let len = self.body.len().min(size_of::<T>());
        fixed.as_mut_bytes()[..len].copy_from_slice(&self.body[..len]);
        (fixed, Attributes(self.body.get(nl_align(size_of::<T>())..).unwrap_or(&[])))
    }

    /// As [`Request::split`] for a request that must be complete.
    ///
    /// # Errors
    /// `EINVAL`.
    pub(super) fn split_full<T: FromBytes + IntoBytes>(&self) -> Result<(T, Attributes<'a>), Errno> {
        if self.body.len() < size_of::<T>() { Err(Errno::EINVAL) } else { Ok(self.split()) }
    }
}

/// A sequence of attributes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, _) = RtAttr::read_from_prefix(self.0).ok()?;
        let len = usize::from(header.len);
        let value = self.0.get(ATTR_LEN..len)?;
        self.0 = self.0.get(nl_align(len)..).unwrap_or(&[]);
        // NLA_F_NESTED and NLA_F_NET_BYTEORDER are not part of the type.
        Some((header.kind & 0x3fff, value))
    }
}

impl<'a> Attributes<'a> {
    /// The value of the attribute `kind`.
    pub(super) fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(k, value)| (k == kind).then_some(value))
    }

    /// The attributes in the bytes of an attribute.
    pub(super) fn within(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub(super) fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The attribute `kind` as a number.
    pub(super) fn u32(self, kind: u16) -> Option<u32> {
        let bytes = self.find(kind)?.get(..4)?;
        Some(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// The attribute `kind` as a string without its NUL.
    pub(super) fn str(self, kind: u16) -> Option<&'a str> {
        let bytes = self.find(kind)?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        std::str::from_utf8(&bytes[..end]).ok()
    }

    /// The attribute `kind` as an address, of the family that its length tells.
    pub(super) fn address(self, kind: u16) -> Option<IpAddr> {
        let bytes = self.find(kind)?;
        if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
            return Some(IpAddr::V4(Ipv4Addr::from(v4)));
        }
        <[u8; 16]>::try_from(bytes).ok().map(|v6| IpAddr::V6(Ipv6Addr::from(v6)))
    }
}

/// Builds messages into one buffer.
#[derive(Debug, Default)]
pub(super) struct Builder {
    buf: Vec<u8>,
    start: usize,
}

impl Builder {
    /// Begins a message; its length is set by [`Builder::end`].
    pub(super) fn begin<T: IntoBytes + Immutable>(
        &mut self,
        kind: u16,
        flags: u16,
        seq: u32,
        pid: u32,
        fixed: &T,
    ) {
        self.start = self.buf.len();
        self.buf.extend_from_slice(NlMsgHdr { len: 0, kind, flags, seq, pid }.as_bytes());
        self.buf.extend_from_slice(fixed.as_bytes());
        self.pad();
    }

    /// Adds raw bytes to the message.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
        self.pad();
    }

    /// Adds an attribute.
    pub(super) fn attr<T: IntoBytes + Immutable + ?Sized>(&mut self, kind: u16, value: &T) {
        let value = value.as_bytes();
        // Attributes made here are small; a longer one would not be representable.
        let len = u16::try_from(ATTR_LEN + value.len()).unwrap_or(u16::MAX);
        self.buf.extend_from_slice(RtAttr { len, kind }.as_bytes());
        self.buf.extend_from_slice(value);
        self.pad();
    }

    /// Adds a string with its NUL.
    pub(super) fn attr_str(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, bytes.as_slice());
    }

    /// Adds an attribute that holds attributes, which `fill` adds.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.buf.len();
        self.buf.extend_from_slice(RtAttr { len: 0, kind }.as_bytes());
        fill(self);
        // What is too long is cut into several messages by the caller.
        let len = u16::try_from(self.buf.len() - start).unwrap_or(u16::MAX);
        self.buf[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.pad();
    }

    /// Adds an address.
    pub(super) fn attr_ip(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.attr(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attr(kind, &v6.octets()),
        }
    }

    /// Ends the message.
    pub(super) fn end(&mut self) {
        let len = u32::try_from(self.buf.len() - self.start).unwrap_or(u32::MAX);
        self.buf[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.buf.len()
    }

    /// The bytes.
    pub(super) fn finish(self) -> Vec<u8> {
        self.buf
    }

    fn pad(&mut self) {
        self.buf.resize(nl_align(self.buf.len()), 0);
    }
}

/// Where and how replies to one request are written.
pub(super) struct Reply {
    /// Complete datagrams.
    pub datagrams: Vec<Vec<u8>>,
    /// The datagram being filled.
    builder: Builder,
    seq: u32,
    pid: u32,
    flags: u16,
}

/// A dump is cut into datagrams of about this size, which every program's buffer holds (netlink(7): 8192).
const DATAGRAM_LEN: usize = 7 << 10;

impl Reply {
    /// For a request, with `NLM_F_MULTI` where it is a dump; `pid` is the port of the socket that gets it.
    pub(super) fn new(request: &NlMsgHdr, pid: u32, flags: u16) -> Self {
        Self { datagrams: Vec::new(), builder: Builder::default(), seq: request.seq, pid, flags }
    }

    /// Adds a message with a fixed part, whose attributes `fill` adds.
    pub(super) fn message<T: IntoBytes + Immutable>(
        &mut self,
        kind: u16,
        fixed: &T,
        fill: impl FnOnce(&mut Builder),
    ) {
        self.builder.begin(kind, self.flags, self.seq, self.pid, fixed);
        fill(&mut self.builder);
        self.builder.end();
        if self.builder.len() > DATAGRAM_LEN {
            self.flush();
        }
    }

    /// Ends the datagram being filled.
    pub(super) fn flush(&mut self) {
        if self.builder.len() > 0 {
            self.datagrams.push(std::mem::take(&mut self.builder).finish());
        }
    }
}

#[cfg(test)]
mod tests {
    use sentry_abi::netlink::IfAddrMsg;

    use super::*;

    #[test]
    fn messages_survive_the_round_trip() {
        let mut builder = Builder::default();
        builder.begin(20, 1, 7, 9, &IfAddrMsg { family: 2, prefix_len: 24, ..IfAddrMsg::default() });
        builder.attr_str(3, "lo");
        builder.attr_ip(1, "10.0.0.1".parse().unwrap());
        builder.end();
        builder.begin(3, 0, 8, 9, &0_i32);
        builder.end();
        let bytes = builder.finish();
        let mut rest = bytes.as_slice();
        let first = Request::next(&mut rest).unwrap();
        assert_eq!((first.header.kind, first.header.seq), (20, 7));
        let (fixed, attributes) = first.split::<IfAddrMsg>();
        assert_eq!(fixed.prefix_len, 24);
        assert_eq!(attributes.str(3), Some("lo"));
        assert_eq!(attributes.address(1), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(attributes.find(2), None);
        assert_eq!(Request::next(&mut rest).unwrap().header.seq, 8);
        assert!(Request::next(&mut rest).is_none());
    }

    #[test]
    fn broken_lengths_end_the_walk() {
        let header = NlMsgHdr { len: 100, kind: 20, flags: 1, seq: 0, pid: 0 };
        assert!(Request::next(&mut header.as_bytes()).is_none());
        let header = NlMsgHdr { len: 3, ..header };
        assert!(Request::next(&mut header.as_bytes()).is_none());
        assert_eq!(Attributes(&[3, 0, 1, 0]).next(), None);
        assert_eq!(Attributes(&[9, 0, 1, 0, 0]).next(), None);
    }
}
