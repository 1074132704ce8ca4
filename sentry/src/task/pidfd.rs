//! Descriptors of processes (`pidfd_open(2)`).

use std::sync::Arc;

use crate::errno::Errno;
use crate::task::{CurrentTask, Resource, ThreadGroup, Tid};
use crate::vfs::anon::AnonKind;
use crate::vfs::{Fd, FdFlags, File, FileOps, OpenFlags};
use crate::wait::{Observer, Readiness, WaitId};

/// Refers to a process; readable once it ended.
#[derive(Debug)]
pub struct PidFd {
    group: Arc<ThreadGroup>,
}

impl PidFd {
    /// The process.
    #[must_use]
    pub fn group(&self) -> &Arc<ThreadGroup> {
        &self.group
    }
}

/// A new file that refers to `group`.
#[must_use]
pub fn new_file(group: Arc<ThreadGroup>) -> Arc<File> {
    File::anonymous(Box::new(PidFd { group }), OpenFlags::RDWR, AnonKind::Other("[pidfd]"))
}

/// A descriptor of a process for `task`, who never inherits it.
///
/// # Errors
/// `ESRCH` if nothing is left of the process, `EMFILE`.
pub fn install(task: &CurrentTask, pid: Tid) -> Result<Fd, Errno> {
    let group = task.kernel().tree().process(pid).map(|process| process.group.clone()).ok_or(Errno::ESRCH)?;
    let limit = task.rlimit(Resource::Nofile).soft;
    task.files().install(new_file(group), FdFlags::CLOEXEC, 0, limit)
}

impl FileOps for PidFd {
    fn readiness(&self, _: &File) -> Readiness {
        let ended = self.group.has_ended();
        if ended { Readiness::IN } else { Readiness::empty() }
    }

    fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> Option<WaitId> {
        Some(self.group.exit_events.register(interest, observer))
    }

    fn unregister(&self, id: WaitId) {
        self.group.exit_events.unregister(id);
    }

    fn fdinfo(&self, _: &File) -> String {
        let pid = if self.group.has_ended() { -1 } else { self.group.pid_ns().number(self.group.pid()) };
        format!("Pid:\t{pid}\nNSpid:\t{pid}\n")
    }
}
