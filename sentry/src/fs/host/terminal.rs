//! `ioctl(2)` of imported descriptors (ioctl_tty(2)): attributes and size pass through to the host's terminal.

use std::sync::Arc;

use sentry_hostio::tty::{self, Apply, KernelTermios, WindowSize};

use crate::errno::{Errno, SysResult};
use crate::fs::host::control;
use crate::fs::host::description::{Description, Kind};
use crate::fs::host::file::errno;
use crate::mm::UserAddr;
use crate::task::CurrentTask;

// asm-generic/ioctls.h
const TCGETS: u32 = 0x5401;
const TCSETS: u32 = 0x5402;
const TCSETSW: u32 = 0x5403;
const TCSETSF: u32 = 0x5404;
const TIOCGWINSZ: u32 = 0x5413;
const TIOCSWINSZ: u32 = 0x5414;
const FIONREAD: u32 = 0x541B;
const TIOCSCTTY: u32 = 0x540E;
const TIOCGPGRP: u32 = 0x540F;
const TIOCSPGRP: u32 = 0x5410;
const TIOCNOTTY: u32 = 0x5422;
const TIOCGSID: u32 = 0x5429;

pub(super) fn ioctl(
    description: &Arc<Description>,
    task: &mut CurrentTask,
    request: u32,
    arg: u64,
) -> SysResult {
    let arg = UserAddr(arg);
    if request == FIONREAD {
        return readable_bytes(description, task, arg);
    }
    if description.kind() != Kind::Terminal {
        return Err(Errno::ENOTTY.into());
    }
    match request {
        TCGETS => get_attributes(description, task, arg),
        TCSETS => set_attributes(description, task, arg, Apply::Now),
        TCSETSW => set_attributes(description, task, arg, Apply::AfterDrain),
        TCSETSF => set_attributes(description, task, arg, Apply::AfterFlush),
        TIOCGWINSZ => get_window_size(description, task, arg),
        TIOCSWINSZ => set_window_size(description, task, arg),
        TIOCSCTTY => control::acquire(description, task).map(|()| 0).map_err(Into::into),
        TIOCNOTTY => control::release(description, task).map(|()| 0).map_err(Into::into),
        TIOCGPGRP => {
            let group = control::foreground(description, task)?;
            task.mm().write_bytes(arg, &task.number(group).to_le_bytes())?;
            Ok(0)
        }
        TIOCSPGRP => {
            let mut group = [0; 4];
            task.mm().read_bytes(arg, &mut group)?;
            control::set_foreground(description, task, task.named(i32::from_le_bytes(group))?)?;
            Ok(0)
        }
        TIOCGSID => {
            let session = control::session_id(description, task)?;
            task.mm().write_bytes(arg, &session.0.to_le_bytes())?;
            Ok(0)
        }
        _ => Err(Errno::ENOTTY.into()),
    }
}

fn readable_bytes(description: &Description, task: &CurrentTask, arg: UserAddr) -> SysResult {
    let count = tty::readable_bytes(description.fd()).map_err(|error| errno(&error))?;
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    task.mm().write_bytes(arg, &count.to_le_bytes())?;
    Ok(0)
}

fn get_attributes(description: &Description, task: &CurrentTask, arg: UserAddr) -> SysResult {
    let attributes = tty::attributes(description.fd()).map_err(|error| errno(&error))?;
    task.mm().write_bytes(arg, &attributes.0)?;
    Ok(0)
}

fn set_attributes(description: &Description, task: &CurrentTask, arg: UserAddr, apply: Apply) -> SysResult {
    let mut attributes = KernelTermios([0; KernelTermios::LEN]);
    task.mm().read_bytes(arg, &mut attributes.0)?;
    tty::set_attributes(description.fd(), apply, &attributes).map_err(|error| errno(&error))?;
    Ok(0)
}

fn get_window_size(description: &Description, task: &CurrentTask, arg: UserAddr) -> SysResult {
    let WindowSize { rows, columns, width_px, height_px } =
        tty::window_size(description.fd()).map_err(|error| errno(&error))?;
    let mut bytes = [0; 8];
    for (place, value) in bytes.chunks_exact_mut(2).zip([rows, columns, width_px, height_px]) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    task.mm().write_bytes(arg, &bytes)?;
    Ok(0)
}

fn set_window_size(description: &Arc<Description>, task: &CurrentTask, arg: UserAddr) -> SysResult {
    let mut bytes = [0; 8];
    task.mm().read_bytes(arg, &mut bytes)?;
    let [a, b, c, d, e, f, g, h] = bytes;
    let size = WindowSize {
        rows: u16::from_le_bytes([a, b]),
        columns: u16::from_le_bytes([c, d]),
        width_px: u16::from_le_bytes([e, f]),
        height_px: u16::from_le_bytes([g, h]),
    };
    control::set_size(description, task, size)?;
    Ok(0)
}
