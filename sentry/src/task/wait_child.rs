//! Waiting for children (`wait4(2)`, `waitid(2)`).

use sentry_abi::sched::wait::{WALL, WCLONE, WCONTINUED, WEXITED, WNOHANG, WNOTHREAD, WNOWAIT, WSTOPPED};
use sentry_abi::signal::{Signal, si_code};

use crate::errno::{Errno, SysError};
use crate::kernel::{Process, ProcessTree};
use crate::task::{BlockError, CurrentTask, ExitStatus, Tid};
use crate::wait::Readiness;

/// Which children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Any,
    Process(Tid),
    Group(Tid),
}

/// What a child did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Ended(ExitStatus),
    Stopped(Signal),
    Continued,
}

/// A child that changed state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waited {
    pub(crate) pid: Tid,
    pub(crate) uid: u32,
    pub(crate) change: Change,
    /// User and system CPU time in nanoseconds, its own children included.
    pub(crate) cpu: (u64, u64),
}

impl Waited {
    /// The status word of `wait4(2)`.
    pub(crate) fn status(&self) -> i32 {
        match self.change {
            Change::Ended(status) => status.wait_status(),
            Change::Stopped(signal) => signal.number() << 8 | 0x7f,
            Change::Continued => 0xffff,
        }
    }

    /// `si_code` and `si_status` of `waitid(2)`.
    pub(crate) fn child_info(&self) -> (i32, i32) {
        match self.change {
            Change::Ended(status) => status.child_info(),
            Change::Stopped(signal) => (si_code::CLD_STOPPED, signal.number()),
            Change::Continued => (si_code::CLD_CONTINUED, Signal::SIGCONT.number()),
        }
    }
}

/// The options that say what to wait for; the callers checked for others.
pub(crate) const KNOWN: u32 = WNOHANG | WSTOPPED | WEXITED | WCONTINUED | WNOWAIT | WNOTHREAD | WALL | WCLONE;

impl CurrentTask {
    /// Waits for a child to do what `options` names; `None` with `WNOHANG` when none has.
    ///
    /// # Errors
    /// `ECHILD` without matching children; `ERESTARTSYS` on signals.
    pub(crate) fn wait_for_child(&mut self, which: Which, options: u32) -> Result<Option<Waited>, SysError> {
        let group = self.thread_group().clone();
        let result = self.block_on_queue(&group.child_events, Readiness::IN, None, |task| {
            match task.look_for_child(which, options) {
                Ok(None) if options & WNOHANG == 0 => None,
                done => Some(done),
            }
        });
        match result {
            Ok(found) => Ok(found?),
            Err(BlockError::Interrupted | BlockError::TimedOut) => {
                Err(crate::errno::Restart::IfSaRestart.into())
            }
        }
    }

    fn look_for_child(&self, which: Which, options: u32) -> Result<Option<Waited>, Errno> {
        let mut tree = self.kernel().tree();
        let this = tree.process(self.pid()).ok_or(Errno::ECHILD)?;
        let candidates: Vec<Tid> = match which {
            Which::Process(pid) if this.children.contains(&pid) => vec![pid],
            Which::Process(_) => return Err(Errno::ECHILD),
            Which::Any | Which::Group(_) => this.children.iter().copied().collect(),
        };
        let mut any = false;
        for pid in candidates {
            let Some(child) = tree.process(pid) else { continue };
            if !is_eligible(child, which, options) {
                continue;
            }
            any = true;
            if let Some(change) = change_of(child, options) {
                return Ok(Some(self.collect(&mut tree, pid, change, options)));
            }
        }
        if any { Ok(None) } else { Err(Errno::ECHILD) }
    }

    /// Takes the news off the child, unless `WNOWAIT` leaves it.
    fn collect(&self, tree: &mut ProcessTree, pid: Tid, change: Change, options: u32) -> Waited {
        let mut waited = Waited { pid, uid: 0, change, cpu: (0, 0) };
        let Some(child) = tree.process_mut(pid) else { return waited };
        waited.uid = child.leader.creds().uid.0;
        let (user, system) = child.group.cpu_times();
        let (below_user, below_system) = child.group.children_cpu_times();
        waited.cpu = (user + below_user, system + below_system);
        if options & WNOWAIT != 0 {
            return waited;
        }
        match change {
            Change::Ended(_) => {
                self.thread_group().children_cpu.add(waited.cpu);
                tree.reap(pid);
            }
            Change::Stopped(_) => child.stop_report = None,
            Change::Continued => child.continue_report = false,
        }
        waited
    }
}

fn is_eligible(child: &Process, which: Which, options: u32) -> bool {
    if let Which::Group(pgid) = which
        && child.pgid != pgid
    {
        return false;
    }
    // A "clone" child is one that delivers another signal than SIGCHLD, or none, at its end (wait(2)).
    let is_clone = child.exit_signal != Some(Signal::SIGCHLD);
    options & WALL != 0 || is_clone == (options & WCLONE != 0)
}

fn change_of(child: &Process, options: u32) -> Option<Change> {
    if let Some(status) = child.exit {
        return (options & WEXITED != 0).then_some(Change::Ended(status));
    }
    if options & WSTOPPED != 0
        && let Some(signal) = child.stop_report
    {
        return Some(Change::Stopped(signal));
    }
    (options & WCONTINUED != 0 && child.continue_report).then_some(Change::Continued)
}
