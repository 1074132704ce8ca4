//! `SOL_TCP`: Fast Open (RFC 7413), and what a listener keeps of SYNs.

use netstack::TcpSocket;
use netstack::tcp::{FastOpenKeys, FastOpenModes, SaveSyn, State};
use sentry_abi::inet::*;
use sentry_abi::socket::SOL_TCP;

use crate::errno::Errno;
use crate::socket::option::tcp::tcp;
use crate::socket::option::value::{int, of_bool, of_int, saturate};
use crate::socket::option::{Context, OptionRow, Value, option};

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_TCP, TCP_FASTOPEN, get_queue, set_queue),
    option!(SOL_TCP, TCP_FASTOPEN_CONNECT, get_connect, set_connect),
    option!(SOL_TCP, TCP_FASTOPEN_KEY, get_key, set_key),
    option!(SOL_TCP, TCP_FASTOPEN_NO_COOKIE, get_no_cookie, set_no_cookie),
    option!(SOL_TCP, TCP_SAVE_SYN, get_save_syn, set_save_syn),
    option!(SOL_TCP, TCP_SAVED_SYN, get_saved_syn, -),
];

/// The state in which Fast Open can be set up (`tcp_setsockopt`).
fn before_use(tcp: &TcpSocket) -> Result<(), Errno> {
    if matches!(tcp.state(), State::Closed | State::Listen) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Zero or one.
fn bit(value: &[u8]) -> Result<bool, Errno> {
    match int(value)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}

fn get_queue(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(saturate(tcp(context)?.tcp_options().fast_open_queue.unwrap_or(0)))
}

fn set_queue(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let tcp = tcp(context)?;
    let queue = u32::try_from(int(value)?).map_err(|_| Errno::EINVAL)?;
    before_use(tcp)?;
    // fastopen_queue_tune
    let queue = queue.min(context.namespace.settings().somaxconn.get());
    tcp.set_tcp_options(|options| options.fast_open_queue = Some(queue));
    Ok(())
}

fn get_connect(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(tcp(context)?.tcp_options().fast_open_connect)
}

fn set_connect(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let (tcp, on) = (tcp(context)?, bit(value)?);
    if !context.namespace.stack().tcp_config().fast_open.contains(FastOpenModes::CLIENT) {
        return Err(Errno::EOPNOTSUPP);
    }
    if tcp.state() != State::Closed {
        return Err(Errno::EINVAL);
    }
    tcp.set_tcp_options(|options| options.fast_open_connect = on);
    Ok(())
}

fn get_key(context: &Context<'_>) -> Result<Value, Errno> {
    let keys = tcp(context)?.tcp_options().fast_open_keys;
    let keys = keys.or(context.namespace.stack().tcp_config().fast_open_keys);
    let mut value = Value::new();
    if let Some(keys) = keys {
        value.extend_from_slice(&keys.primary);
        value.extend(keys.backup.into_iter().flatten());
    }
    Ok(value)
}

/// One key or two of sixteen bytes (`TCP_FASTOPEN_KEY_LENGTH`).
fn set_key(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let tcp = tcp(context)?;
    let (primary, rest) = value.split_first_chunk::<16>().ok_or(Errno::EINVAL)?;
    let backup = match rest {
        [] => None,
        rest => Some(<[u8; 16]>::try_from(rest).map_err(|_| Errno::EINVAL)?),
    };
    let keys = FastOpenKeys { primary: *primary, backup };
    tcp.set_tcp_options(|options| options.fast_open_keys = Some(keys));
    Ok(())
}

fn get_no_cookie(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(tcp(context)?.tcp_options().fast_open_without_cookie)
}

fn set_no_cookie(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let (tcp, on) = (tcp(context)?, bit(value)?);
    before_use(tcp)?;
    tcp.set_tcp_options(|options| options.fast_open_without_cookie = on);
    Ok(())
}

fn get_save_syn(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(match tcp(context)?.tcp_options().save_syn {
        SaveSyn::Off => 0,
        SaveSyn::Network => 1,
        SaveSyn::Link => 2,
    })
}

fn set_save_syn(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let tcp = tcp(context)?;
    let what = match int(value)? {
        0 => SaveSyn::Off,
        1 => SaveSyn::Network,
        2 => SaveSyn::Link,
        _ => return Err(Errno::EINVAL),
    };
    tcp.set_tcp_options(|options| options.save_syn = what);
    Ok(())
}

/// Gives the headers once. To whom has no room for them, [`saved_syn_len`] says how much is needed.
fn get_saved_syn(context: &Context<'_>) -> Result<Value, Errno> {
    let tcp = tcp(context)?;
    let Some(saved) = tcp.saved_syn() else { return Ok(Value::new()) };
    if context.buffer.1 < saved.len() {
        return Err(Errno::EINVAL);
    }
    tcp.forget_saved_syn();
    Ok(Value::from_slice(&saved))
}

/// The length of the headers that wait to be read.
pub fn saved_syn_len(context: &Context<'_>) -> Option<usize> {
    tcp(context).ok()?.saved_syn().map(|saved| saved.len())
}
