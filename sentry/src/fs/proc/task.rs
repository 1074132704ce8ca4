//! `/proc/PID` and `/proc/PID/task/TID`.

use std::sync::{Arc, Weak};

use crate::errno::Errno;
use crate::fs::nsfs::{Find, LINKS as LINKS_OF_NAMESPACES, Namespace};
use crate::fs::proc::fd::{FdDir, FdDirKind};
use crate::fs::proc::id_map::{self, IdMapInode};
use crate::fs::proc::mem::MemoryFileInode;
use crate::fs::proc::{mounts, net, root, status};
use crate::fs::pseudo::{Text, TextInode};
use crate::kernel::{PidNamespace, UserNamespace};
use crate::mm::MemoryManager;
use crate::task::trace::{AccessMode, check_access};
use crate::task::{Gid, Task, ThreadGroup, Uid};
use crate::vfs::open::open_directory;
use crate::vfs::{
    Caller, DirEntry, FileOps, FileType, Inode, InodeOps, LinkTarget, OpenFlags, Stat, VfsPath,
};

/// The number of `/proc/PID`: stable over lookups.
pub(super) fn ino_of(id: i32) -> u64 {
    u64::from(id.unsigned_abs()) << 32
}

/// A process or thread directory.
pub(super) struct TaskDir {
    task: Arc<Task>,
    /// Whose numbers are shown.
    pid_ns: Arc<PidNamespace>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `/proc/PID`, with `task`.
    Process,
    /// `/proc/PID/task/TID`.
    Thread,
}

/// Makes the contents of a file about a task.
pub(super) type Render = fn(&Arc<Task>) -> Result<Vec<u8>, Errno>;

/// Files that are generated, with their permission bits.
const FILES: &[(&str, u32, Render)] = &[
    ("auxv", 0o400, status::auxv),
    ("cgroup", 0o444, status::cgroup),
    ("children", 0o444, status::of_reader),
    ("cmdline", 0o444, status::cmdline),
    ("comm", 0o644, status::comm),
    ("environ", 0o400, status::environ),
    ("io", 0o400, status::io),
    ("limits", 0o444, status::limits),
    ("loginuid", 0o644, status::loginuid),
    ("maps", 0o444, status::maps),
    ("mountinfo", 0o444, mounts::mountinfo),
    ("mounts", 0o444, mounts::mounts),
    ("mountstats", 0o400, mounts::mountstats),
    ("oom_adj", 0o644, status::oom_adj),
    ("oom_score", 0o444, status::oom_score),
    ("oom_score_adj", 0o644, status::oom_score_adj),
    ("personality", 0o400, status::personality),
    ("schedstat", 0o444, status::schedstat),
    ("sessionid", 0o444, status::loginuid),
    ("smaps", 0o444, status::smaps),
    ("smaps_rollup", 0o444, status::smaps_rollup),
    ("stat", 0o444, status::of_reader),
    ("statm", 0o444, status::statm),
    ("status", 0o444, status::of_reader),
    ("syscall", 0o400, status::syscall),
    ("timerslack_ns", 0o666, status::timerslack),
    ("wchan", 0o444, status::wchan),
];

/// What only those may read who could debug the process, whatever the mode says (proc(5)).
const GUARDED: &[&str] =
    &["auxv", "environ", "io", "maps", "personality", "smaps", "smaps_rollup", "syscall"];

/// What is about the memory that the process had when the file was opened. Another program's, which whoever opened it may not
/// look at, is not shown.
const OF_MEMORY: &[&str] = &["auxv", "environ", "maps", "smaps", "smaps_rollup"];

const LINKS: &[&str] = &["cwd", "exe", "root"];
/// Namespaces that exist once, with the texts of Linux's first ones.
const SINGLE_NAMESPACES: &[(&str, &str)] = &[("time", "time:[4026531834]")];

impl TaskDir {
    /// `/proc/PID`.
    pub(super) fn process(task: &Arc<Task>, pid_ns: &Arc<PidNamespace>) -> Arc<Inode> {
        Self::inode(task, pid_ns, Kind::Process)
    }

    fn thread(task: &Arc<Task>, pid_ns: &Arc<PidNamespace>) -> Arc<Inode> {
        Self::inode(task, pid_ns, Kind::Thread)
    }

