//! Control messages (`cmsg(3)`): what a program sends along with a datagram, and what it is told with one.
//!
//! Only bytes here: [`message`](crate::message) has the pointers.

use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use libc::{c_int, cmsghdr, in_pktinfo, in6_pktinfo};
use netstack::NicId;
use netstack::options::{Datagram, Family, SendMeta};
use netstack::time::Instant;

use crate::address;
use crate::errno::Errno;
use crate::stack::ns_stack;

bitflags::bitflags! {
    /// Which control messages a socket wants with what it receives.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub(crate) struct Receive: u32 {
        /// `IP_PKTINFO`.
        const PKTINFO = 1;
        /// `IP_RECVTTL`.
        const TTL = 1 << 1;
        /// `IP_RECVTOS`.
        const TOS = 1 << 2;
        /// `IP_RECVORIGDSTADDR`.
        const ORIGINAL_DESTINATION = 1 << 3;
        /// `IPV6_RECVPKTINFO`.
        const PKTINFO_V6 = 1 << 4;
        /// `IPV6_RECVHOPLIMIT`.
        const HOP_LIMIT = 1 << 5;
        /// `IPV6_RECVTCLASS`.
        const TRAFFIC_CLASS = 1 << 6;
        /// `IPV6_RECVORIGDSTADDR`.
        const ORIGINAL_DESTINATION_V6 = 1 << 7;
        /// `UDP_GRO`.
        const GRO = 1 << 8;
        /// `SO_TIMESTAMP`.
        const TIMESTAMP = 1 << 9;
        /// `SO_TIMESTAMPNS`; excludes the one above.
        const TIMESTAMP_NS = 1 << 10;
        /// `PACKET_AUXDATA`.
        const AUXDATA = 1 << 11;
    }
}

/// Applies the control messages of a send to `meta`.
///
/// # Errors
/// `EINVAL` for lengths that leave the buffer, values of a wrong size or out of range, and messages of the socket's levels or of
/// `SOL_SOCKET` that are not here.
pub(crate) fn apply(family: Family, control: &[u8], meta: &mut SendMeta) -> Result<(), Errno> {
    let mut rest = control;
    // CMSG_OK: a header that does not fit ends the walk without an error.
    while let Some((len, level, kind)) = header(rest) {
        let data = rest.get(HEADER..len).ok_or(INVALID)?;
        apply_one(family, (level, kind), data, meta)?;
        rest = rest.get(align(len)..).unwrap_or_default();
    }
    Ok(())
}

/// Walks over the control messages of a packet socket's send, none of which means anything here.
///
/// # Errors
/// As of [`apply`]; messages of other levels than `SOL_SOCKET` are not looked at (`sock_cmsg_send`).
pub(crate) fn check(control: &[u8]) -> Result<(), Errno> {
    let mut rest = control;
    while let Some((len, level, kind)) = header(rest) {
        rest.get(HEADER..len).ok_or(INVALID)?;
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS | libc::SCM_CREDENTIALS) => {}
            (libc::SOL_SOCKET, _) => return Err(INVALID),
            _ => {}
        }
        rest = rest.get(align(len)..).unwrap_or_default();
    }
    Ok(())
}

fn apply_one(family: Family, name: (c_int, c_int), data: &[u8], meta: &mut SendMeta) -> Result<(), Errno> {
    match name {
        (libc::SOL_IP, libc::IP_PKTINFO) => {
            let [index, source, _destination] = words::<{ size_of::<in_pktinfo>() }, 3>(data)?;
            meta.nic = nic(i32::from_ne_bytes(index).try_into().map_err(|_| INVALID)?);
            let source = Ipv4Addr::from(source);
            meta.source = (!source.is_unspecified()).then_some(IpAddr::V4(source));
        }
        (libc::SOL_IP, libc::IP_TTL) => {
            meta.ttl = Some(small_int(data)?.filter(|ttl| *ttl > 0).ok_or(INVALID)?);
        }
        // ip_cmsg_send takes an int or a single byte.
        (libc::SOL_IP, libc::IP_TOS) => match data {
            [tos] => meta.tos = Some(*tos),
            _ => meta.tos = small_int(data)?,
        },
        (libc::SOL_IPV6, libc::IPV6_PKTINFO) if family == Family::V6 => {
            let (source, index) = data.split_first_chunk::<16>().ok_or(INVALID)?;
            meta.nic = nic(u32::from_ne_bytes(index.try_into().map_err(|_| INVALID)?));
            let source = Ipv6Addr::from(*source);
            meta.source = (!source.is_unspecified()).then_some(IpAddr::V6(source));
        }
        (libc::SOL_IPV6, libc::IPV6_HOPLIMIT) if family == Family::V6 => meta.ttl = small_int(data)?,
        (libc::SOL_IPV6, libc::IPV6_TCLASS) if family == Family::V6 => meta.tos = small_int(data)?,
        (libc::SOL_UDP, libc::UDP_SEGMENT) => {
            let size = u16::from_ne_bytes(data.try_into().map_err(|_| INVALID)?);
            meta.segment_size = Some(size).filter(|size| *size > 0);
        }
        // Internet sockets pass no files and no credentials, and say nothing about it.
        (libc::SOL_SOCKET, libc::SCM_RIGHTS | libc::SCM_CREDENTIALS) => {}
        (libc::SOL_SOCKET | libc::SOL_IP, _) => return Err(INVALID),
        (libc::SOL_IPV6, _) if family == Family::V6 => return Err(INVALID),
        // Messages of other levels are ignored (ip_cmsg_send).
        _ => {}
    }
    Ok(())
}

