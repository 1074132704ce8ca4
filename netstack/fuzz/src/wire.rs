//! Parsers: none panics, and what one made of arbitrary bytes survives being written and read again.

use netstack::wire::arp::{self, ArpRepr};
use netstack::wire::checksum as sums;
use netstack::wire::ethernet::{self, EthernetRepr};
use netstack::wire::icmpv4::{self, Icmpv4Message};
use netstack::wire::icmpv6::{self, Icmpv6Message};
use netstack::wire::ipv4::Ipv4Repr;
use netstack::wire::ipv6::{self, Extensions, FragmentRepr, Ipv6Repr};
use netstack::wire::membership::MembershipRepr;
use netstack::wire::ndp::NdpRepr;
use netstack::wire::tcp::{MAX_HEADER_LEN, TcpOptions, TcpRepr, TcpView};
use netstack::wire::udp::{self, UdpRepr};

/// ARP packets.
pub fn arp(data: &[u8]) {
    let Some(repr) = ArpRepr::parse(data) else { return };
    let mut out = [0; arp::PACKET_LEN];
    repr.emit(&mut out);
    assert_eq!(out[..], data[..arp::PACKET_LEN]);
}

/// Sums of ranges, cut anywhere, against the definition (RFC 1071 section 4.1).
pub fn checksum(data: &[u8]) {
    let (cut, data) = data.split_first().map_or((0, data), |(&cut, rest)| (usize::from(cut), rest));
    let mut expected = 0_u64;
    for pair in data.chunks(2) {
        expected += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while expected > 0xffff {
        expected = (expected & 0xffff) + (expected >> 16);
    }
    assert_eq!(u64::from(sums::sum(data)), expected);
    let (head, tail) = data.split_at(cut.min(data.len()));
    let mut total = sums::Accumulator::default();
    total.add(head);
    total.add(tail);
    assert_eq!(u64::from(total.sum()), expected);
    let mut copy = vec![0; data.len()];
    assert_eq!(u64::from(sums::copy_and_sum(&mut copy, data)), expected);
    assert_eq!(copy, data);
}

/// Ethernet headers.
pub fn ethernet(data: &[u8]) {
    let Some(repr) = EthernetRepr::parse(data) else { return };
    let mut out = [0; ethernet::HEADER_LEN];
    repr.emit(&mut out);
    assert_eq!(out[..], data[..ethernet::HEADER_LEN]);
}

/// IPv4 headers.
pub fn ipv4(data: &[u8]) {
    let strict = Ipv4Repr::parse(data);
    let Ok(repr) = Ipv4Repr::parse_unchecked(data) else {
        assert!(strict.is_err());
        return;
    };
    // The options have to be in place.
    let mut out = vec![0; repr.header_len() + usize::from(repr.payload_len)];
    let options = data.get(..repr.header_len()).unwrap_or(&[]);
    out[..options.len()].copy_from_slice(options);
    repr.emit(&mut out);
    assert_eq!(Ipv4Repr::parse(&out), Ok(repr));
    if let Ok(strict) = strict {
        assert_eq!(strict, repr);
    }
}

/// IPv6 headers, chains of extension headers, their options, and fragment headers.
pub fn ipv6(data: &[u8]) {
    let Ok(repr) = Ipv6Repr::parse_unchecked(data) else { return };
    let mut out = vec![0; 40 + usize::from(repr.payload_len)];
    repr.emit(&mut out);
    assert_eq!(Ipv6Repr::parse(&out), Ok(repr));
    let mut extensions = Extensions::new(repr.next_header, &data[40..]);
    let mut end = 0;
    for extension in &mut extensions {
        let Ok(extension) = extension else { break };
        assert_eq!(extension.offset, end);
        assert!(!extension.bytes.is_empty());
        end += extension.bytes.len();
        for option in ipv6::options(extension.bytes) {
            let Ok((at, _, body)) = option else { break };
            assert!(at + body.len() <= extension.bytes.len());
        }
        if let Some(fragment) = FragmentRepr::parse(extension.bytes) {
            let mut out = [0; ipv6::FRAGMENT_HEADER_LEN];
            fragment.emit(&mut out);
            assert_eq!(FragmentRepr::parse(&out), Some(fragment));
        }
    }
    assert!(extensions.offset() <= data.len() - 40);
}

/// ICMPv4 headers.
pub fn icmpv4(data: &[u8]) {
    let Some(message) = Icmpv4Message::parse(data) else { return };
    let mut out = [0; icmpv4::HEADER_LEN];
    message.emit(&mut out);
    assert_eq!(Icmpv4Message::parse(&out), Some(message));
}

/// ICMPv6 headers.
pub fn icmpv6(data: &[u8]) {
    let Some(message) = Icmpv6Message::parse(data) else { return };
    let mut out = [0; icmpv6::HEADER_LEN];
    message.emit(&mut out);
    assert_eq!(Icmpv6Message::parse(&out), Some(message));
}

/// Multicast membership messages of IPv4.
pub fn igmp(data: &[u8]) {
    let Some(repr) = MembershipRepr::parse_igmp(data) else { return };
    assert_eq!(MembershipRepr::parse_igmp(&repr.to_vec(true)), Some(repr));
}

/// Multicast membership messages of IPv6.
pub fn mld(data: &[u8]) {
    let Some(repr) = MembershipRepr::parse_mld(data) else { return };
    assert_eq!(MembershipRepr::parse_mld(&repr.to_vec(false)), Some(repr));
}

/// Neighbour discovery messages.
pub fn ndp(data: &[u8]) {
    let Some(repr) = NdpRepr::parse(data) else { return };
    assert_eq!(NdpRepr::parse(&repr.to_vec()), Some(repr));
}

/// TCP headers with options.
pub fn tcp(data: &[u8]) {
    let Ok(view) = TcpView::new(data) else { return };
    assert_eq!(view.header_len() + view.payload().len(), data.len());
    let repr = TcpRepr::parse(&view);
    let mut out = [0; MAX_HEADER_LEN];
    // Options that we never send together may take more than there is room for.
    let Some(len) = repr.emit(&mut out) else { return };
    let again = TcpRepr::parse(&TcpView::new(&out[..len]).expect("just emitted"));
    // More than fits is left out, SACK blocks first.
    let (kept, sack) = (again.options.sack, repr.options.sack);
    assert!(sack.as_slice().starts_with(kept.as_slice()), "{sack:?} became {kept:?}");
    let fast_open = again.options.fast_open;
    assert!(fast_open == repr.options.fast_open || len > MAX_HEADER_LEN - 20, "{len} bytes");
    let options = TcpOptions { sack: kept, fast_open, ..repr.options };
    assert_eq!(again, TcpRepr { options, ..repr });
}

/// UDP headers.
pub fn udp(data: &[u8]) {
    let Some(repr) = UdpRepr::parse(data) else { return };
    let mut out = [0; udp::HEADER_LEN];
    repr.emit(&mut out);
    assert_eq!(out[..], data[..udp::HEADER_LEN]);
}
