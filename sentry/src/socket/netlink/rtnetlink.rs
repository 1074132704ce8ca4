//! From a guest's messages to the kernel's answers: dispatch, acknowledgements, errors.

use sentry_abi::netlink::*;
use zerocopy::IntoBytes;

use crate::errno::Errno;
use crate::socket::netlink::message::{Reply, Request};
use crate::socket::netlink::socket::NetlinkSocket;
use crate::socket::netlink::{address, diag, link, neighbour, route, rule};
use crate::socket::ops::Socket;

/// The datagrams that answer `data`, for a socket with `port`.
pub(super) fn answer(socket: &NetlinkSocket, port: u32, data: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = data;
    let mut datagrams = Vec::new();
    while let Some(request) = Request::next(&mut rest) {
        // netlink_rcv_skb: only requests are handled, control messages are acknowledged at most.
        let is_request = request.has(NLM_F_REQUEST) && request.header.kind >= NLMSG_MIN_TYPE;
        let is_dump = is_dump(socket, &request);
        let mut reply = Reply::new(&request.header, port, if is_dump { NLM_F_MULTI } else { 0 });
        let result = if is_request { handle(socket, &request, is_dump, &mut reply) } else { Ok(()) };
        match result {
            Ok(()) if is_request && is_dump => reply.message(NLMSG_DONE, &0_i32, |_| {}),
            Ok(()) if request.has(NLM_F_ACK) => acknowledge(socket, port, &request, None, &mut reply),
            Ok(()) => {}
            Err(e) => {
                reply = Reply::new(&request.header, port, 0);
                acknowledge(socket, port, &request, Some(e), &mut reply);
            }
        }
        reply.flush();
        datagrams.append(&mut reply.datagrams);
    }
    datagrams
}

/// `NLM_F_DUMP` shares its bits with the flags of requests that make something, so the type decides. A get with one
/// of the two bits counts as a dump, as in Linux (`kind == RTNL_KIND_GET && (nlh->nlmsg_flags & NLM_F_DUMP)`).
fn is_dump(socket: &NetlinkSocket, request: &Request<'_>) -> bool {
    let is_get = match socket.base().protocol {
        // The messages of each object come in fours: new, delete, get, set.
        NETLINK_ROUTE => request.header.kind & 3 == 2,
        NETLINK_SOCK_DIAG => true,
        _ => false,
    };
    is_get && request.header.flags & NLM_F_DUMP != 0
}

fn handle(
    socket: &NetlinkSocket,
    request: &Request<'_>,
    is_dump: bool,
    reply: &mut Reply,
) -> Result<(), Errno> {
    match socket.base().protocol {
        NETLINK_ROUTE => handle_route(socket, request, is_dump, reply),
        NETLINK_SOCK_DIAG => diag::handle(socket.namespace(), request, is_dump, reply),
        // Nobody but udevd sends to NETLINK_KOBJECT_UEVENT, and the kernel does not listen.
        _ => Err(Errno::EOPNOTSUPP),
    }
}

fn handle_route(
    socket: &NetlinkSocket,
    request: &Request<'_>,
    is_dump: bool,
    reply: &mut Reply,
) -> Result<(), Errno> {
    let namespace = socket.namespace();
    let is_get = request.header.kind & 3 == 2;
    // rtnetlink_rcv_msg: everything but getting needs CAP_NET_ADMIN.
    if !is_get && !socket.is_admin() {
        return Err(Errno::EPERM);
    }
    match request.header.kind {
        RTM_GETLINK => link::get(namespace, request, is_dump, reply),
        RTM_NEWLINK | RTM_SETLINK => link::change(namespace, request),
        RTM_DELLINK => link::remove(namespace, request),
        RTM_GETADDR => address::dump(namespace, request, reply),
        RTM_NEWADDR => address::add(namespace, request),
        RTM_DELADDR => address::remove(namespace, request),
        RTM_GETROUTE if is_dump => route::dump(namespace, request, reply),
        RTM_GETROUTE => route::lookup(namespace, request, reply),
        RTM_NEWROUTE => route::add(namespace, request),
        RTM_DELROUTE => route::remove(namespace, request),
        RTM_GETNEIGH => neighbour::dump(namespace, request, reply),
        RTM_NEWNEIGH => neighbour::add(namespace, request),
        RTM_DELNEIGH => neighbour::remove(namespace, request),
        RTM_GETRULE => rule::dump(request, reply),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// `NLMSG_ERROR`: an errno, or zero, and the request; only its header for a success or with `NETLINK_CAP_ACK`.
fn acknowledge(
    socket: &NetlinkSocket,
    port: u32,
    request: &Request<'_>,
    error: Option<Errno>,
    reply: &mut Reply,
) {
    let is_capped = error.is_none() || socket.caps_acks();
    let flags = if is_capped { NLM_F_CAPPED } else { 0 };
    let code = error.map_or(0, |e| -i32::from(e.code()));
    let mut ack = Reply::new(&request.header, port, flags);
    ack.message(NLMSG_ERROR, &code, |builder| {
        builder.raw(request.header.as_bytes());
        if !is_capped {
            builder.raw(request.body);
        }
    });
    ack.flush();
    reply.datagrams.append(&mut ack.datagrams);
}

#[cfg(test)]
#[path = "rtnetlink_tests.rs"]
mod tests;
