//! `SOL_SOCKET`: who is at the other end, and who sent what arrives (`unix(7)`).

use sentry_abi::socket::*;

use crate::errno::Errno;
use crate::socket::base::Switches;
use crate::socket::control;
use crate::socket::ops::Family;
use crate::socket::option::value::{bytes, of_bool, of_int, switch};
use crate::socket::option::{Context, OptionRow, Value, option};
use crate::task::{Tid, pidfd};

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_SOCKET, SO_PASSCRED, get_pass_credentials, set_pass_credentials),
    option!(SOL_SOCKET, SO_PASSPIDFD, get_pass_process, set_pass_process),
    option!(SOL_SOCKET, SO_PEERCRED, get_peer_credentials, -),
    option!(SOL_SOCKET, SO_PEERPIDFD, get_peer_process, -),
    option!(SOL_SOCKET, SO_PEERGROUPS, get_peer_groups, -),
];

/// Credentials are passed by local and netlink sockets only.
fn check_passes_credentials(context: &Context<'_>) -> Result<(), Errno> {
    match context.socket.family() {
        Family::Unix(_) | Family::Netlink(_) => Ok(()),
        Family::Inet(_) | Family::Packet(_) | Family::Host(_) => Err(Errno::EOPNOTSUPP),
    }
}

fn get_pass_credentials(context: &Context<'_>) -> Result<Value, Errno> {
    check_passes_credentials(context)?;
    of_bool(context.socket.base().has(Switches::PASS_CREDENTIALS))
}

fn set_pass_credentials(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    check_passes_credentials(context)?;
    context.socket.base().set(Switches::PASS_CREDENTIALS, on);
    Ok(())
}

/// Descriptors of processes are passed by local sockets only.
fn check_passes_processes(context: &Context<'_>) -> Result<(), Errno> {
    if let Family::Unix(_) = context.socket.family() { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

fn get_pass_process(context: &Context<'_>) -> Result<Value, Errno> {
    check_passes_processes(context)?;
    of_bool(context.socket.base().has(Switches::PASS_PROCESS))
}

fn set_pass_process(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    check_passes_processes(context)?;
    context.socket.base().set(Switches::PASS_PROCESS, on);
    Ok(())
}

fn get_peer_credentials(context: &Context<'_>) -> Result<Value, Errno> {
    Ok(match context.socket.family() {
        Family::Unix(unix) => bytes(&control::seen_by(context.task, unix.peer_credentials())),
        Family::Inet(_) | Family::Netlink(_) | Family::Packet(_) | Family::Host(_) => {
            bytes(&Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX })
        }
    })
}

/// `SO_PEERPIDFD`: a descriptor of the process at the other end, which `SO_PEERCRED` names.
fn get_peer_process(context: &Context<'_>) -> Result<Value, Errno> {
    let Family::Unix(unix) = context.socket.family() else { return Err(Errno::ENODATA) };
    match unix.peer_credentials().pid {
        0 => Err(Errno::ENODATA),
        pid => of_int(pidfd::install(context.task, Tid(pid))?.0),
    }
}

/// The supplementary groups of the peer are not recorded.
fn get_peer_groups(_: &Context<'_>) -> Result<Value, Errno> {
    Err(Errno::ENODATA)
}
