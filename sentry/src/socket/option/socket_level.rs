//! `SOL_SOCKET` (`socket(7)`).

use netstack::NicId;
use netstack::options::SocketOptions;
use sentry_abi::ifreq::IFNAMSIZ;
use sentry_abi::socket::*;

use crate::errno::Errno;
use crate::socket::base::Switches;
use crate::socket::inet::{InetSocket, Protocol};
use crate::socket::ops::Family;
use crate::socket::option::refused::memory_info;
use crate::socket::option::value::{
    bytes, int, object, of_bool, of_int, of_timeout, saturate, switch, timeout,
};
use crate::socket::option::{Context, Effect, OptionRow, Value, option};
use crate::task::Capabilities;

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_SOCKET, SO_DEBUG, get_debug, set_debug, Effect::Hint("no kernel log to write to")),
    option!(SOL_SOCKET, SO_REUSEADDR, get_reuse_address, set_reuse_address),
    option!(SOL_SOCKET, SO_TYPE, get_type, -),
    option!(SOL_SOCKET, SO_ERROR, get_error, -),
    option!(SOL_SOCKET, SO_DONTROUTE, get_zero, set_only_zero),
    option!(SOL_SOCKET, SO_BROADCAST, get_broadcast, set_broadcast),
    option!(SOL_SOCKET, SO_SNDBUF, get_send_buffer, set_send_buffer),
    option!(SOL_SOCKET, SO_RCVBUF, get_recv_buffer, set_recv_buffer),
    option!(SOL_SOCKET, SO_SNDBUFFORCE, -, force_send_buffer),
    option!(SOL_SOCKET, SO_RCVBUFFORCE, -, force_recv_buffer),
    option!(SOL_SOCKET, SO_KEEPALIVE, get_keep_alive, set_keep_alive),
    option!(SOL_SOCKET, SO_OOBINLINE, get_oob_inline, set_oob_inline),
    option!(SOL_SOCKET, SO_NO_CHECK, get_no_check, set_no_check),
    option!(SOL_SOCKET, SO_LINGER, get_linger, set_linger, Effect::Partial("close does not wait")),
    option!(SOL_SOCKET, SO_REUSEPORT, get_reuse_port, set_reuse_port),
    option!(SOL_SOCKET, SO_PEERNAME, get_peer_name, -),
    option!(
        SOL_SOCKET,
        SO_RCVLOWAT,
        get_recv_low_water,
        set_recv_low_water,
        Effect::Partial("poll ignores it")
    ),
    option!(SOL_SOCKET, SO_SNDLOWAT, get_one, -),
    option!(SOL_SOCKET, SO_RCVTIMEO, get_recv_timeout, set_recv_timeout),
    option!(SOL_SOCKET, SO_SNDTIMEO, get_send_timeout, set_send_timeout),
    // The layouts of the "new" options differ from the old ones on 32-bit machines only.
    option!(SOL_SOCKET, SO_RCVTIMEO_NEW, get_recv_timeout, set_recv_timeout),
    option!(SOL_SOCKET, SO_SNDTIMEO_NEW, get_send_timeout, set_send_timeout),
    option!(SOL_SOCKET, SO_BINDTODEVICE, get_bound_device, set_bound_device),
    option!(SOL_SOCKET, SO_BINDTOIFINDEX, get_bound_index, set_bound_index),
    option!(SOL_SOCKET, SO_ACCEPTCONN, get_is_listening, -),
    option!(SOL_SOCKET, SO_PROTOCOL, get_protocol, -),
    option!(SOL_SOCKET, SO_DOMAIN, get_domain, -),
    option!(SOL_SOCKET, SO_RXQ_OVFL, get_tells_drops, set_tells_drops),
    option!(SOL_SOCKET, SO_PEEK_OFF, get_peek_offset, set_peek_offset),
    option!(
        SOL_SOCKET,
        SO_MAX_PACING_RATE,
        get_max_pacing_rate,
        set_max_pacing_rate,
        Effect::Partial("only streams, as on Linux without the fq queueing discipline")
    ),
    option!(SOL_SOCKET, SO_COOKIE, get_cookie, -),
    option!(SOL_SOCKET, SO_NETNS_COOKIE, get_namespace_cookie, -),
    option!(SOL_SOCKET, SO_ZEROCOPY, get_zero, set_zero_copy, Effect::Partial("cannot be turned on")),
    option!(SOL_SOCKET, SO_MEMINFO, get_memory_info, -),
    option!(SOL_SOCKET, SO_BUF_LOCK, get_buffer_lock, set_buffer_lock),
];

