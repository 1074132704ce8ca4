//! `ioctl(2)`: the requests that work on every file, and dispatch.

use sentry_abi::socket::{FIOGETOWN, FIOSETOWN, SIOCGPGRP, SIOCSPGRP};

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::syscall::file::context::real_file;
use crate::task::{CurrentTask, Tid};
use crate::vfs::{FdFlags, FileType, OpenFlags, OwnerName};

const FIONREAD: u32 = 0x541b;
const FIONBIO: u32 = 0x5421;
const FIONCLEX: u32 = 0x5450;
const FIOCLEX: u32 = 0x5451;
const FIOASYNC: u32 = 0x5452;
const FIOQSIZE: u32 = 0x5460;

/// `ioctl(2)`.
pub(crate) fn sys_ioctl(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = real_file(task, args.fd(0))?;
    let (request, arg) = (args.u32(1), args.u64(2));
    match request {
        FIOCLEX | FIONCLEX => {
            let flags = if request == FIOCLEX { FdFlags::CLOEXEC } else { FdFlags::empty() };
            task.files().set_flags(args.fd(0), flags)?;
            Ok(0)
        }
        FIOASYNC if matches!(file.inode().kind(), FileType::Regular | FileType::Directory) => {
            let _: i32 = task.mm().read_obj(args.addr(2))?;
            Err(Errno::ENOTTY.into())
        }
        FIONBIO | FIOASYNC => {
            let on: i32 = task.mm().read_obj(args.addr(2))?;
            let flag = if request == FIONBIO { OpenFlags::NONBLOCK } else { OpenFlags::ASYNC };
            let mut flags = file.flags();
            flags.set(flag, on != 0);
            file.ops().set_flags(&file, flags)?;
            file.change_status_flags(task, flags, args.fd(0));
            Ok(0)
        }
        FIOSETOWN | SIOCSPGRP if file.inode().kind() == FileType::Socket => {
            let name = OwnerName::from_signed(task.mm().read_obj(args.addr(2))?)?;
            let name = name.map(|id| if id == 0 { 0 } else { task.named(id).map_or(i32::MAX, |id| id.0) });
            file.make_signal_driven(task.kernel()).set_owner(name, &task.creds())?;
            Ok(0)
        }
        FIOGETOWN | SIOCGPGRP if file.inode().kind() == FileType::Socket => {
            let owner = file
                .signal_driven()
                .map_or(0, |signals| signals.owner().map(|id| task.number(Tid(id))).signed());
            task.mm().write_obj(args.addr(2), &owner)?;
            Ok(0)
        }
        FIONREAD if file.inode().kind() == FileType::Regular && file.ops().is_seekable() => {
            let left = file.stat()?.size.saturating_sub(*file.position());
            let left = i32::try_from(left).unwrap_or(i32::MAX);
            task.mm().write_obj(args.addr(2), &left)?;
            Ok(0)
        }
        FIOQSIZE if matches!(file.inode().kind(), FileType::Regular | FileType::Directory) => {
            task.mm().write_obj(args.addr(2), &file.stat()?.size)?;
            Ok(0)
        }
        FIOQSIZE => Err(Errno::ENOTTY.into()),
        _ => file.ops().ioctl(task, &file, request, arg),
    }
}
