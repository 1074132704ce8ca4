//! From a guest's messages to the kernel's answers: dispatch, acknowledgements, errors.

use sentry_abi::netlink::*;
use zerocopy::IntoBytes;

use crate::errno::Errno;
use crate::socket::netlink::message::{Reply, Request};
use crate::socket::netlink::netfilter::Answered;
use crate::socket::netlink::refusal::Refusal;
use crate::socket::netlink::socket::NetlinkSocket;
use crate::socket::netlink::{
    address, diag, link, link_change, namespace_id, neighbour, netfilter, route, route_get, rule,
};
use crate::socket::ops::Socket;
use crate::task::Task;

/// The datagrams that answer `data`, for a socket with `port`.
pub(super) fn answer(socket: &NetlinkSocket, port: u32, data: &[u8], task: Option<&Task>) -> Vec<Vec<u8>> {
    let mut rest = data;
    let mut datagrams = Vec::new();
    while let Some(request) = Request::next(&mut rest) {
        if socket.base().protocol == NETLINK_NETFILTER {
            // nfnetlink_rcv: even looking needs CAP_NET_ADMIN.
            if !socket.is_admin() {
                datagrams.append(&mut acknowledgement(
                    socket,
                    port,
                    &request,
                    Err(Refusal::from(Errno::EPERM)),
                ));
                break;
            }
            if netfilter::begins_batch(&request) {
                answer_batch(socket, port, request, &mut rest, &mut datagrams);
                break;
            }
        }
        // netlink_rcv_skb: only requests are handled, control messages are acknowledged at most.
        let is_request = request.has(NLM_F_REQUEST) && request.header.kind >= NLMSG_MIN_TYPE;
        let is_dump = is_dump(socket, &request);
        let mut reply = Reply::new(&request.header, port, if is_dump { NLM_F_MULTI } else { 0 });
        let result = if is_request { handle(socket, &request, is_dump, task, &mut reply) } else { Ok(()) };
        match result {
            Ok(()) if is_request && is_dump => reply.message(NLMSG_DONE, &0_i32, |_| {}),
            Ok(()) if request.has(NLM_F_ACK) => {
                reply.flush();
                reply.datagrams.append(&mut acknowledgement(socket, port, &request, Ok(())));
            }
            Ok(()) => {}
            Err(refused) => {
                reply = Reply::new(&request.header, port, 0);
                reply.datagrams = acknowledgement(socket, port, &request, Err(refused));
            }
        }
        reply.flush();
        datagrams.append(&mut reply.datagrams);
    }
    datagrams
}

/// A batch: its messages are carried out together, and acknowledged then.
fn answer_batch<'a>(
    socket: &NetlinkSocket,
    port: u32,
    begin: Request<'a>,
    rest: &mut &'a [u8],
    datagrams: &mut Vec<Vec<u8>>,
) {
    let namespace = socket.namespace();
    let (answers, events) = netfilter::batch(namespace, begin, rest, port);
    for Answered { request, refused } in &answers {
        let result = refused.map_or(Ok(()), Err);
        datagrams.append(&mut acknowledgement(socket, port, request, result));
    }
    for event in events {
        namespace.subscribers().broadcast(NETLINK_NETFILTER, NFNLGRP_NFTABLES, &event.bytes);
        if event.is_echoed {
            datagrams.push(event.bytes);
        }
    }
}

/// `NLM_F_DUMP` shares its bits with the flags of requests that make something, so the type decides. A get with one
/// of the two bits counts as a dump, as in Linux (`kind == RTNL_KIND_GET && (nlh->nlmsg_flags & NLM_F_DUMP)`).
fn is_dump(socket: &NetlinkSocket, request: &Request<'_>) -> bool {
    let is_get = match socket.base().protocol {
        // The messages of each object come in fours: new, delete, get, set.
        NETLINK_ROUTE => request.header.kind & 3 == 2,
        NETLINK_SOCK_DIAG => true,
        NETLINK_NETFILTER => return netfilter::is_dump(request),
        _ => false,
    };
    is_get && request.header.flags & NLM_F_DUMP != 0
}

