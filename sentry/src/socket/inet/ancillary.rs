//! Control messages of datagrams: what travels with a send, what is told with a receive.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netstack::NicId;
use netstack::options::{Datagram, Family, SendMeta};
use netstack::wire::ipv4::options::MAX_LEN;
use sentry_abi::inet::{
    IP_PKTINFO, IP_RECVOPTS, IP_RECVORIGDSTADDR, IP_RETOPTS, IP_TOS, IP_TTL, IPV6_2292HOPLIMIT,
    IPV6_2292PKTINFO, IPV6_FLOWINFO, IPV6_HOPLIMIT, IPV6_PKTINFO, IPV6_RECVORIGDSTADDR, IPV6_TCLASS,
    In6Pktinfo, InPktinfo, UDP_GRO, UDP_SEGMENT,
};
use sentry_abi::socket::{SOL_IP, SOL_IPV6, SOL_UDP};
use zerocopy::FromBytes;

use crate::errno::Errno;
use crate::socket::control::ControlMessage;
use crate::socket::inet::address::{encode, unmapped};
use crate::socket::inet::{Receive, extension, ip_options, tag};

/// Applies the control messages of a send to `meta`.
///
/// # Errors
/// `EINVAL` for messages of a wrong size, values out of range and unknown messages of the socket's level.
pub(super) fn apply(family: Family, control: &[ControlMessage], meta: &mut SendMeta) -> Result<(), Errno> {
    for message in control {
        tag::apply(message, meta)?;
        let ControlMessage::Bytes { level, kind, data } = message else { continue };
        match (*level, *kind) {
            (SOL_IP, IP_PKTINFO) => {
                let info = InPktinfo::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
                let index = u32::try_from(info.ifindex).map_err(|_| Errno::EINVAL)?;
                meta.nic = NicId::from_index(index);
                let source = Ipv4Addr::from(info.spec_dst);
                meta.source = (!source.is_unspecified()).then_some(IpAddr::V4(source));
            }
            (SOL_IP, IP_TTL) => {
                let ttl = small_int(data)?.filter(|ttl| *ttl > 0);
                meta.ttl = Some(ttl.ok_or(Errno::EINVAL)?);
            }
            // ip_cmsg_send takes an int or a single byte.
            (SOL_IP, IP_TOS) => {
                meta.tos = match data.as_slice() {
                    [tos] => Some(*tos),
                    _ => small_int(data)?,
                };
                meta.priority = meta.tos.map(tag::priority_of_tos).or(meta.priority);
            }
            (SOL_IPV6, IPV6_PKTINFO | IPV6_2292PKTINFO) if family == Family::V6 => {
                let info = In6Pktinfo::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
                meta.nic = NicId::from_index(info.ifindex);
                let source = Ipv6Addr::from(info.addr);
                meta.source = (!source.is_unspecified()).then_some(IpAddr::V6(source));
            }
            (SOL_IPV6, IPV6_HOPLIMIT | IPV6_2292HOPLIMIT) if family == Family::V6 => {
                meta.ttl = small_int(data)?;
            }
            (SOL_IPV6, IPV6_TCLASS) if family == Family::V6 => meta.tos = small_int(data)?,
            (SOL_IPV6, IPV6_FLOWINFO) if family == Family::V6 => {
                let word = <[u8; 4]>::try_from(data.as_slice()).map_err(|_| Errno::EINVAL)?;
                meta.flow_label = Some(u32::from_be_bytes(word) & LABEL_MASK);
            }
            (SOL_UDP, UDP_SEGMENT) => {
                let size = <[u8; 2]>::try_from(data.as_slice()).map_err(|_| Errno::EINVAL)?;
                meta.segment_size = Some(u16::from_ne_bytes(size)).filter(|size| *size > 0);
            }
            (SOL_IP, IP_RETOPTS) => {
                // ip_cmsg_send: "err = min_t(int, err, 40)"
                meta.ip_options = ip_options::parse(&data[..data.len().min(MAX_LEN)])?;
            }
            (SOL_IP, _) => return Err(Errno::EINVAL),
            (SOL_IPV6, kind) if family == Family::V6 => {
                extension::apply(kind, data, &mut meta.extensions)?;
            }
            // Messages of other levels are ignored (ip_cmsg_send).
            _ => {}
        }
    }
    Ok(())
}

/// An `int` in `0..=255`; -1 means the socket's own value.
fn small_int(data: &[u8]) -> Result<Option<u8>, Errno> {
    let value = i32::from_ne_bytes(data.try_into().map_err(|_| Errno::EINVAL)?);
    if value == -1 {
        return Ok(None);
    }
    u8::try_from(value).map(Some).map_err(|_| Errno::EINVAL)
}

/// Adds the control messages that a socket with the switches `wanted` gets with `datagram`, beside the timestamp.
pub(super) fn describe(family: Family, wanted: Receive, datagram: &Datagram, out: &mut Vec<ControlMessage>) {
    if wanted.is_empty() {
        return;
    }
    let to = unmapped(datagram.to.ip());
    if let IpAddr::V4(to) = to {
        describe_v4(wanted, to, datagram, out);
    }
    if family == Family::V6 {
        describe_v6(wanted, to, datagram, out);
    }
    if let Some(size) = datagram.segment_size.filter(|_| wanted.contains(Receive::GRO)) {
        out.push(ControlMessage::value(SOL_UDP, UDP_GRO, &i32::from(size)));
    }
}

