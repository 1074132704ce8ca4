//! System V IPC (`sysvipc(7)`): shared memory segments, semaphore sets, message queues; and the queues of POSIX
//! (`mq_overview(7)`).
//!
//! Lock order: a registry, then an object. Neither is held while an address space is changed, and dropping an area of
//! an address space (under its lock) may take both.

use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};

use crate::errno::Errno;
use crate::fs::mqueue::QueueFs;
use crate::kernel::{NamespaceBase, NamespaceKind};
use crate::task::Credentials;

mod message;
mod permission;
mod posix_queue;
mod registry;
mod semaphore;
mod semaphore_undo;
mod shared_memory;

pub(crate) use message::{Message, MessageQueue, Selection};
pub(crate) use permission::{Access, Permission, show_ids};
pub(crate) use posix_queue::{
    Announce, Capacity, Letter, Maker, Notification, PRIORITIES, Queue, QueueAccounts, QueueLimits,
};
pub(crate) use registry::{IpcId, IpcObject, Registry, Request};
pub(crate) use semaphore::{PendingOperations, SEMMSL, SEMOPM, SEMVMX, SemaphoreSet, Step};
pub(crate) use semaphore_undo::SemaphoreUndo;
pub(crate) use shared_memory::{SHMMIN, ShmAttachment, ShmSegment};

/// The objects and limits of one IPC namespace (`ipc_namespaces(7)`).
#[derive(Debug)]
pub struct IpcNamespace {
    pub(crate) base: NamespaceBase,
    pub(crate) shm: Arc<Registry<ShmSegment>>,
    pub(crate) sem: Registry<SemaphoreSet>,
    pub(crate) msg: Registry<MessageQueue>,
    pub(crate) limits: IpcLimits,
    /// Made when somebody first looks.
    queues: OnceLock<QueueFs>,
}

/// The limits that `/proc/sys/kernel` shows and changes (`sysvipc(7)`, `proc_sys_kernel(5)`).
#[derive(Debug)]
pub(crate) struct IpcLimits {
    /// Bytes of one segment.
    pub(crate) shmmax: AtomicU64,
    /// Pages of all segments.
    pub(crate) shmall: AtomicU64,
    /// Segments.
    pub(crate) shmmni: AtomicUsize,
    /// Semaphores in one set.
    pub(crate) semmsl: AtomicUsize,
    /// Semaphores in all sets.
    pub(crate) semmns: AtomicUsize,
    /// Operations of one call.
    pub(crate) semopm: AtomicUsize,
    /// Sets.
    pub(crate) semmni: AtomicUsize,
    /// Bytes of one message.
    pub(crate) msgmax: AtomicUsize,
    /// Bytes that a new queue may hold.
    pub(crate) msgmnb: AtomicUsize,
    /// Queues.
    pub(crate) msgmni: AtomicUsize,
}

/// `ULONG_MAX - (1 << 24)`: "no limit" for bytes and for pages (Linux, `SHMMAX`, `SHMALL`).
const UNLIMITED: u64 = u64::MAX - (1 << 24);

impl Default for IpcLimits {
    /// Linux's.
    fn default() -> Self {
        Self {
            shmmax: AtomicU64::new(UNLIMITED),
            shmall: AtomicU64::new(UNLIMITED),
            shmmni: AtomicUsize::new(4096),
            semmsl: AtomicUsize::new(SEMMSL),
            semmns: AtomicUsize::new(1_024_000_000),
            semopm: AtomicUsize::new(SEMOPM),
            semmni: AtomicUsize::new(32_000),
            msgmax: AtomicUsize::new(8192),
            msgmnb: AtomicUsize::new(16_384),
            msgmni: AtomicUsize::new(32_000),
        }
    }
}

impl IpcNamespace {
    /// The first namespace, with the usual limits.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with(NamespaceBase::initial(NamespaceKind::Ipc))
    }

    /// An empty namespace that `maker` makes (`CLONE_NEWIPC`).
    ///
    /// # Errors
    /// `ENOSPC` where there are too many.
    pub fn create(maker: &Credentials) -> Result<Arc<Self>, Errno> {
        Ok(Self::with(NamespaceBase::new(NamespaceKind::Ipc, maker)?))
    }

    fn with(base: NamespaceBase) -> Arc<Self> {
        Arc::new(Self {
            base,
            shm: Arc::default(),
            sem: Registry::default(),
            msg: Registry::default(),
            limits: IpcLimits::default(),
            queues: OnceLock::new(),
        })
    }

    /// The POSIX message queues.
    pub(crate) fn queues(&self) -> &QueueFs {
        self.queues.get_or_init(QueueFs::new)
    }
}

/// Seconds since the epoch, as the objects keep their times.
pub(crate) fn now() -> i64 {
    crate::vfs::FileTime::now().sec
}

#[cfg(test)]
mod tests;
