//! The options of raw sockets by which tables are read and set.

use netstack::options::Family;
use netstack::wire::ip::Protocol;
use sentry_abi::inet::*;
use sentry_abi::socket::{SOL_IP, SOL_IPV6};

use super::blob::{text, word};
use super::matches::MATCHES;
use super::replace::{Head, MAX_TABLE};
use super::table::Name;
use super::targets::TARGETS;
use crate::errno::Errno;
use crate::socket::base::SocketType;
use crate::socket::inet;
use crate::socket::option::{Context, Effect, OptionRow, Value, option};
use crate::task::Capabilities;

/// What is missing: said once.
const PARTIAL: Effect = Effect::Partial("not all matches and targets");

pub(crate) const ROWS: &[OptionRow] = &[
    option!(SOL_IP, IPT_SO_SET_REPLACE, get_info_v4, replace_v4, PARTIAL),
    option!(SOL_IP, IPT_SO_SET_ADD_COUNTERS, get_entries_v4, add_counters_v4),
    option!(SOL_IP, IPT_SO_GET_REVISION_MATCH, get_match_v4, -),
    option!(SOL_IP, IPT_SO_GET_REVISION_TARGET, get_target_v4, -),
    option!(SOL_IPV6, IP6T_SO_SET_REPLACE, get_info_v6, replace_v6, PARTIAL),
    option!(SOL_IPV6, IP6T_SO_SET_ADD_COUNTERS, get_entries_v6, add_counters_v6),
    option!(SOL_IPV6, IP6T_SO_GET_REVISION_MATCH, get_match_v6, -),
    option!(SOL_IPV6, IP6T_SO_GET_REVISION_TARGET, get_target_v6, -),
    option!(SOL_IP, SO_ORIGINAL_DST, get_original_destination, -),
    option!(SOL_IPV6, SO_ORIGINAL_DST, get_original_destination, -),
];