fn handle(
    socket: &NetlinkSocket,
    request: &Request<'_>,
    is_dump: bool,
    task: Option<&Task>,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    let done = match socket.base().protocol {
        NETLINK_ROUTE => return handle_route(socket, request, is_dump, task, reply),
        NETLINK_SOCK_DIAG => diag::handle(socket.namespace(), request, is_dump, reply),
        NETLINK_NETFILTER => return netfilter::handle(socket.namespace(), request, is_dump, reply),
        // Nobody but udevd sends to NETLINK_KOBJECT_UEVENT, and the kernel does not listen.
        _ => Err(Errno::EOPNOTSUPP),
    };
    done.map_err(Refusal::from)
}

fn handle_route(
    socket: &NetlinkSocket,
    request: &Request<'_>,
    is_dump: bool,
    task: Option<&Task>,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    let namespace = socket.namespace();
    let is_get = request.header.kind & 3 == 2;
    // rtnetlink_rcv_msg: everything but getting needs CAP_NET_ADMIN.
    if !is_get && !socket.is_admin() {
        return Err(Errno::EPERM.into());
    }
    let done = match request.header.kind {
        RTM_GETLINK => link::get(namespace, request, is_dump, reply),
        RTM_NEWLINK | RTM_SETLINK => link_change::change(namespace, request, task),
        RTM_DELLINK => link_change::remove(namespace, request),
        RTM_GETADDR => address::dump(namespace, request, reply),
        RTM_NEWADDR => address::add(namespace, request),
        RTM_DELADDR => address::remove(namespace, request),
        RTM_GETROUTE if is_dump => route::dump(namespace, request, reply),
        RTM_GETROUTE => return route_get::lookup(namespace, request, task, reply),
        RTM_NEWROUTE => route::add(namespace, request),
        RTM_DELROUTE => route::remove(namespace, request),
        RTM_GETNEIGH => neighbour::dump(namespace, request, reply),
        RTM_NEWNEIGH => neighbour::add(namespace, request),
        RTM_DELNEIGH => neighbour::remove(namespace, request),
        RTM_GETNSID => namespace_id::get(namespace, request, is_dump, task, reply),
        RTM_NEWNSID => namespace_id::add(namespace, request, task),
        RTM_GETRULE => rule::dump(namespace, request, task, reply),
        RTM_NEWRULE => return rule::add(namespace, request, task),
        RTM_DELRULE => return rule::remove(namespace, request, task),
        _ => Err(Errno::EOPNOTSUPP),
    };
    done.map_err(Refusal::from)
}

/// `NLMSG_ERROR`: an errno, or zero, and the request; only its header for a success or with `NETLINK_CAP_ACK`. With
/// `NETLINK_EXT_ACK` what is wrong, and where the attribute is that is to blame.
fn acknowledgement(
    socket: &NetlinkSocket,
    port: u32,
    request: &Request<'_>,
    result: Result<(), Refusal>,
) -> Vec<Vec<u8>> {
    let is_capped = result.is_ok() || socket.caps_acks();
    let extended = result.err().filter(|_| socket.extends_acks());
    let (offset, text) =
        (extended.and_then(|refused| refused.offset), extended.and_then(|refused| refused.text));
    let mut flags = if is_capped { NLM_F_CAPPED } else { 0 };
    flags |= if offset.is_some() || text.is_some() { NLM_F_ACK_TLVS } else { 0 };
    let code = result.map_or_else(|refused| -i32::from(refused.errno.code()), |()| 0);
    let mut ack = Reply::new(&request.header, port, flags);
    ack.message(NLMSG_ERROR, &code, |builder| {
        builder.raw(request.header.as_bytes());
        if !is_capped {
            builder.raw(request.body);
        }
        if let Some(text) = text {
            builder.attr_str(NLMSGERR_ATTR_MSG, text);
        }
        if let Some(offset) = offset {
            builder.attr(NLMSGERR_ATTR_OFFS, &offset);
        }
    });
    ack.flush();
    ack.datagrams
}

/// `NFNLGRP_NFTABLES`.
const NFNLGRP_NFTABLES: u32 = 7;

#[cfg(test)]
#[path = "rtnetlink_tests.rs"]
mod tests;
