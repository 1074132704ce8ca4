//! Telling parents what their children do (`wait(2)`, `SIGCHLD` in `signal(7)`).

use std::sync::Arc;

use sentry_abi::signal::{SIG_IGN, SigInfo, Signal, sa, si_code};

use crate::kernel::{Kernel, Process, ProcessTree};
use crate::task::signal::{Posted, signal_members};
use crate::task::{ExitStatus, ThreadGroup, Tid};
use crate::wait::Readiness;

/// A report to a parent, to be made without the tree's lock.
struct Report {
    parent: Arc<ThreadGroup>,
    signal: Option<(Signal, SigInfo)>,
}

impl Report {
    fn make(self) {
        if let Some((signal, info)) = self.signal {
            // SIGCHLD is no real-time signal, so its queue has no limit; another exit signal may be dropped.
            let _ = self.parent.send_signal(signal, info);
        }
        self.parent.child_events.notify(Readiness::IN);
    }
}

/// How often the first process of a namespace looks for others that have not ended yet, some milliseconds apart.
const ZAP_TRIES: u32 = 1000;

/// Nanoseconds in a clock tick of `si_utime`.
const TICK_NS: u64 = 10_000_000;

fn child_info(process: &Process, signal: Signal, code: i32, status: i32) -> SigInfo {
    let (utime, stime) = process.group.cpu_times();
    let uid = process.leader.creds().uid.0;
    SigInfo::child(signal, code, process.group.pid().0, uid, status, utime / TICK_NS, stime / TICK_NS)
}

impl Kernel {
    /// True where nobody could continue the process group of `pid` (`setpgid(2)`).
    pub(crate) fn is_in_orphaned_group(&self, pid: Tid) -> bool {
        let tree = self.tree();
        tree.process(pid).is_none_or(|p| tree.is_orphaned(p.pgid, None))
    }

    /// Every thread of `pid` is stopped.
    pub(crate) fn report_stop(&self, pid: Tid, signal: Signal) {
        let report = {
            let mut tree = self.tree();
            let Some(process) = tree.process_mut(pid) else { return };
            if process.is_traced_by_parent() {
                // Which hears of each thread.
                return;
            }
            process.stop_report = Some(signal);
            process.continue_report = false;
            job_report(&tree, pid, si_code::CLD_STOPPED, signal.number())
        };
        if let Some(report) = report {
            report.make();
        }
    }

    /// The stopped process `pid` was continued.
    pub(crate) fn report_continue(&self, pid: Tid) {
        let report = {
            let mut tree = self.tree();
            let Some(process) = tree.process_mut(pid) else { return };
            process.stop_report = None;
            process.continue_report = true;
            job_report(&tree, pid, si_code::CLD_CONTINUED, Signal::SIGCONT.number())
        };
        if let Some(report) = report {
            report.make();
        }
    }

    /// The last thread of `pid` is gone: orphans move to their heir, the parent is told, and process groups that lost
    /// their last link to the session are hung up.
    pub(crate) fn report_exit(&self, pid: Tid, status: ExitStatus) {
        self.empty_namespace_of(pid);
        let mut reports = Vec::new();
        let mut hung_up = Vec::new();
        let mut terminal = None;
        {
            let mut tree = self.tree();
            let Some(process) = tree.process_mut(pid) else { return };
            process.exit = Some(status);
            process.stop_report = None;
            process.continue_report = false;
            if process.session.id() == pid {
                terminal = process.session.terminal();
            }
            let candidates = tree.groups_held_by(pid);
            let heir = tree.heir_of(pid);
            // "If the exit of the process causes a process group to become orphaned, and if any member of the newly
            // orphaned process group is stopped, then SIGHUP followed by SIGCONT" (_exit(2)).
            let zombies = tree.reparent_children(pid, heir);
            for pgid in candidates {
                if tree.is_orphaned(pgid, Some(pid)) && tree.has_stopped_member(pgid) {
                    hung_up.extend(signal_members(&tree, pgid, Signal::SIGHUP));
                    hung_up.extend(signal_members(&tree, pgid, Signal::SIGCONT));
                }
            }
            for zombie in zombies {
                report_zombie(&mut tree, zombie, &mut reports);
            }
            report_zombie(&mut tree, pid, &mut reports);
            if pid == Tid(1) {
                // pid_namespaces(7): the kernel terminates all processes when init ends, and no more can be made.
                tree.close();
                let others = tree.processes().filter(|p| p.exit.is_none()).map(|p| p.group.clone());
                let others: Vec<_> = others.collect();
                drop(tree);
                for group in others {
                    group.begin_exit(ExitStatus::Signaled(Signal::SIGKILL));
                }
            }
        }
        // Before the parents hear of the end (`exit_notify`): what they do next happens to processes that were told.
        hung_up.into_iter().for_each(Posted::announce);
        for report in reports {
            report.make();
        }
        if let Some(terminal) = terminal {
            terminal.on_leader_exit();
        }
        self.notify_ended();
    }
}

