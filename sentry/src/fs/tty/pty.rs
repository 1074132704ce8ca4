//! A pseudo terminal: the discipline between its two ends, and the session that it controls.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sentry_abi::signal::Signal;

use crate::errno::Errno;
use crate::fs::tty::discipline::{Discipline, KeySignal};
use crate::io::{IoDst, IoSrc};
use crate::kernel::{Kernel, Session, Terminal};
use crate::task::{Task, Tid};
use crate::wait::{Readiness, WaitQueue};

/// A pseudo terminal.
pub(crate) struct Pty {
    index: u32,
    kernel: Weak<Kernel>,
    state: Mutex<State>,
    pub(super) master_queue: WaitQueue,
    pub(super) slave_queue: WaitQueue,
}

pub(super) struct State {
    pub(super) discipline: Discipline,
    /// The slave cannot be opened yet (`unlockpt(3)`).
    pub(super) is_locked: bool,
    slaves: usize,
    /// A slave was open at some time: without one the master then reads the end.
    had_slave: bool,
    has_master: bool,
    session: Option<Arc<Session>>,
    foreground: Option<Tid>,
}

/// How much is moved at a time.
const CHUNK: usize = 4096;

impl Pty {
    pub(super) fn new(index: u32, kernel: Weak<Kernel>) -> Arc<Self> {
        let state = State {
            discipline: Discipline::default(),
            is_locked: true,
            slaves: 0,
            had_slave: false,
            has_master: true,
            session: None,
            foreground: None,
        };
        Arc::new(Self {
            index,
            kernel,
            state: Mutex::new(state),
            master_queue: WaitQueue::default(),
            slave_queue: WaitQueue::default(),
        })
    }

    /// Its number in `/dev/pts`.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// The foreground process group.
    pub(crate) fn foreground(&self) -> Option<Tid> {
        self.state.lock().foreground
    }

    pub(super) fn set_foreground(&self, group: Tid) {
        self.state.lock().foreground = Some(group);
    }

