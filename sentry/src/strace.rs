//! Printing system calls (`--strace`), in the manner of `strace(1)`.

use std::fmt::Write as _;

use crate::errno::{SysError, SysResult};
use crate::mm::UserAddr;
use crate::syscall::{self, Arg, Args, table};
use crate::task::CurrentTask;

/// Runs a system call and prints it with its result.
///
/// # Errors
/// What the call returns.
pub(crate) fn traced(task: &mut CurrentTask, number: u64, args: &Args) -> SysResult {
    let row = table::lookup(number);
    let name = row.map_or_else(
        || sentry_abi::syscall::name(number).unwrap_or_else(|| format!("syscall_{number}")),
        |row| row.name.to_owned(),
    );
    let kinds = row.map_or(&[][..], |row| row.args);
    let before = format_args(task, kinds, args);
    let (pid, comm) = (task.tid().0, task.comm());
    let comm = String::from_utf8_lossy(&comm).into_owned();
    tracing::info!(target: "strace", "[{pid} {comm}] {name}({before}) ...");
    let start = task.kernel().clocks().monotonic();
    let result = syscall::dispatch(task, number, args);
    let took = task.kernel().clocks().monotonic().since(start) / 1000;
    let text = format_result(task, kinds, args, &result);
    tracing::info!(target: "strace", "[{pid} {comm}] {name}({before}) = {text} ({took} us)");
    result
}

/// How many bytes of a buffer are printed.
const SHOWN: usize = 48;
/// How many bytes of a path are printed.
const SHOWN_PATH: usize = 256;

fn format_args(task: &CurrentTask, kinds: &[Arg], args: &Args) -> String {
    let mut out = String::new();
    for (n, kind) in kinds.iter().enumerate().take(6) {
        if n > 0 {
            out.push_str(", ");
        }
        // Writing to a String cannot fail.
        let _ = match kind {
            Arg::Fd | Arg::Int => write!(out, "{}", args.i32(n)),
            Arg::DirFd if args.i32(n) == -100 => write!(out, "AT_FDCWD"),
            Arg::DirFd => write!(out, "{}", args.i32(n)),
            Arg::Uint => write!(out, "{}", args.u64(n)),
            Arg::Path | Arg::Str => write!(out, "{}", string(task, args.addr(n))),
            Arg::InBuf => {
                let len = if n < 5 { args.usize(n + 1) } else { 0 };
                write!(out, "{}", bytes(task, args.addr(n), len))
            }
            Arg::Mode => write!(out, "{:#o}", args.u32(n)),
            Arg::Signal => match sentry_abi::signal::Signal::new(args.i32(n)) {
                Some(signal) => write!(out, "{}", signal.name()),
                None => write!(out, "{}", args.i32(n)),
            },
            Arg::OpenFlags => write!(out, "{:?}", crate::vfs::OpenFlags::from_bits_retain(args.u32(n))),
            Arg::Ptr | Arg::OutBuf | Arg::Hex | Arg::SockAddr => write!(out, "{:#x}", args.u64(n)),
        };
    }
    out
}

fn format_result(task: &CurrentTask, kinds: &[Arg], args: &Args, result: &SysResult) -> String {
    match result {
        Ok(value) => {
            let mut text = if *value > 1 << 32 { format!("{value:#x}") } else { format!("{value}") };
            let out = kinds.iter().position(|k| *k == Arg::OutBuf);
            if let Some(n) = out {
                let len = usize::try_from(*value).unwrap_or(0);
                let _ = write!(text, " {}", bytes(task, args.addr(n), len));
            }
            text
        }
        Err(SysError::Errno(errno)) => format!("-1 {}", errno.name()),
        Err(SysError::Restart(restart)) => format!("? restart {restart:?}"),
    }
}

fn string(task: &CurrentTask, addr: UserAddr) -> String {
    if addr.is_null() {
        return "NULL".into();
    }
    match task.mm().read_cstr(addr, SHOWN_PATH) {
        Ok(text) => format!("\"{}\"", text.escape_ascii()),
        Err(_) => format!("{addr:?}"),
    }
}

fn bytes(task: &CurrentTask, addr: UserAddr, len: usize) -> String {
    let mut buf = [0; SHOWN];
    let want = len.min(SHOWN);
    match task.mm().read_some(addr, &mut buf[..want]) {
        Ok(n) => {
            let more = if len > n { "..." } else { "" };
            format!("\"{}\"{more}", buf[..n].escape_ascii())
        }
        Err(_) => format!("{addr:?}"),
    }
}
