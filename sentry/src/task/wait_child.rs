//! Waiting for children (`wait4(2)`, `waitid(2)`).

use std::sync::Arc;

use sentry_abi::sched::wait::{WALL, WCLONE, WCONTINUED, WEXITED, WNOHANG, WNOTHREAD, WNOWAIT, WSTOPPED};
use sentry_abi::signal::{Signal, si_code};

use crate::errno::{Errno, SysError};
use crate::kernel::{Process, ProcessTree};
use crate::task::thread::CallWork;
use crate::task::trace::Tracee;
use crate::task::{BlockError, CurrentTask, ExitStatus, Task, Tid};
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
    /// A traced thread stopped with this code.
    Trapped(i32),
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
            Change::Trapped(code) => code << 8 | 0x7f,
        }
    }

    /// `si_code` and `si_status` of `waitid(2)`.
    pub(crate) fn child_info(&self) -> (i32, i32) {
        match self.change {
            Change::Ended(status) => status.child_info(),
            Change::Stopped(signal) => (si_code::CLD_STOPPED, signal.number()),
            Change::Continued => (si_code::CLD_CONTINUED, Signal::SIGCONT.number()),
            Change::Trapped(code) => (si_code::CLD_TRAPPED, code),
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
            Which::Process(_) => Vec::new(),
            Which::Any | Which::Group(_) => this.children.iter().copied().collect(),
        };
        let mut any = false;
        for pid in candidates {
            let Some(child) = tree.process(pid) else { continue };
            let is_traced = child.is_traced_by_parent();
            if !is_eligible(child, which, if is_traced { options | WALL } else { options }) {
                continue;
            }
            any = true;
            if child.exit.is_some() && child.other_tracer().is_some() {
                // Its tracer comes first.
                continue;
            }
            if let Some(change) = change_of(child, options) {
                return Ok(Some(self.collect(&mut tree, pid, change, options)));
            }
        }
        let is_mine = |tracee: &Tracee| options & WNOTHREAD == 0 || Arc::ptr_eq(&tracee.tracer, self.task());
        let tracees = tree.process(self.pid()).map(|this| this.tracees.as_slice()).unwrap_or_default();
        let matching: Vec<Arc<Task>> = tracees
            .iter()
            .filter(|tracee| is_mine(tracee) && is_named(&tree, &tracee.task, which))
            .map(|tracee| tracee.task.clone())
            .collect();
        any |= !matching.is_empty();
        let found = matching.iter().find_map(|task| self.collect_tracee(&mut tree, task, options));
        let Some((waited, released)) = found else {
            return if any { Ok(None) } else { Err(Errno::ECHILD) };
        };
        drop(tree);
        if let Some(pid) = released {
            self.kernel().release_zombie(pid);
        }
        Ok(Some(waited))
    }

    /// What a traced thread did, and the zombie that its real parent may have now.
    fn collect_tracee(
        &self,
        tree: &mut ProcessTree,
        task: &Arc<Task>,
        options: u32,
    ) -> Option<(Waited, Option<Tid>)> {
        let news = |change, cpu| Waited { pid: task.tid(), uid: task.creds().uid.0, change, cpu };
        {
            let mut state = task.trace().lock();
            let stop = state.stop.as_mut();
            if let Some(stop) = stop.filter(|s| !s.is_reported && !s.is_listening && s.resume.is_none()) {
                stop.is_reported = options & WNOWAIT == 0;
                return Some((news(Change::Trapped(stop.code), (0, 0)), None));
            }
        }
        if options & WEXITED == 0 {
            return None;
        }
        let process = tree.process(task.pid());
        let zombie = process.filter(|p| Arc::ptr_eq(&p.leader, task)).and_then(|p| Some((p.exit?, p.parent)));
        // A zombie that is the caller's own child was looked at among the children.
        let zombie = zombie.filter(|(_, parent)| *parent != Some(self.pid())).map(|(status, _)| status);
        let this = tree.process_mut(self.pid())?;
        let at = this.tracees.iter().position(|tracee| Arc::ptr_eq(&tracee.task, task))?;
        let status = zombie.or(this.tracees[at].exit)?;
        if options & WNOWAIT == 0 {
            this.tracees.remove(at);
            task.trace().lock().link = None;
            task.remove_call_work(CallWork::all().difference(CallWork::SECCOMP));
        }
        let released = zombie.filter(|_| options & WNOWAIT == 0).map(|_| task.pid());
        Some((news(Change::Ended(status), (0, 0)), released))
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
            Change::Trapped(_) => {}
        }
        waited
    }
}

fn is_named(tree: &ProcessTree, task: &Task, which: Which) -> bool {
    match which {
        Which::Any => true,
        Which::Process(tid) => task.tid() == tid,
        Which::Group(pgid) => tree.process(task.pid()).is_some_and(|process| process.pgid == pgid),
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