fn check(context: &Context<'_>, family: Family) -> Result<(), Errno> {
    let inet = context.inet()?;
    if inet.ip_family() != family || context.socket.base().kind != SocketType::Raw {
        return Err(Errno::ENOPROTOOPT);
    }
    if context.namespace.grants(&context.task.creds(), Capabilities::NET_ADMIN) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// `struct ipt_getinfo`.
fn get_info(context: &Context<'_>, family: Family) -> Result<Value, Errno> {
    check(context, family)?;
    if context.buffer.1 != INFO_LEN {
        return Err(Errno::EINVAL);
    }
    let asked = context.read_buffer(NAME_LEN)?;
    let name = Name::find(text(&asked)?)?;
    let table = context.namespace.ip_tables().get(context.namespace.stack(), family, name);
    let mut value = Value::from_slice(&asked);
    let mut put = |number: u32| value.extend(number.to_ne_bytes());
    put(name.valid_hooks());
    table.hooks.entry.iter().chain(&table.hooks.underflow).copied().for_each(&mut put);
    put(u32::try_from(table.translated.places.len()).unwrap_or(u32::MAX));
    put(u32::try_from(table.blob.len()).unwrap_or(u32::MAX));
    Ok(value)
}

/// `struct ipt_get_entries`.
fn get_entries(context: &Context<'_>, family: Family) -> Result<Value, Errno> {
    check(context, family)?;
    let head = context.read_buffer(ENTRIES_AT)?;
    let name = Name::find(text(&head[..NAME_LEN])?)?;
    let size = usize::try_from(word(&head, NAME_LEN)).map_err(|_| Errno::EINVAL)?;
    if context.buffer.1 != ENTRIES_AT + size {
        return Err(Errno::EINVAL);
    }
    let table = context.namespace.ip_tables().get(context.namespace.stack(), family, name);
    if table.blob.len() != size {
        return Err(Errno::EAGAIN);
    }
    let mut value = Value::from_slice(&head);
    value.extend_from_slice(&table.blob);
    Ok(value)
}

/// `struct ipt_replace`. What the old entries have counted goes to where the struct says.
fn replace(context: &Context<'_>, family: Family) -> Result<(), Errno> {
    check(context, family)?;
    let head = Head::parse(&context.read_buffer(Head::LEN)?)?;
    let request = context.read_buffer(Head::LEN + head.size)?;
    let counted = context.namespace.replace_ip_table(family, &request)?;
    let counters: Vec<u8> = counted
        .iter()
        .flat_map(|(packets, bytes)| [packets.to_ne_bytes(), bytes.to_ne_bytes()])
        .flatten()
        .collect();
    // The table is set, whether they can be written or not ("Silent error, can't fail, new table is already in place").
    let _ = context.task.mm().write_bytes(head.counters, &counters);
    Ok(())
}

/// `struct xt_counters_info`.
fn add_counters(context: &Context<'_>, family: Family) -> Result<(), Errno> {
    check(context, family)?;
    let head = context.read_buffer(ENTRIES_AT)?;
    let name = Name::find(text(&head[..NAME_LEN])?)?;
    let count = usize::try_from(word(&head, NAME_LEN)).map_err(|_| Errno::EINVAL)?;
    if count > MAX_TABLE / COUNTERS_LEN || context.buffer.1 != ENTRIES_AT + count * COUNTERS_LEN {
        return Err(Errno::EINVAL);
    }
    let bytes = context.read_buffer(ENTRIES_AT + count * COUNTERS_LEN)?;
    let long = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    let added: Vec<_> = bytes[ENTRIES_AT..]
        .chunks_exact(COUNTERS_LEN)
        .map(|counters| (long(&counters[..8]), long(&counters[8..])))
        .collect();
    context.namespace.ip_tables().add_counters(context.namespace.stack(), family, name, &added)
}

/// `struct xt_get_revision`: succeeds where the match or target has the revision.
fn get_revision(
    context: &Context<'_>,
    family: Family,
    known: &[(&str, u8, Option<Family>)],
) -> Result<Value, Errno> {
    check(context, family)?;
    let asked = context.read_buffer(REVISION_LEN)?;
    let (name, revision) = (text(&asked[..REVISION_LEN - 1])?, asked[REVISION_LEN - 1]);
    let mut revisions = known
        .iter()
        .filter(|(other, _, of)| *other == name && of.is_none_or(|of| of == family))
        .map(|(_, revision, _)| *revision)
        .peekable();
    revisions.peek().ok_or(Errno::ENOENT)?;
    if revisions.any(|has| has == revision) {
        Ok(Value::from_slice(&asked))
    } else {
        Err(Errno::EPROTONOSUPPORT)
    }
}

fn get_info_v4(context: &Context<'_>) -> Result<Value, Errno> {
    get_info(context, Family::V4)
}

fn get_info_v6(context: &Context<'_>) -> Result<Value, Errno> {
    get_info(context, Family::V6)
}

fn get_entries_v4(context: &Context<'_>) -> Result<Value, Errno> {
    get_entries(context, Family::V4)
}

fn get_entries_v6(context: &Context<'_>) -> Result<Value, Errno> {
    get_entries(context, Family::V6)
}

fn replace_v4(context: &Context<'_>, _: &[u8]) -> Result<(), Errno> {
    replace(context, Family::V4)
}

fn replace_v6(context: &Context<'_>, _: &[u8]) -> Result<(), Errno> {
    replace(context, Family::V6)
}

fn add_counters_v4(context: &Context<'_>, _: &[u8]) -> Result<(), Errno> {
    add_counters(context, Family::V4)
}

fn add_counters_v6(context: &Context<'_>, _: &[u8]) -> Result<(), Errno> {
    add_counters(context, Family::V6)
}

fn get_match_v4(context: &Context<'_>) -> Result<Value, Errno> {
    get_revision(context, Family::V4, MATCHES)
}

fn get_match_v6(context: &Context<'_>) -> Result<Value, Errno> {
    get_revision(context, Family::V6, MATCHES)
}

fn get_target_v4(context: &Context<'_>) -> Result<Value, Errno> {
    get_revision(context, Family::V4, TARGETS)
}

fn get_target_v6(context: &Context<'_>) -> Result<Value, Errno> {
    get_revision(context, Family::V6, TARGETS)
}

/// Where a connection was going before its destination was translated (`getorigdst`).
fn get_original_destination(context: &Context<'_>) -> Result<Value, Errno> {
    let socket = context.inet()?;
    socket.tcp().ok_or(Errno::ENOPROTOOPT)?;
    let (local, remote) = (socket.local(), socket.peer().ok_or(Errno::ENOENT)?);
    let stack = context.namespace.stack();
    let found = stack.original_destination(Protocol::TCP, local, remote).ok_or(Errno::ENOENT)?;
    let family = if found.is_ipv4() { Family::V4 } else { Family::V6 };
    Ok(Value::from_slice(&inet::encode_address(family, found)))
}

/// `XT_TABLE_MAXNAMELEN`.
const NAME_LEN: usize = 32;
/// `sizeof(struct ipt_getinfo)`.
const INFO_LEN: usize = 84;
/// Where the entries are in `struct ipt_get_entries`, and the counters in `struct xt_counters_info`.
const ENTRIES_AT: usize = 40;
/// `sizeof(struct xt_counters)`.
const COUNTERS_LEN: usize = 16;
/// `sizeof(struct xt_get_revision)`.
const REVISION_LEN: usize = 30;
