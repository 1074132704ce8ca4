//! Socket options as a table: level, name, how to get and set (`getsockopt(2)`).
//!
//! An option that cannot be honoured has no row, or a row that refuses: `ENOPROTOOPT`. The exceptions are hints
//! whose absence a program cannot observe but in speed or in diagnostics; their rows say [`Effect::Hint`], and each
//! use is counted in the network namespace.

mod extension;
mod filter;
mod ip;
mod ipv6;
mod kept;
mod level;
mod local;
mod multicast;
mod netlink;
mod packet;
mod refused;
mod sender;
mod socket_level;
mod tag;
mod tcp;
mod tcp_fast_open;
mod tcp_repair;
mod tcp_timing;
mod tcp_zero_copy;
mod timestamp;
mod udp;
mod value;

use std::sync::Arc;

use sentry_abi::inet::{TCP_CONGESTION, TCP_FASTOPEN_KEY, TCP_ULP};
use sentry_abi::socket::{SO_BINDTODEVICE, SOL_SOCKET, SOL_TCP, SOL_UDP};
use smallvec::SmallVec;

use crate::errno::Errno;
use crate::mm::UserAddr;
use crate::socket::NetNamespace;
use crate::socket::flow_label;
use crate::socket::host::{self, HostSocket};
use crate::socket::inet::InetSocket;
use crate::socket::iptables;
use crate::socket::mroute;
use crate::socket::ops::{Family, Socket};
use crate::task::CurrentTask;

pub use tcp_fast_open::saved_syn_len;

pub(in crate::socket) use value::bytes;

use level::Direction;

/// The bytes of an option's value.
pub type Value = SmallVec<[u8; 16]>;

/// What handlers work on.
pub struct Context<'a> {
    /// The caller.
    pub task: &'a CurrentTask,
    /// The socket.
    pub socket: &'a Arc<dyn Socket>,
    /// Its namespace.
    pub namespace: &'a Arc<NetNamespace>,
    /// The guest's buffer: handlers look there for what is beyond [`MAX_VALUE`], or for what a value to be read asks.
    pub buffer: (UserAddr, usize),
    /// Level and number of the option.
    pub option: (i32, i32),
}

impl<'a> Context<'a> {
    /// The first `len` bytes of the guest's buffer.
    ///
    /// # Errors
    /// `EINVAL` when it is shorter; `EFAULT`.
    pub(in crate::socket) fn read_buffer(&self, len: usize) -> Result<Vec<u8>, Errno> {
        let (at, room) = self.buffer;
        if len > room {
            return Err(Errno::EINVAL);
        }
        let mut bytes = vec![0; len];
        self.task.mm().read_bytes(at, &mut bytes)?;
        Ok(bytes)
    }

    /// The internet socket.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for other families.
    pub(in crate::socket) fn inet(&self) -> Result<&'a InetSocket, Errno> {
        match self.socket.family() {
            Family::Inet(inet) => Ok(inet),
            Family::Unix(_) | Family::Netlink(_) | Family::Packet(_) | Family::Host(_) => {
                Err(Errno::ENOPROTOOPT)
            }
        }
    }
}

