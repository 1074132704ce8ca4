//! `setsockopt` and `getsockopt`: a table of options with Linux's names, units and errors.

use std::time::Duration;

use libc::{c_int, c_void, socklen_t};
use netstack::options::SocketOptions;
use netstack::tcp::{Algorithm, State};

use crate::descriptor::{Kind, Settings, Socket, each};
use crate::errno::{Errno, answer};
use crate::frame::{bytes, bytes_mut};
use crate::socket::lookup;
use crate::stack::ns_stack;

/// Sets an option, as `setsockopt(2)`. `-ENOPROTOOPT` for what this stack does not have: nothing is ignored silently.
///
/// # Safety
/// `stack` is a valid stack and `value` points to `len` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_setsockopt(
    stack: *const ns_stack,
    socket: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    // SAFETY: as required of the caller.
    let (found, value) = unsafe { (lookup(stack, socket), bytes(value.cast(), len as usize)) };
    let set = || {
        let ((_, socket), value) = (found?, value?);
        let row = row(level, name)?;
        (row.set.ok_or(Errno(libc::ENOPROTOOPT))?)(&socket, value)?;
        Ok(0)
    };
    answer(set())
}

/// Reads an option, as `getsockopt(2)`: the value is cut to `*len` bytes, and `*len` says how many were written.
///
/// # Safety
/// `stack` is a valid stack, `len` points to a length and `value` to that many writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_getsockopt(
    stack: *const ns_stack,
    socket: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    // SAFETY: as required of the caller.
    let (found, len) = unsafe { (lookup(stack, socket), len.as_mut()) };
    let get = || {
        let ((_, socket), len) = (found?, len.ok_or(Errno(libc::EFAULT))?);
        let row = row(level, name)?;
        let known = (row.get.ok_or(Errno(libc::ENOPROTOOPT))?)(&socket)?;
        // SAFETY: as required of the caller.
        let out = unsafe { bytes_mut(value.cast(), *len as usize) }?;
        let count = known.len().min(out.len());
        out[..count].copy_from_slice(&known[..count]);
        // No option is that long.
        *len = count as socklen_t;
        Ok(0)
    };
    answer(get())
}

type Get = fn(&Socket) -> Result<Vec<u8>, Errno>;
type Set = fn(&Socket, &[u8]) -> Result<(), Errno>;

/// One option.
struct Row {
    level: c_int,
    name: c_int,
    get: Option<Get>,
    set: Option<Set>,
}

fn row(level: c_int, name: c_int) -> Result<&'static Row, Errno> {
    let found = ROWS.iter().find(|row| (row.level, row.name) == (level, name));
    found.ok_or(Errno(libc::ENOPROTOOPT))
}

const fn both(level: c_int, name: c_int, get: Get, set: Set) -> Row {
    Row { level, name, get: Some(get), set: Some(set) }
}

const fn read_only(level: c_int, name: c_int, get: Get) -> Row {
    Row { level, name, get: Some(get), set: None }
}

const SOCKET: c_int = libc::SOL_SOCKET;
const IP: c_int = libc::IPPROTO_IP;
const IPV6: c_int = libc::IPPROTO_IPV6;
const TCP: c_int = libc::IPPROTO_TCP;

