//! `unix` and `packet`.

use std::fmt::Write;

use netstack::NicId;
use netstack::options::Family as IpFamily;

use crate::socket::NetNamespace;
use crate::socket::base::SocketType;
use crate::socket::iptables::{MATCHES, TARGETS};
use crate::socket::netlink::conntrack_text;
use crate::socket::ops::{Family, Socket};

/// `SO_ACCEPTCON` of listening sockets.
const ACCEPTS: u32 = 0x10000;
/// `SS_UNCONNECTED` and `SS_CONNECTED`.
const UNCONNECTED: u8 = 1;
const CONNECTED: u8 = 3;

pub(super) fn unix(namespace: &NetNamespace) -> String {
    let mut text = "Num       RefCount Protocol Flags    Type St Inode Path\n".to_owned();
    for socket in namespace.sockets().all() {
        let Family::Unix(unix) = socket.family() else { continue };
        let flags = if unix.is_listening() { ACCEPTS } else { 0 };
        let state = if unix.is_connected() { CONNECTED } else { UNCONNECTED };
        let kind = unix.base().kind.number();
        let name = unix.name().map_or_else(String::new, |name| format!(" {}", name.display()));
        // The address of the socket is hidden, as from users without privilege. Writing to a string does not fail.
        let _ = writeln!(
            text,
            "0000000000000000: 00000002 00000000 {flags:08X} {kind:04X} {state:02X} {:>5}{name}",
            unix.base().ino()
        );
    }
    text
}

pub(super) fn ip6_flowlabel(namespace: &NetNamespace) -> String {
    namespace.flow_labels().text(namespace.stack().now())
}

pub(super) fn packet(namespace: &NetNamespace) -> String {
    let mut text = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n".to_owned();
    for socket in namespace.sockets().all() {
        let Family::Packet(packet) = socket.family() else { continue };
        let local = packet.stack_socket().local();
        let base = packet.base();
        let kind = if base.kind == SocketType::Raw { 3 } else { 2 };
        let _ = writeln!(
            text,
            "0000000000000000 2      {kind:<4} {:04x}   {:<5} 1 0      {:<6} {:<6}",
            local.protocol.0,
            local.nic.map_or(0, NicId::index),
            base.user(),
            base.ino()
        );
    }
    text
}

/// The tables of iptables that were asked for, a line each.
pub(super) fn ip_tables_names(namespace: &NetNamespace) -> String {
    table_names(namespace, IpFamily::V4)
}

/// The same for IPv6.
pub(super) fn ip6_tables_names(namespace: &NetNamespace) -> String {
    table_names(namespace, IpFamily::V6)
}

fn table_names(namespace: &NetNamespace, family: IpFamily) -> String {
    namespace.ip_tables().names(family).iter().map(|name| format!("{name}\n")).collect()
}

/// The matches of iptables, a line each; the newest first, which is no order that anybody relies on.
pub(super) fn ip_tables_matches(namespace: &NetNamespace) -> String {
    extension_names(namespace, IpFamily::V4, MATCHES)
}

/// The same for IPv6.
pub(super) fn ip6_tables_matches(namespace: &NetNamespace) -> String {
    extension_names(namespace, IpFamily::V6, MATCHES)
}

/// The targets of iptables, a line each.
pub(super) fn ip_tables_targets(namespace: &NetNamespace) -> String {
    extension_names(namespace, IpFamily::V4, TARGETS)
}

/// The same for IPv6.
pub(super) fn ip6_tables_targets(namespace: &NetNamespace) -> String {
    extension_names(namespace, IpFamily::V6, TARGETS)
}

fn extension_names(_: &NetNamespace, family: IpFamily, known: &[(&str, u8, Option<IpFamily>)]) -> String {
    let named = known.iter().filter(|(name, _, of)| !name.is_empty() && of.is_none_or(|of| of == family));
    named.map(|(name, ..)| format!("{name}\n")).collect()
}

/// The flows that are tracked.
pub(super) fn nf_conntrack(namespace: &NetNamespace) -> String {
    let stack = namespace.stack();
    conntrack_text(&stack.tracked_flows(), stack.now())
}