fn get_zero(_: &Context<'_>) -> Result<Value, Errno> {
    of_int(0)
}

fn get_one(_: &Context<'_>) -> Result<Value, Errno> {
    of_int(1)
}

/// Raw, packet and netlink sockets have no `set_peek_off`.
fn check_peek_offset(context: &Context<'_>) -> Result<(), Errno> {
    match context.socket.family() {
        Family::Inet(inet) if inet.raw().is_none() => Ok(()),
        Family::Unix(_) => Ok(()),
        Family::Inet(_) | Family::Netlink(_) | Family::Packet(_) | Family::Host(_) => Err(Errno::EOPNOTSUPP),
    }
}

fn get_peek_offset(context: &Context<'_>) -> Result<Value, Errno> {
    check_peek_offset(context)?;
    of_int(context.socket.base().peek_offset())
}

fn set_peek_offset(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let offset = int(value)?;
    check_peek_offset(context)?;
    context.socket.base().set_peek_offset(offset);
    Ok(())
}

fn set_zero_copy(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let has_it = context.inet().is_ok_and(|inet| inet.tcp().is_some() || inet.udp().is_some());
    match int(value)? {
        _ if !has_it => Err(Errno::EOPNOTSUPP),
        0 => Ok(()),
        1 => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::EINVAL),
    }
}

/// Turning off what cannot be turned on.
fn set_only_zero(_: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if switch(value)? { Err(Errno::ENOPROTOOPT) } else { Ok(()) }
}

fn get_debug(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.socket.base().has(Switches::DEBUG))
}

fn set_debug(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    if on && !context.namespace.grants(&context.task.creds(), Capabilities::NET_ADMIN) {
        return Err(Errno::EACCES);
    }
    context.socket.base().set(Switches::DEBUG, on);
    Ok(())
}

/// Keeps a switch and hands it to the stack's socket where there is one.
fn set_shared(
    context: &Context<'_>,
    value: &[u8],
    bit: Switches,
    apply: fn(&mut SocketOptions, bool),
) -> Result<(), Errno> {
    let on = switch(value)?;
    context.socket.base().set(bit, on);
    change_options(context, |options| apply(options, on));
    Ok(())
}

pub(super) fn change_options(context: &Context<'_>, change: impl FnOnce(&mut SocketOptions)) {
    match context.socket.family() {
        Family::Inet(inet) => inet.change_options(change),
        Family::Packet(packet) => packet.stack_socket().set_options(change),
        // Sockets of the host have their options there (`of_host`).
        Family::Unix(_) | Family::Netlink(_) | Family::Host(_) => {}
    }
}

fn get_reuse_address(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.socket.base().has(Switches::REUSE_ADDRESS))
}

fn set_reuse_address(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    set_shared(context, value, Switches::REUSE_ADDRESS, |options, on| options.reuse_address = on)
}

fn get_reuse_port(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.socket.base().has(Switches::REUSE_PORT))
}

fn set_reuse_port(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if switch(value)? && context.inet().is_err() {
        return Err(Errno::EOPNOTSUPP);
    }
    set_shared(context, value, Switches::REUSE_PORT, |options, on| options.reuse_port = on)
}

