//! Executing programs (`execve(2)`) and the first process of a container or `exec`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use sentry_abi::ptrace::event;
use sentry_abi::signal::{SigInfo, SigSet, Signal, StackT, si_code};
use sentry_platform::FpuState;

use crate::errno::{Errno, SysResult};
use crate::kernel::{ContainerId, Kernel, Namespaces, Process, Session, UserNamespace};
use crate::loader::{self, Addresses, Image, LoadRequest};
use crate::mm::UserAddr;
use crate::task::clone::initial_handlers;
use crate::task::exec_creds::credentials_after;
use crate::task::scheduling::{Scheduling, cpu_count};
use crate::task::thread::{NewTask, Shared};
use crate::task::trace::{DebugRegisters, LinkKind};
use crate::task::{Capabilities, Credentials, CurrentTask, Gid, Limits, Task, ThreadGroup, Tid, Uid};
use crate::vfs::open::{open_exec, open_exec_place};
use crate::vfs::permission::{Access, check_access};
use crate::vfs::{Caller, FdFlags, FdTableUser, File, FsContext, Last, VfsPath, WalkRoot};

/// A process to make from outside the sandbox.
pub struct ProcessArgs {
    /// The program, resolved in the process's root.
    pub path: Vec<u8>,
    /// Arguments.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub envp: Vec<Vec<u8>>,
    /// Identity and capabilities.
    pub creds: Arc<Credentials>,
    /// Limits.
    pub limits: Limits,
    /// Open descriptors.
    pub files: FdTableUser,
    /// Root, working directory, umask.
    pub fs: Arc<FsContext>,
    /// The namespaces that are neither of users nor of mounts.
    /// It begins in the PID namespace that its children are for.
    pub namespaces: Arc<Namespaces>,
    /// The container.
    pub container: ContainerId,
}

/// The program to execute, as `execveat(2)` names it.
pub(crate) enum Program {
    /// A path and what it starts from.
    Path { from: WalkRoot, path: Vec<u8>, last: Last },
    /// An open file (`AT_EMPTY_PATH`).
    Open(VfsPath),
}

impl Kernel {
    /// Makes a process without a parent and starts it. Wait for it with [`Kernel::wait_for_exit`].
    ///
    /// # Errors
    /// As `execve(2)` and `fork(2)`.
    pub fn create_process(self: &Arc<Self>, args: ProcessArgs) -> Result<Arc<Task>, Errno> {
        self.create_prepared(args, |_| {})
    }

    /// As [`Kernel::create_process`]; `prepare` sees the process before it runs.
    ///
    /// # Errors
    /// As [`Kernel::create_process`].
    pub(crate) fn create_prepared(
        self: &Arc<Self>,
        args: ProcessArgs,
        prepare: impl FnOnce(&Task),
    ) -> Result<Arc<Task>, Errno> {
        let ProcessArgs { path, argv, envp, creds, limits, files, fs, namespaces, container } = args;
        let from = WalkRoot { namespace: fs.namespace(), root: fs.root(), start: fs.cwd() };
        let open = |path: &[u8]| open_exec(&Caller::kernel(&creds), &from, path, Last::Follow);
        let given = creds.clone();
        let image = loader::load(
            self,
            LoadRequest {
                file: open(&path)?,
                path,
                argv,
                envp,
                limits,
                addresses: Addresses::Random,
                open: &open,
                // The container's configuration names capabilities exactly; no file changes them.
                credentials: &|_| Ok((given.clone(), false)),
            },
        )?;
        let Image { mm, regs, exe, comm, creds } = image;
        mm.set_exe(exe);
        let fpu = FpuState::initial();
        let context = mm.address_space().new_context(&fpu).map_err(|_| Errno::EAGAIN)?;
        let task = {
            let mut tree = self.tree();
            let pid_ns = namespaces.pid_for_children.clone();
            let pid = tree.allocate_id(&pid_ns, &[])?;
            let group = ThreadGroup::new(self, pid, pid_ns, container, initial_handlers(), limits);
            let task = Task::new(NewTask {
                tid: pid,
                group: group.clone(),
                shared: Shared { mm: Some(mm.clone()), files, fs, creds, namespaces },
                comm: [0; 16],
                mask: SigSet::EMPTY,
                scheduling: Scheduling::new(cpu_count()),
            });
            task.set_comm(&comm);
            task.set_root_process();
            group.signals.lock().threads.push(task.clone());
            tree.insert(Process {
                group,
                leader: task.clone(),
                parent: None,
                maker: None,
                children: BTreeSet::new(),
                pgid: pid,
                session: Session::new(pid),
                exit_signal: None,
                exit: None,
                stop_report: None,
                continue_report: false,
                has_execed: true,
                is_subreaper: false,
                tracees: Vec::new(),
            });
            task
        };
        prepare(&task);
        task.thread_group().count_guest_time(mm.address_space());
        task.thread_group().watch_cpu_limit();
        if let Err(errno) = CurrentTask::new(task.clone(), mm, regs, context).spawn() {
            self.tree().reap(task.pid());
            return Err(errno);
        }
        Ok(task)
    }
}

