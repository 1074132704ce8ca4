//! `fcntl(2)`.

use std::sync::Arc;

use sentry_abi::fs::Flock;

use crate::errno::{Errno, SysError, SysResult};
use crate::fs::pipe::PipeEnd;
use crate::fs::tmpfs::{Seals, memfd_seals};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::task::{BlockError, Capabilities, CurrentTask, Resource, Tid};
use crate::vfs::lock::{LockKind, LockOwner, LockRange};
use crate::vfs::lock_waits::Wanted;
use crate::vfs::{DirEvents, Fd, FdFlags, File, OpenFlags, OwnerName};
use crate::wait::Readiness;

const F_DUPFD: u32 = 0;
const F_GETFD: u32 = 1;
const F_SETFD: u32 = 2;
const F_GETFL: u32 = 3;
const F_SETFL: u32 = 4;
const F_GETLK: u32 = 5;
const F_SETLK: u32 = 6;
const F_SETLKW: u32 = 7;
const F_SETOWN: u32 = 8;
const F_GETOWN: u32 = 9;
const F_SETSIG: u32 = 10;
const F_GETSIG: u32 = 11;
const F_SETOWN_EX: u32 = 15;
const F_GETOWN_EX: u32 = 16;
const F_OFD_GETLK: u32 = 36;
const F_OFD_SETLK: u32 = 37;
const F_OFD_SETLKW: u32 = 38;
const F_SETLEASE: u32 = 1024;
const F_GETLEASE: u32 = 1025;
const F_NOTIFY: u32 = 1026;
const F_DUPFD_CLOEXEC: u32 = 1030;
const F_SETPIPE_SZ: u32 = 1031;
const F_GETPIPE_SZ: u32 = 1032;
const F_ADD_SEALS: u32 = 1033;
const F_GET_SEALS: u32 = 1034;

const F_OWNER_TID: i32 = 0;
const F_OWNER_PID: i32 = 1;
const F_OWNER_PGRP: i32 = 2;

const F_RDLCK: i16 = 0;
const F_WRLCK: i16 = 1;
const F_UNLCK: i16 = 2;

