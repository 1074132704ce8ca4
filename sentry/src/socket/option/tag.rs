//! `SOL_SOCKET`: marks and priorities of packets, sent and received (`socket(7)`).

use sentry_abi::socket::*;

use crate::errno::Errno;
use crate::socket::base::Switches;
use crate::socket::inet::tag;
use crate::socket::option::socket_level::change_options;
use crate::socket::option::value::{int, of_bool, of_int, switch};
use crate::socket::option::{Context, OptionRow, Value, option};
use crate::task::Capabilities;

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_SOCKET, SO_PRIORITY, get_priority, set_priority),
    option!(SOL_SOCKET, SO_MARK, get_mark, set_mark),
    option!(SOL_SOCKET, SO_RCVMARK, get_tells_marks, set_tells_marks),
    option!(SOL_SOCKET, SO_RCVPRIORITY, get_tells_priorities, set_tells_priorities),
];

fn get_priority(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(context.socket.base().priority())
}

fn set_priority(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let priority = int(value)?;
    // socket(7): "Setting a priority outside the range 0 to 6 requires the CAP_NET_ADMIN capability."
    if !tag::UNPRIVILEGED.contains(&priority)
        && !context.namespace.grants(&context.task.creds(), Capabilities::NET_ADMIN)
    {
        return Err(Errno::EPERM);
    }
    context.socket.base().set_priority(priority);
    change_options(context, |options| options.priority = priority.cast_unsigned());
    Ok(())
}

fn get_mark(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(context.socket.base().kept(context.option).unwrap_or(0))
}

/// Whether the caller may say what rules look at.
fn check_may_mark(context: &Context<'_>) -> Result<(), Errno> {
    let creds = context.task.creds();
    let may = |cap| context.namespace.grants(&creds, cap);
    if may(Capabilities::NET_ADMIN) || may(Capabilities::NET_RAW) { Ok(()) } else { Err(Errno::EPERM) }
}

fn set_mark(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let mark = int(value)?;
    check_may_mark(context)?;
    context.socket.base().keep(context.option, mark);
    change_options(context, |options| options.mark = mark.cast_unsigned());
    Ok(())
}

fn get_tells_marks(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.socket.base().has(Switches::TELLS_MARKS))
}

fn set_tells_marks(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    context.socket.base().set(Switches::TELLS_MARKS, on);
    Ok(())
}

fn get_tells_priorities(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.socket.base().has(Switches::TELLS_PRIORITIES))
}

fn set_tells_priorities(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    context.socket.base().set(Switches::TELLS_PRIORITIES, on);
    Ok(())
}
