//! An imported terminal as the controlling terminal of a guest's session.

use parking_lot::Mutex;

use crate::kernel::Terminal;
use crate::task::Tid;

/// The guest's view of who controls a host terminal. The host's own view has only the process that started the
/// sandbox, which passes key presses on to the group that is in the foreground here.
#[derive(Debug, Default)]
pub(crate) struct HostTerminal {
    foreground: Mutex<Option<Tid>>,
}

impl HostTerminal {
    /// The foreground process group.
    pub(super) fn foreground(&self) -> Option<Tid> {
        *self.foreground.lock()
    }

    /// Sets the foreground process group.
    pub(super) fn set_foreground(&self, group: Tid) {
        *self.foreground.lock() = Some(group);
    }
}

impl Terminal for HostTerminal {
    fn on_leader_exit(&self) {
        *self.foreground.lock() = None;
    }
}
