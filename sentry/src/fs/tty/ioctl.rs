//! `ioctl(2)` of terminals (`ioctl_tty(2)`).

use std::sync::Arc;

use sentry_abi::fs::{Termio, Termios, Winsize};
use sentry_abi::signal::Signal;
use zerocopy::FromZeros;

use crate::errno::{Errno, SysResult};
use crate::fs::tty::devpts::open_peer;
use crate::fs::tty::file::Master;
use crate::fs::tty::pty::Pty;
use crate::mm::UserAddr;
use crate::task::{Capabilities, CurrentTask, Resource};
use crate::vfs::{FdFlags, File, OpenFlags};

// asm-generic/ioctls.h
const TCGETS: u32 = 0x5401;
const TCSETS: u32 = 0x5402;
const TCSETSW: u32 = 0x5403;
const TCSETSF: u32 = 0x5404;
const TCGETA: u32 = 0x5405;
const TCSETA: u32 = 0x5406;
const TCSETAW: u32 = 0x5407;
const TCSETAF: u32 = 0x5408;
const TCSBRK: u32 = 0x5409;
const TCXONC: u32 = 0x540a;
const TCFLSH: u32 = 0x540b;
const TIOCEXCL: u32 = 0x540c;
const TIOCNXCL: u32 = 0x540d;
const TIOCSCTTY: u32 = 0x540e;
const TIOCGPGRP: u32 = 0x540f;
const TIOCSPGRP: u32 = 0x5410;
const TIOCOUTQ: u32 = 0x5411;
const TIOCGWINSZ: u32 = 0x5413;
const TIOCSWINSZ: u32 = 0x5414;
const FIONREAD: u32 = 0x541b;
const TIOCPKT: u32 = 0x5420;
const TIOCNOTTY: u32 = 0x5422;
const TIOCGETD: u32 = 0x5424;
const TCSBRKP: u32 = 0x5425;
const TIOCGSID: u32 = 0x5429;
const TIOCGPTN: u32 = 0x8004_5430;
const TIOCSPTLCK: u32 = 0x4004_5431;
const TIOCGPTLCK: u32 = 0x8004_5439;
const TIOCGLCKTRMIOS: u32 = 0x5456;
const TIOCGPTPEER: u32 = 0x5441;

/// Requests of the master end.
pub(super) fn master(
    master: &Master,
    task: &mut CurrentTask,
    file: &File,
    request: u32,
    arg: u64,
) -> SysResult {
    let (pty, addr) = (&master.pty, UserAddr(arg));
    match request {
        TIOCGPTN => {
            task.mm().write_obj(addr, &pty.index())?;
            Ok(0)
        }
        TIOCSPTLCK => {
            let lock: i32 = task.mm().read_obj(addr)?;
            pty.with(|state| state.is_locked = lock != 0);
            Ok(0)
        }
        TIOCGPTLCK => {
            let locked = i32::from(pty.look(|state| state.is_locked));
            task.mm().write_obj(addr, &locked)?;
            Ok(0)
        }
        TIOCGPTPEER => {
            // The argument is a set of open flags, which have 32 bits.
            let flags = OpenFlags::from_bits_truncate((arg & 0xffff_ffff) as u32);
            let slave = open_peer(file, pty, flags)?;
            let fd_flags =
                if flags.contains(OpenFlags::CLOEXEC) { FdFlags::CLOEXEC } else { FdFlags::empty() };
            let limit = task.rlimit(Resource::Nofile).soft;
            let fd = task.files().install(slave, fd_flags, 0, limit)?;
            Ok(u64::from(fd.0.unsigned_abs()))
        }
        FIONREAD => {
            let n = pty.look(|state| state.discipline.output_len());
            task.mm().write_obj(addr, &i32::try_from(n).unwrap_or(i32::MAX))?;
            Ok(0)
        }
        TIOCPKT => {
            // Packet mode is off and stays off.
            let on: i32 = task.mm().read_obj(addr)?;
            if on == 0 { Ok(0) } else { Err(Errno::EINVAL.into()) }
        }
        // The master is nobody's controlling terminal.
        TIOCSCTTY | TIOCNOTTY => Err(Errno::ENOTTY.into()),
        _ => terminal(pty, task, request, arg),
    }
}