/// The length, level and type at the beginning of `bytes`.
fn header(bytes: &[u8]) -> Option<(usize, c_int, c_int)> {
    let (len, rest) = bytes.split_first_chunk::<{ size_of::<usize>() }>()?;
    let (level, rest) = rest.split_first_chunk::<4>()?;
    let (kind, _) = rest.split_first_chunk::<4>()?;
    Some((usize::from_ne_bytes(*len), c_int::from_ne_bytes(*level), c_int::from_ne_bytes(*kind)))
}

/// The four-byte fields of a structure of `LEN` bytes.
fn words<const LEN: usize, const COUNT: usize>(data: &[u8]) -> Result<[[u8; 4]; COUNT], Errno> {
    let (words, rest) = data.as_chunks::<4>();
    if data.len() != LEN || !rest.is_empty() {
        return Err(INVALID);
    }
    words.try_into().map_err(|_| INVALID)
}

/// An `int` in `0..=255`; -1 means the socket's own value.
fn small_int(data: &[u8]) -> Result<Option<u8>, Errno> {
    match c_int::from_ne_bytes(data.try_into().map_err(|_| INVALID)?) {
        -1 => Ok(None),
        value => u8::try_from(value).map(Some).map_err(|_| INVALID),
    }
}

/// Zero leaves the choice to the routes.
fn nic(index: u32) -> Option<NicId> {
    NicId::from_index(index)
}

/// Control messages on their way into a buffer of a given size.
#[derive(Debug)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
    room: usize,
    is_truncated: bool,
}

impl Encoder {
    pub(crate) fn new(room: usize) -> Self {
        Self { bytes: Vec::new(), room, is_truncated: false }
    }

    /// As `put_cmsg` of Linux: a header without room for itself is dropped, data is cut to what fits.
    pub(crate) fn put(&mut self, level: c_int, kind: c_int, data: &[u8]) {
        let free = self.room - self.bytes.len();
        if free < HEADER {
            self.is_truncated = true;
            return;
        }
        let len = (HEADER + data.len()).min(free);
        self.is_truncated |= len < HEADER + data.len();
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&level.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&data[..len - HEADER]);
        self.bytes.resize(align(self.bytes.len()).min(self.room), 0);
    }

    fn put_int(&mut self, level: c_int, kind: c_int, value: impl Into<c_int>) {
        self.put(level, kind, &value.into().to_ne_bytes());
    }

    /// The bytes, and whether something did not fit (`MSG_CTRUNC`).
    pub(crate) fn finish(self) -> (Vec<u8>, bool) {
        (self.bytes, self.is_truncated)
    }
}

/// Tells what a socket with the switches `wanted` wants to know of a datagram, in Linux's order.
pub(crate) fn describe(
    handle: &ns_stack,
    family: Family,
    wanted: Receive,
    datagram: &Datagram,
    out: &mut Encoder,
) {
    describe_time(handle, wanted, datagram.arrival, out);
    if let Some(size) = datagram.segment_size.filter(|_| wanted.contains(Receive::GRO)) {
        out.put_int(libc::SOL_UDP, libc::UDP_GRO, size);
    }
    let to = datagram.to.ip().to_canonical();
    if let IpAddr::V4(to) = to {
        describe_v4(wanted, to, datagram, out);
    }
    if family == Family::V6 {
        describe_v6(wanted, to, datagram, out);
    }
}

/// Times of arrival are of the host's clock; of a stack with a manual clock, that clock's.
pub(crate) fn describe_time(handle: &ns_stack, wanted: Receive, arrival: Instant, out: &mut Encoder) {
    if !wanted.intersects(Receive::TIMESTAMP | Receive::TIMESTAMP_NS) {
        return;
    }
    let time = if handle.is_manual {
        Duration::from_nanos(arrival.as_nanos())
    } else {
        let age = Duration::from_nanos(handle.stack.now().as_nanos().saturating_sub(arrival.as_nanos()));
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        since_1970.saturating_sub(age)
    };
    // A `time_t` lasts for longer than any clock.
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let (kind, fraction) = if wanted.contains(Receive::TIMESTAMP_NS) {
        (libc::SCM_TIMESTAMPNS, time.subsec_nanos())
    } else {
        (libc::SCM_TIMESTAMP, time.subsec_micros())
    };
    let value = [seconds.to_ne_bytes(), i64::from(fraction).to_ne_bytes()].concat();
    out.put(libc::SOL_SOCKET, kind, &value);
}