fn describe_v4(wanted: Receive, to: Ipv4Addr, datagram: &Datagram, out: &mut Vec<ControlMessage>) {
    if wanted.contains(Receive::PKTINFO) {
        let info = InPktinfo {
            ifindex: datagram.nic.index().cast_signed(),
            spec_dst: to.octets(),
            addr: to.octets(),
        };
        out.push(ControlMessage::value(SOL_IP, IP_PKTINFO, &info));
    }
    if wanted.contains(Receive::TTL) {
        out.push(ControlMessage::value(SOL_IP, IP_TTL, &i32::from(datagram.ttl)));
    }
    if wanted.contains(Receive::TOS) {
        out.push(ControlMessage::value(SOL_IP, IP_TOS, &datagram.tos));
    }
    if let Some(options) = &datagram.ip_options {
        if wanted.contains(Receive::OPTIONS) {
            out.push(ControlMessage::value(SOL_IP, IP_RECVOPTS, options.as_slice()));
        }
        let echoed = ip_options::to_echo(options.as_slice());
        if wanted.contains(Receive::OPTIONS_ECHOED) && !echoed.is_empty() {
            out.push(ControlMessage::value(SOL_IP, IP_RETOPTS, echoed.as_slice()));
        }
    }
    if wanted.contains(Receive::ORIGINAL_DESTINATION) {
        let address = encode(Family::V4, datagram.to);
        out.push(ControlMessage::value(SOL_IP, IP_RECVORIGDSTADDR, address.as_slice()));
    }
}

fn describe_v6(wanted: Receive, to: IpAddr, datagram: &Datagram, out: &mut Vec<ControlMessage>) {
    if wanted.intersects(Receive::PKTINFO_V6 | Receive::PKTINFO_2292) {
        let addr = match to {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let info = In6Pktinfo { addr: addr.octets(), ifindex: datagram.nic.index() };
        for (switch, kind) in [(Receive::PKTINFO_V6, IPV6_PKTINFO), (Receive::PKTINFO_2292, IPV6_2292PKTINFO)]
        {
            if wanted.contains(switch) {
                out.push(ControlMessage::value(SOL_IPV6, kind, &info));
            }
        }
    }
    for (switch, kind) in [(Receive::HOP_LIMIT, IPV6_HOPLIMIT), (Receive::HOP_LIMIT_2292, IPV6_2292HOPLIMIT)]
    {
        if wanted.contains(switch) {
            out.push(ControlMessage::value(SOL_IPV6, kind, &i32::from(datagram.ttl)));
        }
    }
    if wanted.contains(Receive::TRAFFIC_CLASS) {
        out.push(ControlMessage::value(SOL_IPV6, IPV6_TCLASS, &i32::from(datagram.tos)));
    }
    let flow_info = u32::from(datagram.tos) << 20 | datagram.flow_label;
    if wanted.contains(Receive::FLOW_INFO) && to.is_ipv6() && flow_info != 0 {
        out.push(ControlMessage::value(SOL_IPV6, IPV6_FLOWINFO, &flow_info.to_be_bytes()));
    }
    if let Some(extensions) = &datagram.extensions {
        extension::describe(wanted, extensions, out);
    }
    if wanted.contains(Receive::ORIGINAL_DESTINATION_V6) {
        let address = encode(Family::V6, datagram.to);
        out.push(ControlMessage::value(SOL_IPV6, IPV6_RECVORIGDSTADDR, address.as_slice()));
    }
}

/// The label in `sin6_flowinfo` and its control message; the traffic class before it is not looked at (`udpv6_sendmsg`).
pub(super) const LABEL_MASK: u32 = 0xf_ffff;

#[cfg(test)]
mod tests {
    use super::*;

    fn int(level: i32, kind: i32, value: i32) -> ControlMessage {
        ControlMessage::value(level, kind, &value)
    }

    #[test]
    fn values_are_checked_as_ip_cmsg_send_does() {
        let mut meta = SendMeta::default();
        assert_eq!(apply(Family::V4, &[int(SOL_IP, IP_TTL, 9), int(SOL_IP, IP_TOS, 16)], &mut meta), Ok(()));
        assert_eq!((meta.ttl, meta.tos), (Some(9), Some(16)));
        for bad in [int(SOL_IP, IP_TTL, 0), int(SOL_IP, IP_TTL, 256), int(SOL_IP, 99, 1)] {
            assert_eq!(apply(Family::V4, &[bad], &mut meta), Err(Errno::EINVAL));
        }
        assert_eq!(apply(Family::V6, &[int(SOL_IPV6, IPV6_HOPLIMIT, -1)], &mut meta), Ok(()));
        assert_eq!(meta.ttl, None);
        assert_eq!(apply(Family::V4, &[int(77, 1, 1)], &mut meta), Ok(()), "other levels are ignored");
    }

    #[test]
    fn packet_info_names_source_and_interface() {
        let info = InPktinfo { ifindex: 2, spec_dst: [10, 0, 0, 1], addr: [0; 4] };
        let mut meta = SendMeta::default();
        apply(Family::V4, &[ControlMessage::value(SOL_IP, IP_PKTINFO, &info)], &mut meta).unwrap();
        assert_eq!(meta.source, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(meta.nic, NicId::from_index(2));
    }
}
