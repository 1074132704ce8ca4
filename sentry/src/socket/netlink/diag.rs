//! `NETLINK_SOCK_DIAG` (`sock_diag(7)`): lists of sockets for `ss`.

use std::net::{IpAddr, SocketAddr};

use netstack::options::Family as IpFamily;
use sentry_abi::inet::{IPPROTO_TCP, IPPROTO_UDP, TCP_CLOSE, TCP_ESTABLISHED, TCP_LISTEN};
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6, AF_UNIX};

use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::inet::{InetSocket, Protocol, state_number, tcp_info};
use crate::socket::netlink::message::{Reply, Request};
use crate::socket::ops::{Family, Socket};
use crate::socket::unix::{Name, UnixSocket};

pub(super) fn handle(
    namespace: &NetNamespace,
    request: &Request<'_>,
    is_dump: bool,
    reply: &mut Reply,
) -> Result<(), Errno> {
    if request.header.kind != SOCK_DIAG_BY_FAMILY {
        return Err(Errno::EOPNOTSUPP);
    }
    let family = u16::from(*request.body.first().ok_or(Errno::EINVAL)?);
    match family {
        AF_INET | AF_INET6 if is_dump => dump_inet(namespace, request, family, reply),
        AF_UNIX if is_dump => dump_unix(namespace, request, reply),
        // Asking for one socket by its address is not built.
        AF_INET | AF_INET6 | AF_UNIX => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::ENOENT),
    }
}

/// `TCP_*` of a socket; others than TCP are closed or established.
pub(in crate::socket) fn inet_state(inet: &InetSocket) -> u8 {
    match inet.tcp() {
        Some(tcp) => state_number(tcp.state()),
        None if inet.peer().is_some() => TCP_ESTABLISHED,
        None => TCP_CLOSE,
    }
}

fn dump_inet(
    namespace: &NetNamespace,
    request: &Request<'_>,
    family: u16,
    reply: &mut Reply,
) -> Result<(), Errno> {
    let (wanted, _) = request.split_full::<InetDiagReqV2>()?;
    for socket in namespace.sockets().all() {
        let Family::Inet(inet) = socket.family() else { continue };
        let protocol = match inet.protocol() {
            Protocol::Tcp(_) => IPPROTO_TCP,
            Protocol::Udp(_) => IPPROTO_UDP,
            Protocol::Ping(_) | Protocol::Raw(_) => inet.base().protocol,
        };
        let state = inet_state(inet);
        let is_listed = inet.local().port() != 0 || state != TCP_CLOSE;
        let is_wanted = i32::from(wanted.protocol) == protocol
            && inet.base().family == family
            && wanted.states & 1_u32.checked_shl(state.into()).unwrap_or(0) != 0;
        if is_listed && is_wanted {
            describe_inet(inet, state, &wanted, reply);
        }
    }
    Ok(())
}

fn describe_inet(inet: &InetSocket, state: u8, wanted: &InetDiagReqV2, reply: &mut Reply) {
    let base = inet.base();
    let (local, peer) = (inet.local(), inet.peer());
    let mut id = InetDiagSockId {
        sport: local.port().to_be_bytes(),
        src: octets(local),
        cookie: split(base.ino()),
        ..InetDiagSockId::default()
    };
    if let Some(peer) = peer {
        id.dport = peer.port().to_be_bytes();
        id.dst = octets(peer);
    }
    let queued = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let (rqueue, wqueue) = match inet.tcp() {
        Some(tcp) if state != TCP_LISTEN => (queued(tcp.recv_queue_len()), queued(tcp.send_queue_len())),
        // sk_ack_backlog and sk_max_ack_backlog.
        Some(_) => inet.accept_queue(),
        None => (inet.datagram_queue().map_or(0, |(bytes, _)| queued(bytes)), 0),
    };
    let fixed = InetDiagMsg {
        // Families are below 256.
        family: u8::try_from(base.family).unwrap_or(0),
        state,
        timer: 0,
        retrans: 0,
        id,
        expires: 0,
        rqueue,
        wqueue,
        uid: base.user(),
        inode: split(base.ino())[0],
    };
    reply.message(SOCK_DIAG_BY_FAMILY, &fixed, |builder| {
        if inet.ip_family() == IpFamily::V6 {
            builder.attr(INET_DIAG_SKV6ONLY, &u8::from(inet.options().only_v6));
        }
        builder.attr(INET_DIAG_SHUTDOWN, &0_u8);
        if let Some(tcp) = inet.tcp() {
            let wants = |extension: u16| wanted.ext & (1 << (extension - 1)) != 0;
            if wants(INET_DIAG_INFO) {
                builder.attr(INET_DIAG_INFO, &tcp_info(tcp.state(), tcp.info().as_ref()));
            }
            if wants(INET_DIAG_CONG) {
                builder.attr_str(INET_DIAG_CONG, "cubic");
            }
        }
    });
}

/// The address in the 16 bytes of a socket id, IPv4 in the first four.
fn octets(address: SocketAddr) -> [u8; 16] {
    match address.ip() {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// A number as its low and high halves.
fn split(n: u64) -> [u32; 2] {
    // Both are 32 bits wide by the mask and the shift.
    [(n & 0xffff_ffff) as u32, (n >> 32) as u32]
}

fn dump_unix(namespace: &NetNamespace, request: &Request<'_>, reply: &mut Reply) -> Result<(), Errno> {
    let (wanted, _) = request.split_full::<UnixDiagReq>()?;
    for socket in namespace.sockets().all() {
        let Family::Unix(unix) = socket.family() else { continue };
        let state = unix_state(unix);
        if wanted.states & 1_u32.checked_shl(state.into()).unwrap_or(0) == 0 {
            continue;
        }
        let ino = split(unix.base().ino());
        let fixed = UnixDiagMsg {
            // Families and types are below 256.
            family: u8::try_from(AF_UNIX).unwrap_or(0),
            kind: u8::try_from(unix.base().kind.number()).unwrap_or(0),
            state,
            pad: 0,
            ino: ino[0],
            cookie: ino,
        };
        reply.message(SOCK_DIAG_BY_FAMILY, &fixed, |builder| {
            match unix.name() {
                Some(Name::Path(path)) => builder.attr(UNIX_DIAG_NAME, &*path),
                Some(Name::Abstract(name)) => {
                    builder.attr(UNIX_DIAG_NAME, [&[0], &*name].concat().as_slice());
                }
                None => {}
            }
            if let Some(peer) = unix.peer_ino().filter(|ino| *ino != 0) {
                builder.attr(UNIX_DIAG_PEER, &split(peer)[0]);
            }
            let queued = u32::try_from(unix.queue_len()).unwrap_or(u32::MAX);
            builder.attr(UNIX_DIAG_RQLEN, &[queued, 0]);
        });
    }
    Ok(())
}

fn unix_state(unix: &UnixSocket) -> u8 {
    if unix.is_listening() {
        TCP_LISTEN
    } else if unix.is_connected() {
        TCP_ESTABLISHED
    } else {
        TCP_CLOSE
    }
}
