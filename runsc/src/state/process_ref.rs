//! A process named on disk.

use nix::poll::PollTimeout;
use sentry_hostio::pidfd::PidFd;
use sentry_hostio::process_stat;
use serde::{Deserialize, Serialize};

/// A pid together with the start time that tells it from a later process with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRef {
    pub(crate) pid: i32,
    start_time: u64,
}

impl ProcessRef {
    /// Names the running process `pid`; `None` when it is gone.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let start_time = process_stat::start_time(pid).ok()?;
        Some(Self { pid, start_time })
    }

    /// Names the calling process.
    pub(crate) fn own() -> Option<Self> {
        i32::try_from(std::process::id()).ok().and_then(Self::of)
    }

    /// A handle on the process, if it still runs.
    pub(crate) fn open(self) -> Option<PidFd> {
        // First the handle, then the check: the other way round, the pid could be reused in between.
        let pidfd = PidFd::open(self.pid).ok()?;
        let is_same = Self::of(self.pid) == Some(self);
        // A dead process that nobody has reaped yet keeps its entry in `/proc`; one whose first thread is dead may run
        // on, and its handle knows the difference.
        let has_ended = pidfd.wait_ended(PollTimeout::ZERO).unwrap_or(true);
        (is_same && !has_ended).then_some(pidfd)
    }

    /// Tells whether the process still runs.
    pub(crate) fn is_alive(self) -> bool {
        self.open().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_pid_is_another_process() {
        let own = ProcessRef::own().unwrap();
        assert!(own.is_alive());
        let earlier = ProcessRef { start_time: own.start_time - 1, ..own };
        assert!(!earlier.is_alive());
    }

    #[test]
    fn an_unreaped_child_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let reference = ProcessRef::of(i32::try_from(child.id()).unwrap()).unwrap();
        let pidfd = PidFd::open(reference.pid).unwrap();
        assert!(pidfd.wait_ended(5000u16.into()).unwrap());
        assert!(!reference.is_alive());
        child.wait().unwrap();
    }
    #[test]
    fn a_process_whose_first_thread_has_ended_is_alive() {
        // A C program: the main thread of a Rust one cannot end before the others.
        let script = "import ctypes, threading, time\n\
            threading.Thread(target=time.sleep, args=(60,)).start()\n\
            ctypes.CDLL(None).pthread_exit(None)";
        let Ok(mut child) = std::process::Command::new("python3").args(["-c", script]).spawn() else {
            return;
        };
        let reference = ProcessRef::of(i32::try_from(child.id()).unwrap()).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        let is_zombie = || state().rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'));
        while !is_zombie() && reference.is_alive() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(is_zombie() && reference.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!reference.is_alive());
    }
}