/// Requests that both ends know.
pub(super) fn terminal(pty: &Arc<Pty>, task: &mut CurrentTask, request: u32, arg: u64) -> SysResult {
    let addr = UserAddr(arg);
    match request {
        TCGETS => {
            let termios = pty.look(|state| state.discipline.termios);
            task.mm().write_obj(addr, &termios)?;
            Ok(0)
        }
        TCSETS | TCSETSW | TCSETSF => {
            let new: Termios = task.mm().read_obj(addr)?;
            pty.with(|state| {
                if request == TCSETSF {
                    state.discipline.flush_input();
                }
                state.discipline.set_termios(new);
            });
            Ok(0)
        }
        TCGETA => {
            let termios = pty.look(|state| state.discipline.termios);
            task.mm().write_obj(addr, &system_v(&termios))?;
            Ok(0)
        }
        TCSETA | TCSETAW | TCSETAF => {
            let new: Termio = task.mm().read_obj(addr)?;
            pty.with(|state| {
                if request == TCSETAF {
                    state.discipline.flush_input();
                }
                let termios = with_system_v(state.discipline.termios, &new);
                state.discipline.set_termios(termios);
            });
            Ok(0)
        }
        TIOCGLCKTRMIOS => {
            // Nothing is locked.
            task.mm().write_obj(addr, &Termios::new_zeroed())?;
            Ok(0)
        }
        TIOCGWINSZ => {
            let size = pty.look(|state| state.discipline.size);
            task.mm().write_obj(addr, &size)?;
            Ok(0)
        }
        TIOCSWINSZ => {
            let size: Winsize = task.mm().read_obj(addr)?;
            let old = pty.with(|state| std::mem::replace(&mut state.discipline.size, size));
            if old != size
                && let Some(group) = pty.foreground()
            {
                pty.signal(group, Signal::SIGWINCH);
            }
            Ok(0)
        }
        TCFLSH => {
            pty.with(|state| match arg {
                0 => {
                    state.discipline.flush_input();
                    Ok(())
                }
                1 => {
                    state.discipline.flush_output();
                    Ok(())
                }
                2 => {
                    state.discipline.flush_input();
                    state.discipline.flush_output();
                    Ok(())
                }
                _ => Err(Errno::EINVAL),
            })?;
            Ok(0)
        }
        TCXONC => {
            match arg {
                0 | 1 => pty.with(|state| state.discipline.set_stopped(arg == 0)),
                2 | 3 => {}
                _ => return Err(Errno::EINVAL.into()),
            }
            Ok(0)
        }
        // Output goes out at once, so there is nothing to drain; there is no line to break.
        TCSBRK | TCSBRKP | TIOCEXCL | TIOCNXCL => Ok(0),
        FIONREAD => {
            let n = pty.look(|state| state.discipline.readable());
            task.mm().write_obj(addr, &i32::try_from(n).unwrap_or(i32::MAX))?;
            Ok(0)
        }
        TIOCOUTQ | TIOCGETD => {
            task.mm().write_obj(addr, &0_i32)?;
            Ok(0)
        }
        TIOCSCTTY => {
            let steals = arg == 1 && task.creds().has(Capabilities::SYS_ADMIN);
            pty.control(task, steals)?;
            Ok(0)
        }
        TIOCNOTTY => {
            pty.give_up(task)?;
            Ok(0)
        }
        TIOCGPGRP => {
            check_own(pty, task)?;
            let group = pty.foreground().map_or(0, |group| task.number(group));
            task.mm().write_obj(addr, &group)?;
            Ok(0)
        }
        TIOCSPGRP => set_foreground(pty, task, addr),
        TIOCGSID => {
            check_own(pty, task)?;
            let id = pty.session().map_or(0, |session| task.number(session.id()));
            task.mm().write_obj(addr, &id)?;
            Ok(0)
        }
        _ => Err(Errno::ENOTTY.into()),
    }
}

/// The terminal must be that of the caller's session; a master answers for its slave.
fn check_own(pty: &Pty, task: &CurrentTask) -> Result<(), Errno> {
    let own = task.kernel().tree().process(task.pid()).map(|p| p.session.id());
    match pty.session() {
        Some(session) if Some(session.id()) == own => Ok(()),
        _ => Err(Errno::ENOTTY),
    }
}

fn set_foreground(pty: &Pty, task: &CurrentTask, addr: UserAddr) -> SysResult {
    check_own(pty, task)?;
    let group: i32 = task.mm().read_obj(addr)?;
    if group < 0 {
        return Err(Errno::EINVAL.into());
    }
    let group = task.named(group)?;
    let same_session = {
        let tree = task.kernel().tree();
        let own = tree.process(task.pid()).map(|p| p.session.id());
        tree.group_members(group).map(|p| p.session.id()).next().map(|id| Some(id) == own)
    };
    match same_session {
        None => Err(Errno::ESRCH.into()),
        Some(false) => Err(Errno::EPERM.into()),
        Some(true) => {
            pty.set_foreground(group);
            Ok(0)
        }
    }
}

/// What fits into the old structure.
fn system_v(termios: &Termios) -> Termio {
    let low = |flags: u32| (flags & 0xffff) as u16;
    let mut c_cc = [0; 8];
    c_cc.copy_from_slice(&termios.c_cc[..8]);
    Termio {
        c_iflag: low(termios.c_iflag),
        c_oflag: low(termios.c_oflag),
        c_cflag: low(termios.c_cflag),
        c_lflag: low(termios.c_lflag),
        c_line: termios.c_line,
        c_cc,
        pad: 0,
    }
}

/// `termios` with what the old structure says; the rest stays.
fn with_system_v(mut termios: Termios, new: &Termio) -> Termios {
    let low = |flags: &mut u32, new: u16| *flags = *flags & 0xffff_0000 | u32::from(new);
    low(&mut termios.c_iflag, new.c_iflag);
    low(&mut termios.c_oflag, new.c_oflag);
    low(&mut termios.c_cflag, new.c_cflag);
    low(&mut termios.c_lflag, new.c_lflag);
    termios.c_line = new.c_line;
    termios.c_cc[..8].copy_from_slice(&new.c_cc);
    termios
}
