//! A monitor sees each packet once, in order, with the reason if the stack discarded it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use netstack::link::local::LocalLink;
use netstack::link::sniffer::{Direction, PcapWriter};
use netstack::link::{Capabilities, Medium};
use netstack::monitor::{PacketMonitor, PcapMonitor, Seen};
use netstack::options::{Family, RecvFlags, SendMeta, Shutdown};
use netstack::packet::Packet;
use netstack::wire::ethernet::MacAddr;
use netstack::{NicId, Stack, TcpSocket, UdpSocket};

struct Host {
    stack: Stack,
    link: Arc<LocalLink>,
    nic: NicId,
}

impl Host {
    fn new(number: u8) -> Self {
        let stack = Stack::builder().manual_clock().deterministic(u64::from(number)).build();
        let medium = Medium::Ethernet(MacAddr([2, 0, 0, 0, 0, number]));
        let link = LocalLink::new(medium, 1500, Capabilities::default(), 1 << 10);
        let nic = stack.add_nic("eth0", link.clone()).unwrap();
        stack.add_address(nic, format!("10.0.0.{number}/24").parse().unwrap()).unwrap();
        Self { stack, link, nic }
    }
}

/// Notes what it is told: `< TCP S: reasons`.
#[derive(Default)]
struct Notebook(Mutex<Vec<String>>);

impl Notebook {
    fn on(stack: &Stack) -> Arc<Self> {
        let book = Arc::new(Self::default());
        assert!(stack.set_packet_monitor(Some(book.clone())).is_none());
        book
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl PacketMonitor for Notebook {
    fn packet(&self, seen: &Seen<'_>) {
        let way = if seen.direction == Direction::Inbound { '<' } else { '>' };
        let mut line = format!("{way} {}", describe(seen));
        for reason in seen.discarded {
            line.push(' ');
            line.push_str(reason);
        }
        self.0.lock().unwrap().push(line);
    }
}

fn describe(seen: &Seen<'_>) -> String {
    let mut bytes = vec![0; seen.packet.len()];
    seen.packet.copy_to(0, &mut bytes);
    let ip = match seen.medium {
        Medium::Ethernet(_) if bytes[12..14] == [8, 6] => return "ARP".to_owned(),
        Medium::Ethernet(_) => &bytes[14..],
        Medium::Ip | Medium::Loopback => &bytes[..],
    };
    let name = match ip[9] {
        1 => return format!("ICMP {}", ip[20]),
        17 => return "UDP".to_owned(),
        6 => "TCP",
        other => return format!("{other}"),
    };
    let flags = ip[33];
    let letters = [(2, 'S'), (4, 'R'), (1, 'F'), (16, '.')];
    let shown: String =
        letters.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, letter)| letter).collect();
    format!("{name} {shown}")
}

/// Carries what either stack sends, until both are silent, changed by `change` on the way.
fn carry(a: &Host, b: &Host, mut change: impl FnMut(&mut Vec<u8>)) {
    let mut frames = Vec::new();
    loop {
        let mut was_silent = true;
        for (from, to) in [(a, b), (b, a)] {
            from.link.take_into(&mut frames);
            was_silent &= frames.is_empty();
            for frame in &mut frames {
                let mut bytes = vec![0; frame.len()];
                frame.copy_to(0, &mut bytes);
                change(&mut bytes);
                *frame = Packet::from_frame(Bytes::from(bytes));
            }
            to.stack.deliver(to.nic, &mut frames);
        }
        if was_silent {
            return;
        }
    }
}

/// Sends a datagram of one byte.
fn send(socket: &UdpSocket, to: SocketAddr) {
    let meta = SendMeta { to: Some(to), ..SendMeta::default() };
    assert_eq!(socket.try_send(&mut &b"x"[..], &meta).unwrap(), 1);
}

fn server() -> SocketAddr {
    "10.0.0.2:80".parse().unwrap()
}

/// Two hosts that know each other's station addresses, the second of which is watched.
fn acquainted() -> (Host, Host, Arc<Notebook>) {
    let (a, b) = (Host::new(1), Host::new(2));
    let socket = UdpSocket::new(&a.stack, Family::V4);
    let listening = UdpSocket::new(&b.stack, Family::V4);
    listening.bind("10.0.0.2:9".parse().unwrap()).unwrap();
    send(&socket, "10.0.0.2:9".parse().unwrap());
    carry(&a, &b, |_| ());
    let book = Notebook::on(&b.stack);
    (a, b, book)
}

#[test]
fn connection_is_seen_in_the_order_of_cause_and_effect() {
    let (a, b, book) = acquainted();
    let listener = TcpSocket::new(&b.stack, Family::V4);
    listener.bind(server()).unwrap();
    listener.listen(1).unwrap();
    let client = TcpSocket::new(&a.stack, Family::V4);
    client.connect(server()).unwrap();
    carry(&a, &b, |_| ());
    let (accepted, _) = listener.try_accept().unwrap();
    client.try_send(&mut &b"hello"[..]).unwrap();
    carry(&a, &b, |_| ());
    let mut buf = [0; 16];
    assert_eq!(accepted.try_recv(&mut &mut buf[..], RecvFlags::default()).unwrap(), 5);
    accepted.try_send(&mut &b"you"[..]).unwrap();
    carry(&a, &b, |_| ());
    client.shutdown(Shutdown::Write).unwrap();
    accepted.shutdown(Shutdown::Write).unwrap();
    carry(&a, &b, |_| ());
    // The two FINs cross.
    let expected =
        "< TCP S|> TCP S.|< TCP .|< TCP .|> TCP .|> TCP .|< TCP .|> TCP F.|< TCP F.|> TCP .|< TCP .";
    assert_eq!(book.take().join("|"), expected);

    assert!(b.stack.set_packet_monitor(None).is_some());
    client.connect(server()).unwrap_err();
    carry(&a, &b, |_| ());
    assert!(book.take().is_empty(), "who watches no more is told no more");
}

