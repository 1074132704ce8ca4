//! `SOL_SOCKET`: what only local sockets have (`unix(7)`).

use sentry_abi::socket::*;

use crate::errno::Errno;
use crate::socket::base::{SocketType, Switches};
use crate::socket::ops::Family;
use crate::socket::option::value::{int, of_bool, switch};
use crate::socket::option::{Context, OptionRow, Value, option};

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_SOCKET, SO_PASSRIGHTS, get_pass_rights, set_pass_rights),
    // unix_getsockopt does not exist: whether it is on cannot be asked.
    option!(SOL_SOCKET, SO_INQ, -, set_tells_queued),
];

fn check_is_local(context: &Context<'_>) -> Result<(), Errno> {
    if let Family::Unix(_) = context.socket.family() { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

fn get_pass_rights(context: &Context<'_>) -> Result<Value, Errno> {
    check_is_local(context)?;
    of_bool(!context.socket.base().has(Switches::REFUSES_RIGHTS))
}

fn set_pass_rights(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    check_is_local(context)?;
    context.socket.base().set(Switches::REFUSES_RIGHTS, !on);
    Ok(())
}

/// `unix_setsockopt`, which only streams have; unlike most it wants an `int` and nothing behind it.
fn set_tells_queued(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let base = context.socket.base();
    if check_is_local(context).is_err() || base.kind != SocketType::Stream {
        return Err(Errno::ENOPROTOOPT);
    }
    match int(value)? {
        on @ 0..=1 if value.len() == size_of::<i32>() => base.set(Switches::TELLS_QUEUED, on != 0),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}
