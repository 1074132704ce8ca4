//! `SOL_NETLINK` (`netlink(7)`).

use sentry_abi::netlink::*;
use sentry_abi::socket::SOL_NETLINK;

use crate::errno::Errno;
use crate::socket::netlink::NetlinkSocket;
use crate::socket::ops::Family;
use crate::socket::option::value::{bytes, int, of_int, switch};
use crate::socket::option::{Context, Effect, OptionRow, Value, option};

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, -, add_group),
    option!(SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, -, drop_group),
    option!(SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, get_groups, -),
    option!(SOL_NETLINK, NETLINK_PKTINFO, get_zero, set_only_zero),
    option!(SOL_NETLINK, NETLINK_BROADCAST_ERROR, get_zero, set_any, Effect::Hint("broadcasts never fail")),
    option!(SOL_NETLINK, NETLINK_NO_ENOBUFS, get_zero, set_any, Effect::Hint("overruns are dropped")),
    option!(SOL_NETLINK, NETLINK_CAP_ACK, get_cap_ack, set_cap_ack),
    option!(
        SOL_NETLINK,
        NETLINK_EXT_ACK,
        get_extended_ack,
        set_extended_ack,
        Effect::Partial("errors come without a text")
    ),
    option!(
        SOL_NETLINK,
        NETLINK_GET_STRICT_CHK,
        get_zero,
        set_any,
        Effect::Hint("dump requests are checked loosely")
    ),
];

fn netlink<'a>(context: &Context<'a>) -> Result<&'a NetlinkSocket, Errno> {
    match context.socket.family() {
        Family::Netlink(netlink) => Ok(netlink),
        Family::Unix(_) | Family::Inet(_) | Family::Packet(_) | Family::Host(_) => Err(Errno::ENOPROTOOPT),
    }
}

fn check_family(context: &Context<'_>) -> Result<(), Errno> {
    match context.socket.family() {
        Family::Netlink(_) => Ok(()),
        Family::Unix(_) | Family::Inet(_) | Family::Packet(_) | Family::Host(_) => Err(Errno::ENOPROTOOPT),
    }
}

fn get_zero(context: &Context<'_>) -> Result<Value, Errno> {
    check_family(context)?;
    of_int(0)
}

fn set_any(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    check_family(context)?;
    int(value).map(drop)
}

fn set_only_zero(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    check_family(context)?;
    if switch(value)? { Err(Errno::ENOPROTOOPT) } else { Ok(()) }
}

/// The number of a multicast group: `EINVAL` out of the range of groups that exist (32 is Linux's least table).
fn group(value: &[u8]) -> Result<u32, Errno> {
    u32::try_from(int(value)?).ok().filter(|group| (1..=64).contains(group)).ok_or(Errno::EINVAL)
}

fn add_group(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    netlink(context)?.join(group(value)?);
    Ok(())
}

fn drop_group(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    netlink(context)?.leave(group(value)?);
    Ok(())
}

fn get_groups(context: &Context<'_>) -> Result<Value, Errno> {
    Ok(bytes(&netlink(context)?.groups()))
}

fn get_cap_ack(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(netlink(context)?.caps_acks().into())
}

fn set_cap_ack(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    netlink(context)?.set_cap_acks(switch(value)?);
    Ok(())
}

fn get_extended_ack(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(netlink(context)?.extends_acks().into())
}

fn set_extended_ack(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    netlink(context)?.set_extended_acks(switch(value)?);
    Ok(())
}
