//! Flags of open file descriptors.

use std::io;
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

/// Keeps `fd` open across execve(2), or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExec {
    /// Close when a program is executed.
    Close,
    /// Stay open.
    Keep,
}

/// Sets what happens to `fd` on execve(2).
///
/// # Errors
/// The errors of fcntl(2).
pub fn set_on_exec(fd: impl AsFd, on_exec: OnExec) -> io::Result<()> {
    let flags = match on_exec {
        OnExec::Close => FdFlag::FD_CLOEXEC,
        OnExec::Keep => FdFlag::empty(),
    };
    fcntl(fd, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// Makes reads and writes of `fd` return `EAGAIN` instead of waiting.
///
/// The flag belongs to the open file, which other processes may share.
///
/// # Errors
/// The errors of fcntl(2).
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