impl CurrentTask {
    /// Replaces the program of this process.
    ///
    /// # Errors
    /// As `execve(2)`; the process is unchanged then.
    pub(crate) fn execute(
        &mut self,
        program: &Program,
        name: Vec<u8>,
        argv: Vec<Vec<u8>>,
        envp: Vec<Vec<u8>>,
    ) -> SysResult {
        let creds = self.creds();
        let task = self.task.clone();
        let caller = Caller::task(&task, &creds);
        let fs = self.fs();
        let root = WalkRoot { namespace: fs.namespace(), root: fs.root(), start: fs.cwd() };
        let file = match program {
            Program::Path { from, path, last } => open_exec(&caller, from, path, *last)?,
            Program::Open(place) => open_exec_place(&caller, place.clone())?,
        };
        // Who may look at what cannot be read: somebody who has rights over the file.
        let guard = RefCell::new(None);
        let open = |path: &[u8]| {
            let file = open_exec(&caller, &root, path, Last::Follow)?;
            guard_unreadable(&caller, &file, &guard)?;
            Ok(file)
        };
        // A tracer that may not trace what the program would become keeps it from becoming that.
        let tracer = self.tracer();
        let is_held =
            tracer.is_some_and(|tracer| !tracer.creds().has_in(&creds.user_ns, Capabilities::SYS_PTRACE));
        let is_held = is_held || self.shares_directories(&fs) && !creds.has_in_own(Capabilities::SETUID);
        let credentials = |file: &File| {
            guard_unreadable(&caller, file, &guard)?;
            credentials_after(&creds, file, &fs.namespace(), is_held)
        };
        let image = loader::load(
            self.kernel(),
            LoadRequest {
                file,
                path: name,
                argv,
                envp,
                limits: self.thread_group().limits(),
                addresses: self.addresses(),
                open: &open,
                credentials: &credentials,
            },
        )?;
        let fpu = FpuState::initial();
        let context = image.mm.address_space().new_context(&fpu).map_err(|_| Errno::ENOMEM)?;
        let old_tid = self.tid();
        self.become_only_thread()?;
        let number = self.regs.orig_rax;
        self.install_image(image, context, guard.into_inner());
        self.regs.orig_rax = number;
        self.report_exec_to_tracer(old_tid);
        Ok(0)
    }

    fn report_exec_to_tracer(&mut self, old_tid: Tid) {
        let kind = self.trace().lock().link.as_ref().map(|link| link.kind);
        let Some(kind) = kind else { return };
        self.open_to_tracer();
        self.is_stepping = false;
        self.watch = None;
        self.trace().lock().debug = DebugRegisters::default();
        if !self.event_stop(event::EXEC, self.value_for_tracer(old_tid)) && kind == LinkKind::Attached {
            // "If the PTRACE_O_TRACEEXEC option is not in effect ... a SIGTRAP" (ptrace(2)).
            let info =
                SigInfo::from_process(Signal::SIGTRAP, si_code::SI_USER, self.pid().0, self.creds().uid.0);
            let _ = self.send_signal(Signal::SIGTRAP, info);
        }
    }

    /// Whether another process could change the working directory or the root under a program (`LSM_UNSAFE_SHARE`).
    fn shares_directories(&self, fs: &Arc<FsContext>) -> bool {
        // The caller's reference and the task's.
        if Arc::strong_count(fs) <= 2 {
            return false;
        }
        let others: Vec<_> =
            self.kernel().tree().threads().filter(|t| t.pid() != self.pid()).cloned().collect();
        others.iter().any(|task| Arc::ptr_eq(&task.fs(), fs))
    }

