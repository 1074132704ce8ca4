//! `tcp`, `udp`, `raw` and their IPv6 twins.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use netstack::options::Family as IpFamily;
use sentry_abi::inet::TCP_LISTEN;

use crate::socket::NetNamespace;
use crate::socket::inet::{InetSocket, Protocol};
use crate::socket::netlink::inet_state;
use crate::socket::ops::{Family, Socket};

/// Which sockets a file lists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Raw,
}

pub(super) fn tcp(namespace: &NetNamespace) -> String {
    let heading =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
    format!("{heading:<149}\n") + &list(namespace, Kind::Tcp, IpFamily::V4)
}

pub(super) fn tcp6(namespace: &NetNamespace) -> String {
    let heading = "  sl  local_address                         remote_address                        st tx_queue \
                   rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    heading.to_owned() + &list(namespace, Kind::Tcp, IpFamily::V6)
}

pub(super) fn udp(namespace: &NetNamespace) -> String {
    let heading = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode \
                   ref pointer drops            \n";
    heading.to_owned() + &list(namespace, Kind::Udp, IpFamily::V4)
}

/// The heading of `udp6` and `raw6`.
const HEADING_V6: &str = "  sl  local_address                         remote_address                        st tx_queue \
                          rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";

pub(super) fn udp6(namespace: &NetNamespace) -> String {
    HEADING_V6.to_owned() + &list(namespace, Kind::Udp, IpFamily::V6)
}

pub(super) fn raw(namespace: &NetNamespace) -> String {
    let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode \
                   ref pointer drops\n";
    heading.to_owned() + &list(namespace, Kind::Raw, IpFamily::V4)
}

pub(super) fn raw6(namespace: &NetNamespace) -> String {
    HEADING_V6.to_owned() + &list(namespace, Kind::Raw, IpFamily::V6)
}

fn list(namespace: &NetNamespace, kind: Kind, family: IpFamily) -> String {
    let mut text = String::new();
    let mut number = 0;
    for socket in namespace.sockets().all() {
        let Family::Inet(inet) = socket.family() else { continue };
        let of_kind = match inet.protocol() {
            Protocol::Tcp(_) => Kind::Tcp,
            Protocol::Udp(_) => Kind::Udp,
            Protocol::Raw(_) | Protocol::Ping(_) => Kind::Raw,
        };
        // As in Linux, sockets show up once they have a port (raw ones always have: their protocol).
        let is_listed = kind == Kind::Raw || inet.local().port() != 0;
        if of_kind == kind && inet.ip_family() == family && is_listed {
            line(&mut text, number, kind, inet);
            number += 1;
        }
    }
    text
}

fn line(text: &mut String, number: usize, kind: Kind, inet: &InetSocket) {
    let state = inet_state(inet);
    let base = inet.base();
    let (sent, received) = match inet.tcp() {
        Some(tcp) if state != TCP_LISTEN => (tcp.send_queue_len(), tcp.recv_queue_len()),
        // get_tcp4_sock: sk_ack_backlog.
        Some(_) => (0, inet.accept_queue().0 as usize),
        None => (0, inet.datagram_queue().map_or(0, |(queued, _)| queued)),
    };
    let mut local = inet.local();
    if kind == Kind::Raw {
        // The protocol stands where others have the port.
        local.set_port(u16::try_from(base.protocol).unwrap_or(0));
    }
    let nowhere = match inet.ip_family() {
        IpFamily::V4 => SocketAddr::from(([0, 0, 0, 0], 0)),
        IpFamily::V6 => SocketAddr::from(([0; 16], 0)),
    };
    let (local, remote) = (hex(local), hex(inet.peer().unwrap_or(nowhere)));
    let (uid, ino) = (base.user(), base.ino());
    let width = if kind == Kind::Tcp { 4 } else { 5 };
    let tail = match inet.datagram_queue() {
        None => "1 0000000000000000 100 0 0 10 0".to_owned(),
        Some((_, drops)) => format!("2 0000000000000000 {drops}"),
    };
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{number:>width$}: {local} {remote} {state:02X} {sent:08X}:{received:08X} 00:00000000 00000000 {uid:>5}        0 \
         {ino} {tail}"
    );
}

/// The address as 32-bit words in host order, as the kernel prints them, and the port.
fn hex(address: SocketAddr) -> String {
    let bytes = match address.ip() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let words =
        bytes.chunks_exact(4).map(|w| format!("{:08X}", u32::from_le_bytes([w[0], w[1], w[2], w[3]])));
    format!("{}:{:04X}", words.collect::<String>(), address.port())
}
