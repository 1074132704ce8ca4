//! The kernel object: one per sandbox.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};
use sentry_platform::{MemoryFile, Platform};

use crate::kernel::freezer::Freezer;
use crate::kernel::futex::Futexes;
use crate::kernel::{Clocks, ContainerId, ProcessTree, Timers};
use crate::mm::Frames;
use crate::task::{ExitStatus, Tid};

/// How a sandbox is set up.
pub struct KernelConfig {
    /// Runs guest code.
    pub platform: Arc<dyn Platform>,
    /// Backs anonymous memory, tmpfs and shared memory.
    pub memory_file: Arc<MemoryFile>,
    /// The most threads.
    pub max_tasks: usize,
    /// Print each system call.
    pub strace: bool,
}

/// More than any system call's number.
const MAX_SYSCALL: u64 = 1024;

/// What is shared by every task of a sandbox.
pub struct Kernel {
    clocks: Clocks,
    /// The first network namespace, set by boot.
    pub(crate) net: std::sync::OnceLock<Arc<crate::socket::NetNamespace>>,
    /// Files in messages of local sockets.
    pub(crate) files_in_flight: Arc<crate::socket::FilesInFlight>,
    /// Files of the host that several mounts lead to.
    pub(crate) files_of_mounts: Arc<crate::vfs::ManyFaced>,
    /// Who waits for record locks.
    pub(crate) lock_waits: crate::vfs::lock_waits::LockWaits,
    /// Requests of `io_setup(2)`.
    pub(crate) aio: Arc<crate::fs::aio::AioAccount>,
    timers: Timers,
    platform: Arc<dyn Platform>,
    frames: Arc<Frames>,
    futexes: Futexes,
    pub(super) freezer: Freezer,
    tree: Mutex<ProcessTree>,
    /// Told, with the tree, when a process without a parent ended.
    ended: Condvar,
    max_tasks: usize,
    strace: bool,
    /// The calls to print; not set for all of them.
    traced: std::sync::OnceLock<HashSet<u64>>,
    pub(crate) vdso: crate::loader::Vdso,
    hwcap: u64,
    /// What tasks run on.
    pub(crate) host_threads: Arc<crate::task::HostThreads>,
}

impl Kernel {
    /// A kernel without tasks.
    ///
    /// # Errors
    /// `ENOMEM` when the memory file cannot hold the kernel's own pages.
    pub fn new(config: KernelConfig) -> Result<Arc<Self>, crate::errno::Errno> {
        let KernelConfig { platform, memory_file, max_tasks, strace } = config;
        let frames = Frames::new(memory_file);
        let vdso = crate::loader::Vdso::new(&frames)?;
        let kernel = Arc::new(Self {
            clocks: Clocks::default(),
            net: std::sync::OnceLock::new(),
            files_in_flight: Arc::default(),
            files_of_mounts: Arc::default(),
            lock_waits: crate::vfs::lock_waits::LockWaits::default(),
            aio: Arc::default(),
            timers: Timers::default(),
            platform,
            frames,
            futexes: Futexes::default(),
            freezer: Freezer::default(),
            tree: Mutex::default(),
            ended: Condvar::new(),
            max_tasks,
            strace,
            traced: std::sync::OnceLock::new(),
            vdso,
            hwcap: read_hwcap(),
            host_threads: Arc::default(),
        });
        kernel.timers.start(&kernel);
        crate::kernel::vdso_clock::VdsoClock::start(&kernel);
        Ok(kernel)
    }

    /// The clocks.
    #[must_use]
    pub fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    /// Calls back at deadlines.
    #[must_use]
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// What runs guest code.
    #[must_use]
    pub fn platform(&self) -> &Arc<dyn Platform> {
        &self.platform
    }

    /// The file behind guest memory.
    #[must_use]
    pub fn memory_file(&self) -> &Arc<MemoryFile> {
        self.frames.memory_file()
    }

    /// Counts and limits the pages of guest memory.
    #[must_use]
    pub fn frames(&self) -> &Arc<Frames> {
        &self.frames
    }

    /// Futex wait queues.
    #[must_use]
    pub(crate) fn futexes(&self) -> &Futexes {
        &self.futexes
    }

    /// True while guest code of the container is held back.
    #[must_use]
    pub(crate) fn is_frozen(&self, container: ContainerId) -> bool {
        self.freezer.is_frozen(container)
    }

    /// Processes, groups, sessions. Hold the guard briefly.
    pub fn tree(&self) -> MutexGuard<'_, ProcessTree> {
        self.tree.lock()
    }

    /// The most threads at a time.
    #[must_use]
    pub fn max_tasks(&self) -> usize {
        self.max_tasks
    }

    /// `AT_HWCAP` of the host.
    #[must_use]
    pub(crate) fn hwcap(&self) -> u64 {
        self.hwcap
    }

    /// True where system calls are printed.
    #[must_use]
    pub fn is_tracing(&self) -> bool {
        self.strace
    }

    /// True where calls of `number` are printed.
    #[must_use]
    pub(crate) fn traces(&self, number: u64) -> bool {
        self.is_tracing() && self.traced.get().is_none_or(|traced| traced.contains(&number))
    }

    /// Limits what is printed to the calls with these names, once. Names of no call are left out.
    pub(crate) fn trace_only(&self, names: &[String]) {
        let is_named =
            |number: &u64| sentry_abi::syscall::name(*number).is_some_and(|name| names.contains(&name));
        self.traced.get_or_init(|| (0..MAX_SYSCALL).filter(is_named).collect());
    }

    /// Waits until some process has ended, for some milliseconds at most.
    pub(crate) fn wait_for_end_of_any(&self, tree: &mut MutexGuard<'_, ProcessTree>) {
        self.ended.wait_for(tree, std::time::Duration::from_millis(5));
    }

    pub(crate) fn notify_ended(&self) {
        self.ended.notify_all();
    }

    /// Waits until process `pid`, which was made by [`Kernel::create_process`], ended, and reaps it. `None` when there
    /// is no such process.
    #[must_use]
    pub fn wait_for_exit(&self, pid: Tid) -> Option<ExitStatus> {
        let mut tree = self.tree.lock();
        loop {
            if let Some(status) = tree.process(pid)?.exit {
                tree.reap(pid);
                return Some(status);
            }
            self.ended.wait(&mut tree);
        }
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").finish_non_exhaustive()
    }
}

/// The host's `AT_HWCAP`, 0 where it cannot be read: programs use CPUID anyway.
fn read_hwcap() -> u64 {
    let auxv = std::fs::read("/proc/self/auxv").unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or(0);
    let mut pairs = auxv.chunks_exact(16).map(|pair| (word(&pair[..8]), word(&pair[8..])));
    pairs.find(|(tag, _)| *tag == sentry_abi::elf::at::HWCAP).map_or(0, |(_, value)| value)
}
