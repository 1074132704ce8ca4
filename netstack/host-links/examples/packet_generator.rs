//! Sends numbered UDP datagrams as fast as a link takes them, or at a rate, and says how fast that was.
//!
//! ```text
//! ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up
//! cargo run --release -p netstack-host-links --example packet_generator -- \
//!     packet:v1 02:00:00:00:00:01 10.9.0.2:7000 10.9.0.1:9 --size 64 --count 1000000 --rate 500000
//! ```
//!
//! The arguments are the link, the destination's station address, source and destination. Each datagram begins with its
//! number (64 bits, big-endian), so that the receiver sees what was lost or reordered. Frames are built here, with the
//! stack's wire formats but without a stack.

use std::error::Error;
use std::net::{IpAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netstack::MacAddr;
use netstack::link::{LinkError, Medium};
use netstack::packet::Packet;
use netstack::wire::ethernet::{self, EtherType, EthernetRepr};
use netstack::wire::ip::Protocol;
use netstack::wire::ipv4::{self, Ipv4Repr};
use netstack::wire::{checksum, udp};
use netstack_host_links::{HostLink, PacketLink, PacketOptions, TapLink, TapOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [link, station, from, to, options @ ..] = &arguments[..] else { return Err(USAGE.into()) };
    let link: Arc<dyn HostLink> = match link.split_once(':') {
        Some(("tap", name)) => TapLink::open(name, TapOptions::tap(OWN_MAC))?,
        Some(("packet", name)) => PacketLink::open(name, PacketOptions::default())?,
        _ => return Err(USAGE.into()),
    };
    let (size, count, rate) = parse_options(options)?;
    let Medium::Ethernet(source) = link.medium() else { return Err("the link carries no Ethernet".into()) };
    let template = Template::new(source, parse_mac(station).ok_or(USAGE)?, from.parse()?, to.parse()?, size);

    let start = Instant::now();
    let mut number = 0;
    let mut refused = 0_u64;
    while number < count {
        let due = rate.map_or(count, |rate| allowed(start.elapsed(), rate).min(count));
        if due == number {
            // Finer than the clock of a sleep; a generator may spin.
            std::hint::spin_loop();
            continue;
        }
        let end = due.min(number + BATCH);
        let mut batch: Vec<Packet> = (number..end).map(|number| template.packet(number)).collect();
        let mut rest = &mut batch[..];
        while !rest.is_empty() {
            match link.send_batch(rest) {
                Ok(taken) => rest = &mut rest[taken..],
                Err(LinkError::Full) => {
                    refused += 1;
                    std::thread::yield_now();
                }
                Err(error) => return Err(error.into()),
            }
        }
        number = end;
    }
    let seconds = start.elapsed().as_secs_f64();
    // Precise enough for a report.
    let (packets, frame) = (count as f64 / seconds, template.frame.len() as f64);
    println!(
        "{count} frames of {frame} bytes in {seconds:.3} s: {packets:.0} /s, {:.3} Gbit/s",
        packets * frame * 8e-9
    );
    println!("the link was full {refused} times");
    Ok(())
}

/// How many packets a rate allows after that time.
fn allowed(elapsed: Duration, rate: u64) -> u64 {
    let allowed = elapsed.as_nanos() * u128::from(rate) / 1_000_000_000;
    u64::try_from(allowed).unwrap_or(u64::MAX)
}

/// A frame with everything but its number.
struct Template {
    frame: Vec<u8>,
    /// The sum of all that the checksum covers, with the number zero.
    sum: u16,
}

impl Template {
    fn new(source: MacAddr, station: MacAddr, from: SocketAddrV4, to: SocketAddrV4, size: u16) -> Self {
        let udp_len = udp::HEADER_LEN + usize::from(size);
        let ip_len = 20 + udp_len;
        let mut frame = vec![0; ethernet::HEADER_LEN + ip_len];
        EthernetRepr { destination: station, source, ether_type: EtherType::IPV4 }.emit(&mut frame);
        let ip = Ipv4Repr {
            source: *from.ip(),
            destination: *to.ip(),
            protocol: Protocol::UDP,
            ttl: 64,
            tos: 0,
            ident: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            options_len: 0,
            // `size` is at most MAX_SIZE.
            payload_len: udp_len as u16,
        };
        ip.emit(&mut frame[ethernet::HEADER_LEN..]);
        let header = udp::UdpRepr {
            source_port: from.port(),
            destination_port: to.port(),
            len: udp_len as u16,
            checksum: 0,
        };
        header.emit(&mut frame[UDP_AT..]);
        let pseudo = checksum::pseudo_header(
            IpAddr::V4(ip.source),
            IpAddr::V4(ip.destination),
            ip.protocol.0,
            udp_len as u32,
        );
        let sum = checksum::add(pseudo, checksum::sum(&frame[UDP_AT..]));
        Self { frame, sum }
    }

    fn packet(&self, number: u64) -> Packet {
        let mut frame = self.frame.clone();
        let at = UDP_AT + udp::HEADER_LEN;
        frame[at..at + 8].copy_from_slice(&number.to_be_bytes());
        let sum = checksum::add(self.sum, checksum::sum(&number.to_be_bytes()));
        let field = UDP_AT + udp::CHECKSUM_OFFSET;
        frame[field..field + 2].copy_from_slice(&udp::checksum_on_wire(!sum).to_be_bytes());
        Packet::from_frame(frame.into())
    }
}

fn parse_options(options: &[String]) -> Result<(u16, u64, Option<u64>), Box<dyn Error>> {
    let (mut size, mut count, mut rate) = (18, 1_000_000, None);
    for pair in options.chunks(2) {
        match pair {
            [name, value] if name == "--size" => size = value.parse()?,
            [name, value] if name == "--count" => count = value.parse()?,
            [name, value] if name == "--rate" => rate = Some(value.parse()?),
            _ => return Err(USAGE.into()),
        }
    }
    if !(8..=MAX_SIZE).contains(&size) {
        return Err(format!("--size is 8 to {MAX_SIZE} bytes of UDP payload").into());
    }
    Ok((size, count, rate))
}

fn parse_mac(text: &str) -> Option<MacAddr> {
    let octets: Option<Vec<u8>> = text.split(':').map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    Some(MacAddr(octets?.try_into().ok()?))
}

const USAGE: &str = "usage: packet_generator tap:NAME|packet:NAME STATION FROM:PORT TO:PORT \
    [--size BYTES] [--count PACKETS] [--rate PACKETS/S]";
/// Our station behind a tap; any locally administered address does.
const OWN_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
/// Where the UDP header begins.
const UDP_AT: usize = ethernet::HEADER_LEN + ipv4::MIN_HEADER_LEN;
/// What fits into 1500 bytes.
const MAX_SIZE: u16 = 1472;
const BATCH: u64 = 64;
