//! Sessions and their controlling terminals (`setsid(2)`, `tty_ioctl(4)`).

use std::any::Any;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::task::Tid;

/// A terminal that can control a session. Implemented by the terminal's file system.
pub trait Terminal: Any + Send + Sync {
    /// The session leader ended: hang up and give the foreground group `SIGHUP`.
    fn on_leader_exit(&self);
}

/// A session.
pub struct Session {
    id: Tid,
    terminal: Mutex<Option<Arc<dyn Terminal>>>,
}

impl Session {
    /// A session without a terminal, led by process `id`.
    #[must_use]
    pub fn new(id: Tid) -> Arc<Self> {
        Arc::new(Self { id, terminal: Mutex::new(None) })
    }

    /// Its id: the process id of its first leader.
    #[must_use]
    pub fn id(&self) -> Tid {
        self.id
    }

    /// The controlling terminal.
    #[must_use]
    pub fn terminal(&self) -> Option<Arc<dyn Terminal>> {
        self.terminal.lock().clone()
    }

    /// Sets or drops the controlling terminal and returns the old one.
    pub fn set_terminal(&self, terminal: Option<Arc<dyn Terminal>>) -> Option<Arc<dyn Terminal>> {
        std::mem::replace(&mut *self.terminal.lock(), terminal)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id).finish_non_exhaustive()
    }
}