const ROWS: &[Row] = &[
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
        IP,
        libc::IP_TTL,
        |socket| Ok(int_value(options_of(socket).ttl.unwrap_or(DEFAULT_TTL).into())),
        |socket, value| {
            let ttl = hops(value, 1)?;
            change(socket, |options| options.ttl = ttl)
        },
    ),
    both(
        IP,
        libc::IP_TOS,
        |socket| Ok(int_value(options_of(socket).tos.into())),
        |socket, value| {
            let tos = octet(value)?;
            change(socket, |options| options.tos = tos)
        },
    ),
    both(
        IP,
        libc::IP_MULTICAST_TTL,
        |socket| Ok(int_value(options_of(socket).multicast_ttl.into())),
        |socket, value| {
            let ttl = hops(value, 0)?.unwrap_or(1);
            change(socket, |options| options.multicast_ttl = ttl)
        },
    ),
    both(
        IP,
        libc::IP_MULTICAST_LOOP,
        |socket| Ok(flag(socket, |options| options.multicast_loop)),
        |socket, value| set_flag(socket, value, |options, on| options.multicast_loop = on),
    ),
    both(
        IP,
        libc::IP_FREEBIND,
        |socket| Ok(flag(socket, |options| options.free_bind)),
        |socket, value| set_flag(socket, value, |options, on| options.free_bind = on),
    ),
    both(
        IP,
        libc::IP_HDRINCL,
        |socket| Ok(flag(socket, |options| options.header_included)),
        |socket, value| set_flag(socket, value, |options, on| options.header_included = on),
    ),
    both(
        IPV6,
        libc::IPV6_V6ONLY,
        |socket| Ok(flag(socket, |options| options.only_v6)),
        |socket, value| set_flag(socket, value, |options, on| options.only_v6 = on),
    ),
    both(
        IPV6,
        libc::IPV6_UNICAST_HOPS,
        |socket| Ok(int_value(options_of(socket).hop_limit.unwrap_or(DEFAULT_TTL).into())),
        |socket, value| {
            let limit = hops(value, 0)?;
            change(socket, |options| options.hop_limit = limit)
        },
    ),
    both(
        IPV6,
        libc::IPV6_MULTICAST_HOPS,
        |socket| Ok(int_value(options_of(socket).multicast_hop_limit.into())),
        |socket, value| {
            let limit = hops(value, 0)?.unwrap_or(1);
            change(socket, |options| options.multicast_hop_limit = limit)
        },
    ),
    both(
        IPV6,
        libc::IPV6_TCLASS,
        |socket| Ok(int_value(options_of(socket).traffic_class.into())),
        |socket, value| {
            let class = octet(value)?;
            change(socket, |options| options.traffic_class = class)
        },
    ),
    both(
        TCP,
        libc::TCP_NODELAY,
        |socket| Ok(int_value(tcp(socket)?.tcp_options().no_delay.into())),
        |socket, value| {
            let on = int(value)? != 0;
            tcp(socket)?.set_tcp_options(|options| options.no_delay = on);
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_CORK,
        |socket| Ok(int_value(tcp(socket)?.tcp_options().cork.into())),
        |socket, value| {
            let on = int(value)? != 0;
            tcp(socket)?.set_tcp_options(|options| options.cork = on);
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_MAXSEG,
        |socket| {
            let tcp = tcp(socket)?;
            let wanted = tcp.tcp_options().max_segment.map_or(DEFAULT_MSS, u32::from);
            Ok(int_value(saturate(tcp.info().map_or(wanted, |info| info.snd_mss))))
        },
        |socket, value| {
            let size = match int(value)? {
                0 => None,
                // TCP_MIN_MSS and MAX_TCP_WINDOW of Linux.
                size @ 88..=32767 => u16::try_from(size).ok(),
                _ => return Err(Errno(libc::EINVAL)),
            };
            tcp(socket)?.set_tcp_options(|options| options.max_segment = size);
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_KEEPIDLE,
        |socket| Ok(seconds(tcp(socket)?.tcp_options().keepalive_idle)),
        |socket, value| {
            let span = keepalive_time(value)?;
            tcp(socket)?.set_tcp_options(|options| options.keepalive_idle = Some(span));
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_KEEPINTVL,
        |socket| Ok(seconds(tcp(socket)?.tcp_options().keepalive_interval)),
        |socket, value| {
            let span = keepalive_time(value)?;
            tcp(socket)?.set_tcp_options(|options| options.keepalive_interval = Some(span));
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_KEEPCNT,
        |socket| Ok(int_value(tcp(socket)?.tcp_options().keepalive_probes.unwrap_or(0).into())),
        |socket, value| {
            let probes = small_count(value)?;
            tcp(socket)?.set_tcp_options(|options| options.keepalive_probes = Some(probes));
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_SYNCNT,
        |socket| Ok(int_value(tcp(socket)?.tcp_options().syn_retries.unwrap_or(0).into())),
        |socket, value| {
            let retries = small_count(value)?;
            tcp(socket)?.set_tcp_options(|options| options.syn_retries = Some(retries));
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_USER_TIMEOUT,
        |socket| {
            let limit = tcp(socket)?.tcp_options().user_timeout.unwrap_or_default();
            Ok(int_value(saturate(limit.as_millis())))
        },
        |socket, value| {
            let limit = u64::try_from(int(value)?).map_err(|_| Errno(libc::EINVAL))?;
            let limit = (limit > 0).then(|| Duration::from_millis(limit));
            tcp(socket)?.set_tcp_options(|options| options.user_timeout = limit);
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_DEFER_ACCEPT,
        |socket| Ok(seconds(tcp(socket)?.tcp_options().defer_accept)),
        |socket, value| {
            let limit = u64::try_from(int(value)?).ok().filter(|&limit| limit > 0);
            let limit = limit.map(Duration::from_secs);
            tcp(socket)?.set_tcp_options(|options| options.defer_accept = limit);
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_WINDOW_CLAMP,
        |socket| Ok(int_value(saturate(tcp(socket)?.tcp_options().window_clamp.unwrap_or(0)))),
        |socket, value| {
            let clamp = u32::try_from(int(value)?).map_err(|_| Errno(libc::EINVAL))?;
            let clamp = (clamp > 0).then_some(clamp);
            tcp(socket)?.set_tcp_options(|options| options.window_clamp = clamp);
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_CONGESTION,
        |socket| {
            let tcp = tcp(socket)?;
            let name = tcp.tcp_options().congestion.unwrap_or_default().name();
            // Linux's TCP_CA_NAME_MAX, filled with zeros.
            let mut field = vec![0; 16];
            field[..name.len()].copy_from_slice(name.as_bytes());
            Ok(field)
        },
        |socket, value| {
            let name = value.split(|&byte| byte == 0).next().unwrap_or_default();
            let name = std::str::from_utf8(name).map_err(|_| Errno(libc::ENOENT))?;
            let algorithm = Algorithm::from_name(name).ok_or(Errno(libc::ENOENT))?;
            tcp(socket)?.set_tcp_options(|options| options.congestion = Some(algorithm));
            Ok(())
        },
    ),
    Row {
        level: TCP,
        name: libc::TCP_QUICKACK,
        get: None,
        set: Some(|socket, value| {
            tcp(socket)?.set_quick_ack(int(value)? != 0);
            Ok(())
        }),
    },
];

/// Linux's `TCP_MSS_DEFAULT` (RFC 1122).
const DEFAULT_MSS: u32 = 536;
/// The stack's TTL where a socket sets none.
const DEFAULT_TTL: u8 = 64;
/// Linux's `SOCK_MIN_SNDBUF` and `SOCK_MIN_RCVBUF`, rounded.
const MIN_SEND_BUFFER: usize = 4608;
const MIN_RECV_BUFFER: usize = 2304;

fn tcp(socket: &Socket) -> Result<&netstack::TcpSocket, Errno> {
    socket.tcp().ok_or(Errno(libc::ENOPROTOOPT))
}

fn options_of(socket: &Socket) -> SocketOptions {
    each!(&socket.kind, socket => socket.options())
}

fn change(socket: &Socket, change: impl FnOnce(&mut SocketOptions)) -> Result<(), Errno> {
    each!(&socket.kind, socket => socket.set_options(change));
    Ok(())
}

fn flag(socket: &Socket, get: impl FnOnce(&SocketOptions) -> bool) -> Vec<u8> {
    int_value(get(&options_of(socket)).into())
}

fn set_flag(socket: &Socket, value: &[u8], set: impl FnOnce(&mut SocketOptions, bool)) -> Result<(), Errno> {
    let on = int(value)? != 0;
    change(socket, |options| set(options, on))
}

fn count(socket: &Socket, get: impl FnOnce(&SocketOptions) -> usize) -> Vec<u8> {
    int_value(saturate(get(&options_of(socket))))
}

/// A buffer's size, doubled as Linux does to make up for what a packet costs besides its data (`socket(7)`).
fn set_buffer(
    socket: &Socket,
    value: &[u8],
    least: usize,
    set: impl FnOnce(&mut SocketOptions, usize),
) -> Result<(), Errno> {
    let size = usize::try_from(int(value)?).unwrap_or(0).saturating_mul(2).max(least);
    change(socket, |options| set(options, size))
}

fn set_time(
    socket: &Socket,
    value: &[u8],
    set: impl FnOnce(&mut Settings, Option<Duration>),
) -> Result<(), Errno> {
    let word = |index: usize| {
        let bytes = value.get(index..index + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(i64::from_ne_bytes).ok_or(Errno(libc::EINVAL))
    };
    let (seconds, microseconds) = (word(0)?, word(8)?);
    if !(0..1_000_000).contains(&microseconds) {
        return Err(Errno(libc::EDOM));
    }
    // A negative time is none at all on Linux; it is the shortest here.
    let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        + Duration::from_micros(microseconds.unsigned_abs());
    set(&mut socket.settings.lock(), (!limit.is_zero()).then_some(limit));
    Ok(())
}

fn time(limit: Option<Duration>) -> Vec<u8> {
    let limit = limit.unwrap_or_default();
    let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    [seconds.to_ne_bytes(), i64::from(limit.subsec_micros()).to_ne_bytes()].concat()
}

/// A TTL or hop limit; -1 asks for the default.
fn hops(value: &[u8], least: c_int) -> Result<Option<u8>, Errno> {
    match int(value)? {
        -1 => Ok(None),
        hops if hops >= least => u8::try_from(hops).map(Some).map_err(|_| Errno(libc::EINVAL)),
        _ => Err(Errno(libc::EINVAL)),
    }
}

fn octet(value: &[u8]) -> Result<u8, Errno> {
    u8::try_from(int(value)?).map_err(|_| Errno(libc::EINVAL))
}

/// `TCP_KEEPIDLE` and the like, up to Linux's MAX_TCP_KEEPIDLE.
fn keepalive_time(value: &[u8]) -> Result<Duration, Errno> {
    match int(value)? {
        seconds @ 1..=32767 => Ok(Duration::from_secs(u64::from(seconds.unsigned_abs()))),
        _ => Err(Errno(libc::EINVAL)),
    }
}

/// `TCP_KEEPCNT` and `TCP_SYNCNT`, up to Linux's MAX_TCP_KEEPCNT.
fn small_count(value: &[u8]) -> Result<u8, Errno> {
    match u8::try_from(int(value)?) {
        Ok(count @ 1..=127) => Ok(count),
        _ => Err(Errno(libc::EINVAL)),
    }
}

fn seconds(span: Option<Duration>) -> Vec<u8> {
    int_value(saturate(span.unwrap_or_default().as_secs()))
}

fn int(value: &[u8]) -> Result<c_int, Errno> {
    let bytes = value.get(..4).and_then(|bytes| bytes.try_into().ok());
    bytes.map(c_int::from_ne_bytes).ok_or(Errno(libc::EINVAL))
}

fn int_value(value: c_int) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

fn saturate(value: impl TryInto<c_int>) -> c_int {
    value.try_into().unwrap_or(c_int::MAX)
}
