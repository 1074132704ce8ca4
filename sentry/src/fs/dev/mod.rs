//! Character devices.

mod memory;

use std::sync::Arc;

use crate::errno::Errno;
use crate::vfs::open::status_flags;
use crate::vfs::{Caller, File, FileOps, OpenFlags, VfsPath};

/// Opens the character device at `place`; permissions were checked.
///
/// # Errors
/// `ENXIO` for a device that does not exist.
pub(crate) fn open(caller: &Caller<'_>, place: VfsPath, flags: OpenFlags) -> Result<Arc<File>, Errno> {
    let device = place.stat()?.rdev;
    let ops: Box<dyn FileOps> = match (device.major, device.minor) {
        (1, 3) => Box::new(memory::Null),
        (1, 5) => Box::new(memory::Zero),
        (1, 7) => Box::new(memory::Full),
        (1, 8 | 9) => Box::new(memory::Random),
        (5, 0) => controlling_terminal(caller)?,
        _ => return Err(Errno::ENXIO),
    };
    Ok(File::at(ops, status_flags(flags), place))
}

/// `/dev/tty` (tty(4)): the terminal of the caller's session, `ENXIO` where there is none.
fn controlling_terminal(caller: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
    let task = caller.task.ok_or(Errno::ENXIO)?;
    let terminal = task.kernel().tree().process(task.pid()).and_then(|process| process.session.terminal());
    terminal.and_then(|terminal| crate::fs::host::open_controlling(&*terminal)).ok_or(Errno::ENXIO)
}

/// Device number and foreground process group of a session's terminal, for `/proc/PID/stat`.
pub(crate) fn terminal_numbers(terminal: &Arc<dyn crate::kernel::Terminal>) -> (u64, i32) {
    let _ = terminal;
    (0, -1)
}
