//! Terminals: raw mode with restoration, window size, and the ioctls passed through for a guest.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// Size of a terminal's window in character cells and pixels (`struct winsize`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
    /// Width in pixels, usually 0.
    pub width_px: u16,
    /// Height in pixels, usually 0.
    pub height_px: u16,
}

/// The kernel's `struct termios` (36 bytes: `TCGETS`/`TCSETS`), as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelTermios(pub [u8; Self::LEN]);

impl KernelTermios {
    /// Size of `struct termios` in the kernel's interface: four 32-bit flag words, the line
    /// discipline and 19 control characters.
    pub const LEN: usize = 36;
}

/// When new terminal attributes take effect (TCSETS, TCSETSW, TCSETSF of ioctl_tty(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// At once.
    Now,
    /// After pending output was sent.
    AfterDrain,
    /// After pending output was sent; pending input is discarded.
    AfterFlush,
}

/// Tells whether `fd` is a terminal.
pub fn is_terminal(fd: impl AsFd) -> bool {
    use std::io::IsTerminal;
    fd.as_fd().is_terminal()
}

/// Reads the window size.
///
/// # Errors
/// `ENOTTY` when `fd` is no terminal.
pub fn window_size(fd: impl AsFd) -> io::Result<WindowSize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize to the pointer.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    check(result)?;
    Ok(WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
        width_px: size.ws_xpixel,
        height_px: size.ws_ypixel,
    })
}

/// Sets the window size.
///
/// # Errors
/// `ENOTTY` when `fd` is no terminal.
pub fn set_window_size(fd: impl AsFd, size: WindowSize) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: size.width_px,
        ws_ypixel: size.height_px,
    };
    // SAFETY: TIOCSWINSZ reads one winsize from the pointer.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    check(result)
}

/// Reads the attributes in the kernel's layout.
///
/// # Errors
/// `ENOTTY` when `fd` is no terminal.
pub fn attributes(fd: impl AsFd) -> io::Result<KernelTermios> {
    // Larger than the kernel's struct, so that a layout surprise cannot write past the end.
    let mut buffer = [0u8; 64];
    // SAFETY: TCGETS writes a 36-byte struct termios, which fits in the buffer.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TCGETS, buffer.as_mut_ptr()) };
    check(result)?;
    let mut raw = [0; KernelTermios::LEN];
    raw.copy_from_slice(&buffer[..KernelTermios::LEN]);
    Ok(KernelTermios(raw))
}

/// Sets the attributes given in the kernel's layout.
///
/// # Errors
/// `ENOTTY` when `fd` is no terminal.
pub fn set_attributes(fd: impl AsFd, apply: Apply, attributes: &KernelTermios) -> io::Result<()> {
    let mut buffer = [0u8; 64];
    buffer[..KernelTermios::LEN].copy_from_slice(&attributes.0);
    let request = match apply {
        Apply::Now => libc::TCSETS,
        Apply::AfterDrain => libc::TCSETSW,
        Apply::AfterFlush => libc::TCSETSF,
    };
    // SAFETY: TCSETS* read a 36-byte struct termios, which the buffer holds.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, buffer.as_ptr()) };
    check(result)
}

/// Makes the terminal at descriptor `number` control the calling process's session (TIOCSCTTY): its keys' signals and
/// those of changes of its size then go to that process's group.
///
/// # Errors
/// `EPERM` where the process leads no session or has a terminal, or where the terminal controls another session;
/// `ENOTTY`, `EBADF`.
pub fn take_control(number: i32) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer; 0 does not steal. A number that is no open descriptor is an error.
    check(unsafe { libc::ioctl(number, libc::TIOCSCTTY, 0) })
}

/// Number of bytes that can be read without waiting (FIONREAD).
///
/// # Errors
/// `ENOTTY` when the file does not know.
pub fn readable_bytes(fd: impl AsFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int to the pointer.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut count) };
    check(result)?;
    Ok(usize::try_from(count).unwrap_or(0))
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A terminal's attributes, put back when the value is dropped.
#[derive(Debug)]
pub struct Restore {
    terminal: OwnedFd,
    saved: Termios,
}

impl Restore {
    /// Remembers the attributes of `terminal`.
    ///
    /// # Errors
    /// `ENOTTY` when it is no terminal.
    pub fn new(terminal: BorrowedFd<'_>) -> io::Result<Self> {
        let terminal = terminal.try_clone_to_owned()?;
        let saved = tcgetattr(&terminal)?;
        Ok(Self { terminal, saved })
    }

    /// Switches the terminal to raw mode until the value is dropped.
    ///
    /// # Errors
    /// The errors of tcsetattr(3).
    pub fn set_raw(&self) -> io::Result<()> {
        let mut raw = self.saved.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&self.terminal, SetArg::TCSANOW, &raw)?;
        Ok(())
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        // The terminal may be gone; there is nobody left to tell.
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.saved);
    }
}
