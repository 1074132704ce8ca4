//! A stack under test with sockets of every kind, and frames for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::input::Input;
use netstack::link::channel::ChannelLink;
use netstack::link::{Capabilities, Medium};
use netstack::options::Family;
use netstack::wire::checksum::{Accumulator, pseudo_header, sum};
use netstack::{MacAddr, NicId, Stack, TcpSocket, UdpSocket};

/// The stack's station and addresses, and those of the one that sends.
pub(crate) const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(crate) const OUR_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const PEER_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const OUR_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const PEER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

/// A stack on a link.
pub(crate) struct Subject {
    pub(crate) stack: Stack,
    pub(crate) nic: NicId,
    pub(crate) link: Arc<ChannelLink>,
}

impl Subject {
    pub(crate) fn new() -> Self {
        let stack = Stack::builder().manual_clock().deterministic(1).build();
        let medium = Medium::Ethernet(MacAddr(OUR_MAC));
        let link = ChannelLink::new(medium, 1500, Capabilities::default(), 4096);
        let nic = stack.add_nic("eth0", link.clone()).expect("a new stack takes a NIC");
        for address in ["10.0.0.1/24", "fd00::1/64", "fe80::1/64"] {
            stack.add_address(nic, address.parse().expect("well-formed")).expect("a new address");
        }
        for peer in [IpAddr::V4(PEER_V4), PEER_V6.into()] {
            stack.add_neighbour(nic, peer, MacAddr(PEER_MAC)).expect("a valid neighbour");
        }
        link.take();
        Self { stack, nic, link }
    }

    pub(crate) fn tcp(&self, port: u16) -> TcpSocket {
        let socket = TcpSocket::new(&self.stack, Family::V6);
        socket.bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)).expect("a free port");
        socket.listen(4).expect("it is bound");
        socket
    }

    /// Gives the stack the frame that the input has next: a flag, half its length, and its bytes.
    pub(crate) fn inject_next(&self, input: &mut Input<'_>) {
        let is_repaired = input.bool();
        let len = usize::from(input.u8()) * 2;
        let mut frame = input.take(len).to_vec();
        if is_repaired {
            repair(&mut frame);
        }
        self.stack.inject(self.nic, frame);
    }

    pub(crate) fn udp(&self, port: u16) -> UdpSocket {
        let socket = UdpSocket::new(&self.stack, Family::V6);
        socket.bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)).expect("a free port");
        socket
    }
}

/// Makes a fuzzer's frame one that gets further: to our station, and with the lengths and checksums that its headers
/// call for.
pub(crate) fn repair(frame: &mut [u8]) {
    if frame.len() < 14 {
        return;
    }
    frame[..6].copy_from_slice(&OUR_MAC);
    frame[6..12].copy_from_slice(&PEER_MAC);
    match frame[14..].first().map_or(0, |byte| byte >> 4) {
        4 => {
            frame[12..14].copy_from_slice(&[0x08, 0x00]);
            repair_v4(&mut frame[14..]);
        }
        6 => {
            frame[12..14].copy_from_slice(&[0x86, 0xdd]);
            repair_v6(&mut frame[14..]);
        }
        _ => {}
    }
}

fn repair_v4(packet: &mut [u8]) {
    let header_len = usize::from(packet[0] & 15) * 4;
    if header_len < 20 || packet.len() < header_len {
        return;
    }
    let len = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[12..16].copy_from_slice(&PEER_V4.octets());
    packet[16..20].copy_from_slice(&OUR_V4.octets());
    packet[10..12].fill(0);
    let header_sum = !sum(&packet[..header_len]);
    packet[10..12].copy_from_slice(&header_sum.to_be_bytes());
    let (protocol, payload) = (packet[9], &mut packet[header_len..]);
    repair_transport(protocol, (PEER_V4.into(), OUR_V4.into()), payload);
}

fn repair_v6(packet: &mut [u8]) {
    if packet.len() < 40 {
        return;
    }
    let len = u16::try_from(packet.len() - 40).unwrap_or(u16::MAX);
    packet[4..6].copy_from_slice(&len.to_be_bytes());
    // Neighbour discovery has to come from the link.
    if packet[7] != 255 {
        packet[8..24].copy_from_slice(&PEER_V6.octets());
        packet[24..40].copy_from_slice(&OUR_V6.octets());
    }
    let address = |at: usize| -> IpAddr {
        let octets: [u8; 16] = packet[at..at + 16].try_into().expect("sixteen bytes");
        Ipv6Addr::from(octets).into()
    };
    let addresses = (address(8), address(24));
    repair_transport(packet[6], addresses, &mut packet[40..]);
}

fn repair_transport(protocol: u8, (source, destination): (IpAddr, IpAddr), payload: &mut [u8]) {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let (at, start) = match protocol {
        1 => (2, 0),
        6 => (16, pseudo_header(source, destination, 6, len)),
        17 => {
            if let Some(field) = payload.get_mut(4..6) {
                field.copy_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
            }
            (6, pseudo_header(source, destination, 17, len))
        }
        58 => (2, pseudo_header(source, destination, 58, len)),
        _ => return,
    };
    if payload.len() < at + 2 {
        return;
    }
    payload[at..at + 2].fill(0);
    let mut total = Accumulator::new(start);
    total.add(payload);
    payload[at..at + 2].copy_from_slice(&total.checksum().to_be_bytes());
}
