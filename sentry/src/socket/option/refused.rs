//! Options that can be asked for and only fail, with the error that Linux has where the thing that they name is missing:
//! programs of BPF, device memory, anycast addresses, security of IP, signatures of TCP.

use sentry_abi::inet::*;
use sentry_abi::socket::*;

use crate::errno::Errno;
use crate::socket::base::SocketType;
use crate::socket::option::value::{int, object, of_int, saturate};
use crate::socket::option::{Context, Effect, OptionRow, Value, option};
use crate::vfs::Fd;

const NO_BPF: Effect = Effect::Partial("there are no descriptors of BPF programs");

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_SOCKET, SO_ATTACH_BPF, -, attach_program, NO_BPF),
    option!(SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, -, attach_program, NO_BPF),
    option!(SOL_SOCKET, SO_BPF_EXTENSIONS, get_extensions, -),
    option!(SOL_SOCKET, SO_INCOMING_NAPI_ID, get_zero, -),
    option!(
        SOL_SOCKET,
        SO_RESERVE_MEM,
        get_zero,
        reserve,
        Effect::Partial("as without a controller of memory groups")
    ),
    option!(SOL_IP, IP_PKTOPTIONS, get_packet_options, -),
    option!(SOL_IP, IP_PROTOCOL, get_protocol, -),
    option!(SOL_IPV6, IPV6_ADDRFORM, get_family, set_family, Effect::Partial("as for what is not connected")),
    option!(SOL_IPV6, IPV6_ROUTER_ALERT, get_zero, set_alert, Effect::Partial("only by MRT6_INIT")),
    option!(SOL_IPV6, IPV6_JOIN_ANYCAST, -, join_anycast, Effect::Partial("no anycast addresses")),
    option!(SOL_IPV6, IPV6_LEAVE_ANYCAST, -, leave_anycast, Effect::Partial("no anycast addresses")),
    option!(SOL_UDP, UDPLITE_SEND_CSCOV, get_zero, -),
    option!(SOL_UDP, UDPLITE_RECV_CSCOV, get_zero, -),
    option!(SOL_TCP, TCP_MD5SIG, -, sign, NO_SIGNATURES),
    option!(SOL_TCP, TCP_MD5SIG_EXT, -, sign, NO_SIGNATURES),
];

const NO_SIGNATURES: Effect = Effect::Partial("no signatures");

fn get_zero(_: &Context<'_>) -> Result<Value, Errno> {
    of_int(0)
}

/// A descriptor that is open is none of a program.
fn attach_program(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if value.len() != size_of::<i32>() {
        return Err(Errno::EINVAL);
    }
    context.task.files().get(Fd(int(value)?))?;
    Err(Errno::EINVAL)
}

/// `SKF_AD_MAX`: how far the extensions of classic BPF go.
fn get_extensions(_: &Context<'_>) -> Result<Value, Errno> {
    of_int(64)
}

fn reserve(_: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    Err(if int(value)? < 0 { Errno::EINVAL } else { Errno::EOPNOTSUPP })
}

/// What a stream was last told in control messages: nothing.
fn get_packet_options(context: &Context<'_>) -> Result<Value, Errno> {
    context.inet()?.tcp().map(|_| Value::new()).ok_or(Errno::ENOPROTOOPT)
}

/// `inet->inet_num`, which is a port for all but raw sockets.
fn get_protocol(context: &Context<'_>) -> Result<Value, Errno> {
    let base = context.socket.base();
    of_int(if base.kind == SocketType::Raw { base.protocol } else { 0 })
}

/// What an IPv6 socket would need to become an IPv4 one: a connection to a mapped address.
fn get_family(context: &Context<'_>) -> Result<Value, Errno> {
    let is_raw = context.socket.base().kind == SocketType::Raw;
    if is_raw {
        return Err(Errno::ENOPROTOOPT);
    }
    if context.inet()?.peer().is_some() { of_int(i32::from(AF_INET6)) } else { Err(Errno::ENOTCONN) }
}

fn set_family(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if int(value)? != i32::from(AF_INET) {
        return Err(Errno::EINVAL);
    }
    Err(if context.socket.base().kind == SocketType::Raw { Errno::ENOPROTOOPT } else { Errno::ENOTCONN })
}

fn set_alert(_: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    int(value)?;
    Err(Errno::ENOPROTOOPT)
}

/// An address and an interface (`struct ipv6_mreq`).
fn anycast(value: &[u8]) -> Result<([u8; 16], u32), Errno> {
    let address = object(value)?;
    Ok((address, object(value.get(16..).unwrap_or_default())?))
}

fn join_anycast(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let (_, index) = anycast(value)?;
    let exists = context.namespace.stack().nics().iter().any(|nic| nic.id.index() == index);
    Err(if index == 0 || exists { Errno::EADDRNOTAVAIL } else { Errno::ENODEV })
}

fn leave_anycast(_: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    anycast(value)?;
    Err(Errno::ENOENT)
}

/// `sizeof(struct tcp_md5sig)`.
const SIGNATURE_LEN: usize = 216;

/// As Linux without `CONFIG_TCP_MD5SIG`, but for values that it looks at first.
fn sign(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let family = context.socket.base().family;
    let is_valid = value.len() >= SIGNATURE_LEN && object::<u16>(value)? == family;
    Err(if is_valid { Errno::ENOPROTOOPT } else { Errno::EINVAL })
}

/// `SO_MEMINFO`: the numbers of `sock_diag` (`<linux/sock_diag.h>`, `SK_MEMINFO_VARS`).
pub(super) fn memory_info(receive_limit: usize, send_limit: usize, (queued, drops): (usize, u32)) -> Value {
    let mut numbers = [0_u32; 9];
    numbers[0] = saturate(queued).cast_unsigned();
    numbers[8] = drops;
    numbers[1] = saturate(receive_limit).cast_unsigned();
    numbers[3] = saturate(send_limit).cast_unsigned();
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}