impl Kernel {
    /// Where `pid` is the first process of a PID namespace that guests made, ends all others and waits until they have:
    /// the parent of the first finds nothing left (`zap_pid_ns_processes`).
    fn empty_namespace_of(&self, pid: Tid) {
        let mut tree = self.tree();
        let group = tree.process(pid).map(|p| p.group.clone());
        let Some(group) = group.filter(|group| group.is_init() && !group.pid_ns().is_initial()) else {
            return;
        };
        let pid_ns = group.pid_ns();
        pid_ns.close();
        let is_left =
            |p: &&Process| p.exit.is_none() && p.group.pid() != pid && pid_ns.holds(p.group.pid_ns());
        let others: Vec<_> = tree.processes().filter(is_left).map(|p| p.group.clone()).collect();
        drop(tree);
        for group in others {
            group.begin_exit(ExitStatus::Signaled(Signal::SIGKILL));
        }
        tree = self.tree();
        // Killed processes need nothing that could keep them; the bound is for what is not foreseen.
        for _ in 0..ZAP_TRIES {
            if !tree.processes().any(|p| is_left(&p)) {
                break;
            }
            self.wait_for_end_of_any(&mut tree);
        }
    }

    /// Tells the parent of a zombie, whose tracer is gone or has waited for it.
    pub(crate) fn release_zombie(&self, pid: Tid) {
        let mut reports = Vec::new();
        report_zombie(&mut self.tree(), pid, &mut reports);
        for report in reports {
            report.make();
        }
        self.notify_ended();
    }
}

/// The report of a stop or continuation; the signal is left out with `SA_NOCLDSTOP`.
fn job_report(tree: &ProcessTree, pid: Tid, code: i32, status: i32) -> Option<Report> {
    let process = tree.process(pid)?;
    let parent = tree.process(process.parent?)?.group.clone();
    let wanted = parent.handlers().get(Signal::SIGCHLD).flags & sa::NOCLDSTOP == 0;
    let info = child_info(process, Signal::SIGCHLD, code, status);
    Some(Report { parent, signal: wanted.then_some((Signal::SIGCHLD, info)) })
}

/// Tells the parent of a zombie, or reaps it at once where the parent ignores `SIGCHLD` (`wait(2)` NOTES).
fn report_zombie(tree: &mut ProcessTree, pid: Tid, reports: &mut Vec<Report>) {
    let Some(process) = tree.process(pid) else { return };
    let Some(status) = process.exit else { return };
    // A tracer waits first, and hears of the end by SIGCHLD.
    if let Some(tracer) = process.other_tracer() {
        let (code, value) = status.child_info();
        let info = child_info(process, Signal::SIGCHLD, code, value);
        let signal = Some((Signal::SIGCHLD, info));
        reports.push(Report { parent: tracer.thread_group().clone(), signal });
        return;
    }
    let Some(parent) = process.parent.and_then(|p| tree.process(p)).map(|p| p.group.clone()) else {
        // Without a parent: the sandbox's control waits for those that it made; adopted orphans without an heir go.
        if !process.leader.is_root_process() {
            tree.reap(pid);
        }
        return;
    };
    let action = parent.handlers().get(Signal::SIGCHLD);
    let is_sigchld = process.exit_signal == Some(Signal::SIGCHLD);
    let reaped = is_sigchld && (action.handler == SIG_IGN || action.flags & sa::NOCLDWAIT != 0);
    let signal = process.exit_signal.filter(|_| action.handler != SIG_IGN || !is_sigchld).map(|signal| {
        let (code, value) = status.child_info();
        (signal, child_info(process, signal, code, value))
    });
    if reaped && let Some(process) = tree.reap(pid) {
        parent.children_cpu.add(process.group.cpu_times());
    }
    reports.push(Report { parent, signal });
}
