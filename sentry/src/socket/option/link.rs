//! `SOL_PACKET` (`packet(7)`) and `SOL_NETLINK` (`netlink(7)`).

use sentry_abi::netlink::*;
use sentry_abi::packet::*;
use sentry_abi::socket::{SOL_NETLINK, SOL_PACKET};

use crate::errno::Errno;
use crate::socket::netlink::NetlinkSocket;
use crate::socket::ops::Family;
use crate::socket::option::value::{bytes, int, of_int, switch};
use crate::socket::option::{Context, Effect, OptionRow, Value, option};
use crate::socket::packet::PacketSocket;

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_PACKET, PACKET_STATISTICS, get_statistics, -),
    option!(SOL_PACKET, PACKET_IGNORE_OUTGOING, -, set_ignore_outgoing),
    option!(SOL_PACKET, PACKET_AUXDATA, get_zero, set_only_zero),
    option!(SOL_PACKET, PACKET_ADD_MEMBERSHIP, -, set_membership, Effect::Hint("links deliver all they see")),
    option!(SOL_PACKET, PACKET_DROP_MEMBERSHIP, -, set_membership, Effect::Hint("links deliver all they see")),
    option!(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, -, add_group),
    option!(SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, -, drop_group),
    option!(SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, get_groups, -),
    option!(SOL_NETLINK, NETLINK_PKTINFO, get_zero, set_only_zero),
    option!(SOL_NETLINK, NETLINK_BROADCAST_ERROR, get_zero, set_any, Effect::Hint("broadcasts never fail")),
    option!(SOL_NETLINK, NETLINK_NO_ENOBUFS, get_zero, set_any, Effect::Hint("overruns are dropped")),
    option!(SOL_NETLINK, NETLINK_CAP_ACK, get_cap_ack, set_cap_ack),
    option!(SOL_NETLINK, NETLINK_EXT_ACK, get_zero, set_any, Effect::Hint("errors come without a text")),
    option!(
        SOL_NETLINK,
        NETLINK_GET_STRICT_CHK,
        get_zero,
        set_any,
        Effect::Hint("dump requests are checked loosely")
    ),
];

fn packet<'a>(context: &Context<'a>) -> Result<&'a PacketSocket, Errno> {
    match context.socket.family() {
        Family::Packet(packet) => Ok(packet),
        Family::Unix(_) | Family::Inet(_) | Family::Netlink(_) | Family::Host(_) => Err(Errno::ENOPROTOOPT),
    }
}

fn netlink<'a>(context: &Context<'a>) -> Result<&'a NetlinkSocket, Errno> {
    match context.socket.family() {
        Family::Netlink(netlink) => Ok(netlink),
        Family::Unix(_) | Family::Inet(_) | Family::Packet(_) | Family::Host(_) => Err(Errno::ENOPROTOOPT),
    }
}

fn check_family(context: &Context<'_>) -> Result<(), Errno> {
    match context.socket.family() {
        Family::Netlink(_) | Family::Packet(_) => Ok(()),
        Family::Unix(_) | Family::Inet(_) | Family::Host(_) => Err(Errno::ENOPROTOOPT),
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

fn get_statistics(context: &Context<'_>) -> Result<Value, Errno> {
    let stats = packet(context)?.stack_socket().take_stats();
    // The counters are 32 bits wide in the ABI and wrap around.
    let low = |n: u64| (n & 0xffff_ffff) as u32;
    Ok(bytes(&TpacketStats { packets: low(stats.packets), drops: low(stats.drops) }))
}

fn set_ignore_outgoing(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let ignore = switch(value)?;
    packet(context)?.stack_socket().set_receive_outgoing(!ignore);
    Ok(())
}

/// `struct packet_mreq`: promiscuous mode and link-layer groups.
fn set_membership(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    packet(context)?;
    let index = int(value)?;
    let nic = u32::try_from(index).ok().and_then(netstack::NicId::from_index).ok_or(Errno::ENODEV)?;
    context.namespace.stack().nic(nic).map(drop).ok_or(Errno::ENODEV)
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
