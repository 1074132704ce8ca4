//! An open queue: what `poll(2)` and `read(2)` find. Messages go by system calls of their own.

use std::sync::Arc;

use crate::errno::Errno;
use crate::io::IoDst;
use crate::ipc::Queue;
use crate::vfs::{File, FileOps, Seek};
use crate::wait::{Observer, Readiness, WaitId};

pub(super) struct QueueFile {
    queue: Arc<Queue>,
}

impl QueueFile {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }
}

impl FileOps for QueueFile {
    fn read(&self, _: &File, dst: &mut dyn IoDst, pos: &mut u64) -> Result<usize, Errno> {
        let report = self.queue.report();
        let (kind, signal, pid) = report.notification.unwrap_or((0, 0, 0));
        let text =
            format!("QSIZE:{:<10} NOTIFY:{kind:<5} SIGNO:{signal:<5} NOTIFY_PID:{pid:<6}\n", report.bytes);
        let from = usize::try_from(*pos).unwrap_or(usize::MAX).min(text.len());
        let done = dst.put(&text.as_bytes()[from..][..dst.remaining().min(text.len() - from)])?;
        *pos += done as u64;
        Ok(done)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, pos: u64, to: Seek) -> Result<u64, Errno> {
        to.without_end(pos)
    }

    fn readiness(&self, _: &File) -> Readiness {
        self.queue.readiness()
    }

    fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> Option<WaitId> {
        Some(self.queue.events().register(interest, observer))
    }

    fn unregister(&self, id: WaitId) {
        self.queue.events().unregister(id);
    }
}