fn get_broadcast(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.socket.base().has(Switches::BROADCAST))
}

fn set_broadcast(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    set_shared(context, value, Switches::BROADCAST, |options, on| options.broadcast = on)
}

fn get_type(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(saturate(context.socket.base().kind.number()))
}

fn get_protocol(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(context.socket.base().protocol)
}

fn get_domain(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(i32::from(context.socket.base().family))
}

fn get_error(context: &Context<'_>) -> Result<Value, Errno> {
    let error = context.socket.base().take_late_error().or_else(|| context.socket.take_error());
    of_int(error.map_or(0, |e| i32::from(e.code())))
}

fn get_is_listening(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.socket.is_listening())
}

/// Which buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Send,
    Receive,
}

/// `SOCK_MIN_SNDBUF` and `SOCK_MIN_RCVBUF`, as `getsockopt` shows them.
const SEND_MIN: u32 = 4608;
const RECV_MIN: u32 = 2304;

/// socket(7): "The kernel doubles this value (to allow space for bookkeeping overhead)".
fn doubled(requested: i32, direction: Direction, max: u32) -> u32 {
    let min = if direction == Direction::Send { SEND_MIN } else { RECV_MIN };
    // A negative value is a large unsigned one to Linux (min_t(u32, ...)).
    requested.cast_unsigned().min(max).saturating_mul(2).max(min)
}

fn set_buffer(context: &Context<'_>, direction: Direction, bytes: u32) {
    lock_buffer(context, direction);
    let size = usize::try_from(bytes).unwrap_or(usize::MAX);
    match context.socket.family() {
        Family::Inet(inet) => match (inet.protocol(), direction) {
            (Protocol::Tcp(tcp), Direction::Send) => tcp.set_tcp_options(|o| o.send_buffer = Some(bytes)),
            (Protocol::Tcp(tcp), Direction::Receive) => {
                tcp.set_tcp_options(|o| o.receive_buffer = Some(bytes));
            }
            (_, Direction::Send) => inet.change_options(|o| o.send_buffer = size),
            (_, Direction::Receive) => inet.change_options(|o| o.recv_buffer = size),
        },
        Family::Packet(packet) => packet.stack_socket().set_options(|options| match direction {
            Direction::Send => options.send_buffer = size,
            Direction::Receive => options.recv_buffer = size,
        }),
        Family::Unix(unix) => match direction {
            Direction::Send => unix.set_send_buffer(size),
            Direction::Receive => unix.set_recv_buffer(size),
        },
        Family::Netlink(netlink) => match direction {
            Direction::Send => netlink.set_send_buffer(size),
            Direction::Receive => netlink.set_recv_buffer(size),
        },
        Family::Host(_) => {}
    }
}

fn get_buffer(context: &Context<'_>, direction: Direction) -> Result<Value, Errno> {
    of_int(saturate(buffer(context, direction)?))
}

fn buffer(context: &Context<'_>, direction: Direction) -> Result<usize, Errno> {
    Ok(match context.socket.family() {
        Family::Inet(inet) => match (inet.protocol(), direction) {
            (Protocol::Tcp(tcp), Direction::Send) => {
                let default = context.namespace.stack().tcp_config().send_buffer.default;
                size_of_buffer(tcp.tcp_options().send_buffer.unwrap_or(default))
            }
            (Protocol::Tcp(tcp), Direction::Receive) => {
                let default = context.namespace.stack().tcp_config().receive_buffer.default;
                size_of_buffer(tcp.tcp_options().receive_buffer.unwrap_or(default))
            }
            (_, Direction::Send) => inet.options().send_buffer,
            (_, Direction::Receive) => inet.options().recv_buffer,
        },
        Family::Packet(packet) => match direction {
            Direction::Send => packet.stack_socket().options().send_buffer,
            Direction::Receive => packet.stack_socket().options().recv_buffer,
        },
        Family::Unix(unix) => match direction {
            Direction::Send => unix.send_buffer(),
            Direction::Receive => unix.recv_buffer(),
        },
        Family::Netlink(netlink) => match direction {
            Direction::Send => netlink.send_buffer(),
            Direction::Receive => netlink.recv_buffer(),
        },
        Family::Host(_) => return Err(Errno::ENOPROTOOPT),
    })
}

