//! What surrounds the fixed headers against etherparse, an independent implementation: IPv4 options, VLAN tags, chains of IPv6
//! extension headers, and the messages of neighbour discovery and address resolution in both directions.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::icmpv6::NeighborAdvertisementHeader;
use etherparse::{
    ArpEthIpv4Packet, ArpHardwareId, ArpOperation, ArpPacket, EtherType as TheirEtherType, Icmpv6Header,
    Icmpv6Type, IpNumber, Ipv4Header, Ipv6Extensions, Ipv6FragmentHeader, Ipv6RawExtHeader,
    Ipv6RoutingExtensions, PacketBuilder, SlicedPacket, VlanId,
};
use netstack_wire::arp::{ArpRepr, Operation};
use netstack_wire::ethernet::{EtherType, EthernetRepr, MacAddr};
use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::options::check;
use netstack_wire::ipv4::{Ipv4Repr, MIN_HEADER_LEN};
use netstack_wire::ipv6::{Extensions, FragmentRepr, options};
use netstack_wire::ndp::NdpRepr;
use proptest::prelude::*;

proptest! {
    /// Options of any length and content are in the same place for both, and under the same checksum.
    #[test]
    fn ipv4_options_agree(
        words in proptest::collection::vec(any::<[u8; 4]>(), 0..=10),
        addresses in any::<([u8; 4], [u8; 4])>(),
        payload_len in 0_u16..1000,
    ) {
        let bytes = words.concat();
        let mut theirs = Ipv4Header::new(payload_len, 64, IpNumber::UDP, addresses.0, addresses.1).unwrap();
        theirs.dont_fragment = true;
        theirs.options = bytes.as_slice().try_into().unwrap();
        theirs.set_payload_len(payload_len.into()).unwrap();
        theirs.header_checksum = theirs.calc_header_checksum();
        let mut packet = theirs.to_bytes().to_vec();
        packet.resize(packet.len() + usize::from(payload_len), 0);
        let ours = Ipv4Repr::parse(&packet).unwrap();
        prop_assert_eq!((ours.header_len(), ours.payload_len), (theirs.header_len(), payload_len));
        prop_assert_eq!(&packet[MIN_HEADER_LEN..ours.header_len()], theirs.options.as_slice());
        let mut emitted = vec![0; packet.len()];
        emitted[MIN_HEADER_LEN..ours.header_len()].copy_from_slice(&bytes);
        ours.emit(&mut emitted);
        prop_assert_eq!(emitted, packet);
        // Whatever they are, they are judged.
        let _ = check(&bytes);
    }

    /// A tagged frame: we see a tag and not what is behind it, and what is behind it where they say it is.
    #[test]
    fn vlan_tags_agree(id in 0_u16..4096, stations in any::<([u8; 6], [u8; 6])>()) {
        let builder = PacketBuilder::ethernet2(stations.0, stations.1)
            .single_vlan(VlanId::try_new(id).unwrap())
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9)
            .udp(1, 2);
        let mut frame = Vec::new();
        builder.write(&mut frame, b"tagged").unwrap();
        let ours = EthernetRepr::parse(&frame).unwrap();
        prop_assert_eq!((ours.source, ours.destination), (MacAddr(stations.0), MacAddr(stations.1)));
        prop_assert_eq!(ours.ether_type, EtherType::VLAN);
        let theirs = SlicedPacket::from_ethernet(&frame).unwrap();
        let tag = theirs.vlan().unwrap();
        prop_assert_eq!(u16::from_be_bytes([frame[14], frame[15]]) & 0xfff, id);
        prop_assert_eq!(tag.to_header().next_header(), TheirEtherType::IPV4);
        prop_assert_eq!(u16::from_be_bytes([frame[16], frame[17]]), EtherType::IPV4.0);
        prop_assert_eq!(Ipv4Repr::parse(&frame[18..]).unwrap().ttl, 9);
    }

    /// A chain of all headers that there are: we find the same ones in the same places.
    #[test]
    fn chains_of_extension_headers_agree(
        sizes in any::<[Option<u8>; 4]>(),
        fragment in any::<Option<u32>>(),
        upper in 200_u8..250,
    ) {
        let header = |words: Option<u8>| {
            let data = vec![1; 6 + usize::from(words? % 8) * 8];
            Some(Ipv6RawExtHeader::new_raw(IpNumber(0), &data).unwrap())
        };
        let [hop_by_hop, destination, routing, last] = sizes;
        let mut theirs = Ipv6Extensions {
            hop_by_hop_options: header(hop_by_hop),
            destination_options: header(destination),
            routing: header(routing).map(|routing| Ipv6RoutingExtensions {
                routing,
                final_destination_options: header(last),
            }),
            fragment: fragment.map(|ident| {
                Ipv6FragmentHeader::new(IpNumber(0), 0.try_into().unwrap(), true, ident)
            }),
            auth: None,
        };
        let first = theirs.set_next_headers(IpNumber(upper));
        let mut bytes = Vec::new();
        theirs.write(&mut bytes, first).unwrap();
        bytes.extend_from_slice(b"upper layer");
        let mut ours = Extensions::new(Protocol(first.0), &bytes);
        let found: Vec<_> = ours.by_ref().map(Result::unwrap).collect();
        prop_assert_eq!((ours.next_header().0, ours.offset()), (upper, theirs.header_len()));
        let mut expected = Vec::new();
        let raw = |header: &Ipv6RawExtHeader| header.to_bytes().to_vec();
        expected.extend(theirs.hop_by_hop_options.iter().map(|header| (Protocol::HOP_BY_HOP, raw(header))));
        expected.extend(theirs.destination_options.iter().map(|header| (Protocol::DESTINATION_OPTIONS, raw(header))));
        expected.extend(theirs.routing.iter().map(|header| (Protocol::ROUTING, raw(&header.routing))));
        expected.extend(theirs.fragment.iter().map(|header| (Protocol::FRAGMENT, header.to_bytes().to_vec())));
        let last = theirs.routing.iter().filter_map(|header| header.final_destination_options.as_ref());
        expected.extend(last.map(|header| (Protocol::DESTINATION_OPTIONS, raw(header))));
        let found_bytes: Vec<_> = found.iter().map(|header| (header.kind, header.bytes.to_vec())).collect();
        prop_assert_eq!(found_bytes, expected);
        for header in found {
            match header.kind {
                Protocol::FRAGMENT => prop_assert_eq!(FragmentRepr::parse(header.bytes).map(|repr| repr.ident), fragment),
                // Bytes of one are PadN with one byte of data, over and over.
                _ => prop_assert_eq!(options(header.bytes).filter(Result::is_ok).count(), 0),
            }
        }
    }

    #[test]
    fn arp_agrees_in_both_directions(
        is_request in any::<bool>(),
        sender in any::<([u8; 6], [u8; 4])>(),
        target in any::<([u8; 6], [u8; 4])>(),
    ) {
        let theirs = ArpEthIpv4Packet {
            operation: if is_request { ArpOperation::REQUEST } else { ArpOperation::REPLY },
            sender_mac: sender.0,
            sender_ipv4: sender.1,
            target_mac: target.0,
            target_ipv4: target.1,
        };
        let written = theirs.to_bytes();
        let ours = ArpRepr::parse(&written).unwrap();
        let expected = ArpRepr {
            operation: if is_request { Operation::Request } else { Operation::Reply },
            sender_mac: MacAddr(sender.0),
            sender_ip: Ipv4Addr::from(sender.1),
            target_mac: MacAddr(target.0),
            target_ip: Ipv4Addr::from(target.1),
        };
        prop_assert_eq!(ours, expected);
        let mut bytes = [0xff; 28];
        ours.emit(&mut bytes);
        prop_assert_eq!(&bytes[..], &written[..]);
    }

    /// ARP of other hardware, protocols and operations is none of ours.
    #[test]
    fn foreign_arp_is_refused(hardware in any::<u16>(), protocol in any::<u16>(), operation in any::<u16>()) {
        let theirs = ArpPacket::new(
            ArpHardwareId(hardware),
            TheirEtherType(protocol),
            ArpOperation(operation),
            &[1; 6],
            &[2; 4],
            &[3; 6],
            &[4; 4],
        ).unwrap();
        let is_ours = (hardware, protocol) == (1, 0x0800) && matches!(operation, 1 | 2);
        prop_assert_eq!(ArpRepr::parse(&theirs.to_bytes()).is_some(), is_ours);
    }

    #[test]
    fn neighbour_discovery_agrees(
        target in any::<u128>(),
        mac in any::<Option<[u8; 6]>>(),
        flags in any::<(bool, bool, bool)>(),
    ) {
        let (is_router, is_solicited, is_override) = flags;
        let (target, mac) = (Ipv6Addr::from_bits(target), mac.map(MacAddr));
        let solicitation = NdpRepr::NeighbourSolicitation { target, source_mac: mac };
        let advertisement =
            NdpRepr::NeighbourAdvertisement { target, target_mac: mac, is_router, is_solicited, is_override };
        let kinds = [
            (solicitation, Icmpv6Type::NeighborSolicitation, 1),
            (
                advertisement,
                Icmpv6Type::NeighborAdvertisement(NeighborAdvertisementHeader {
                    router: is_router,
                    solicited: is_solicited,
                    r#override: is_override,
                }),
                2,
            ),
        ];
        for (ours, theirs, option) in kinds {
            let mut written = Icmpv6Header { icmp_type: theirs, checksum: 0 }.to_bytes().to_vec();
            written.extend(target.octets());
            if let Some(MacAddr(mac)) = mac {
                written.extend([option, 1]);
                written.extend(mac);
            }
            prop_assert_eq!(&ours.to_vec(), &written);
            // RFC 4861 section 7.1: "Target Address is not a multicast address".
            prop_assert_eq!(NdpRepr::parse(&written), (!target.is_multicast()).then_some(ours));
        }
    }
}
