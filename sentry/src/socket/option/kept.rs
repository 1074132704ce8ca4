//! Options that are a number which the socket keeps and shows, and that have no effect here; most have none on Linux
//! either without hardware, queueing disciplines or security modules.

use sentry_abi::inet::*;
use sentry_abi::socket::*;

use crate::errno::Errno;
use crate::socket::base::SocketType;
use crate::socket::ops::Family;
use crate::socket::option::value::{bytes, int, int_or_byte, object, of_int, switch};
use crate::socket::option::{Context, Effect, OptionRow, Value, option};
use crate::task::Capabilities;

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_SOCKET, SO_BSDCOMPAT, get_zero, set_any, Effect::Hint("without effect on Linux, too")),
    option!(SOL_SOCKET, SO_PASSSEC, get_local, set_local, Effect::Hint("no security modules")),
    option!(SOL_SOCKET, SO_WIFI_STATUS, get, set_switch, Effect::Hint("no wireless interfaces")),
    option!(SOL_SOCKET, SO_NOFCS, get, set_switch, Effect::Hint("no interface sends a checksum of ours")),
    option!(SOL_SOCKET, SO_SELECT_ERR_QUEUE, get, set_switch, Effect::Hint("poll reports errors anyway")),
    option!(
        SOL_SOCKET,
        SO_BUSY_POLL,
        get,
        set_busy_poll,
        Effect::Hint("nothing to poll: packets come by thread")
    ),
    option!(SOL_SOCKET, SO_PREFER_BUSY_POLL, get, set_preference, Effect::Hint("as SO_BUSY_POLL")),
    option!(SOL_SOCKET, SO_BUSY_POLL_BUDGET, -, set_budget, Effect::Hint("as SO_BUSY_POLL")),
    option!(SOL_SOCKET, SO_INCOMING_CPU, get_or_minus_one, set_int, Effect::Hint("one receive queue")),
    option!(SOL_SOCKET, SO_CNX_ADVICE, -, set_any, Effect::Hint("routes are looked up anew by themselves")),
    option!(SOL_SOCKET, SO_TXREHASH, get_rehash, set_rehash, Effect::Hint("there is one path")),
    option!(
        SOL_SOCKET,
        SO_TXTIME,
        get_transmit_time,
        set_transmit_time,
        Effect::Hint("on Linux it takes the etf or fq queueing discipline to have an effect")
    ),
    option!(SOL_IP, IP_PASSSEC, get, set_byte, Effect::Hint("no security modules")),
    option!(SOL_IP, IP_NODEFRAG, get, set_no_reassembly, Effect::Hint("what is sent is never reassembled")),
    option!(SOL_IP, IP_BIND_ADDRESS_NO_PORT, get, set_byte, Effect::Hint("the port is picked early")),
    option!(
        SOL_IPV6,
        IPV6_ROUTER_ALERT_ISOLATE,
        get,
        set_switch,
        Effect::Hint("alerts go to multicast routing programs only")
    ),
];

/// The number that the socket keeps for the option.
fn kept(context: &Context<'_>) -> Option<i32> {
    context.socket.base().kept(context.option)
}

fn keep(context: &Context<'_>, value: i32) -> Result<(), Errno> {
    context.socket.base().keep(context.option, value);
    Ok(())
}

fn get_zero(_: &Context<'_>) -> Result<Value, Errno> {
    of_int(0)
}

fn set_any(_: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    int(value).map(drop)
}

fn get(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(kept(context).unwrap_or(0))
}

fn get_or_minus_one(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(kept(context).unwrap_or(-1))
}

fn set_int(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    keep(context, int(value)?)
}

fn set_switch(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    keep(context, switch(value)?.into())
}

/// A switch of `SOL_IP`, which may be a byte.
fn set_byte(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    keep(context, i32::from(int_or_byte(value) != 0))
}

fn set_no_reassembly(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if context.socket.base().kind != SocketType::Raw {
        return Err(Errno::ENOPROTOOPT);
    }
    set_byte(context, value)
}

fn check_local(context: &Context<'_>) -> Result<(), Errno> {
    match context.socket.family() {
        Family::Unix(_) | Family::Netlink(_) => Ok(()),
        Family::Inet(_) | Family::Packet(_) | Family::Host(_) => Err(Errno::EOPNOTSUPP),
    }
}

fn get_local(context: &Context<'_>) -> Result<Value, Errno> {
    check_local(context)?;
    get(context)
}

fn set_local(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    check_local(context)?;
    set_switch(context, value)
}

/// What makes the host work more is the administrator's.
fn check_administrator(context: &Context<'_>) -> Result<(), Errno> {
    if context.namespace.grants(&context.task.creds(), Capabilities::NET_ADMIN) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

fn set_busy_poll(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let micros = int(value)?;
    if micros < 0 {
        return Err(Errno::EINVAL);
    }
    if micros > kept(context).unwrap_or(0) {
        check_administrator(context)?;
    }
    keep(context, micros)
}

fn set_preference(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if switch(value)? {
        check_administrator(context)?;
    }
    set_switch(context, value)
}

/// `sk->sk_ll_usec` counts in microseconds, the budget in packets, in 16 bits.
fn set_budget(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let packets = int(value)?;
    if packets > kept(context).unwrap_or(8) {
        check_administrator(context)?;
    }
    if u16::try_from(packets).is_err() {
        return Err(Errno::EINVAL);
    }
    keep(context, packets)
}

fn check_stream(context: &Context<'_>) -> Result<(), Errno> {
    context.inet().ok().and_then(|inet| inet.tcp()).map(drop).ok_or(Errno::EOPNOTSUPP)
}

fn get_rehash(context: &Context<'_>) -> Result<Value, Errno> {
    check_stream(context)?;
    of_int(kept(context).unwrap_or(1))
}

/// `SOCK_TXREHASH_DEFAULT`, which stands for the namespace's setting: on.
const REHASH_DEFAULT: i32 = -1;

fn set_rehash(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    check_stream(context)?;
    match int(value)? {
        REHASH_DEFAULT => keep(context, 1),
        on @ 0..=1 => keep(context, on),
        _ => Err(Errno::EINVAL),
    }
}

/// `struct sock_txtime`: a clock and flags.
const TRANSMIT_TIME_LEN: usize = 8;
/// `SOF_TXTIME_DEADLINE_MODE` and `SOF_TXTIME_REPORT_ERRORS`.
const TRANSMIT_TIME_FLAGS: u32 = 3;
/// `CLOCK_MONOTONIC`, the one clock that does not take privilege.
const CLOCK_MONOTONIC: i32 = 1;

/// The clock is in the lower bits of what is kept, the flags above.
fn get_transmit_time(context: &Context<'_>) -> Result<Value, Errno> {
    let kept = kept(context).unwrap_or(0);
    Ok(bytes(&[kept & 0xff, kept >> 8]))
}

fn set_transmit_time(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if value.len() != TRANSMIT_TIME_LEN {
        return Err(Errno::EINVAL);
    }
    let [clock, flags]: [i32; 2] = object(value)?;
    if flags.cast_unsigned() & !TRANSMIT_TIME_FLAGS != 0 || !(0..=CLOCK_LAST).contains(&clock) {
        return Err(Errno::EINVAL);
    }
    if clock != CLOCK_MONOTONIC {
        check_administrator(context)?;
    }
    keep(context, clock | flags << 8)
}

/// `CLOCK_TAI`.
const CLOCK_LAST: i32 = 11;
