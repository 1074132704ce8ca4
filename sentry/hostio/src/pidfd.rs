//! Processes by pidfd: waiting for them and signalling them without the reuse race of pids.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

/// A reference to one process that stays valid after the process is gone.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Refers to the running process `pid`.
    ///
    /// # Errors
    /// `ESRCH` when there is none.
    pub fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = i32::try_from(fd).unwrap_or(-1);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just returned this descriptor to us alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(crate) fn from_owned(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Sends `signal`; `None` only checks that the process exists.
    ///
    /// # Errors
    /// `ESRCH` when the process is gone, `EPERM` without permission.
    pub fn signal(&self, signal: Option<Signal>) -> io::Result<()> {
        let number = signal.map_or(0, |signal| signal as i32);
        // SAFETY: pidfd_send_signal accepts a null siginfo pointer; the descriptor is ours.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                number,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Waits until the process has ended, whether or not it is a child; false when `timeout` passed.
    ///
    /// # Errors
    /// The errors of poll(2).
    pub fn wait_ended(&self, timeout: PollTimeout) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        loop {
            match poll(&mut fds, timeout) {
                Ok(ready) => return Ok(ready > 0),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for the child to end and reaps it.
    ///
    /// # Errors
    /// `ECHILD` when the process is not an unreaped child of the caller.
    pub fn reap(&self) -> io::Result<WaitStatus> {
        loop {
            match waitid(Id::PIDFd(self.0.as_fd()), WaitPidFlag::WEXITED) {
                Ok(status) => return Ok(status),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
