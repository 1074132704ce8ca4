//! Changing a guest's address space through the system call thread of its stub.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::contract::{MapOp, MapSource, PlatformError, Populate};
use crate::host;
use crate::memory_file::MemoryFile;
use crate::stub::command_page::Command;
use crate::stub::layout::{GUEST_END, GUEST_START};
use crate::stub::process::{CommandError, StubProcess};

/// Performs `ops` in order.
///
/// # Errors
/// At the first operation that the host refuses.
pub(crate) fn apply(process: &StubProcess, memory: &MemoryFile, ops: &[MapOp]) -> Result<(), PlatformError> {
    check_ranges(ops)?;
    let mut rest = ops;
    while !rest.is_empty() {
        let commands: Vec<Command> = rest.iter().map(|op| command(op, memory)).collect();
        let done = match process.run(&commands) {
            Ok(()) => return Ok(()),
            Err(CommandError::Refused { index, source }) => {
                retry_as_unmap(process, rest.get(index), source)?;
                index + 1
            }
            Err(error @ CommandError::Gone) => return Err(error.into_platform("mmap")),
        };
        rest = rest.get(done..).unwrap_or_default();
    }
    Ok(())
}

/// mprotect(2) gives up at the first hole, and most guest ranges have some, since pages are mapped on demand. The
/// range is unmapped instead: the next access faults and is mapped anew with the new protection.
fn retry_as_unmap(
    process: &StubProcess,
    op: Option<&MapOp>,
    refusal: io::Error,
) -> Result<(), PlatformError> {
    match op {
        Some(MapOp::Protect { addr, len, .. }) => {
            let unmap = Command::exact(libc::SYS_munmap, &[*addr, *len], 0);
            process.run(&[unmap]).map_err(|e| e.into_platform("munmap"))
        }
        Some(MapOp::Unmap { .. }) => Err(PlatformError::Host { call: "munmap", source: refusal }),
        Some(MapOp::Map { .. }) | None => Err(PlatformError::Host { call: "mmap", source: refusal }),
    }
}

/// Guests are mapped nothing over the stub: this check is what keeps it whole.
fn check_ranges(ops: &[MapOp]) -> Result<(), PlatformError> {
    for op in ops {
        let (MapOp::Map { addr, len, .. } | MapOp::Unmap { addr, len } | MapOp::Protect { addr, len, .. }) =
            op;
        let is_inside = *addr >= GUEST_START && addr.checked_add(*len).is_some_and(|end| end <= GUEST_END);
        if !is_inside {
            let source = io::Error::from_raw_os_error(libc::EINVAL);
            return Err(PlatformError::Host { call: "address outside the guest's range", source });
        }
    }
    Ok(())
}

fn command(op: &MapOp, memory: &MemoryFile) -> Command {
    match op {
        MapOp::Map { addr, len, source, prot, populate } => {
            let (fd, offset) = match source {
                MapSource::MemoryFile(offset) => (memory.fd().as_raw_fd(), *offset),
                MapSource::HostFile(fd, offset) => (fd.as_fd().as_raw_fd(), *offset),
            };
            let eager = if *populate == Populate::Eagerly { libc::MAP_POPULATE } else { 0 };
            let flags = host::flags(libc::MAP_SHARED | libc::MAP_FIXED | eager);
            let args = [*addr, *len, host::flags(prot.bits()), flags, host::flags(fd), offset];
            Command::exact(libc::SYS_mmap, &args, *addr)
        }
        MapOp::Unmap { addr, len } => Command::exact(libc::SYS_munmap, &[*addr, *len], 0),
        MapOp::Protect { addr, len, prot } => {
            Command::exact(libc::SYS_mprotect, &[*addr, *len, host::flags(prot.bits())], 0)
        }
    }
}
