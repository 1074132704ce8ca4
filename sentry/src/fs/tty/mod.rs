//! Pseudo terminals: the line discipline (`termios(3)`), the two ends (`pty(7)`), `devpts`.

mod devpts;
mod discipline;
mod file;
mod ioctl;
mod pty;

pub use devpts::create;
pub(crate) use devpts::{adopt, open_ptmx, open_pty, open_slave};
pub(crate) use pty::Pty;
