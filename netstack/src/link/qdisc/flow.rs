//! Which flow a frame belongs to.

use netstack_wire::ip::Protocol;

use crate::packet::Packet;
use crate::secret::hash_words;

/// The hash of a frame's addresses, protocol and ports; of its first bytes if it is no IP packet.
pub(super) fn hash(key: [u64; 2], is_ethernet: bool, packet: &Packet) -> u64 {
    let mut bytes = [0; 14 + 60 + 4];
    let len = packet.copy_to(0, &mut bytes);
    let start = if is_ethernet { 14 } else { 0 };
    let header = bytes.get(start..len).unwrap_or_default();
    let words: [u64; 5] = match header.first().map(|byte| byte >> 4) {
        Some(4) if header.len() >= 20 => {
            let header_len = usize::from(header[0] & 0xf) * 4;
            let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
            let ports = if is_fragment { 0 } else { ports(header, header_len, header[9]) };
            [word(header, 12), 0, 0, u64::from(header[9]), ports]
        }
        Some(6) if header.len() >= 40 => {
            // With extension headers the flow label must do (RFC 6437).
            let label = u64::from(u32::from_be_bytes([0, header[1] & 0xf, header[2], header[3]]));
            let pair = word(header, 8) ^ word(header, 16).rotate_left(13);
            let other = word(header, 24) ^ word(header, 32).rotate_left(13);
            [pair, other, label, u64::from(header[6]), ports(header, 40, header[6])]
        }
        _ => [word(&bytes, 0), word(&bytes, 8), 0, 0, 0],
    };
    hash_words(key, &words)
}

fn ports(header: &[u8], offset: usize, protocol: u8) -> u64 {
    let has_ports = matches!(Protocol(protocol), Protocol::TCP | Protocol::UDP);
    let ports = header.get(offset..offset + 4).filter(|_| has_ports);
    ports.map_or(0, |ports| u64::from(u32::from_be_bytes([ports[0], ports[1], ports[2], ports[3]])))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_be_bytes)
}
