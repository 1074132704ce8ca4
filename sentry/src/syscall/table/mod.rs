//! The system call table of x86-64 Linux as data.
//!
//! COMPAT.md, `runsc help syscalls` and the strace output are generated from these rows.

use std::sync::LazyLock;

use crate::errno::SysResult;
use crate::syscall::Args;
use crate::task::CurrentTask;

mod file;
mod ipc;
mod memory;
mod net;
mod process;
mod signal;
mod time;

/// Numbers at or above this one are never assigned.
const TABLE_SIZE: usize = 512;

/// One row: a system call that has a handler.
#[derive(Debug)]
pub struct Syscall {
    /// The number, `sentry_abi::syscall::nr`.
    pub number: u64,
    /// The name in `syscalls(2)`.
    pub name: &'static str,
    /// How strace prints the arguments, one entry for each.
    pub args: &'static [Arg],
    /// The implementation.
    pub handler: Handler,
    /// What a program can expect of it.
    pub support: Support,
}

/// A system call's implementation.
pub type Handler = fn(&mut CurrentTask, &Args) -> SysResult;

/// How complete a system call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// All that Linux documents.
    Full,
    /// Works; the text says what is missing.
    Partial(&'static str),
    /// Always fails, with the error that Linux gives where the feature is not built in; the text says which.
    Stub(&'static str),
}

/// How to print an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg {
    /// A descriptor.
    Fd,
    /// A directory descriptor or `AT_FDCWD`.
    DirFd,
    /// A guest address that is not followed.
    Ptr,
    /// A path, read from guest memory.
    Path,
    /// A NUL-terminated string that is not a path.
    Str,
    /// Bytes going in, whose length is the next argument.
    InBuf,
    /// Bytes coming out, whose length is the return value.
    OutBuf,
    /// A signed number.
    Int,
    /// An unsigned number.
    Uint,
    /// A number printed in hexadecimal.
    Hex,
    /// `open(2)` flags.
    OpenFlags,
    /// File mode bits, octal.
    Mode,
    /// A signal number.
    Signal,
    /// A socket address, whose length is the next argument.
    SockAddr,
}

/// The row of `number`.
#[must_use]
pub fn lookup(number: u64) -> Option<&'static Syscall> {
    TABLE.get(usize::try_from(number).ok()?).copied().flatten()
}

/// All rows in ascending order of their numbers.
pub fn rows() -> impl Iterator<Item = &'static Syscall> {
    TABLE.iter().copied().flatten()
}

static TABLE: LazyLock<[Option<&'static Syscall>; TABLE_SIZE]> = LazyLock::new(|| {
    let families: [&'static [Syscall]; 7] = [
        file::SYSCALLS,
        ipc::SYSCALLS,
        memory::SYSCALLS,
        net::SYSCALLS,
        process::SYSCALLS,
        signal::SYSCALLS,
        time::SYSCALLS,
    ];
    let mut table = [None; TABLE_SIZE];
    for row in families.into_iter().flatten() {
        if let Some(slot) = usize::try_from(row.number).ok().and_then(|n| table.get_mut(n)) {
            *slot = Some(row);
        }
    }
    table
});

/// Writes a row: `row!(READ, "read", [Fd, OutBuf, Uint], read::sys_read, Full)`.
macro_rules! row {
    ($nr:ident, $name:literal, [$($arg:ident),*], $handler:path, $support:expr) => {
        $crate::syscall::table::Syscall {
            number: sentry_abi::syscall::nr::$nr,
            name: $name,
            args: &[$($crate::syscall::table::Arg::$arg),*],
            handler: $handler,
            support: { #[allow(unused_imports, reason = "a row uses one of them")] use $crate::syscall::table::Support::*; $support },
        }
    };
}
pub(crate) use row;