/// Reads an option.
pub type Get = fn(&Context<'_>) -> Result<Value, Errno>;
/// Writes an option, given the guest's bytes (at most [`MAX_VALUE`]).
pub type Set = fn(&Context<'_>, &[u8]) -> Result<(), Errno>;

/// Whether setting an option does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does what Linux documents.
    Honoured,
    /// It works; the text says what is missing.
    Partial(&'static str),
    /// It is kept and has no effect; the text says why that is harmless.
    Hint(&'static str),
}

/// One option.
#[derive(Debug)]
pub struct OptionRow {
    /// `SOL_*`.
    pub level: i32,
    /// The number.
    pub name: i32,
    /// The name.
    pub label: &'static str,
    /// `None` where it can only be set.
    pub get: Option<Get>,
    /// `None` where it can only be read.
    pub set: Option<Set>,
    /// What setting it does.
    pub effect: Effect,
}

/// The longest value that `setsockopt(2)` reads.
pub const MAX_VALUE: usize = 512;

/// All options of `level`; empty for levels that do not exist.
fn rows(level: i32) -> impl Iterator<Item = &'static OptionRow> {
    all_rows().filter(move |row| row.level == level)
}

/// All options, for documentation.
pub fn all_rows() -> impl Iterator<Item = &'static OptionRow> {
    let tables: [&'static [OptionRow]; 23] = [
        socket_level::ROWS,
        tag::ROWS,
        timestamp::ROWS,
        kept::ROWS,
        refused::ROWS,
        sender::ROWS,
        local::ROWS,
        filter::ROWS,
        ip::ROWS,
        ipv6::ROWS,
        extension::ROWS,
        flow_label::ROWS,
        multicast::ROWS,
        iptables::ROWS,
        mroute::ROWS,
        tcp::ROWS,
        tcp_fast_open::ROWS,
        tcp_repair::ROWS,
        tcp_timing::ROWS,
        tcp_zero_copy::ROWS,
        udp::ROWS,
        packet::ROWS,
        netlink::ROWS,
    ];
    tables.into_iter().flatten()
}

/// `getsockopt(2)`: the value, not yet cut to the guest's room.
///
/// # Errors
/// `ENOPROTOOPT`, `EOPNOTSUPP` as Linux's families answer unknown levels.
pub fn get(context: &Context<'_>, level: i32, name: i32) -> Result<Value, Errno> {
    if level != SOL_SOCKET && matches!(context.socket.family(), Family::Unix(_)) {
        return Err(Errno::EOPNOTSUPP);
    }
    if let Some(host) = of_host(context, level, name) {
        return host::option::get(host, level, name);
    }
    level::check(context, level, Direction::Get)?;
    let mut of_level = rows(level).peekable();
    if of_level.peek().is_none() {
        return Err(Errno::EOPNOTSUPP);
    }
    let row = of_level.find(|row| row.name == name).ok_or(Errno::ENOPROTOOPT)?;
    row.get.ok_or(Errno::ENOPROTOOPT)?(context)
}

/// Whether the socket has the level, for a `getsockopt(2)` that fails otherwise.
///
/// # Errors
/// As [`get`] for levels that the socket does not have.
pub fn check_level(context: &Context<'_>, level: i32) -> Result<(), Errno> {
    level::check(context, level, Direction::Get)
}

/// `setsockopt(2)`.
///
/// # Errors
/// As [`get`], and what the option says of the value.
pub fn set(context: &Context<'_>, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    if level != SOL_SOCKET && matches!(context.socket.family(), Family::Unix(_)) {
        return Err(Errno::EOPNOTSUPP);
    }
    if let Some(host) = of_host(context, level, name) {
        return host::option::set(host, level, name, value);
    }
    level::check(context, level, Direction::Set)?;
    let is_int = match level {
        SOL_TCP => is_int_of_tcp(context, name),
        // sock_setsockopt reads an int before it looks at the number of the option, but for this one.
        SOL_SOCKET => name != SO_BINDTODEVICE,
        // udp_lib_setsockopt as well.
        SOL_UDP => true,
        _ => false,
    };
    if is_int && value.len() < 4 {
        return Err(Errno::EINVAL);
    }
    let row = rows(level).find(|row| row.name == name).ok_or(Errno::ENOPROTOOPT)?;
    row.set.ok_or(Errno::ENOPROTOOPT)?(context, value)?;
    if let Effect::Hint(_) = row.effect {
        context.namespace.count_hint();
    }
    Ok(())
}

/// Whether TCP reads an `int` before it looks at the number of the option (`do_tcp_setsockopt`).
fn is_int_of_tcp(context: &Context<'_>, name: i32) -> bool {
    let is_tcp = context.inet().is_ok_and(|inet| inet.tcp().is_some());
    is_tcp && !matches!(name, TCP_CONGESTION | TCP_ULP | TCP_FASTOPEN_KEY)
}

/// The socket of the host that answers for an option itself.
fn of_host<'a>(context: &Context<'a>, level: i32, name: i32) -> Option<&'a HostSocket> {
    match context.socket.family() {
        Family::Host(host) if host::option::owner(level, name) == host::option::Owner::Host => Some(host),
        _ => None,
    }
}

/// Writes a row: `option!(SOL_TCP, TCP_NODELAY, get, set)`; `-` for none; a trailing effect where it is not honoured.
macro_rules! option {
    ($level:expr, $name:ident, $get:tt, $set:tt) => {
        option!($level, $name, $get, $set, $crate::socket::option::Effect::Honoured)
    };
    ($level:expr, $name:ident, $get:tt, $set:tt, $effect:expr) => {
        $crate::socket::option::OptionRow {
            level: $level,
            name: $name,
            label: stringify!($name),
            get: option!(@handler $get),
            set: option!(@handler $set),
            effect: $effect,
        }
    };
    (@handler -) => { None };
    (@handler $handler:tt) => { Some($handler) };
}
pub(crate) use option;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_unique_and_hints_can_be_set() {
        let mut seen = std::collections::HashSet::new();
        for row in all_rows() {
            assert!(seen.insert((row.level, row.name)), "{}", row.label);
            assert!(row.get.is_some() || row.set.is_some(), "{}", row.label);
            assert!(!matches!(row.effect, Effect::Hint(_)) || row.set.is_some(), "{}", row.label);
        }
    }
}