    fn inode(task: &Arc<Task>, pid_ns: &Arc<PidNamespace>, kind: Kind) -> Arc<Inode> {
        let dir = Self { task: task.clone(), pid_ns: pid_ns.clone(), kind };
        Inode::new(FileType::Directory, Box::new(dir))
    }

    fn ino(&self, name: &[u8]) -> u64 {
        // The entry's position keeps numbers of one task apart; threads differ from their process.
        let names = FILES
            .iter()
            .map(|f| f.0)
            .chain(LINKS.iter().copied())
            .chain(["fd", "fdinfo", "mem", "net", "ns", "task"])
            .chain(id_map::NAMES.iter().copied());
        let at = names.into_iter().position(|n| n.as_bytes() == name).unwrap_or(0) as u64 + 1;
        let bit = if self.kind == Kind::Thread { 1 << 31 } else { 0 };
        ino_of(self.task.tid().0) + at + bit
    }
}

/// The process whose directory an inode is, `/proc/PID`.
pub(crate) fn process_of(inode: &Inode) -> Option<Arc<ThreadGroup>> {
    let dir = inode.downcast::<TaskDir>().filter(|dir| dir.kind == Kind::Process)?;
    Some(dir.task.thread_group().clone())
}

/// The owner of a task's files: its effective ids, or root for a process that is not to be looked at, that of the
/// namespace it was started in (`task_dump_owner`).
pub(super) fn owned(task: &Task, kind: FileType, permissions: u32, ino: u64) -> Stat {
    let creds = task.creds();
    let is_open_to_all = kind == FileType::Directory && permissions & 0o555 == 0o555;
    if let Some(mm) = task.mm().filter(|mm| !is_open_to_all && !mm.is_dumpable()) {
        let user_ns = mm.user_ns();
        let (uid, gid) = (user_ns.uid(0).unwrap_or(Uid::ROOT).0, user_ns.gid(0).unwrap_or(Gid::ROOT).0);
        return Stat { uid, gid, ..Stat::new(kind, permissions, ino) };
    }
    Stat { uid: creds.euid.0, gid: creds.egid.0, ..Stat::new(kind, permissions, ino) }
}

/// Whether `caller` may look at what only debuggers and the process itself may (`ptrace(2)`, "Ptrace access mode
/// checking", `PTRACE_MODE_READ_FSCREDS`).
///
/// # Errors
/// `EACCES`.
pub(super) fn check_may_inspect(caller: &Caller<'_>, task: &Task) -> Result<(), Errno> {
    let Some(who) = caller.task else { return Ok(()) };
    check_access(who, caller.creds, task, AccessMode::FsCreds).map_err(|_| Errno::EACCES)
}

impl InodeOps for TaskDir {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(owned(&self.task, FileType::Directory, 0o555, ino_of(self.task.tid().0)))
    }

    fn lookup(&self, _: &Arc<Inode>, _: &Caller<'_>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        let task = &self.task;
        let ino = self.ino(name);
        if let Some((name, permissions, render)) = FILES.iter().find(|f| f.0.as_bytes() == name) {
            let stat = owned(task, FileType::Regular, *permissions, ino);
            let text = TaskText {
                task: task.clone(),
                name,
                render: *render,
                reader: Reader { user_ns: UserNamespace::initial(), pid_ns: self.pid_ns.clone() },
                memory: None,
            };
            return Ok(TextInode::with_stat(stat, text));
        }
        let text = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        match text {
            "cwd" | "exe" | "root" => {
                let which = LINKS.iter().copied().find(|l| *l == text).unwrap_or("exe");
                Ok(Inode::new(FileType::Symlink, Box::new(PlaceLink { task: task.clone(), which, ino })))
            }
            _ if id_map::NAMES.contains(&text) => Ok(IdMapInode::inode(task, text, ino)),
            "mem" => Ok(MemoryFileInode::inode(task, ino)),
            "fd" => Ok(FdDir::inode(task, FdDirKind::Links, ino)),
            "fdinfo" => Ok(FdDir::inode(task, FdDirKind::Info, ino)),
            "net" => Ok(net::directory(task.net().as_ref())),
            "ns" => Ok(Inode::new(FileType::Directory, Box::new(NsDir { task: task.clone(), ino }))),
            "task" if self.kind == Kind::Process => Ok(Inode::new(
                FileType::Directory,
                Box::new(ThreadsDir { task: task.clone(), pid_ns: self.pid_ns.clone(), ino }),
            )),
            _ => Err(Errno::ENOENT),
        }
    }

    fn caches(&self, _: &[u8]) -> bool {
        false
    }

    fn read_dir(&self, _: &Caller<'_>) -> Result<Vec<DirEntry>, Errno> {
        let entry = |name: &str, kind| DirEntry { name: name.into(), ino: self.ino(name.as_bytes()), kind };
        let mut list: Vec<DirEntry> = FILES.iter().map(|f| entry(f.0, FileType::Regular)).collect();
        list.push(entry("mem", FileType::Regular));
        list.extend(id_map::NAMES.iter().map(|name| entry(name, FileType::Regular)));
        list.extend(LINKS.iter().map(|name| entry(name, FileType::Symlink)));
        list.extend(["fd", "fdinfo", "net", "ns"].map(|name| entry(name, FileType::Directory)));
        if self.kind == Kind::Process {
            list.push(entry("task", FileType::Directory));
        }
        Ok(list)
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Ok(open_directory())
    }
}