fn describe_v4(wanted: Receive, to: Ipv4Addr, datagram: &Datagram, out: &mut Encoder) {
    if wanted.contains(Receive::PKTINFO) {
        let info = [datagram.nic.index().to_ne_bytes(), to.octets(), to.octets()].concat();
        out.put(libc::SOL_IP, libc::IP_PKTINFO, &info);
    }
    if wanted.contains(Receive::TTL) {
        out.put_int(libc::SOL_IP, libc::IP_TTL, datagram.ttl);
    }
    if wanted.contains(Receive::TOS) {
        // A single byte, unlike everything else (ip_cmsg_recv_tos).
        out.put(libc::SOL_IP, libc::IP_TOS, &[datagram.tos]);
    }
    if wanted.contains(Receive::ORIGINAL_DESTINATION) {
        let (address, len) = address::encode((to, datagram.to.port()).into());
        out.put(libc::SOL_IP, libc::IP_RECVORIGDSTADDR, &address[..len]);
    }
}

fn describe_v6(wanted: Receive, to: IpAddr, datagram: &Datagram, out: &mut Encoder) {
    if wanted.contains(Receive::PKTINFO_V6) {
        let address = match to {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let info = [&address.octets()[..], &datagram.nic.index().to_ne_bytes()].concat();
        out.put(libc::SOL_IPV6, libc::IPV6_PKTINFO, &info);
    }
    if wanted.contains(Receive::HOP_LIMIT) {
        out.put_int(libc::SOL_IPV6, libc::IPV6_HOPLIMIT, datagram.ttl);
    }
    if wanted.contains(Receive::TRAFFIC_CLASS) {
        out.put_int(libc::SOL_IPV6, libc::IPV6_TCLASS, datagram.tos);
    }
    if wanted.contains(Receive::ORIGINAL_DESTINATION_V6) {
        let (address, len) = address::encode(datagram.to);
        out.put(libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR, &address[..len]);
    }
}

/// `CMSG_ALIGN`; saturates, so that a length that a program made up leaves the buffer.
fn align(len: usize) -> usize {
    len.checked_next_multiple_of(size_of::<usize>()).unwrap_or(usize::MAX)
}

/// `CMSG_LEN(0)`: the header has no padding behind it.
const HEADER: usize = size_of::<cmsghdr>();
const INVALID: Errno = Errno(libc::EINVAL);
const _: () = assert!(size_of::<in6_pktinfo>() == 20);

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: c_int, kind: c_int, data: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::new(256);
        encoder.put(level, kind, data);
        encoder.finish().0
    }

    #[test]
    fn values_are_checked_as_ip_cmsg_send_does() {
        let mut meta = SendMeta::default();
        let int = |kind, value: c_int| message(libc::SOL_IP, kind, &value.to_ne_bytes());
        let two = [int(libc::IP_TTL, 9), int(libc::IP_TOS, 16)].concat();
        assert_eq!(apply(Family::V4, &two, &mut meta), Ok(()));
        assert_eq!((meta.ttl, meta.tos), (Some(9), Some(16)));
        for bad in [int(libc::IP_TTL, 0), int(libc::IP_TTL, 256), int(99, 1)] {
            assert_eq!(apply(Family::V4, &bad, &mut meta), Err(INVALID));
        }
        assert_eq!(apply(Family::V4, &message(77, 1, &[]), &mut meta), Ok(()), "other levels are ignored");
    }

    #[test]
    fn lengths_that_leave_the_buffer_are_refused() {
        let mut meta = SendMeta::default();
        let mut lying = message(77, 1, &[0; 4]);
        for len in [0, 15, 21, 1 << 20, usize::MAX] {
            let (field, _) = lying.split_first_chunk_mut().unwrap();
            *field = usize::to_ne_bytes(len);
            let verdict = apply(Family::V4, &lying[..20], &mut meta);
            assert_eq!(verdict, Err(INVALID), "{len}");
        }
        assert_eq!(apply(Family::V4, &lying[..15], &mut meta), Ok(()), "not a header");
    }

    #[test]
    fn messages_are_padded_and_cut_at_the_end_of_the_buffer() {
        let mut encoder = Encoder::new(24 + 20);
        encoder.put(0, 2, &[1, 2, 3, 4]);
        encoder.put(0, 1, &[9; 8]);
        encoder.put(0, 3, &[]);
        let (bytes, is_truncated) = encoder.finish();
        assert!(is_truncated);
        assert_eq!((bytes.len(), header(&bytes)), (44, Some((20, 0, 2))));
        assert_eq!(header(&bytes[24..]), Some((20, 0, 1)), "four of the eight bytes fit");
    }
}
