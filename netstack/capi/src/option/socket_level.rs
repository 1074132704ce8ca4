//! `SOL_SOCKET`.

use std::time::Duration;

use libc::SOL_SOCKET as SOCKET;
use netstack::tcp::State;

use super::value::{
    change, count, flag, int, int_value, options_of, saturate, set_buffer, set_flag, set_time, time, want,
    wanted,
};
use super::{Row, Subject, both, read_only};
use crate::control::Receive;
use crate::descriptor::{Kind, each};
use crate::errno::Errno;

pub(super) const ROWS: &[Row] = &[
    read_only(SOCKET, libc::SO_ERROR, |socket| {
        let error = each!(&socket.kind, socket => socket.take_error());
        Ok(int_value(error.map_or(0, |error| Errno::from(error).0)))
    }),
    read_only(SOCKET, libc::SO_TYPE, |socket| {
        Ok(int_value(match socket.kind {
            Kind::Tcp(_) => libc::SOCK_STREAM,
            Kind::Udp(_) | Kind::Ping(_) => libc::SOCK_DGRAM,
            Kind::Raw(..) => libc::SOCK_RAW,
        }))
    }),
    read_only(SOCKET, libc::SO_DOMAIN, |socket| {
        let local = each!(&socket.kind, socket => socket.local_addr());
        Ok(int_value(if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }))
    }),
    read_only(SOCKET, libc::SO_PROTOCOL, |socket| {
        let local = each!(&socket.kind, socket => socket.local_addr());
        Ok(int_value(match socket.kind {
            Kind::Tcp(_) => libc::IPPROTO_TCP,
            Kind::Udp(_) => libc::IPPROTO_UDP,
            Kind::Raw(_, protocol) => protocol.into(),
            Kind::Ping(_) if local.is_ipv4() => libc::IPPROTO_ICMP,
            Kind::Ping(_) => libc::IPPROTO_ICMPV6,
        }))
    }),
    read_only(SOCKET, libc::SO_ACCEPTCONN, |socket| {
        let is_listening = socket.tcp().is_some_and(|tcp| tcp.state() == State::Listen);
        Ok(int_value(is_listening.into()))
    }),
    both(
        SOCKET,
        libc::SO_REUSEADDR,
        |socket| Ok(flag(socket, |options| options.reuse_address)),
        |socket, value| set_flag(socket, value, |options, on| options.reuse_address = on),
    ),
    both(
        SOCKET,
        libc::SO_REUSEPORT,
        |socket| Ok(flag(socket, |options| options.reuse_port)),
        |socket, value| set_flag(socket, value, |options, on| options.reuse_port = on),
    ),
    both(
        SOCKET,
        libc::SO_BROADCAST,
        |socket| Ok(flag(socket, |options| options.broadcast)),
        |socket, value| set_flag(socket, value, |options, on| options.broadcast = on),
    ),
    both(
        SOCKET,
        libc::SO_SNDBUF,
        |socket| Ok(count(socket, |options| options.send_buffer)),
        |socket, value| {
            set_buffer(socket, value, MIN_SEND_BUFFER, |options, size| options.send_buffer = size)
        },
    ),
    both(
        SOCKET,
        libc::SO_RCVBUF,
        |socket| Ok(count(socket, |options| options.recv_buffer)),
        |socket, value| {
            set_buffer(socket, value, MIN_RECV_BUFFER, |options, size| options.recv_buffer = size)
        },
    ),
    both(
        SOCKET,
        libc::SO_KEEPALIVE,
        |socket| Ok(int_value(socket.tcp().is_some_and(|tcp| tcp.tcp_options().keepalive).into())),
        |socket, value| {
            let on = int(value)? != 0;
            if let Some(tcp) = socket.tcp() {
                tcp.set_tcp_options(|options| options.keepalive = on);
            }
            Ok(())
        },
    ),
    both(
        SOCKET,
        libc::SO_LINGER,
        |socket| {
            let linger = socket.settings.lock().linger;
            let seconds = linger.map_or(0, |linger| linger.as_secs());
            Ok([int_value(linger.is_some().into()), int_value(saturate(seconds))].concat())
        },
        |socket, value| {
            let (on, seconds) = (int(value)?, int(value.get(4..).ok_or(Errno(libc::EINVAL))?)?);
            let linger = (on != 0).then(|| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
            socket.settings.lock().linger = linger;
            Ok(())
        },
    ),
    both(
        SOCKET,
        libc::SO_RCVTIMEO,
        |socket| Ok(time(socket.settings.lock().receive_timeout)),
        |socket, value| set_time(socket, value, |settings, limit| settings.receive_timeout = limit),
    ),
    both(
        SOCKET,
        libc::SO_SNDTIMEO,
        |socket| Ok(time(socket.settings.lock().send_timeout)),
        |socket, value| set_time(socket, value, |settings, limit| settings.send_timeout = limit),
    ),
    both(
        SOCKET,
        libc::SO_TIMESTAMP,
        |socket| Ok(wanted(socket, Receive::TIMESTAMP)),
        |socket, value| set_timestamp(socket, value, Receive::TIMESTAMP),
    ),
    both(
        SOCKET,
        libc::SO_TIMESTAMPNS,
        |socket| Ok(wanted(socket, Receive::TIMESTAMP_NS)),
        |socket, value| set_timestamp(socket, value, Receive::TIMESTAMP_NS),
    ),
    both(
        SOCKET,
        libc::SO_BINDTODEVICE,
        |socket| {
            let nic = options_of(socket).bound_nic.and_then(|nic| socket.handle.stack.nic(nic));
            Ok(nic.map_or(Vec::new(), |nic| [nic.name.as_bytes(), &[0]].concat()))
        },
        set_device,
    ),
    both(
        SOCKET,
        libc::SO_MARK,
        |socket| Ok(options_of(socket).mark.to_ne_bytes().to_vec()),
        |socket, value| {
            let mark = int(value)?.cast_unsigned();
            change(socket, |options| options.mark = mark)
        },
    ),
    both(
        SOCKET,
        libc::SO_NO_CHECK,
        |socket| Ok(flag(socket, |options| options.no_checksum)),
        |socket, value| set_flag(socket, value, |options, on| options.no_checksum = on),
    ),
    both(
        SOCKET,
        libc::SO_OOBINLINE,
        |socket| Ok(int_value(socket.tcp().is_some_and(|tcp| tcp.tcp_options().urgent_inline).into())),
        |socket, value| {
            let on = int(value)? != 0;
            if let Some(tcp) = socket.tcp() {
                tcp.set_tcp_options(|options| options.urgent_inline = on);
            }
            Ok(())
        },
    ),
    both(
        SOCKET,
        libc::SO_MAX_PACING_RATE,
        |socket| {
            let rate = socket.tcp().and_then(|tcp| tcp.tcp_options().max_pacing_rate);
            // All ones are no limit, in whichever width is asked for.
            Ok(rate.unwrap_or(u64::MAX).to_ne_bytes().to_vec())
        },
        set_pacing_rate,
    ),
];

