//! `NETLINK_NETFILTER` (nfnetlink): nftables, what nftables asks about iptables' matches, and the list of flows.
//!
//! Rules come in batches: all messages between a beginning and an end take effect together, or none does. What they say is kept as
//! it was written, for listing, and translated to the machine of the stack's packet filter (`netstack::filter::machine`). An
//! expression that the machine does not have is refused: no rule is accepted that does nothing.

mod attributes;
mod batch;
mod chain;
mod commit;
mod compat;
mod conntrack;
mod constants;
mod dump;
mod element;
mod expression;
mod model;
mod object;
mod rule;
mod set;
mod table;

#[cfg(test)]
mod tests;

use netstack::Stack;
use parking_lot::Mutex;
use sentry_abi::netlink::*;

use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::netlink::message::{Attributes, Reply, Request};
use crate::socket::netlink::refusal::Refusal;
use attributes::Refused;
pub(super) use batch::{Answered, batch, begins_batch};
pub(in crate::socket) use conntrack::text as conntrack_text;
use constants::*;
use model::Model;

/// The tables of a network namespace.
#[derive(Debug, Default)]
pub(crate) struct NfTables(Mutex<Model>);

/// `struct nfgenmsg`.
#[derive(Debug, Clone, Copy, Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
struct Header {
    family: u8,
    version: u8,
    /// In network order.
    resource: [u8; 2],
}

/// What answers need to know.
struct Context<'a> {
    stack: &'a Stack,
    namespace: &'a NetNamespace,
}

/// Answers a message outside of a batch.
///
/// # Errors
/// With the place of the attribute that is to blame.
pub(super) fn handle(
    namespace: &NetNamespace,
    request: &Request<'_>,
    is_dump: bool,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    let context = Context { stack: namespace.stack(), namespace };
    let (subsystem, kind) = (request.header.kind >> 8, request.header.kind & 0xff);
    let answered = match subsystem {
        SUBSYS_NFTABLES => get(&context, kind, request, is_dump, reply),
        SUBSYS_NFT_COMPAT => compat::get(kind, request, reply),
        SUBSYS_CTNETLINK => conntrack::handle(&context, kind, request, is_dump, reply),
        // The subsystems whose modules are not there.
        _ => Err(Refused::from(Errno::EINVAL)),
    };
    answered.map_err(|refused| Refusal::of(refused, request))
}

impl Refusal {
    fn of(refused: Refused, request: &Request<'_>) -> Self {
        Self::from(refused.errno).at(refused.attribute, request)
    }
}

/// Whether a message asks for a list.
pub(super) fn is_dump(request: &Request<'_>) -> bool {
    let (subsystem, kind) = (request.header.kind >> 8, request.header.kind & 0xff);
    let is_get = match subsystem {
        SUBSYS_NFTABLES => matches!(
            kind,
            MSG_GETTABLE
                | MSG_GETCHAIN
                | MSG_GETRULE
                | MSG_GETRULE_RESET
                | MSG_GETSET
                | MSG_GETSETELEM
                | MSG_GETSETELEM_RESET
                | MSG_GETOBJ
                | MSG_GETOBJ_RESET
                | MSG_GETFLOWTABLE
        ),
        SUBSYS_CTNETLINK => conntrack::is_get(kind),
        _ => false,
    };
    is_get && request.header.flags & NLM_F_DUMP == NLM_F_DUMP
}

fn get(
    context: &Context<'_>,
    kind: u16,
    request: &Request<'_>,
    is_dump: bool,
    reply: &mut Reply,
) -> Result<(), Refused> {
    let (header, attributes): (Header, Attributes<'_>) = request.split_full().map_err(Refused::from)?;
    let model = context.namespace.nf_tables().0.lock().clone();
    let query = dump::Query { model: &model, family: header.family, attributes, now: context.stack.now() };
    match kind {
        MSG_GETTABLE => table::get(&query, is_dump, reply),
        MSG_GETCHAIN => chain::get(&query, is_dump, reply),
        MSG_GETRULE => rule::get(&query, is_dump, dump::Reset::No, reply),
        MSG_GETRULE_RESET => rule::get(&query, is_dump, dump::Reset::Yes, reply),
        MSG_GETSET => set::get(&query, is_dump, reply),
        MSG_GETSETELEM => element::get(&query, is_dump, dump::Reset::No, reply),
        MSG_GETSETELEM_RESET => element::get(&query, is_dump, dump::Reset::Yes, reply),
        MSG_GETOBJ => object::get(&query, is_dump, dump::Reset::No, reply),
        MSG_GETOBJ_RESET => object::get(&query, is_dump, dump::Reset::Yes, reply),
        MSG_GETGEN => {
            dump::generation(&query, reply);
            Ok(())
        }
        // There are none.
        MSG_GETFLOWTABLE if is_dump => Ok(()),
        MSG_GETFLOWTABLE => Err(Errno::ENOENT.into()),
        // What changes something comes in batches.
        _ => Err(Errno::EINVAL.into()),
    }
}