fn size_of_buffer(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// `SO_MEMINFO` (`sk_get_meminfo`): of what the numbers tell, the limits are known, and what datagrams take and were lost.
fn get_memory_info(context: &Context<'_>) -> Result<Value, Errno> {
    let queue = context.inet().ok().and_then(InetSocket::datagram_queue).unwrap_or_default();
    Ok(memory_info(buffer(context, Direction::Receive)?, buffer(context, Direction::Send)?, queue))
}

/// `SOCK_SNDBUF_LOCK` and `SOCK_RCVBUF_LOCK`: which buffers keep the size that they have.
const LOCKS: [(i32, Direction); 2] = [(1, Direction::Send), (2, Direction::Receive)];

fn get_buffer_lock(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(context.socket.base().kept(BUFFER_LOCK).unwrap_or(0))
}

fn set_buffer_lock(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let wanted = int(value)?;
    if !(0..=3).contains(&wanted) {
        return Err(Errno::EINVAL);
    }
    if let Some(tcp) = context.inet().ok().and_then(|inet| inet.tcp()) {
        // Only the buffers of streams grow and shrink by themselves.
        for (bit, direction) in LOCKS {
            let size = u32::try_from(buffer(context, direction)?).unwrap_or(u32::MAX);
            let size = (wanted & bit != 0).then_some(size);
            tcp.set_tcp_options(|options| match direction {
                Direction::Send => options.send_buffer = size,
                Direction::Receive => options.receive_buffer = size,
            });
        }
    }
    context.socket.base().keep(BUFFER_LOCK, wanted);
    Ok(())
}

const BUFFER_LOCK: (i32, i32) = (SOL_SOCKET, SO_BUF_LOCK);

/// Setting a size locks it.
fn lock_buffer(context: &Context<'_>, direction: Direction) {
    let bits = LOCKS.iter().filter(|(_, of)| *of == direction).fold(0, |bits, (bit, _)| bits | bit);
    let base = context.socket.base();
    base.keep(BUFFER_LOCK, base.kept(BUFFER_LOCK).unwrap_or(0) | bits);
}

fn get_send_buffer(context: &Context<'_>) -> Result<Value, Errno> {
    get_buffer(context, Direction::Send)
}

fn get_recv_buffer(context: &Context<'_>) -> Result<Value, Errno> {
    get_buffer(context, Direction::Receive)
}

fn set_send_buffer(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let most = context.namespace.settings().send_max.get();
    set_buffer(context, Direction::Send, doubled(int(value)?, Direction::Send, most));
    Ok(())
}

fn set_recv_buffer(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let most = context.namespace.settings().receive_max.get();
    set_buffer(context, Direction::Receive, doubled(int(value)?, Direction::Receive, most));
    Ok(())
}

fn forced(context: &Context<'_>, value: &[u8], direction: Direction) -> Result<(), Errno> {
    if !context.namespace.grants(&context.task.creds(), Capabilities::NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    // The guest's administrator may exceed the limit, but not the sandbox's memory.
    set_buffer(context, direction, doubled(int(value)?.max(0), direction, 64 << 20));
    Ok(())
}

fn force_send_buffer(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    forced(context, value, Direction::Send)
}

fn force_recv_buffer(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    forced(context, value, Direction::Receive)
}

fn get_keep_alive(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.socket.base().has(Switches::KEEP_ALIVE))
}

fn set_keep_alive(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    context.socket.base().set(Switches::KEEP_ALIVE, on);
    if let Some(tcp) = context.inet().ok().and_then(|inet| inet.tcp()) {
        tcp.set_tcp_options(|options| options.keepalive = on);
    }
    Ok(())
}

fn get_oob_inline(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.socket.base().has(Switches::OOB_INLINE))
}

