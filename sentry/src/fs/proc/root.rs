//! The root directory: one entry for each process, and what concerns all of them.

use std::sync::{Arc, Weak};

use crate::errno::Errno;
use crate::fs::proc::task::TaskDir;
use crate::fs::proc::{sys, system, sysvipc};
use crate::fs::pseudo::{PseudoLink, TextInode, pseudo_stat};
use crate::kernel::{Kernel, PidNamespace};
use crate::task::{Task, Tid};
use crate::vfs::open::open_directory;
use crate::vfs::{Caller, DirEntry, FileOps, FileType, Inode, InodeOps, LinkTarget, OpenFlags, Stat};

/// `/proc`.
pub(super) struct ProcRoot {
    stat: Stat,
    kernel: Weak<Kernel>,
    pid_ns: Arc<PidNamespace>,
    fixed: Vec<(&'static str, Arc<Inode>)>,
}

impl ProcRoot {
    pub(super) fn inode(kernel: &Arc<Kernel>, pid_ns: &Arc<PidNamespace>) -> Arc<Inode> {
        let text = |permissions, text| TextInode::inode(permissions, text);
        let weak = Arc::downgrade(kernel);
        let mut fixed: Vec<(&'static str, Arc<Inode>)> = vec![
            ("self", Inode::new(FileType::Symlink, Box::new(SelfLink::new(Which::Process, pid_ns)))),
            ("thread-self", Inode::new(FileType::Symlink, Box::new(SelfLink::new(Which::Thread, pid_ns)))),
            ("mounts", PseudoLink::inode("self/mounts")),
            ("net", PseudoLink::inode("self/net")),
            ("sys", sys::directory(kernel)),
            ("sysvipc", sysvipc::directory()),
        ];
        for (name, render) in system::FILES {
            let kernel = weak.clone();
            let show = move || kernel.upgrade().map(|kernel| render(&kernel)).unwrap_or_default();
            fixed.push((name, text(0o444, show)));
        }
        let stat = pseudo_stat(FileType::Directory, 0o555);
        let root = Self { stat: Stat { ino: 1, ..stat }, kernel: weak, pid_ns: pid_ns.clone(), fixed };
        Inode::new(FileType::Directory, Box::new(root))
    }

    fn kernel(&self) -> Result<Arc<Kernel>, Errno> {
        self.kernel.upgrade().ok_or(Errno::ENOENT)
    }
}

/// The id that `name` is, in the only spelling that counts.
pub(super) fn parse_id(name: &[u8]) -> Option<Tid> {
    let text = std::str::from_utf8(name).ok()?;
    let id: i32 = text.parse().ok()?;
    (id > 0 && text.as_bytes()[0].is_ascii_digit() && text.as_bytes()[0] != b'0').then_some(Tid(id))
}

impl InodeOps for ProcRoot {
    fn stat(&self) -> Result<Stat, Errno> {
        let mut stat = self.stat;
        let is_shown = |p: &&crate::kernel::Process| self.pid_ns.number(p.group.pid()) > 0;
        let count = self.kernel().map_or(0, |k| k.tree().processes().filter(is_shown).count());
        stat.nlink += u32::try_from(count).unwrap_or(0);
        Ok(stat)
    }

    fn lookup(&self, _: &Arc<Inode>, _: &Caller<'_>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        if let Some((_, inode)) = self.fixed.iter().find(|(entry, _)| entry.as_bytes() == name) {
            return Ok(inode.clone());
        }
        let id = parse_id(name).and_then(|Tid(number)| self.pid_ns.id(number)).ok_or(Errno::ENOENT)?;
        // Threads can be looked up, though only processes are listed (proc(5)).
        let task: Arc<Task> = {
            let kernel = self.kernel()?;
            let tree = kernel.tree();
            let leader = tree.process(id).map(|p| p.leader.clone());
            leader.or_else(|| tree.thread(id).cloned()).ok_or(Errno::ENOENT)?
        };
        Ok(TaskDir::process(&task, &self.pid_ns))
    }

    fn caches(&self, name: &[u8]) -> bool {
        parse_id(name).is_none()
    }

    fn read_dir(&self, _: &Caller<'_>) -> Result<Vec<DirEntry>, Errno> {
        let mut list: Vec<DirEntry> = Vec::new();
        for (name, inode) in &self.fixed {
            let ino = inode.ops().stat()?.ino;
            list.push(DirEntry { name: name.as_bytes().to_vec(), ino, kind: inode.kind() });
        }
        let kernel = self.kernel()?;
        let tree = kernel.tree();
        let numbers = tree.processes().filter_map(|process| {
            let pid = process.group.pid();
            Some((self.pid_ns.number(pid), pid)).filter(|(number, _)| *number > 0)
        });
        let mut numbers: Vec<_> = numbers.collect();
        drop(tree);
        numbers.sort_unstable();
        list.extend(numbers.into_iter().map(|(number, pid)| DirEntry {
            name: number.to_string().into_bytes(),
            ino: super::task::ino_of(pid.0),
            kind: FileType::Directory,
        }));
        Ok(list)
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Ok(open_directory())
    }
}

#[derive(Clone, Copy)]
enum Which {
    Process,
    Thread,
}

/// `/proc/self` and `/proc/thread-self`: they lead the reader to itself.
struct SelfLink {
    stat: Stat,
    which: Which,
    pid_ns: Arc<PidNamespace>,
}

impl SelfLink {
    fn new(which: Which, pid_ns: &Arc<PidNamespace>) -> Self {
        Self { stat: pseudo_stat(FileType::Symlink, 0o777), which, pid_ns: pid_ns.clone() }
    }
}

impl InodeOps for SelfLink {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.stat)
    }

    fn read_link(&self, caller: &Caller<'_>) -> Result<LinkTarget, Errno> {
        let task = caller.task.ok_or(Errno::ENOENT)?;
        let (pid, tid) = (self.pid_ns.number(task.pid()), self.pid_ns.number(task.tid()));
        if pid == 0 {
            return Err(Errno::ENOENT);
        }
        let text = match self.which {
            Which::Process => pid.to_string(),
            Which::Thread => format!("{pid}/task/{tid}"),
        };
        Ok(LinkTarget::Path(text.into_bytes()))
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Err(Errno::ELOOP)
    }
}