#[test]
fn discarded_packets_have_their_reason_before_what_they_cause() {
    let (a, b, book) = acquainted();
    let datagram = UdpSocket::new(&a.stack, Family::V4);
    send(&datagram, "10.0.0.2:7".parse().unwrap());
    carry(&a, &b, |_| ());
    assert_eq!(book.take(), ["< UDP udp_no_ports", "> ICMP 3"]);

    let client = TcpSocket::new(&a.stack, Family::V4);
    client.connect(server()).unwrap();
    carry(&a, &b, |_| ());
    assert_eq!(book.take(), ["< TCP S tcp_no_ports", "> TCP R."]);

    // The last byte of a datagram; its checksum; the station that a frame is for; the version of its IP header.
    let changes: [(usize, &str); 4] = [
        (42, "< UDP udp_in_checksum_errors"),
        (24, "< UDP ip_in_checksum_errors"),
        (5, "< UDP rx_dropped_other_host"),
        (14, "< UDP ip_in_header_errors"),
    ];
    for (at, told) in changes {
        send(&datagram, "10.0.0.2:9".parse().unwrap());
        carry(&a, &b, |bytes| bytes[at] ^= 0x81);
        let seen = book.take();
        assert!(seen.len() == 1 && seen[0].starts_with(told), "{told}: {seen:?}");
    }

    b.stack.set_nic_up(b.nic, false).unwrap();
    send(&datagram, "10.0.0.2:9".parse().unwrap());
    carry(&a, &b, |_| ());
    assert_eq!(book.take(), ["< UDP rx_dropped_down"]);
}

#[test]
fn reason_is_that_of_one_packet_of_a_batch() {
    let (a, b, book) = acquainted();
    let datagram = UdpSocket::new(&a.stack, Family::V4);
    let there = UdpSocket::new(&b.stack, Family::V4);
    there.bind("10.0.0.2:5".parse().unwrap()).unwrap();
    for port in [5, 7, 5, 8, 5] {
        send(&datagram, SocketAddr::new(server().ip(), port));
    }
    carry(&a, &b, |_| ());
    let mut seen = book.take();
    seen.retain(|line| line.starts_with('<'));
    assert_eq!(seen, ["< UDP", "< UDP udp_no_ports", "< UDP", "< UDP udp_no_ports", "< UDP"]);
}

#[test]
fn packet_on_loopback_is_seen_once() {
    let host = Host::new(1);
    let book = Notebook::on(&host.stack);
    let socket = UdpSocket::new(&host.stack, Family::V4);
    send(&socket, "127.0.0.1:7".parse().unwrap());
    assert_eq!(book.take(), ["< UDP udp_no_ports", "< ICMP 3"]);
}

/// Collects what it can tell of conversations.
#[derive(Default)]
struct Flows(Mutex<Vec<String>>);

impl PacketMonitor for Flows {
    fn packet(&self, seen: &Seen<'_>) {
        let told = seen.flow().map_or("none".to_owned(), |(protocol, flow)| {
            let local = SocketAddr::new(flow.local_addr, flow.local_port);
            let remote = SocketAddr::new(flow.remote_addr, flow.remote_port);
            format!("{} {local} {remote}", protocol.0)
        });
        self.0.lock().unwrap().push(told);
    }
}

#[test]
fn conversation_is_named_from_our_side() {
    let (a, b, _) = acquainted();
    let flows = Arc::new(Flows::default());
    b.stack.set_packet_monitor(Some(flows.clone()));
    let datagram = UdpSocket::new(&a.stack, Family::V4);
    datagram.bind("10.0.0.1:1000".parse().unwrap()).unwrap();
    send(&datagram, "10.0.0.2:7".parse().unwrap());
    let client = TcpSocket::new(&a.stack, Family::V4);
    client.bind("10.0.0.1:2000".parse().unwrap()).unwrap();
    client.connect(server()).unwrap();
    carry(&a, &b, |_| ());
    let (udp, tcp) = ("17 10.0.0.2:7 10.0.0.1:1000", "6 10.0.0.2:80 10.0.0.1:2000");
    assert_eq!(*flows.0.lock().unwrap(), [udp, "none", tcp, tcp]);
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn recording_says_why_in_a_comment() {
    let (a, b, _) = acquainted();
    let out = Shared::default();
    let writer = PcapWriter::new(Box::new(out.clone()), 128).unwrap();
    let notes = |seen: &Seen<'_>, comment: &mut String| {
        comment.push_str(if seen.direction == Direction::Inbound { "process: 7 sh\n" } else { "" });
    };
    b.stack.set_packet_monitor(Some(Arc::new(PcapMonitor::new(writer).with_notes(Box::new(notes)))));
    let datagram = UdpSocket::new(&a.stack, Family::V4);
    send(&datagram, "10.0.0.2:7".parse().unwrap());
    carry(&a, &b, |_| ());
    let bytes = out.0.lock().unwrap();
    // Option 1 with its length and the text.
    let comment = "drop: udp_no_ports\nprocess: 7 sh";
    let option = [&[1, 0, comment.len() as u8, 0], comment.as_bytes()].concat();
    let places = bytes.windows(option.len()).filter(|window| *window == option).count();
    assert_eq!(places, 1);
}