fn set_oob_inline(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    context.socket.base().set(Switches::OOB_INLINE, on);
    if let Some(tcp) = context.inet().ok().and_then(|inet| inet.tcp()) {
        tcp.set_tcp_options(|options| options.urgent_inline = on);
    }
    Ok(())
}

fn get_no_check(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.socket.base().kept(context.option).is_some_and(|on| on != 0))
}

fn set_no_check(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    change_options(context, |options| options.no_checksum = on);
    context.socket.base().keep(context.option, on.into());
    Ok(())
}

fn get_linger(context: &Context<'_>) -> Result<Value, Errno> {
    let base = context.socket.base();
    Ok(bytes(&Linger { onoff: i32::from(base.has(Switches::LINGER)), linger: base.linger_seconds() }))
}

fn set_linger(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let linger: Linger = object(value)?;
    let base = context.socket.base();
    if linger.onoff != 0 {
        base.set_linger_seconds(linger.linger);
    }
    base.set(Switches::LINGER, linger.onoff != 0);
    Ok(())
}

fn get_tells_drops(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.socket.base().has(Switches::TELLS_DROPS))
}

fn set_tells_drops(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    context.socket.base().set(Switches::TELLS_DROPS, switch(value)?);
    Ok(())
}

fn get_peer_name(context: &Context<'_>) -> Result<Value, Errno> {
    Ok(Value::from_slice(&context.socket.peer_address()?))
}

fn get_recv_low_water(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(context.socket.base().recv_low_water())
}

fn set_recv_low_water(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    // Zero means one, a negative value "as much as possible" (sock_setsockopt).
    let bytes = match int(value)? {
        0 => 1,
        n if n < 0 => i32::MAX,
        n => n,
    };
    let bytes = match context.inet().ok().and_then(|inet| inet.tcp()) {
        // tcp_set_rcvlowat: "cap = READ_ONCE(sock_net(sk)->ipv4.sysctl_tcp_rmem[2]) >> 1"
        Some(tcp) => {
            let max = context.namespace.stack().tcp_config().receive_buffer.max;
            bytes.min(saturate(tcp.tcp_options().receive_buffer.unwrap_or(max) / 2))
        }
        None => bytes,
    };
    context.socket.base().set_recv_low_water(bytes);
    Ok(())
}

fn get_recv_timeout(context: &Context<'_>) -> Result<Value, Errno> {
    of_timeout(context.socket.base().recv_timeout())
}

fn set_recv_timeout(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    context.socket.base().set_recv_timeout(timeout(value)?);
    Ok(())
}

fn get_send_timeout(context: &Context<'_>) -> Result<Value, Errno> {
    of_timeout(context.socket.base().send_timeout())
}

fn set_send_timeout(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    context.socket.base().set_send_timeout(timeout(value)?);
    Ok(())
}

fn get_bound_device(context: &Context<'_>) -> Result<Value, Errno> {
    let nic = context.inet().ok().and_then(|inet| inet.options().bound_nic);
    let name = nic.and_then(|nic| context.namespace.stack().nic(nic)).map(|nic| nic.name);
    Ok(name.map_or_else(Value::new, |name| {
        let mut value = Value::from_slice(name.as_bytes());
        value.push(0);
        value
    }))
}

fn set_bound_device(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let value = &value[..value.len().min(IFNAMSIZ - 1)];
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    let name = std::str::from_utf8(&value[..end]).map_err(|_| Errno::ENODEV)?;
    let nic = match name {
        "" => None,
        name => Some(context.namespace.stack().nic_by_name(name).ok_or(Errno::ENODEV)?),
    };
    bind_to_nic(context, nic)
}

