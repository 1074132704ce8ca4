//! An imported terminal as the controlling terminal of a guest's session (tty_ioctl(4), "Controlling terminal").
//!
//! The host's own job control knows only the process that started the sandbox; it passes key presses on to the group
//! that is in the foreground here.

use std::sync::Arc;

use parking_lot::Mutex;
use sentry_abi::signal::Signal;
use sentry_hostio::tty::{self, WindowSize};

use crate::errno::Errno;
use crate::fs::host::Description;
use crate::fs::host::file::errno;
use crate::kernel::{Session, Terminal};
use crate::task::{CurrentTask, Task, Tid};

/// The guest's view of who controls a host terminal.
pub(crate) struct HostTerminal {
    description: Arc<Description>,
    foreground: Mutex<Option<Tid>>,
    /// The size that somebody was last told of.
    known_size: Mutex<Option<WindowSize>>,
}

impl HostTerminal {
    pub(super) fn new(description: Arc<Description>) -> Arc<Self> {
        let known_size = Mutex::new(tty::window_size(description.fd()).ok());
        Arc::new(Self { description, foreground: Mutex::new(None), known_size })
    }

    /// Whether the size is another one than at the last call. The host tells of each change, and of those that the guest
    /// makes when somebody else may be in the foreground.
    pub(super) fn take_size_change(&self) -> bool {
        let mut known = self.known_size.lock();
        let size = tty::window_size(self.description.fd()).ok();
        std::mem::replace(&mut *known, size) != size
    }

    /// The foreground process group.
    pub(super) fn foreground(&self) -> Option<Tid> {
        *self.foreground.lock()
    }

    /// The terminal, for `/dev/tty`.
    pub(super) fn description(&self) -> &Arc<Description> {
        &self.description
    }
}

impl Terminal for HostTerminal {
    fn on_leader_exit(&self) {
        *self.foreground.lock() = None;
    }
}

/// Makes `description` the controlling terminal of `task`, which leads a session, with the task in the foreground.
pub(super) fn adopt(description: &Arc<Description>, task: &Task) {
    let Some((session, pgid)) = place_of(task) else {
        return;
    };
    let terminal = description.control();
    *terminal.foreground.lock() = Some(pgid);
    session.set_terminal(Some(terminal));
}

/// TIOCSCTTY.
pub(super) fn acquire(description: &Arc<Description>, task: &Task) -> Result<(), Errno> {
    let (session, pgid) = place_of(task).ok_or(Errno::EPERM)?;
    if controls(description, &session) {
        return Ok(());
    }
    // "The calling process must be a session leader and not have a controlling terminal already."
    if session.id() != task.pid() || session.terminal().is_some() {
        return Err(Errno::EPERM);
    }
    let terminal = description.control();
    *terminal.foreground.lock() = Some(pgid);
    session.set_terminal(Some(terminal));
    Ok(())
}

/// TIOCNOTTY.
pub(super) fn release(description: &Arc<Description>, task: &CurrentTask) -> Result<(), Errno> {
    let (session, _) = place_of(task).ok_or(Errno::ENOTTY)?;
    if !controls(description, &session) {
        return Err(Errno::ENOTTY);
    }
    if session.id() == task.pid() {
        session.set_terminal(None);
    }
    Ok(())
}

/// TIOCGPGRP.
pub(super) fn foreground(description: &Arc<Description>, task: &CurrentTask) -> Result<Tid, Errno> {
    let (session, pgid) = place_of(task).ok_or(Errno::ENOTTY)?;
    let terminal = controlling(description, &session).ok_or(Errno::ENOTTY)?;
    Ok(terminal.foreground().unwrap_or(pgid))
}

/// TIOCSPGRP.
pub(super) fn set_foreground(
    description: &Arc<Description>,
    task: &CurrentTask,
    group: Tid,
) -> Result<(), Errno> {
    let (session, _) = place_of(task).ok_or(Errno::ENOTTY)?;
    let terminal = controlling(description, &session).ok_or(Errno::ENOTTY)?;
    if group.0 <= 0 {
        return Err(Errno::EINVAL);
    }
    {
        let tree = task.kernel().tree();
        let mut members = tree.group_members(group);
        let member = members.next().ok_or(Errno::ESRCH)?;
        if !Arc::ptr_eq(&member.session, &session) {
            return Err(Errno::EPERM);
        }
    }
    *terminal.foreground.lock() = Some(group);
    Ok(())
}

/// TIOCSWINSZ: who is in the foreground now learns of a new size.
pub(super) fn set_size(
    description: &Arc<Description>,
    task: &CurrentTask,
    size: WindowSize,
) -> Result<(), Errno> {
    let control = place_of(task).and_then(|(session, _)| controlling(description, &session));
    let Some(control) = control else {
        return tty::set_window_size(description.fd(), size).map_err(|error| errno(&error));
    };
    {
        // Held over both, so that the host's news of it finds it known.
        let mut known = control.known_size.lock();
        tty::set_window_size(description.fd(), size).map_err(|error| errno(&error))?;
        if known.replace(size) == Some(size) {
            return Ok(());
        }
    }
    let Some(foreground) = control.foreground() else { return Ok(()) };
    task.kernel().signal_group(foreground, Signal::SIGWINCH);
    Ok(())
}

/// TIOCGSID.
pub(super) fn session_id(description: &Arc<Description>, task: &CurrentTask) -> Result<Tid, Errno> {
    let (session, _) = place_of(task).ok_or(Errno::ENOTTY)?;
    if controls(description, &session) { Ok(session.id()) } else { Err(Errno::ENOTTY) }
}

fn place_of(task: &Task) -> Option<(Arc<Session>, Tid)> {
    let tree = task.kernel().tree();
    let process = tree.process(task.pid())?;
    Some((process.session.clone(), process.pgid))
}

fn controls(description: &Arc<Description>, session: &Session) -> bool {
    controlling(description, session).is_some()
}

/// The terminal of `session`, where it is the one of `description`.
fn controlling(description: &Arc<Description>, session: &Session) -> Option<Arc<HostTerminal>> {
    let any: Arc<dyn std::any::Any + Send + Sync> = session.terminal()?;
    let terminal: Arc<HostTerminal> = any.downcast().ok()?;
    terminal.description().is_same_terminal(description).then_some(terminal)
}
