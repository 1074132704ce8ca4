//! `RTM_*NSID`: the numbers by which a namespace knows others, and how requests name namespaces.

use std::sync::Arc;

use sentry_abi::netlink::*;

use crate::errno::Errno;
use crate::fs::nsfs::Namespace;
use crate::socket::NetNamespace;
use crate::socket::netlink::message::{Attributes, Reply, Request};
use crate::task::Task;
use crate::vfs::Fd;

/// How a request names a namespace.
#[derive(Debug, Clone, Copy)]
pub(super) enum Named {
    /// That of a process.
    Process(i32),
    /// That of a file that stands for it.
    Descriptor(i32),
    /// By its number.
    Id(i32),
}

/// The namespace that `task` names in a request to `namespace`.
///
/// # Errors
/// `ESRCH`, `EBADF`, `EINVAL` where there is none.
pub(super) fn resolve(
    namespace: &NetNamespace,
    named: Named,
    task: Option<&Task>,
) -> Result<Arc<NetNamespace>, Errno> {
    match named {
        Named::Process(pid) => {
            let task = task.ok_or(Errno::ESRCH)?;
            // The number is one of the caller's PID namespace.
            let id = task.pid_ns().id(pid).ok_or(Errno::ESRCH)?;
            let tree = task.kernel().tree();
            let found = tree.thread(id).cloned();
            drop(tree);
            found.and_then(|found| found.net()).ok_or(Errno::ESRCH)
        }
        Named::Descriptor(fd) => {
            let file = task.ok_or(Errno::EBADF)?.files().get(Fd(fd))?;
            match Namespace::of(file.inode()) {
                Some(Namespace::Net(found)) => Ok(found.clone()),
                _ => Err(Errno::EINVAL),
            }
        }
        Named::Id(id) => namespace.peer_ids().find(id).ok_or(Errno::EINVAL),
    }
}

fn named(attributes: Attributes<'_>) -> Result<Named, Errno> {
    let number = |kind| attributes.u32(kind).map(u32::cast_signed);
    let process = number(NETNSA_PID).map(Named::Process);
    let named = process.or_else(|| number(NETNSA_FD).map(Named::Descriptor));
    named.or_else(|| number(NETNSA_NSID).map(Named::Id)).ok_or(Errno::EINVAL)
}

/// The number of a namespace, -1 where it has none, or all numbers.
pub(super) fn get(
    namespace: &NetNamespace,
    request: &Request<'_>,
    is_dump: bool,
    task: Option<&Task>,
    reply: &mut Reply,
) -> Result<(), Errno> {
    if is_dump {
        namespace.peer_ids().all().into_iter().for_each(|id| describe(id, reply));
        return Ok(());
    }
    let (_, attributes) = request.split::<u8>();
    let found = resolve(namespace, named(attributes)?, task)?;
    describe(namespace.peer_ids().get(&found).unwrap_or(NOT_ASSIGNED), reply);
    Ok(())
}

/// Gives a namespace a number.
pub(super) fn add(namespace: &NetNamespace, request: &Request<'_>, task: Option<&Task>) -> Result<(), Errno> {
    let (_, attributes) = request.split::<u8>();
    let id = attributes.u32(NETNSA_NSID).map(u32::cast_signed).ok_or(Errno::EINVAL)?;
    let other = match named(attributes)? {
        Named::Id(_) => return Err(Errno::EINVAL),
        named => resolve(namespace, named, task)?,
    };
    let id = namespace.peer_ids().set(&other, (id >= 0).then_some(id))?;
    let mut reply = Reply::new(&NlMsgHdr::default(), 0, 0);
    describe(id, &mut reply);
    reply.flush();
    for datagram in &reply.datagrams {
        namespace.subscribers().broadcast(NETLINK_ROUTE, RTNLGRP_NSID, datagram);
    }
    Ok(())
}

fn describe(id: i32, reply: &mut Reply) {
    // struct rtgenmsg: AF_UNSPEC.
    reply.message(RTM_NEWNSID, &0_u8, |builder| builder.attr(NETNSA_NSID, &id));
}

/// `NETNSA_NSID_NOT_ASSIGNED`.
const NOT_ASSIGNED: i32 = -1;
