//! Reading and writing descriptors that are shared with processes outside, without waiting.
//!
//! `O_NONBLOCK` belongs to the open file, so setting it would change how the caller's shell reads its terminal.
//! `RWF_NOWAIT` (preadv2(2)) belongs to the call; where a file does not know it, poll(2) says whether a call would wait.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Most bytes written at once to a file that does not know `RWF_NOWAIT`: what poll(2) promises to have room for
/// (PIPE_BUF).
const SAFE_WRITE: usize = 4096;

/// Reads at the file's own position.
///
/// # Errors
/// `EAGAIN` when nothing is there yet; as read(2).
pub fn read(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    let vec = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: one iovec that describes the live, writable buffer; offset -1 is the file's own position.
    let n = unsafe { libc::preadv2(fd.as_raw_fd(), &raw const vec, 1, -1, libc::RWF_NOWAIT) };
    match usize::try_from(n) {
        Ok(n) => Ok(n),
        Err(_) => match io::Error::last_os_error() {
            error if does_not_know(&error) => read_if_ready(fd, buf),
            error => Err(error),
        },
    }
}

/// Writes at the file's own position.
///
/// # Errors
/// `EAGAIN` when there is no room; as write(2).
pub fn write(fd: BorrowedFd<'_>, data: &[u8]) -> io::Result<usize> {
    let vec = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: one iovec that describes the live buffer, which is only read; offset -1 as above.
    let n = unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const vec, 1, -1, libc::RWF_NOWAIT) };
    match usize::try_from(n) {
        Ok(n) => Ok(n),
        Err(_) => match io::Error::last_os_error() {
            error if does_not_know(&error) => write_if_ready(fd, data),
            error => Err(error),
        },
    }
}

/// What poll(2) reports now.
///
/// # Errors
/// The errors of poll(2).
pub fn ready(fd: BorrowedFd<'_>, interest: PollFlags) -> io::Result<PollFlags> {
    let mut fds = [PollFd::new(fd, interest)];
    loop {
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(_) => return Ok(fds[0].revents().unwrap_or(PollFlags::empty())),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What poll(2) reports now, in bits of `poll.h`, of which some (`POLLRDHUP`) have no name in [`PollFlags`].
///
/// # Errors
/// The errors of poll(2).
pub fn ready_bits(fd: BorrowedFd<'_>, interest: i16) -> io::Result<i16> {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: interest, revents: 0 };
    loop {
        // SAFETY: one live pollfd, and a time of zero: the call returns at once.
        if unsafe { libc::poll(&raw mut entry, 1, 0) } >= 0 {
            return Ok(entry.revents);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINTR) {
            return Err(error);
        }
    }
}

/// Tells whether `a` and `b` are one open file (kcmp(2)), so that they share a position.
pub fn is_same_file(a: impl AsFd, b: impl AsFd) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    let pid = std::process::id();
    let (a, b) = (a.as_fd().as_raw_fd(), b.as_fd().as_raw_fd());
    // SAFETY: kcmp takes integers only.
    let result = unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, a, b) };
    // Negative where the kernel was built without the call.
    result == 0
}

fn does_not_know(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::ESPIPE))
}

fn read_if_ready(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    if ready(fd, PollFlags::POLLIN)?.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::EAGAIN));
    }
    Ok(nix::unistd::read(fd, buf)?)
}

fn write_if_ready(fd: BorrowedFd<'_>, data: &[u8]) -> io::Result<usize> {
    if ready(fd, PollFlags::POLLOUT)?.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::EAGAIN));
    }
    Ok(nix::unistd::write(fd, &data[..data.len().min(SAFE_WRITE)])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_pipe_has_nothing_and_a_full_one_no_room() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let mut buf = [0; 16];
        assert_eq!(read(reader.as_fd(), &mut buf).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        let chunk = [7; 8192];
        let mut written = 0;
        let error = loop {
            match write(writer.as_fd(), &chunk) {
                Ok(n) => written += n,
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
        assert_eq!(written, 65536);
        assert_eq!(read(reader.as_fd(), &mut buf).unwrap(), 16);
        drop(writer);
    }

    #[test]
    fn the_end_of_a_pipe_is_no_wait() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(writer);
        assert_eq!(read(reader.as_fd(), &mut [0; 4]).unwrap(), 0);
    }

    #[test]
    fn a_terminal_without_input_would_wait() {
        let pair = nix::pty::openpty(None, None).unwrap();
        let error = read(pair.slave.as_fd(), &mut [0; 4]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
        assert_eq!(write(pair.slave.as_fd(), b"x").unwrap(), 1);
    }

    #[test]
    fn copies_are_one_open_file_and_second_opens_are_not() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let copy = file.try_clone().unwrap();
        assert!(is_same_file(&file, &copy));
        assert!(!is_same_file(&file, std::fs::File::open("/dev/null").unwrap()));
    }
}
