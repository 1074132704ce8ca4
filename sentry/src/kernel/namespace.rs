//! The namespaces that a task is in (`namespaces(7)`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sentry_abi::sched::CloneFlags;

use crate::errno::Errno;
use crate::ipc::IpcNamespace;
use crate::kernel::user_namespace::NamespaceCount;
use crate::kernel::{Kernel, PidNamespace, UserNamespace, UtsNamespace};
use crate::socket::NetNamespace;
use crate::task::Credentials;

/// The kinds of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of namespaces(7)")]
pub enum NamespaceKind {
    Cgroup,
    Ipc,
    Mount,
    Net,
    Pid,
    Time,
    User,
    Uts,
}

impl NamespaceKind {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Cgroup, Self::Ipc, Self::Mount, Self::Net, Self::Pid, Self::Time, Self::User, Self::Uts];

    /// The name in the text of the links in `/proc/PID/ns`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Ipc => "ipc",
            Self::Mount => "mnt",
            Self::Net => "net",
            Self::Pid => "pid",
            Self::Time => "time",
            Self::User => "user",
            Self::Uts => "uts",
        }
    }

    /// The flag of `clone(2)` that makes one.
    #[must_use]
    pub const fn flag(self) -> CloneFlags {
        match self {
            Self::Cgroup => CloneFlags::NEWCGROUP,
            Self::Ipc => CloneFlags::NEWIPC,
            Self::Mount => CloneFlags::NEWNS,
            Self::Net => CloneFlags::NEWNET,
            Self::Pid => CloneFlags::NEWPID,
            Self::Time => CloneFlags::NEWTIME,
            Self::User => CloneFlags::NEWUSER,
            Self::Uts => CloneFlags::NEWUTS,
        }
    }

    /// The number of the first one, as on Linux.
    const fn first_number(self) -> u64 {
        match self {
            Self::Mount => 4_026_531_841,
            Self::Net => 4_026_531_840,
            Self::Ipc => 4_026_531_839,
            Self::Uts => 4_026_531_838,
            Self::User => 4_026_531_837,
            Self::Pid => 4_026_531_836,
            Self::Cgroup => 4_026_531_835,
            Self::Time => 4_026_531_834,
        }
    }
}

/// What every namespace but those of users has: a number and the user namespace that it belongs to.
pub struct NamespaceBase {
    number: u64,
    owner: Arc<UserNamespace>,
    _count: Option<NamespaceCount>,
}

impl NamespaceBase {
    /// Of a namespace that is there from the beginning.
    #[must_use]
    pub fn initial(kind: NamespaceKind) -> Self {
        Self { number: kind.first_number(), owner: UserNamespace::initial(), _count: None }
    }

    /// Of a namespace that somebody with the credentials `maker` makes.
    ///
    /// # Errors
    /// `ENOSPC` where there are too many.
    pub fn new(kind: NamespaceKind, maker: &Credentials) -> Result<Self, Errno> {
        let count = NamespaceCount::new(&maker.user_ns, maker.euid, kind)?;
        Ok(Self { number: new_number(), owner: maker.user_ns.clone(), _count: Some(count) })
    }

    /// Names it in `/proc/PID/ns`.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The user namespace whose capabilities count in it.
    #[must_use]
    pub fn owner(&self) -> &Arc<UserNamespace> {
        &self.owner
    }
}

impl std::fmt::Debug for NamespaceBase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {:?}", self.number, self.owner)
    }
}

/// A number that no namespace has.
pub(crate) fn new_number() -> u64 {
    NEXT_NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// Where Linux's numbers are after it has started.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(4_026_532_100);

/// A cgroup namespace (`cgroup_namespaces(7)`). There is one cgroup, so it shows the same from everywhere.
#[derive(Debug)]
pub struct CgroupNamespace {
    pub(crate) base: NamespaceBase,
}

/// The namespaces of a task, except for those of users (in its credentials) and mounts (in its file system context).
/// Replaced as a whole, never changed (Linux's `struct nsproxy`).
#[derive(Debug, Clone)]
pub struct Namespaces {
    /// Cgroups.
    pub cgroup: Arc<CgroupNamespace>,
    /// System V IPC and POSIX message queues.
    pub ipc: Arc<IpcNamespace>,
    /// The network; none where the sandbox has no network stack, and once the task has exited.
    pub net: Option<Arc<NetNamespace>>,
    /// Where the processes are that the task makes; it is itself in that of its thread group.
    pub pid_for_children: Arc<PidNamespace>,
    /// Host and domain name.
    pub uts: Arc<UtsNamespace>,
}

impl Namespaces {
    /// Those that a sandbox starts with.
    #[must_use]
    pub fn initial(
        uts: Arc<UtsNamespace>,
        ipc: Arc<IpcNamespace>,
        net: Option<Arc<NetNamespace>>,
    ) -> Arc<Self> {
        let base = NamespaceBase::initial(NamespaceKind::Cgroup);
        let cgroup = Arc::new(CgroupNamespace { base });
        Arc::new(Self { cgroup, ipc, net, pid_for_children: PidNamespace::initial(), uts })
    }

    /// What [`Namespaces::fork`] can make new.
    pub(crate) const KINDS: CloneFlags = CloneFlags::NEWCGROUP
        .union(CloneFlags::NEWIPC)
        .union(CloneFlags::NEWNET)
        .union(CloneFlags::NEWPID)
        .union(CloneFlags::NEWUTS);

    /// The same with a new one for each flag, made by `maker`, who is in `pid_ns`. The caller checked that it may.
    ///
    /// # Errors
    /// `ENOSPC` where there are too many, `EINVAL` for a second PID namespace before the first has a process.
    pub(crate) fn fork(
        self: &Arc<Self>,
        flags: CloneFlags,
        maker: &Credentials,
        pid_ns: &PidNamespace,
        kernel: &Kernel,
    ) -> Result<Arc<Self>, Errno> {
        if !flags.intersects(Self::KINDS) {
            return Ok(self.clone());
        }
        let mut new = Self::clone(self);
        if flags.contains(CloneFlags::NEWCGROUP) {
            let base = NamespaceBase::new(NamespaceKind::Cgroup, maker)?;
            new.cgroup = Arc::new(CgroupNamespace { base });
        }
        if flags.contains(CloneFlags::NEWIPC) {
            new.ipc = IpcNamespace::create(maker)?;
        }
        if flags.contains(CloneFlags::NEWNET) {
            new.net = Some(NetNamespace::create(maker, kernel.net_namespace().map(|first| &**first))?);
        }
        if flags.contains(CloneFlags::NEWPID) {
            if *self.pid_for_children != *pid_ns {
                return Err(Errno::EINVAL);
            }
            new.pid_for_children = self.pid_for_children.create(maker)?;
        }
        if flags.contains(CloneFlags::NEWUTS) {
            new.uts = self.uts.fork(maker)?;
        }
        Ok(Arc::new(new))
    }

    /// The same for a task that has exited and may not be waited for in a long time: networks end with their last task.
    pub(crate) fn without_network(&self) -> Arc<Self> {
        Arc::new(Self { net: None, ..self.clone() })
    }
}
