//! The open ends of a pseudo terminal.

use std::sync::{Arc, Weak};

use crate::errno::{Errno, SysResult};
use crate::fs::tty::devpts::Table;
use crate::fs::tty::ioctl;
use crate::fs::tty::pty::Pty;
use crate::io::{IoDst, IoSrc};
use crate::task::{CurrentTask, Tid};
use crate::vfs::{File, FileOps};
use crate::wait::{Observer, Readiness, WaitId};

/// The end with the keyboard and the screen.
pub(crate) struct Master {
    pub(super) pty: Arc<Pty>,
    pub(super) table: Weak<Table>,
}

impl FileOps for Master {
    fn read(&self, _: &File, dst: &mut dyn IoDst, _: &mut u64) -> Result<usize, Errno> {
        self.pty.read_master(dst)
    }

    fn write(&self, _: &File, src: &mut dyn IoSrc, _: &mut u64) -> Result<usize, Errno> {
        self.pty.type_keys(src)
    }

    fn ioctl(&self, task: &mut CurrentTask, file: &File, request: u32, arg: u64) -> SysResult {
        ioctl::master(self, task, file, request, arg)
    }

    fn readiness(&self, _: &File) -> Readiness {
        self.pty.master_readiness()
    }

    fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> Option<WaitId> {
        Some(self.pty.master_queue.register(interest, observer))
    }

    fn unregister(&self, id: WaitId) {
        self.pty.master_queue.unregister(id);
    }

    fn is_terminal(&self) -> bool {
        true
    }

    fn fdinfo(&self, _: &File) -> String {
        format!("tty-index:\t{}\n", self.pty.index())
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        if let Some(table) = self.table.upgrade() {
            table.remove(self.pty.index());
        }
        self.pty.close_master();
    }
}

/// The end that programs use as their terminal.
pub(crate) struct Slave {
    pub(super) pty: Arc<Pty>,
}

impl FileOps for Slave {
    fn read(&self, _: &File, dst: &mut dyn IoDst, _: &mut u64) -> Result<usize, Errno> {
        self.pty.read_slave(dst)
    }

    fn write(&self, _: &File, src: &mut dyn IoSrc, _: &mut u64) -> Result<usize, Errno> {
        self.pty.write_slave(src)
    }

    fn ioctl(&self, task: &mut CurrentTask, _: &File, request: u32, arg: u64) -> SysResult {
        ioctl::terminal(&self.pty, task, request, arg)
    }

    fn readiness(&self, _: &File) -> Readiness {
        self.pty.slave_readiness()
    }

    fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> Option<WaitId> {
        Some(self.pty.slave_queue.register(interest, observer))
    }

    fn unregister(&self, id: WaitId) {
        self.pty.slave_queue.unregister(id);
    }

    fn is_terminal(&self) -> bool {
        true
    }

    fn foreground(&self) -> Option<Tid> {
        self.pty.foreground()
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        self.pty.close_slave();
    }
}
