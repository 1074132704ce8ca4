//! Character devices.

mod memory;

use std::any::Any;
use std::sync::Arc;

use crate::errno::Errno;
use crate::fs::dev::memory::MemoryDevice;
use crate::fs::host;
use crate::fs::tty::{self, Pty};
use crate::kernel::Terminal;
use crate::socket::NetNamespace;
use crate::socket::tun::TunFile;
use crate::vfs::open::status_flags;
use crate::vfs::{Caller, DeviceId, File, FileOps, OpenFlags, VfsPath};

/// Opens the character device at `place`; permissions were checked.
///
/// # Errors
/// `ENXIO` for a device that does not exist.
pub(crate) fn open(caller: &Caller<'_>, place: VfsPath, flags: OpenFlags) -> Result<Arc<File>, Errno> {
    let device = place.stat()?.rdev;
    let ops: Box<dyn FileOps> = match (device.major, device.minor) {
        (1, 3) => Box::new(MemoryDevice::NULL),
        (1, 5) => Box::new(MemoryDevice::ZERO),
        (1, 7) => Box::new(MemoryDevice::FULL),
        (1, 8 | 9) => Box::new(MemoryDevice::RANDOM),
        (10, 200) => Box::new(TunFile::new(open_network(caller)?)),
        (5, 0) => return open_controlling(caller, place, flags),
        (5, 2) => return tty::open_ptmx(caller, place, flags),
        (136, index) => return tty::open_slave(caller, place, index, flags),
        _ => return Err(Errno::ENXIO),
    };
    Ok(File::at(ops, status_flags(flags), place))
}

/// The network in which `/dev/net/tun` makes interfaces.
fn open_network(caller: &Caller<'_>) -> Result<Arc<NetNamespace>, Errno> {
    caller.task.and_then(|task| task.net()).ok_or(Errno::ENXIO)
}

/// `/dev/tty` (`tty(4)`): the terminal of the caller's session, `ENXIO` where there is none.
fn open_controlling(caller: &Caller<'_>, place: VfsPath, flags: OpenFlags) -> Result<Arc<File>, Errno> {
    let task = caller.task.ok_or(Errno::ENXIO)?;
    let session = task.kernel().tree().process(task.pid()).map(|p| p.session.clone());
    let terminal = session.and_then(|s| s.terminal()).ok_or(Errno::ENXIO)?;
    if let Some(ops) = host::open_controlling(&*terminal) {
        return Ok(File::at(ops, status_flags(flags), place));
    }
    let any: Arc<dyn Any + Send + Sync> = terminal;
    let pty: Arc<Pty> = any.downcast().map_err(|_| Errno::ENXIO)?;
    tty::open_pty(caller, &pty, place, flags | OpenFlags::NOCTTY)
}

/// Device number and foreground process group of a session's terminal, for `/proc/PID/stat`.
pub(crate) fn terminal_numbers(terminal: &Arc<dyn Terminal>) -> (u64, i32) {
    let any: &dyn Any = &**terminal;
    match any.downcast_ref::<Pty>() {
        Some(pty) => (DeviceId::new(136, pty.index()).encode(), pty.foreground().map_or(-1, |group| group.0)),
        None => {
            let number = host::number(&**terminal).map_or(0, |index| DeviceId::new(136, index).encode());
            (number, host::foreground(&**terminal).map_or(-1, |group| group.0))
        }
    }
}