    /// Ends the other threads and takes over the process id (`execve(2)`: "the thread that called execve ... becomes
    /// the thread group leader").
    fn become_only_thread(&mut self) -> Result<(), Errno> {
        let group = self.thread_group().clone();
        {
            let mut signals = group.signals.lock();
            if signals.must_leave(self) {
                // The end of the process comes on the way back.
                return Err(Errno::EAGAIN);
            }
            signals.exec = Some(self.task.clone());
            for task in signals.threads.iter().filter(|t| !Arc::ptr_eq(t, &self.task)) {
                task.interrupt();
            }
        }
        loop {
            self.waiter().clear();
            {
                let mut signals = group.signals.lock();
                if signals.threads.len() == 1 || signals.exit.is_some() {
                    signals.exec = None;
                    break;
                }
            }
            self.waiter().sleep(None);
        }
        if self.tid() != self.pid() {
            self.kernel().tree().replace_leader(&self.task);
        }
        Ok(())
    }

    /// The point of no return.
    fn install_image(
        &mut self,
        image: Image,
        context: Box<dyn sentry_platform::Context>,
        guard: Option<Arc<UserNamespace>>,
    ) {
        let Image { mm, regs, exe, comm, creds } = image;
        let group = self.thread_group().clone();
        self.close_to_tracer();
        // begin_new_exec: who has become somebody else is not to be looked at.
        let ids = |c: &Credentials| (c.uid, c.gid, c.euid, c.egid);
        let (before, after) = (self.creds(), ids(&creds));
        let is_same_user = after.0 == after.2 && after.1 == after.3 || ids(&before) == after;
        mm.set_dumpable(is_same_user && guard.is_none());
        self.timers_on_exec();
        self.release_memory();
        mm.set_exe(exe);
        mm.set_user_ns(guard.unwrap_or_else(|| before.user_ns.clone()));
        self.own_files();
        let closed = self.files.remove_if(|_, flags| flags.contains(FdFlags::CLOEXEC));
        for file in &closed {
            self.descriptor_closed(file);
        }
        let old = self.update_shared(|shared| {
            shared.creds = creds;
            shared.mm.replace(mm.clone())
        });
        drop((closed, old));
        self.set_interrupter(context.interrupter());
        self.clocks().start_user(context.cpu_clock());
        group.count_guest_time(mm.address_space());
        // The old address space goes before the context, which then has no thread to give back.
        drop(std::mem::replace(&mut self.mm, mm));
        drop(std::mem::replace(&mut self.context, context));
        self.regs = regs;
        self.publish_identity();
        group.set_handlers(group.handlers().for_exec());
        self.signals.lock().alt_stack = StackT::DISABLED;
        self.set_comm(&comm);
        self.robust_list.store(0, std::sync::atomic::Ordering::Relaxed);
        self.clear_child_tid = UserAddr::NULL;
        self.rseq = None;
        self.restart_block = None;
        self.last_fault = None;
        if let Some(process) = self.kernel().tree().process_mut(self.pid()) {
            process.has_execed = true;
            // A program that may have other rights reports its end as SIGCHLD, whatever clone(2) said.
            process.exit_signal = Some(Signal::SIGCHLD);
        }
    }
}

/// Notes in `guard` the user namespace whose privilege it takes to look at a program that `caller` may start and not read:
/// his own, or the first above in which the file's owner is somebody (`would_dump`).
fn guard_unreadable(
    caller: &Caller<'_>,
    file: &File,
    guard: &RefCell<Option<Arc<UserNamespace>>>,
) -> Result<(), Errno> {
    if check_access(caller, file.inode(), Access::READ).is_ok() {
        return Ok(());
    }
    let stat = file.stat()?;
    let mut user_ns = guard.take().unwrap_or_else(|| caller.creds.user_ns.clone());
    while user_ns.uid_of(Uid(stat.uid)).is_none() || user_ns.gid_of(Gid(stat.gid)).is_none() {
        let Some(parent) = user_ns.parent().cloned() else { break };
        user_ns = parent;
    }
    guard.replace(Some(user_ns));
    Ok(())
}

/// A flag of `personality(2)`.
const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;
impl Task {
    fn addresses(&self) -> Addresses {
        if self.personality() & ADDR_NO_RANDOMIZE != 0 { Addresses::Fixed } else { Addresses::Random }
    }

    /// The process whose id this thread's exec may take; for tests and `/proc`.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.tid() == Tid(self.pid().0)
    }
}