/// How who opened a file sees ids.
pub(super) struct Reader {
    /// The user namespace.
    pub(super) user_ns: Arc<UserNamespace>,
    /// The PID namespace of the view of `/proc`.
    pub(super) pid_ns: Arc<PidNamespace>,
}

/// A generated file about a task.
struct TaskText {
    task: Arc<Task>,
    name: &'static str,
    render: Render,
    /// How who opened the file sees ids.
    reader: Reader,
    /// What it is about, for [`OF_MEMORY`].
    memory: Option<Weak<MemoryManager>>,
}

impl TaskText {
    /// Whether the process still has the memory that the file is about.
    fn has_same_memory(&self) -> bool {
        let Some(memory) = &self.memory else { return true };
        match (memory.upgrade(), self.task.mm()) {
            (Some(then), Some(now)) => Arc::ptr_eq(&then, &now),
            (then, now) => then.is_none() && now.is_none(),
        }
    }
}

impl Text for TaskText {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        match self.name {
            "children" => status::children(&self.task, &self.reader),
            "stat" => status::stat(&self.task, &self.reader),
            "status" => status::status(&self.task, &self.reader),
            _ => {
                let text = (self.render)(&self.task)?;
                // Looked at last: memory that went away does not come back.
                Ok(if self.has_same_memory() { text } else { Vec::new() })
            }
        }
    }

    fn check_open(&self, caller: &Caller<'_>) -> Result<(), Errno> {
        if GUARDED.contains(&self.name) { check_may_inspect(caller, &self.task) } else { Ok(()) }
    }

    fn opened_by(&self, task: &Task) -> Option<Arc<dyn Text>> {
        let user_ns = task.creds().user_ns.clone();
        let is_of_memory = OF_MEMORY.contains(&self.name);
        if user_ns.is_initial() && !is_of_memory {
            return None;
        }
        let Self { task, name, render, reader, memory: _ } = self;
        let reader = Reader { user_ns, pid_ns: reader.pid_ns.clone() };
        let memory = is_of_memory.then(|| task.mm().as_ref().map_or_else(Weak::new, Arc::downgrade));
        Some(Arc::new(Self { task: task.clone(), name, render: *render, reader, memory }))
    }

    fn store(&self, data: &[u8]) -> Result<(), Errno> {
        status::store(&self.task, self.name, data)
    }
}

/// `cwd`, `exe`, `root`.
struct PlaceLink {
    task: Arc<Task>,
    which: &'static str,
    ino: u64,
}

impl PlaceLink {
    fn place(&self) -> Result<VfsPath, Errno> {
        match self.which {
            "cwd" => Ok(self.task.fs().cwd()),
            "root" => Ok(self.task.fs().root()),
            _ => {
                let mm = self.task.mm().ok_or(Errno::ENOENT)?;
                mm.exe().map(|file| file.path().clone()).ok_or(Errno::ENOENT)
            }
        }
    }
}

impl InodeOps for PlaceLink {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(owned(&self.task, FileType::Symlink, 0o777, self.ino))
    }

    fn read_link(&self, caller: &Caller<'_>) -> Result<LinkTarget, Errno> {
        check_may_inspect(caller, &self.task)?;
        Ok(LinkTarget::Object(self.place()?))
    }

    fn link_text(&self, caller: &Caller<'_>) -> Result<Vec<u8>, Errno> {
        check_may_inspect(caller, &self.task)?;
        let root = caller.task.unwrap_or(&self.task).fs().root();
        Ok(self.place()?.text(&root).for_proc())
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Err(Errno::ELOOP)
    }
}