    /// The session that it controls.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.state.lock().session.clone()
    }

    /// Runs `change` on the state and tells both sides.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock());
        self.tell();
        result
    }

    /// Looks at the state.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock())
    }

    fn tell(&self) {
        let all = Readiness::IN | Readiness::OUT | Readiness::HUP;
        self.master_queue.notify(all);
        self.slave_queue.notify(all);
    }

    pub(super) fn open_slave(&self) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if state.is_locked || !state.has_master {
            return Err(Errno::EIO);
        }
        state.slaves += 1;
        state.had_slave = true;
        Ok(())
    }

    pub(super) fn close_slave(&self) {
        self.with(|state| state.slaves -= 1);
    }

    /// The master is gone: whoever uses the slave is hung up.
    pub(super) fn close_master(&self) {
        let (session, foreground) = self.with(|state| {
            state.has_master = false;
            (state.session.take(), state.foreground.take())
        });
        let Some(session) = session else { return };
        session.set_terminal(None);
        self.signal(session.id(), Signal::SIGHUP);
        self.signal(session.id(), Signal::SIGCONT);
        if let Some(group) = foreground.filter(|g| *g != session.id()) {
            self.signal(group, Signal::SIGHUP);
        }
    }

    /// Sends the process group a signal of the kernel's.
    pub(super) fn signal(&self, group: Tid, signal: Signal) {
        let Some(kernel) = self.kernel.upgrade() else { return };
        kernel.signal_group(group, signal);
    }

    /// Keys arrive.
    pub(super) fn type_keys(&self, src: &mut dyn IoSrc) -> Result<usize, Errno> {
        let mut total = 0;
        while src.remaining() > 0 {
            let room = self.look(|state| state.discipline.input_room());
            if room == 0 {
                break;
            }
            let mut keys = vec![0; room.min(src.remaining()).min(CHUNK)];
            let n = src.take(&mut keys)?;
            let (signals, foreground) =
                self.with(|state| (state.discipline.on_typed(&keys[..n]), state.foreground));
            for (signal, group) in signals.into_iter().zip(std::iter::repeat(foreground)) {
                let signal = match signal {
                    KeySignal::Interrupt => Signal::SIGINT,
                    KeySignal::Quit => Signal::SIGQUIT,
                    KeySignal::Suspend => Signal::SIGTSTP,
                };
                if let Some(group) = group {
                    self.signal(group, signal);
                }
            }
            total += n;
            if n < keys.len() {
                break;
            }
        }
        if total == 0 && src.remaining() > 0 { Err(Errno::EAGAIN) } else { Ok(total) }
    }

    /// The screen takes output.
    pub(super) fn read_master(&self, dst: &mut dyn IoDst) -> Result<usize, Errno> {
        let want = dst.remaining().min(CHUNK);
        let (bytes, hung_up) = {
            let mut state = self.state.lock();
            (state.discipline.take_output(want), state.slaves == 0 && state.had_slave)
        };
        // Only then: a reader that finds nothing and tells would wake itself, for ever.
        if !bytes.is_empty() {
            self.slave_queue.notify(Readiness::OUT);
        }
        match (bytes.is_empty(), hung_up) {
            (false, _) => dst.put(&bytes),
            (true, true) => Err(Errno::EIO),
            (true, false) if want == 0 => Ok(0),
            (true, false) => Err(Errno::EAGAIN),
        }
    }

    /// A program reads what was typed.
    pub(super) fn read_slave(&self, dst: &mut dyn IoDst) -> Result<usize, Errno> {
        let want = dst.remaining().min(CHUNK);
        if want == 0 {
            return Ok(0);
        }
        let (bytes, has_master) = {
            let mut state = self.state.lock();
            (state.discipline.read(want), state.has_master)
        };
        // Only then, as for the master.
        if bytes.is_some() {
            self.master_queue.notify(Readiness::OUT);
        }
        match bytes {
            Some(bytes) => dst.put(&bytes),
            None if !has_master => Ok(0),
            None => Err(Errno::EAGAIN),
        }
    }

    /// A program writes to the screen.
    pub(super) fn write_slave(&self, src: &mut dyn IoSrc) -> Result<usize, Errno> {
        let mut total = 0;
        while src.remaining() > 0 {
            let mut bytes = vec![0; src.remaining().min(CHUNK)];
            let n = src.take(&mut bytes)?;
            let (taken, has_master) = {
                let mut state = self.state.lock();
                (state.discipline.on_written(&bytes[..n]), state.has_master)
            };
            if taken > 0 {
                self.master_queue.notify(Readiness::IN);
            }
            if !has_master {
                return Err(Errno::EIO);
            }
            total += taken;
            if taken < n {
                src.untake(n - taken);
                break;
            }
        }
        if total == 0 && src.remaining() > 0 { Err(Errno::EAGAIN) } else { Ok(total) }
    }

    pub(super) fn master_readiness(&self) -> Readiness {
        self.look(|state| {
            let mut ready = Readiness::empty();
            ready.set(Readiness::IN, state.discipline.output_len() > 0);
            ready.set(Readiness::OUT, state.discipline.input_room() > 0);
            ready.set(Readiness::HUP, state.slaves == 0 && state.had_slave);
            ready
        })
    }

    pub(super) fn slave_readiness(&self) -> Readiness {
        self.look(|state| {
            let mut ready = Readiness::empty();
            ready.set(Readiness::IN, state.discipline.can_read() || !state.has_master);
            ready.set(Readiness::OUT, state.discipline.can_write());
            ready.set(Readiness::HUP, !state.has_master);
            ready
        })
    }

    /// Makes this the controlling terminal of the session that `task` leads (`TIOCSCTTY`, or an open without
    /// `O_NOCTTY`).
    ///
    /// # Errors
    /// `EPERM` for others than session leaders, for a session that has a terminal, and for a terminal in use.
    pub(super) fn control(self: &Arc<Self>, task: &Task, steals: bool) -> Result<(), Errno> {
        let (session, group) = {
            let tree = task.kernel().tree();
            let process = tree.process(task.pid()).ok_or(Errno::EPERM)?;
            (process.session.clone(), process.pgid)
        };
        let mut state = self.state.lock();
        if state.session.as_ref().is_some_and(|s| s.id() == session.id()) {
            return Ok(());
        }
        if session.id() != task.pid() || session.terminal().is_some() {
            return Err(Errno::EPERM);
        }
        if let Some(other) = state.session.take() {
            if !steals {
                state.session = Some(other);
                return Err(Errno::EPERM);
            }
            other.set_terminal(None);
        }
        session.set_terminal(Some(self.clone()));
        state.session = Some(session);
        state.foreground = Some(group);
        Ok(())
    }

    /// Ends the control of the session of `task` (`TIOCNOTTY`).
    ///
    /// # Errors
    /// `ENOTTY` where it is not the session's terminal.
    pub(super) fn give_up(&self, task: &Task) -> Result<(), Errno> {
        let session =
            task.kernel().tree().process(task.pid()).map(|p| p.session.clone()).ok_or(Errno::ENOTTY)?;
        let foreground = {
            let mut state = self.state.lock();
            if state.session.as_ref().is_none_or(|s| s.id() != session.id()) {
                return Err(Errno::ENOTTY);
            }
            if session.id() != task.pid() {
                // Linux detaches the one process; here terminals belong to sessions.
                return Ok(());
            }
            state.session = None;
            state.foreground.take()
        };
        session.set_terminal(None);
        if let Some(group) = foreground {
            self.signal(group, Signal::SIGHUP);
            self.signal(group, Signal::SIGCONT);
        }
        Ok(())
    }
}

impl Terminal for Pty {
    fn on_leader_exit(&self) {
        let foreground = {
            let mut state = self.state.lock();
            if let Some(session) = state.session.take() {
                session.set_terminal(None);
            }
            state.foreground.take()
        };
        if let Some(group) = foreground {
            self.signal(group, Signal::SIGHUP);
        }
    }
}

#[cfg(test)]
#[path = "pty_tests.rs"]
mod tests;