/// The two exclude one another, and either's zero ends both (sock_set_timestamp).
fn set_timestamp(socket: &Subject<'_>, value: &[u8], switch: Receive) -> Result<(), Errno> {
    int(value)?;
    socket.settings.lock().receive.remove(Receive::TIMESTAMP | Receive::TIMESTAMP_NS);
    want(socket, value, switch)
}

/// An empty name ends it, as on Linux.
fn set_device(socket: &Subject<'_>, value: &[u8]) -> Result<(), Errno> {
    let name = value.split(|&byte| byte == 0).next().unwrap_or_default();
    let nic = match std::str::from_utf8(name) {
        Ok("") => None,
        Ok(name) => Some(socket.handle.stack.nic_by_name(name).ok_or(Errno(libc::ENODEV))?),
        Err(_) => return Err(Errno(libc::ENODEV)),
    };
    change(socket, |options| options.bound_nic = nic)
}

/// Four bytes or eight (Linux 4.20).
fn set_pacing_rate(socket: &Subject<'_>, value: &[u8]) -> Result<(), Errno> {
    let rate = match value.first_chunk() {
        Some(bytes) => u64::from_ne_bytes(*bytes),
        None => match int(value)?.cast_unsigned() {
            u32::MAX => u64::MAX,
            rate => rate.into(),
        },
    };
    if let Some(tcp) = socket.tcp() {
        tcp.set_tcp_options(|options| options.max_pacing_rate = (rate != u64::MAX).then_some(rate));
    }
    Ok(())
}

/// Linux's `SOCK_MIN_SNDBUF` and `SOCK_MIN_RCVBUF`, rounded.
const MIN_SEND_BUFFER: usize = 4608;
const MIN_RECV_BUFFER: usize = 2304;