fn bind_to_nic(context: &Context<'_>, nic: Option<NicId>) -> Result<(), Errno> {
    // On sockets that send nothing through interfaces it is accepted.
    let Ok(inet) = context.inet() else { return Ok(()) };
    // sock_bindtoindex: changing an existing binding needs CAP_NET_RAW.
    if inet.options().bound_nic.is_some()
        && !context.namespace.grants(&context.task.creds(), Capabilities::NET_RAW)
    {
        return Err(Errno::EPERM);
    }
    inet.change_options(|options| options.bound_nic = nic);
    Ok(())
}

fn get_bound_index(context: &Context<'_>) -> Result<Value, Errno> {
    let Ok(inet) = context.inet() else {
        return of_int(context.socket.base().kept(context.option).unwrap_or(0));
    };
    of_int(inet.options().bound_nic.map_or(0, |nic| saturate(nic.index())))
}

fn set_bound_index(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let index = int(value)?;
    // An interface that does not exist may come: sock_bindtoindex does not look for it.
    let nic = NicId::from_index(u32::try_from(index).map_err(|_| Errno::EINVAL)?);
    context.socket.base().keep(context.option, index);
    bind_to_nic(context, nic)
}

/// An `unsigned long` where there is room for one, or else an `unsigned int`.
fn get_max_pacing_rate(context: &Context<'_>) -> Result<Value, Errno> {
    let rate = match context.inet().ok().and_then(|inet| inet.tcp()) {
        Some(tcp) => tcp.tcp_options().max_pacing_rate.unwrap_or(u64::MAX),
        None => match context.socket.base().kept(context.option).unwrap_or(-1) {
            -1 => u64::MAX,
            rate => rate.cast_unsigned().into(),
        },
    };
    if context.buffer.1 >= size_of::<u64>() {
        return Ok(bytes(&rate));
    }
    Ok(bytes(&u32::try_from(rate).unwrap_or(u32::MAX)))
}

/// An `unsigned long`, or an `unsigned int` whose largest value means no limit as well (`sk_setsockopt`).
fn set_max_pacing_rate(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let rate = match object::<[u8; 8]>(value) {
        Ok(rate) => u64::from_ne_bytes(rate),
        Err(_) => match int(value)?.cast_unsigned() {
            u32::MAX => u64::MAX,
            rate => rate.into(),
        },
    };
    let Some(tcp) = context.inet().ok().and_then(|inet| inet.tcp()) else {
        // What does not fit is as good as no limit.
        let kept = u32::try_from(rate).unwrap_or(u32::MAX).cast_signed();
        context.socket.base().keep(context.option, kept);
        return Ok(());
    };
    tcp.set_tcp_options(|options| options.max_pacing_rate = (rate != u64::MAX).then_some(rate));
    Ok(())
}

fn get_cookie(context: &Context<'_>) -> Result<Value, Errno> {
    if context.buffer.1 < size_of::<u64>() {
        return Err(Errno::EINVAL);
    }
    Ok(bytes(&context.socket.base().ino()))
}

fn get_namespace_cookie(context: &Context<'_>) -> Result<Value, Errno> {
    if context.buffer.1 != size_of::<u64>() {
        return Err(Errno::EINVAL);
    }
    Ok(bytes(&1_u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUFFER_MAX: u32 = 4 << 20;

    /// Observed on Linux 6.18, with the limits raised.
    #[test]
    fn buffer_sizes_are_doubled_between_the_limits() {
        for (asked, sent, received) in
            [(0, 4608, 2304), (1000, 4608, 2304), (5000, 10000, 10000), (1_000_000, 2_000_000, 2_000_000)]
        {
            assert_eq!(doubled(asked, Direction::Send, BUFFER_MAX), sent);
            assert_eq!(doubled(asked, Direction::Receive, BUFFER_MAX), received);
        }
        assert_eq!(doubled(-1, Direction::Send, BUFFER_MAX), 8 << 20);
    }
}
