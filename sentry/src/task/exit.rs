//! The end of a thread and of its process (`_exit(2)`, `exit_group(2)`).

use std::sync::Arc;

use sentry_abi::ptrace::event;

use crate::mm::UserAddr;
use crate::task::signal::JobState;
use crate::task::thread::RunState;
use crate::task::{CurrentTask, ExitStatus};
use crate::wait::Readiness;

impl CurrentTask {
    /// Ends the calling thread with `code` once the current call returns (`exit(2)`).
    pub fn exit_thread(&mut self, code: u8) {
        self.exiting = Some(ExitStatus::Exited(code));
    }

    /// Ends the process with `code` once the current call returns (`exit_group(2)`).
    pub fn exit_group(&mut self, code: u8) {
        let status = ExitStatus::Exited(code);
        self.thread_group().begin_exit(status);
        self.exiting = Some(status);
    }

    /// Gives up the address space: futexes and the thread id are settled first, while the memory is still there.
    pub(crate) fn release_memory(&mut self) {
        self.walk_robust_list();
        if !self.clear_child_tid.is_null() {
            // set_tid_address(2): "when clear_child_tid is set and the thread terminates, then, if the thread is sharing
            // memory with other threads, 0 is written ... and futex(FUTEX_WAKE, 1)".
            let addr = std::mem::take(&mut self.clear_child_tid);
            if self.mm.write_obj(addr, &0_u32).is_ok() {
                let _ = self.futex_wake(addr, 1, u32::MAX, false);
            }
        }
        if let Some(latch) = self.vfork.take() {
            latch.release();
        }
    }

    /// Leaves: the last thread ends the process.
    pub(crate) fn leave(mut self, status: ExitStatus) {
        self.event_stop(event::EXIT, u64::from(status.wait_status().unsigned_abs()));
        self.kernel().tracer_exits(self.task());
        self.close_to_tracer();
        self.release_memory();
        let task = self.task.clone();
        let group = task.thread_group().clone();
        let kernel = task.kernel().clone();
        // Closing files may take long and must not hold locks; sockets and pipes learn of it before the parent does.
        let namespaces = task.namespaces().without_network();
        let (files, mm, namespaces) = task.update_shared(|s| {
            let namespaces = std::mem::replace(&mut s.namespaces, namespaces);
            (std::mem::take(&mut s.files), s.mm.take(), namespaces)
        });
        drop((files, namespaces));
        task.set_semaphore_undo(None);
        task.seccomp().release();
        group.sample_guest_time();
        drop(mm);
        // The context and the address space go before the parent is told, so that its next fork finds the memory free.
        drop(self);
        task.set_run_state(RunState::Zombie);
        let (is_last, exec, stopped, status) = {
            let mut signals = group.signals.lock();
            signals.threads.retain(|t| !Arc::ptr_eq(t, &task));
            // Under the lock, so that no time is counted twice or not at all.
            group.add_system_time(task.clocks().stop_system());
            let is_last = signals.threads.is_empty();
            if is_last && signals.exit.is_none() {
                signals.exit = Some(status);
            }
            // The others may all be stopped and only waited for this thread.
            let mut stopped = None;
            if let JobState::Stopping(signal) = signals.job
                && !is_last
                && signals.threads.iter().all(|t| t.signals.lock().stopped)
            {
                signals.job = JobState::Stopped(signal);
                stopped = Some(signal);
            }
            (is_last, signals.exec.clone(), stopped, signals.exit.unwrap_or(status))
        };
        if let Some(signal) = stopped {
            kernel.report_stop(group.pid(), signal);
        }
        if let Some(exec) = exec {
            exec.waiter().wake();
        }
        task.tell_children_of_end();
        if task.tid() != group.pid() {
            kernel.report_traced_exit(&task, status);
            kernel.tree().remove_thread(task.tid());
        }
        if is_last {
            group.timers.disarm_all();
            kernel.report_exit(group.pid(), status);
            group.exit_events.notify(Readiness::IN | Readiness::HUP);
        }
    }

    /// `exit_robust_list`: marks the mutexes that the thread still holds, so that others can recover them
    /// (`get_robust_list(2)`).
    fn walk_robust_list(&mut self) {
        let head = UserAddr(self.robust_list.swap(0, std::sync::atomic::Ordering::Relaxed));
        if !head.is_null() {
            // A broken list only harms the guest that made it.
            let _ = self.handle_robust_list(head);
        }
    }
}
