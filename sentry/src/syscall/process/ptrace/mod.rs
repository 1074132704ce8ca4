//! `ptrace(2)`.

mod info;
mod memory;
mod registers;

use std::sync::Arc;

use sentry_abi::ptrace::request as r;
use sentry_abi::signal::{SigInfo, Signal, si_code};

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::task::trace::{
    AccessMode, LinkError, LinkKind, Reason, Resume, ResumeMode, Stop, TraceOptions, check_access,
};
use crate::task::{CurrentTask, ExitStatus, Task};

/// `ptrace(2)`.
pub(crate) fn sys_ptrace(task: &mut CurrentTask, args: &Args) -> SysResult {
    let request = args.u64(0);
    if request == r::TRACEME {
        return trace_me(task);
    }
    let id = task.named(args.i32(1))?;
    let target = task.kernel().tree().thread(id).cloned().ok_or(Errno::ESRCH)?;
    let (addr, data) = (args.u64(2), args.u64(3));
    match request {
        r::ATTACH => attach(task, &target, LinkKind::Attached, 0),
        // EIO for an address, as for options that do not exist.
        r::SEIZE if addr != 0 => Err(Errno::EIO.into()),
        r::SEIZE => attach(task, &target, LinkKind::Seized, data),
        _ => {
            if target.tracer().is_none_or(|tracer| !Arc::ptr_eq(&tracer, task.task())) {
                return Err(Errno::ESRCH.into());
            }
            let tracee = Traced { tracer: task, target };
            match request {
                r::KILL => tracee.kill(),
                r::INTERRUPT => tracee.interrupt(),
                _ => tracee.stopped(request, addr, data),
            }
        }
    }
}

fn trace_me(task: &CurrentTask) -> SysResult {
    {
        let mut tree = task.kernel().tree();
        let parent = tree.process(task.pid()).and_then(|p| p.parent).ok_or(Errno::EPERM)?;
        // The thread that made this process, unless that is gone and somebody adopted it.
        let creator = task.thread_group().creator().filter(|t| t.pid() == parent && t.mm().is_some());
        let leader = tree.process(parent).map(|p| p.leader.clone());
        let tracer = creator.or(leader).ok_or(Errno::EPERM)?;
        task.task()
            .link_to(&mut tree, &tracer, LinkKind::Attached, TraceOptions::default())
            .map_err(errno)?;
    }
    task.open_to_tracer();
    task.mark_stale_answers();
    task.request_attention();
    Ok(0)
}

fn errno(error: LinkError) -> Errno {
    match error {
        LinkError::Traced | LinkError::Ending => Errno::EPERM,
    }
}

fn attach(task: &CurrentTask, target: &Arc<Task>, kind: LinkKind, options: u64) -> SysResult {
    let options = TraceOptions::new(options).ok_or(Errno::EIO)?;
    if target.pid() == task.pid() {
        return Err(Errno::EPERM.into());
    }
    check_access(task, &task.creds(), target, AccessMode::RealCreds)?;
    {
        let mut tree = task.kernel().tree();
        target.link_to(&mut tree, task.task(), kind, options).map_err(errno)?;
    }
    target.open_to_tracer();
    target.withdraw_answers();
    if kind == LinkKind::Attached {
        // From the kernel: an init process is not protected from it. Ignored where the thread is stopped already.
        let info = SigInfo::new(Signal::SIGSTOP, si_code::SI_KERNEL);
        target.send_signal(Signal::SIGSTOP, info)?;
    }
    // A thread that job control has stopped turns that into a stop for its tracer.
    target.interrupt();
    Ok(0)
}

/// A thread that the caller traces.
struct Traced<'a> {
    tracer: &'a mut CurrentTask,
    target: Arc<Task>,
}

