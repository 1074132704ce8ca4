//! File descriptors that a parent process left open for this one under agreed numbers.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, fcntl};

use crate::fd_flags::{self, OnExec};

/// Takes ownership of the inherited descriptor `number` and marks it close-on-exec.
///
/// Meant for the first lines of `main`: each number may be taken once, before anything else in the
/// process has opened files.
///
/// # Errors
/// `EBADF` when nothing is open under the number.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the borrow ends before the number can be closed; a number that is not open only makes
    // fcntl fail with EBADF.
    let probe = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(probe, FcntlArg::F_GETFD)?;
    // SAFETY: the number is open (checked above) and the contract of this module is that the parent
    // made it for us, so nothing else in the process owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fd_flags::set_on_exec(&fd, OnExec::Close)?;
    Ok(fd)
}
