//! A network namespace whose configuration a guest changes, and traffic that has to get along with it.

use std::net::SocketAddr;
use std::sync::Arc;

use netstack::link::channel::ChannelLink;
use netstack::link::{Capabilities, Medium};
use netstack::options::{Family, RecvFlags, SendMeta};
use netstack::{MacAddr, Stack, TcpSocket, UdpSocket};
use sentry::socket::NetNamespace;

/// A namespace in virtual time with a loopback and an Ethernet interface that leads nowhere.
pub(crate) fn namespace() -> Arc<NetNamespace> {
    let stack = Stack::builder().manual_clock().deterministic(7).build();
    let medium = Medium::Ethernet(MacAddr([2, 0, 0, 0, 0, 1]));
    let nic = stack.add_nic("eth0", ChannelLink::new(medium, 1500, Capabilities::default(), 64));
    let nic = nic.expect("a new stack takes a NIC");
    for address in ["10.0.0.1/24", "fd00::1/64"] {
        stack.add_address(nic, address.parse().expect("well-formed")).expect("a new address");
    }
    NetNamespace::new(stack)
}

/// Sends datagrams and opens a connection over the loopback, and sends to a neighbour that is not there. Whether they arrive
/// is up to the rules; that the stack survives is not.
pub(crate) fn traffic(stack: &Stack) {
    for (family, local, far) in
        [(Family::V4, "127.0.0.1:7", "10.0.0.9:9"), (Family::V6, "[::1]:7", "[fd00::9]:9")]
    {
        let (local, far): (SocketAddr, SocketAddr) =
            (local.parse().expect("well-formed"), far.parse().expect("well-formed"));
        let (one, other) = (UdpSocket::new(stack, family), UdpSocket::new(stack, family));
        // The guest may have taken the address away.
        let _ = one.bind(local);
        for to in [local, far] {
            let meta = SendMeta { to: Some(to), ..SendMeta::default() };
            let _ = other.try_send(&mut &b"some words for the rules to look at"[..], &meta);
        }
        let _ = one.try_recv(&mut Vec::new(), RecvFlags::default());
        let (listener, client) = (TcpSocket::new(stack, family), TcpSocket::new(stack, family));
        let _ = listener.bind(local);
        let _ = listener.listen(1);
        let _ = client.connect(local);
        let _ = client.try_send(&mut &b"hello"[..]);
        let _ = listener.try_accept();
    }
}
