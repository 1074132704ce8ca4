//! Classic BPF programs of sockets (`SO_ATTACH_FILTER` and what belongs to it, `socket(7)`).

use netstack::bpf::{Instruction, Program};
use sentry_abi::socket::*;

use crate::bpf::{self, FPROG_LEN};
use crate::errno::Errno;
use crate::socket::base::Switches;
use crate::socket::inet::Protocol;
use crate::socket::ops::Family;
use crate::socket::option::value::{int, of_bool, switch};
use crate::socket::option::{Context, OptionRow, Value, option};

pub(super) const ROWS: &[OptionRow] = &[
    // Read, it is SO_GET_FILTER.
    option!(SOL_SOCKET, SO_ATTACH_FILTER, get_filter, attach_filter),
    option!(SOL_SOCKET, SO_DETACH_FILTER, -, detach_filter),
    option!(SOL_SOCKET, SO_LOCK_FILTER, get_lock, set_lock),
    option!(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, -, attach_to_group),
    option!(SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, -, detach_from_group),
];

/// Reads the program that a `struct sock_fprog` names (`copy_bpf_fprog_from_user`).
pub(super) fn program(context: &Context<'_>, value: &[u8]) -> Result<Program, Errno> {
    let fprog = value.try_into().map_err(|_| Errno::EINVAL)?;
    bpf::read_program(context.task.mm(), fprog)
}

fn set(context: &Context<'_>, program: Option<Program>) -> Result<(), Errno> {
    match context.socket.family() {
        Family::Inet(inet) => match inet.protocol() {
            Protocol::Tcp(s) => s.set_filter(program),
            Protocol::Udp(s) => s.set_filter(program),
            Protocol::Ping(s) => s.set_filter(program),
            Protocol::Raw(s) => s.set_filter(program),
        },
        Family::Packet(packet) => packet.stack_socket().set_filter(program),
        Family::Unix(_) | Family::Netlink(_) | Family::Host(_) => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

fn current(context: &Context<'_>) -> Option<Program> {
    match context.socket.family() {
        Family::Inet(inet) => match inet.protocol() {
            Protocol::Tcp(s) => s.filter(),
            Protocol::Udp(s) => s.filter(),
            Protocol::Ping(s) => s.filter(),
            Protocol::Raw(s) => s.filter(),
        },
        Family::Packet(packet) => packet.stack_socket().filter(),
        Family::Unix(_) | Family::Netlink(_) | Family::Host(_) => None,
    }
}

fn check_lock(context: &Context<'_>) -> Result<(), Errno> {
    if context.socket.base().has(Switches::FILTER_LOCKED) { Err(Errno::EPERM) } else { Ok(()) }
}

fn attach_filter(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if value.len() != FPROG_LEN {
        return Err(Errno::EINVAL);
    }
    check_lock(context)?;
    set(context, Some(program(context, value)?))
}

fn detach_filter(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    int(value)?;
    check_lock(context)?;
    current(context).ok_or(Errno::ENOENT)?;
    set(context, None)
}

/// The program as it was attached, in instructions of eight bytes.
fn get_filter(context: &Context<'_>) -> Result<Value, Errno> {
    let Some(program) = current(context) else { return Ok(Value::new()) };
    let encode = |instruction: &Instruction| {
        let Instruction { code, jt, jf, k } = *instruction;
        let ([a, b], [c, d, e, f]) = (code.to_ne_bytes(), k.to_ne_bytes());
        [a, b, jt, jf, c, d, e, f]
    };
    Ok(program.instructions().iter().flat_map(encode).collect())
}

fn get_lock(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.socket.base().has(Switches::FILTER_LOCKED))
}

/// For good: a lock is never taken off.
fn set_lock(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    if !on {
        check_lock(context)?;
    }
    context.socket.base().set(Switches::FILTER_LOCKED, on);
    Ok(())
}

fn set_group(context: &Context<'_>, program: Option<Program>) -> Result<bool, Errno> {
    match context.inet()?.protocol() {
        Protocol::Tcp(s) => Ok(s.set_group_filter(program)),
        Protocol::Udp(s) => Ok(s.set_group_filter(program)),
        Protocol::Ping(_) | Protocol::Raw(_) => Err(Errno::EOPNOTSUPP),
    }
}

fn attach_to_group(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    if value.len() != FPROG_LEN {
        return Err(Errno::EINVAL);
    }
    check_lock(context)?;
    let program = program(context, value)?;
    if set_group(context, Some(program))? { Ok(()) } else { Err(Errno::EINVAL) }
}

fn detach_from_group(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    int(value)?;
    // reuseport_detach_prog: a socket without a group is no member of one, one without a program has nothing to detach.
    let inet = context.inet().map_err(|_| Errno::EINVAL)?;
    if !context.socket.base().has(Switches::REUSE_PORT) || inet.local().port() == 0 {
        return Err(Errno::EINVAL);
    }
    let has_program = match inet.protocol() {
        Protocol::Tcp(s) => s.group_filter().is_some(),
        Protocol::Udp(s) => s.group_filter().is_some(),
        Protocol::Ping(_) | Protocol::Raw(_) => false,
    };
    if !has_program {
        return Err(Errno::ENOENT);
    }
    set_group(context, None).map(drop)
}