/// `fcntl(2)`.
pub(crate) fn sys_fcntl(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (fd, command) = (args.fd(0), args.u32(1));
    let (file, fd_flags) = task.files().get_with_flags(fd)?;
    let path_ok = matches!(command, F_DUPFD | F_DUPFD_CLOEXEC | F_GETFD | F_SETFD | F_GETFL);
    if file.flags().contains(OpenFlags::PATH) && !path_ok {
        return Err(Errno::EBADF.into());
    }
    match command {
        F_DUPFD => dup(task, file, args.i32(2), FdFlags::empty()),
        F_DUPFD_CLOEXEC => dup(task, file, args.i32(2), FdFlags::CLOEXEC),
        F_GETFD => Ok(fd_flags.bits().into()),
        F_SETFD => {
            task.files().set_flags(fd, FdFlags::from_bits_truncate(args.u32(2)))?;
            Ok(0)
        }
        F_GETFL => Ok(file.flags().bits().into()),
        F_SETFL => set_flags(task, &file, args.u32(2), fd),
        F_GETLK | F_OFD_GETLK => get_lock(task, &file, command, args.addr(2)),
        F_SETLK | F_SETLKW | F_OFD_SETLK | F_OFD_SETLKW => set_lock(task, &file, command, args.addr(2)),
        F_SETOWN => set_owner(task, &file, OwnerName::from_signed(args.i32(2))?),
        // As the kernel returns it: the C library tells a negative group from an error.
        F_GETOWN => Ok(i64::from(signal_owner(task, &file).signed()).cast_unsigned()),
        F_SETOWN_EX => {
            let [kind, id]: [i32; 2] = task.mm().read_obj(args.addr(2))?;
            set_owner(
                task,
                &file,
                match kind {
                    F_OWNER_TID => OwnerName::Thread(id),
                    F_OWNER_PID => OwnerName::Process(id),
                    F_OWNER_PGRP => OwnerName::Group(id),
                    _ => return Err(Errno::EINVAL.into()),
                },
            )
        }
        F_GETOWN_EX => {
            let value = match signal_owner(task, &file) {
                OwnerName::Thread(id) => [F_OWNER_TID, id],
                OwnerName::Process(id) => [F_OWNER_PID, id],
                OwnerName::Group(id) => [F_OWNER_PGRP, id],
            };
            task.mm().write_obj(args.addr(2), &value)?;
            Ok(0)
        }
        F_SETSIG => {
            let number = i32::try_from(args.u64(2)).ok().filter(|number| (0..=64).contains(number));
            let number = number.ok_or(Errno::EINVAL)?;
            file.make_signal_driven(task.kernel()).set_signal(number);
            Ok(0)
        }
        F_GETSIG => Ok(file.signal_driven().map_or(0, |signals| signals.signal()).unsigned_abs().into()),
        F_SETLEASE => Err(Errno::EAGAIN.into()),
        F_GETLEASE => Ok(F_UNLCK.cast_unsigned().into()),
        F_NOTIFY => notify(task, &file, fd, args.u32(2)),
        F_GETPIPE_SZ => Ok(pipe_of(&file)?.pipe().capacity() as u64),
        F_SETPIPE_SZ => {
            let size = usize::try_from(args.u32(2)).map_err(|_| Errno::EINVAL)?;
            let privileged = task.creds().has(Capabilities::SYS_RESOURCE);
            Ok(pipe_of(&file)?.pipe().set_capacity(size, privileged)? as u64)
        }
        F_ADD_SEALS => {
            if !file.flags().is_writable() {
                return Err(Errno::EPERM.into());
            }
            let add = Seals::from_bits(args.u32(2)).ok_or(Errno::EINVAL)?;
            memfd_seals(&file, Some(add)).map_err(Errno::from)?;
            Ok(0)
        }
        F_GET_SEALS => Ok(memfd_seals(&file, None).map_err(Errno::from)?.bits().into()),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn pipe_of(file: &File) -> Result<&PipeEnd, Errno> {
    file.downcast().ok_or(Errno::EBADF)
}

fn dup(task: &CurrentTask, file: Arc<File>, min: i32, flags: FdFlags) -> SysResult {
    let limit = task.rlimit(Resource::Nofile).soft;
    if u64::try_from(min).map_or(true, |min| min >= limit) {
        return Err(Errno::EINVAL.into());
    }
    let fd = task.files().install(file, flags, min, limit)?;
    Ok(u64::from(fd.0.unsigned_abs()))
}

/// `F_SETOWN`.
fn set_owner(task: &CurrentTask, file: &Arc<File>, name: OwnerName) -> SysResult {
    // A number of nothing is kept, so that it is found out below.
    let name = name.map(|id| if id == 0 { 0 } else { task.named(id).map_or(i32::MAX, |id| id.0) });
    file.make_signal_driven(task.kernel()).set_owner(name, &task.creds())?;
    Ok(0)
}

/// `F_GETOWN`.
fn signal_owner(task: &CurrentTask, file: &File) -> OwnerName {
    file.signal_driven()
        .map_or(OwnerName::Process(0), |signals| signals.owner().map(|id| task.number(Tid(id))))
}

/// `F_NOTIFY`.
fn notify(task: &CurrentTask, file: &Arc<File>, fd: Fd, bits: u32) -> SysResult {
    let table = task.files().id();
    // Bits without a meaning ask for nothing, but do not end what was asked for.
    if bits & !DirEvents::MULTISHOT.bits() == 0 {
        if let Some(signals) = file.signal_driven() {
            signals.unwatch_directory(table);
        }
        return Ok(0);
    }
    if !file.inode().is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    let signals = file.make_signal_driven(task.kernel());
    signals.watch_directory(table, fd, DirEvents::from_bits_truncate(bits));
    if !signals.has_owner() {
        signals.set_owner(OwnerName::Process(task.pid().0), &task.creds())?;
    }
    Ok(0)
}

fn set_flags(task: &CurrentTask, file: &Arc<File>, flags: u32, fd: Fd) -> SysResult {
    // What F_SETFL can change (fcntl(2)); the rest of the argument is ignored.
    let changeable =
        OpenFlags::APPEND | OpenFlags::ASYNC | OpenFlags::DIRECT | OpenFlags::NOATIME | OpenFlags::NONBLOCK;
    let flags = OpenFlags::from_bits_truncate(flags) & changeable;
    let new = file.flags().difference(changeable) | flags;
    file.ops().set_flags(file, new)?;
    file.change_status_flags(task, new, fd);
    Ok(0)
}

/// The range and kind that a `struct flock` asks for; the kind is `None` for unlocking.
fn decode(file: &File, lock: &Flock) -> Result<(Option<LockKind>, LockRange), Errno> {
    let base = match lock.l_whence {
        0 => 0,
        1 => i64::try_from(*file.position()).map_err(|_| Errno::EOVERFLOW)?,
        2 => i64::try_from(file.stat()?.size).map_err(|_| Errno::EOVERFLOW)?,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(lock.l_start).ok_or(Errno::EOVERFLOW)?;
    let range = LockRange::new(start, lock.l_len)?;
    let kind = match lock.l_type {
        F_RDLCK => Some(LockKind::Shared),
        F_WRLCK => Some(LockKind::Exclusive),
        F_UNLCK => None,
        _ => return Err(Errno::EINVAL),
    };
    Ok((kind, range))
}

fn owner(task: &CurrentTask, file: &File, command: u32) -> LockOwner {
    match command {
        F_OFD_GETLK | F_OFD_SETLK | F_OFD_SETLKW => file.lock_owner(),
        _ => LockOwner::Process { files: task.files().id(), pid: task.pid().0 },
    }
}

fn get_lock(task: &CurrentTask, file: &File, command: u32, addr: UserAddr) -> SysResult {
    let mut lock: Flock = task.mm().read_obj(addr)?;
    if command == F_OFD_GETLK && lock.l_pid != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (kind, range) = decode(file, &lock)?;
    let kind = kind.ok_or(Errno::EINVAL)?;
    match file.inode().shared().locks.conflict(owner(task, file, command), kind, range) {
        None => lock.l_type = F_UNLCK,
        Some(held) => {
            lock.l_type = if held.kind == LockKind::Shared { F_RDLCK } else { F_WRLCK };
            lock.l_whence = 0;
            lock.l_start = held.range.start.cast_signed();
            lock.l_len = if held.range.end == u64::MAX {
                0
            } else {
                (held.range.end - held.range.start).cast_signed()
            };
            lock.l_pid = match held.owner {
                LockOwner::Process { pid, files: _ } => task.number(Tid(pid)),
                LockOwner::Description(_) => -1,
            };
        }
    }
    task.mm().write_obj(addr, &lock)?;
    Ok(0)
}

fn set_lock(task: &mut CurrentTask, file: &Arc<File>, command: u32, addr: UserAddr) -> SysResult {
    let lock: Flock = task.mm().read_obj(addr)?;
    if matches!(command, F_OFD_SETLK | F_OFD_SETLKW) && lock.l_pid != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (kind, range) = decode(file, &lock)?;
    match kind {
        Some(LockKind::Shared) if !file.flags().is_readable() => return Err(Errno::EBADF.into()),
        Some(LockKind::Exclusive) if !file.flags().is_writable() => return Err(Errno::EBADF.into()),
        _ => {}
    }
    let owner = owner(task, file, command);
    let locks = &file.inode().shared().locks;
    if !matches!(command, F_SETLKW | F_OFD_SETLKW) {
        locks.set_record(owner, kind, range)?;
        return Ok(0);
    }
    let kernel = Arc::clone(task.kernel());
    // Whether it is the first attempt or others were faster than this one when it was woken: each may close a circle.
    let mut wait = None;
    let waited = task.block_on_queue(locks.queue(), Readiness::OUT, None, |_| {
        drop(wait.take());
        match (locks.set_record(owner, kind, range), kind) {
            // As on Linux, locks of descriptions are left to the caller's patience.
            (Err(Errno::EAGAIN), Some(kind)) if command == F_SETLKW => {
                let wanted = Wanted { owner, inode: Arc::clone(file.inode()), kind, range };
                match kernel.lock_waits.enter(wanted) {
                    Ok(entered) => {
                        wait = Some(entered);
                        None
                    }
                    Err(error) => Some(Err(error)),
                }
            }
            (Err(Errno::EAGAIN), _) => None,
            (done, _) => Some(done),
        }
    });
    match waited {
        Ok(done) => {
            done?;
            Ok(0)
        }
        Err(e @ (BlockError::Interrupted | BlockError::TimedOut)) => Err(SysError::from(e)),
    }
}