impl Traced<'_> {
    fn kill(&self) -> SysResult {
        // Only a stopped thread dies of it (ptrace(2), BUGS): it is sent SIGKILL instead of its signal.
        if self.target.trace().lock().stop.is_some() {
            self.target.thread_group().begin_exit(ExitStatus::Signaled(Signal::SIGKILL));
        }
        Ok(0)
    }

    fn interrupt(&self) -> SysResult {
        {
            let mut state = self.target.trace().lock();
            if state.link.as_ref().is_none_or(|link| link.kind != LinkKind::Seized) {
                return Err(Errno::EIO.into());
            }
            if let Some(stop) = state.stop.as_mut().filter(|stop| stop.is_listening) {
                stop.resume = Some(Resume { mode: ResumeMode::Continue, signal: 0 });
            }
        }
        self.target.want_stop();
        Ok(0)
    }

    /// What needs a stopped thread.
    fn stopped(mut self, request: u64, addr: u64, data: u64) -> SysResult {
        self.with_stop(|_| ())?;
        match request {
            r::PEEKTEXT | r::PEEKDATA => self.peek(addr, data),
            r::POKETEXT | r::POKEDATA => self.poke(addr, data),
            r::PEEKUSER => self.peek_user(addr, data),
            r::POKEUSER => self.poke_user(addr, data),
            r::GETREGS => self.get_regs(data),
            r::SETREGS => self.set_regs(data),
            r::GETFPREGS => self.get_fp_regs(data),
            r::SETFPREGS => self.set_fp_regs(data),
            r::GETREGSET => self.get_register_set(addr, data),
            r::SETREGSET => self.set_register_set(addr, data),
            r::ARCH_PRCTL => self.arch_prctl(addr, data),
            r::GETSIGINFO => self.get_signal_info(data),
            r::SETSIGINFO => self.set_signal_info(data),
            r::PEEKSIGINFO => self.peek_signal_info(addr, data),
            r::GETSIGMASK => self.get_signal_mask(addr, data),
            r::SETSIGMASK => self.set_signal_mask(addr, data),
            r::GETEVENTMSG => self.get_event_message(data),
            r::GET_SYSCALL_INFO => self.get_call_info(addr, data),
            r::SETOPTIONS | r::OLDSETOPTIONS => self.set_options(data),
            r::CONT => self.resume(ResumeMode::Continue, data),
            r::SYSCALL => self.resume(ResumeMode::ToCall, data),
            r::SINGLESTEP => self.resume(ResumeMode::Step, data),
            r::SYSEMU => self.resume(ResumeMode::Emulate, data),
            r::SYSEMU_SINGLESTEP => self.resume(ResumeMode::EmulateAndStep, data),
            r::DETACH => self.detach(data),
            r::LISTEN => self.listen(),
            _ => Err(Errno::EIO.into()),
        }
    }

    /// Looks at or changes the stop.
    ///
    /// # Errors
    /// `ESRCH` when the thread is not in one, or waits in it for the end of a group stop.
    fn with_stop<R>(&self, look: impl FnOnce(&mut Stop) -> R) -> Result<R, Errno> {
        let mut state = self.target.trace().lock();
        let stop = state.stop.as_mut().filter(|stop| stop.resume.is_none() && !stop.is_listening);
        stop.map(|stop| look(stop)).ok_or(Errno::ESRCH)
    }

    fn resume(&self, mode: ResumeMode, signal: u64) -> SysResult {
        let signal = signal_number(signal)?;
        self.with_stop(|stop| stop.resume = Some(Resume { mode, signal }))?;
        self.target.waiter().wake();
        Ok(0)
    }

    fn detach(&self, signal: u64) -> SysResult {
        let signal = signal_number(signal)?;
        self.with_stop(|_| ())?;
        let resume = Resume { mode: ResumeMode::Continue, signal };
        self.target.detach(&mut self.tracer.kernel().tree(), resume);
        Ok(0)
    }

    fn listen(&self) -> SysResult {
        let is_seized = self.target.trace().lock().link.as_ref().is_some_and(|l| l.kind == LinkKind::Seized);
        let is_over = self.target.job_signal().is_none();
        let listens = self.with_stop(|stop| {
            let may = is_seized && stop.reason == Reason::Group;
            if may {
                stop.is_listening = true;
                if is_over {
                    // It is continued already: the thread stops again to tell.
                    stop.resume = Some(Resume { mode: ResumeMode::Continue, signal: 0 });
                }
            }
            may
        })?;
        if !listens {
            return Err(Errno::EIO.into());
        }
        if is_over {
            self.target.want_stop();
        }
        Ok(0)
    }

    fn set_options(&self, data: u64) -> SysResult {
        let options = TraceOptions::new(data).ok_or(Errno::EINVAL)?;
        if let Some(link) = &mut self.target.trace().lock().link {
            link.options = options;
        }
        Ok(0)
    }
}

fn signal_number(data: u64) -> Result<i32, Errno> {
    i32::try_from(data).ok().filter(|n| *n == 0 || Signal::new(*n).is_some()).ok_or(Errno::EIO)
}