/// `/proc/PID/task`.
struct ThreadsDir {
    task: Arc<Task>,
    pid_ns: Arc<PidNamespace>,
    ino: u64,
}

impl InodeOps for ThreadsDir {
    fn stat(&self) -> Result<Stat, Errno> {
        let mut stat = owned(&self.task, FileType::Directory, 0o555, self.ino);
        stat.nlink += u32::try_from(self.task.thread_group().threads().len()).unwrap_or(0);
        Ok(stat)
    }

    fn lookup(&self, _: &Arc<Inode>, _: &Caller<'_>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        let id = root::parse_id(name).and_then(|number| self.pid_ns.id(number.0));
        let tid = id.ok_or(Errno::ENOENT)?;
        let thread = |task: &Arc<Task>| TaskDir::thread(task, &self.pid_ns);
        let threads = self.task.thread_group().threads();
        let found = threads.iter().find(|t| t.tid() == tid).map(thread);
        // A zombie has no threads left, but is still its own leader.
        found.or_else(|| (self.task.tid() == tid).then(|| thread(&self.task))).ok_or(Errno::ENOENT)
    }

    fn caches(&self, _: &[u8]) -> bool {
        false
    }

    fn read_dir(&self, _: &Caller<'_>) -> Result<Vec<DirEntry>, Errno> {
        let numbered = |t: &Arc<Task>| (self.pid_ns.number(t.tid()), t.tid().0);
        let mut ids: Vec<_> = self.task.thread_group().threads().iter().map(numbered).collect();
        if ids.is_empty() {
            ids.push(numbered(&self.task));
        }
        ids.sort_unstable();
        let list = ids.into_iter().map(|(number, id)| DirEntry {
            name: number.to_string().into_bytes(),
            ino: ino_of(id) + (1 << 31),
            kind: FileType::Directory,
        });
        Ok(list.collect())
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Ok(open_directory())
    }
}

/// `/proc/PID/ns`.
struct NsDir {
    task: Arc<Task>,
    ino: u64,
}

/// One of its links.
struct NsLink {
    task: Arc<Task>,
    find: Find,
    ino: u64,
}

impl NsLink {
    fn namespace(&self, caller: &Caller<'_>) -> Result<Namespace, Errno> {
        check_may_inspect(caller, &self.task)?;
        (self.find)(&self.task).ok_or(Errno::ENOENT)
    }
}

impl InodeOps for NsLink {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(owned(&self.task, FileType::Symlink, 0o777, self.ino))
    }

    fn read_link(&self, caller: &Caller<'_>) -> Result<LinkTarget, Errno> {
        Ok(LinkTarget::Object(self.namespace(caller)?.path()))
    }

    fn link_text(&self, caller: &Caller<'_>) -> Result<Vec<u8>, Errno> {
        Ok(self.namespace(caller)?.text().into_bytes())
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Err(Errno::ELOOP)
    }
}

impl InodeOps for NsDir {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(owned(&self.task, FileType::Directory, 0o511, self.ino))
    }

    fn lookup(&self, _: &Arc<Inode>, _: &Caller<'_>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        let name = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        if let Some((index, (_, find))) =
            LINKS_OF_NAMESPACES.iter().enumerate().find(|(_, link)| link.0 == name)
        {
            let ino = self.ino + (1 << 20) + index as u64;
            let link = NsLink { task: self.task.clone(), find: *find, ino };
            return Ok(Inode::new(FileType::Symlink, Box::new(link)));
        }
        let text = SINGLE_NAMESPACES.iter().find(|single| single.0 == name).ok_or(Errno::ENOENT)?.1;
        Ok(crate::fs::pseudo::PseudoLink::inode(text))
    }

    fn caches(&self, _: &[u8]) -> bool {
        false
    }

    fn read_dir(&self, _: &Caller<'_>) -> Result<Vec<DirEntry>, Errno> {
        let entry =
            |name: &&str| DirEntry { name: name.as_bytes().to_vec(), ino: self.ino, kind: FileType::Symlink };
        let names =
            LINKS_OF_NAMESPACES.iter().map(|link| &link.0).chain(SINGLE_NAMESPACES.iter().map(|s| &s.0));
        Ok(names.map(entry).collect())
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Ok(open_directory())
    }
}
