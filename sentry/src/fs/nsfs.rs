//! Files that stand for namespaces: what the links in `/proc/PID/ns` lead to (`namespaces(7)`, `ioctl_ns(2)`).

use std::sync::{Arc, LazyLock};

use crate::errno::{Errno, SysResult};
use crate::ipc::IpcNamespace;
use crate::kernel::{
    CgroupNamespace, NamespaceBase, NamespaceKind, PidNamespace, UserNamespace, UtsNamespace,
};
use crate::mm::UserAddr;
use crate::socket::NetNamespace;
use crate::task::{Credentials, CurrentTask, Resource, Task};
use crate::vfs::{
    BareInode, Caller, Dentry, FdFlags, File, FileOps, FileSystem, FileType, Inode, InodeOps, Mount,
    MountFlags, MountNamespace, OpenFlags, Stat, StatFs, SuperBlock, VfsPath,
};

const NS_GET_USERNS: u32 = 0xb701;
const NS_GET_PARENT: u32 = 0xb702;
const NS_GET_NSTYPE: u32 = 0xb703;
const NS_GET_OWNER_UID: u32 = 0xb704;
/// `statfs(2)`.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// A namespace of any kind.
#[derive(Debug, Clone)]
pub(crate) enum Namespace {
    /// `cgroup`.
    Cgroup(Arc<CgroupNamespace>),
    /// `ipc`.
    Ipc(Arc<IpcNamespace>),
    /// `mnt`.
    Mount(Arc<MountNamespace>),
    /// `net`.
    Net(Arc<NetNamespace>),
    /// `pid`.
    Pid(Arc<PidNamespace>),
    /// `user`.
    User(Arc<UserNamespace>),
    /// `uts`.
    Uts(Arc<UtsNamespace>),
}

/// Finds a namespace of a task, which may have left it (`exit_task_namespaces`).
pub(crate) type Find = fn(&Task) -> Option<Namespace>;

/// The links in `/proc/PID/ns`, and how to find what they lead to.
pub(crate) const LINKS: &[(&str, Find)] = &[
    ("cgroup", |task| Some(Namespace::Cgroup(task.namespaces().cgroup.clone()))),
    ("ipc", |task| Some(Namespace::Ipc(task.ipc()))),
    ("mnt", |task| Some(Namespace::Mount(task.fs().namespace()))),
    ("net", |task| task.net().map(Namespace::Net)),
    ("pid", |task| Some(Namespace::Pid(task.pid_ns().clone()))),
    ("pid_for_children", |task| Some(Namespace::Pid(task.namespaces().pid_for_children.clone()))),
    ("user", |task| Some(Namespace::User(task.creds().user_ns.clone()))),
    ("uts", |task| Some(Namespace::Uts(task.uts()))),
];

impl Namespace {
    /// Which kind it is.
    pub(crate) fn kind(&self) -> NamespaceKind {
        match self {
            Self::Cgroup(_) => NamespaceKind::Cgroup,
            Self::Ipc(_) => NamespaceKind::Ipc,
            Self::Mount(_) => NamespaceKind::Mount,
            Self::Pid(_) => NamespaceKind::Pid,
            Self::Net(_) => NamespaceKind::Net,
            Self::User(_) => NamespaceKind::User,
            Self::Uts(_) => NamespaceKind::Uts,
        }
    }

    /// What it has in common with others; namespaces of users stand for themselves.
    fn base(&self) -> Option<&NamespaceBase> {
        match self {
            Self::Cgroup(namespace) => Some(&namespace.base),
            Self::Ipc(namespace) => Some(&namespace.base),
            Self::Mount(namespace) => Some(namespace.base()),
            Self::Pid(namespace) => Some(&namespace.base),
            Self::Net(namespace) => Some(namespace.base()),
            Self::User(_) => None,
            Self::Uts(namespace) => Some(&namespace.base),
        }
    }

    fn number(&self) -> u64 {
        match self {
            Self::User(namespace) => namespace.number(),
            _ => self.base().map_or(0, NamespaceBase::number),
        }
    }

    /// The user namespace that it belongs to: for one of users, the one that it was made in.
    fn owner(&self) -> Option<Arc<UserNamespace>> {
        match self {
            Self::User(namespace) => namespace.parent().cloned(),
            _ => self.base().map(|base| base.owner().clone()),
        }
    }

    /// The one above it, as far as `task` may know.
    fn parent(&self, task: &Task) -> Result<Self, Errno> {
        match self {
            Self::User(_) => self.visible_owner(&task.creds()),
            Self::Pid(namespace) => {
                let parent = namespace.parent().filter(|parent| task.pid_ns().holds(parent));
                parent.cloned().map(Self::Pid).ok_or(Errno::EPERM)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// The owner, for those in it or above it.
    fn visible_owner(&self, creds: &Credentials) -> Result<Self, Errno> {
        let owner = self.owner().filter(|owner| creds.user_ns.holds(owner));
        owner.map(Self::User).ok_or(Errno::EPERM)
    }

    /// The text of a link to it.
    pub(crate) fn text(&self) -> String {
        format!("{}:[{}]", self.kind().name(), self.number())
    }

    /// A place that stands for it.
    pub(crate) fn path(&self) -> VfsPath {
        let inode = Inode::new(FileType::Regular, Box::new(NamespaceInode(self.clone())));
        let dentry = Dentry::new_detached(NSFS.superblock().clone(), inode, self.text().as_bytes());
        VfsPath::new(NSFS.clone(), dentry)
    }

    /// The namespace that a file stands for.
    pub(crate) fn of(inode: &Inode) -> Option<&Self> {
        inode.downcast::<NamespaceInode>().map(|inode| &inode.0)
    }
}

struct NamespaceInode(Namespace);

impl InodeOps for NamespaceInode {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat::new(FileType::Regular, 0o444, self.0.number()))
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Ok(Box::new(NamespaceFile(self.0.clone())))
    }
}

struct NamespaceFile(Namespace);

impl FileOps for NamespaceFile {
    fn ioctl(&self, task: &mut CurrentTask, _: &File, request: u32, arg: u64) -> SysResult {
        match request {
            NS_GET_USERNS => install(task, &self.0.visible_owner(&task.creds())?),
            NS_GET_PARENT => install(task, &self.0.parent(task)?),
            NS_GET_NSTYPE => Ok(self.0.kind().flag().bits()),
            NS_GET_OWNER_UID => {
                let Namespace::User(namespace) = &self.0 else { return Err(Errno::EINVAL.into()) };
                let uid = task.creds().user_ns.show_uid(namespace.owner());
                task.mm().write_obj(UserAddr(arg), &uid)?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY.into()),
        }
    }
}

/// A new descriptor of a file that stands for `namespace`.
pub(crate) fn install(task: &CurrentTask, namespace: &Namespace) -> SysResult {
    let ops = Box::new(NamespaceFile(namespace.clone()));
    let file = File::at(ops, OpenFlags::empty(), namespace.path());
    let fd = task.files().install(file, FdFlags::CLOEXEC, 0, task.rlimit(Resource::Nofile).soft)?;
    // Descriptors that were given out are not negative.
    Ok(u64::from(fd.0.unsigned_abs()))
}

struct NsFs;

impl FileSystem for NsFs {
    fn type_name(&self) -> &'static str {
        "nsfs"
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs::pseudo(NSFS_MAGIC))
    }
}

// Process-wide like Linux's kernel mount: it holds no state but a device number.
static NSFS: LazyLock<Arc<Mount>> = LazyLock::new(|| {
    let root = BareInode::new(Stat::new(FileType::Directory, 0o555, 1));
    let (_, root) = SuperBlock::new(Box::new(NsFs), Inode::new(FileType::Directory, Box::new(root)));
    Mount::new(root, b"nsfs", MountFlags::empty())
});
