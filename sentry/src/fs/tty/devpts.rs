//! The file system of pseudo terminals (`pts(4)`).

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::fs::host::{self, Description};
use crate::fs::pseudo::pseudo_stat;
use crate::fs::tty::file::{Master, Slave};
use crate::fs::tty::pty::Pty;
use crate::kernel::{Kernel, UserNamespace};
use crate::task::{Gid, Uid};
use crate::vfs::open::{open_directory, status_flags};
use crate::vfs::{
    BareInode, Caller, Dentry, DeviceId, DirEntry, File, FileOps, FileSystem, FileType, Inode, InodeOps,
    OpenFlags, Stat, StatFs, SuperBlock, VfsPath,
};

/// One devpts.
pub(crate) struct DevPts {
    table: Arc<Table>,
}

/// The terminals that exist.
pub(crate) struct Table {
    kernel: Weak<Kernel>,
    mode: u32,
    gid: u32,
    ptys: Mutex<BTreeMap<u32, Entry>>,
}

struct Entry {
    terminal: Terminal,
    inode: Arc<Inode>,
}

/// What a number in `/dev/pts` stands for.
#[derive(Clone)]
enum Terminal {
    /// A pseudo terminal of the guest's.
    Pty(Arc<Pty>),
    /// A terminal of the host, with which the sandbox was started, as long as it is open.
    Host(Weak<Description>),
}

impl Entry {
    fn is_alive(&self) -> bool {
        match &self.terminal {
            Terminal::Pty(_) => true,
            Terminal::Host(description) => description.strong_count() > 0,
        }
    }
}

/// `statfs(2)`.
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
/// `/proc/sys/kernel/pty/max`.
const MAX_PTYS: u32 = 4096;
/// The major number of slaves.
const PTS_MAJOR: u32 = 136;
/// Inode numbers of slaves begin after the root and `ptmx`.
const FIRST_INO: u64 = 3;

/// A devpts with the data of `mount(2)` (`gid=5,mode=620,ptmxmode=666`); returns the dentry of its root.
/// Ids are those of `user_ns`, whose root owns the files.
///
/// # Errors
/// `EINVAL` for bad options.
pub fn create(kernel: &Arc<Kernel>, data: &str, user_ns: &UserNamespace) -> Result<Arc<Dentry>, Errno> {
    let (mut mode, mut gid, mut ptmx_mode) = (0o600, user_ns.gid(0).unwrap_or(Gid::ROOT).0, 0o666);
    for option in data.split(',').filter(|o| !o.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let octal = || u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL);
        match key {
            "mode" => mode = octal()? & 0o777,
            "ptmxmode" => ptmx_mode = octal()? & 0o777,
            "gid" => {
                let id = value.parse().map_err(|_| Errno::EINVAL)?;
                gid = user_ns.gid(id).ok_or(Errno::EINVAL)?.0;
            }
            "uid" | "newinstance" | "max" => {}
            _ => return Err(Errno::EINVAL),
        }
    }
    let table = Arc::new(Table { kernel: Arc::downgrade(kernel), mode, gid, ptys: Mutex::default() });
    let ptmx = Stat { ino: 2, rdev: DeviceId::new(5, 2), ..pseudo_stat(FileType::CharDevice, ptmx_mode) };
    let ptmx = Inode::new(FileType::CharDevice, Box::new(BareInode::new(ptmx)));
    let root =
        Root { stat: Stat { ino: 1, ..pseudo_stat(FileType::Directory, 0o755) }, table: table.clone(), ptmx };
    let root = Inode::new(FileType::Directory, Box::new(root));
    Ok(SuperBlock::new(Box::new(DevPts { table }), root).1)
}

impl Table {
    pub(super) fn remove(&self, index: u32) {
        let gone = self.ptys.lock().remove(&index);
        drop(gone);
    }

    /// A new terminal with the lowest free number.
    fn allocate(&self, caller: &Caller<'_>) -> Result<Arc<Pty>, Errno> {
        let mut ptys = self.ptys.lock();
        let index = free_number(&ptys)?;
        let pty = Pty::new(index, self.kernel.clone());
        let inode = self.node(index, caller.creds.fsuid);
        ptys.insert(index, Entry { terminal: Terminal::Pty(pty.clone()), inode });
        Ok(pty)
    }

    /// Numbers a terminal of the host, which belongs to `owner`; the number that it has when it is known.
    fn adopt(&self, description: &Arc<Description>, owner: Uid) -> Result<u32, Errno> {
        let mut ptys = self.ptys.lock();
        let is_it = |entry: &Entry| match &entry.terminal {
            Terminal::Host(known) => known.upgrade().is_some_and(|known| known.is_same_terminal(description)),
            Terminal::Pty(_) => false,
        };
        let known = ptys.iter().find(|(_, entry)| is_it(entry)).map(|(index, _)| *index);
        let index = match known {
            Some(index) => index,
            None => {
                let index = free_number(&ptys)?;
                let terminal = Terminal::Host(Arc::downgrade(description));
                ptys.insert(index, Entry { terminal, inode: self.node(index, owner) });
                index
            }
        };
        description.set_number(index);
        Ok(index)
    }

    fn node(&self, index: u32, owner: Uid) -> Arc<Inode> {
        let stat = Stat {
            ino: FIRST_INO + u64::from(index),
            uid: owner.0,
            gid: self.gid,
            rdev: DeviceId::new(PTS_MAJOR, index),
            ..pseudo_stat(FileType::CharDevice, self.mode)
        };
        Inode::new(FileType::CharDevice, Box::new(BareInode::new(stat)))
    }
}

fn free_number(ptys: &BTreeMap<u32, Entry>) -> Result<u32, Errno> {
    (0..MAX_PTYS).find(|n| !ptys.get(n).is_some_and(Entry::is_alive)).ok_or(Errno::ENOSPC)
}

/// The place of a terminal of the host in the devpts whose root is `root`, which numbers it; `None` where that is no
/// devpts.
pub(crate) fn adopt(root: &VfsPath, description: &Arc<Description>, owner: Uid) -> Option<VfsPath> {
    let superblock = root.dentry.superblock();
    let index = superblock.downcast::<DevPts>()?.table.adopt(description, owner).ok()?;
    let creds = crate::task::Credentials::root();
    let dentry = root.dentry.lookup(&Caller::kernel(&creds), index.to_string().as_bytes()).ok()?;
    Some(root.with_dentry(dentry))
}

/// The devpts of a terminal device: the one it is in, or for a `ptmx` elsewhere the one on `pts` beside it.
fn devpts_of(caller: &Caller<'_>, place: &VfsPath) -> Result<Arc<SuperBlock>, Errno> {
    let superblock = place.dentry.superblock();
    if superblock.downcast::<DevPts>().is_some() {
        return Ok(superblock.clone());
    }
    let parent = place.dentry.parent().ok_or(Errno::ENODEV)?;
    let beside = place.with_dentry(parent.lookup(caller, b"pts").map_err(|_| Errno::ENODEV)?);
    let namespace = place.mount.namespace().ok_or(Errno::ENODEV)?;
    let found = namespace.cross(beside).dentry.superblock().clone();
    if found.downcast::<DevPts>().is_some() { Ok(found) } else { Err(Errno::ENODEV) }
}

/// Opens `ptmx`: makes a terminal.
///
/// # Errors
/// `ENODEV` without a devpts, `ENOSPC` for too many terminals.
pub(crate) fn open_ptmx(caller: &Caller<'_>, place: VfsPath, flags: OpenFlags) -> Result<Arc<File>, Errno> {
    let superblock = devpts_of(caller, &place)?;
    let table = &superblock.downcast::<DevPts>().ok_or(Errno::ENODEV)?.table;
    let pty = table.allocate(caller)?;
    let master = Master { pty, table: Arc::downgrade(table) };
    Ok(File::at(Box::new(master), status_flags(flags), place))
}

/// Opens terminal `index`. A session leader without a terminal gets it as its controlling one, unless `flags` say
/// otherwise.
///
/// # Errors
/// `EIO` for a terminal that does not exist or is locked.
pub(crate) fn open_slave(
    caller: &Caller<'_>,
    place: VfsPath,
    index: u32,
    flags: OpenFlags,
) -> Result<Arc<File>, Errno> {
    let superblock = devpts_of(caller, &place)?;
    let table = &superblock.downcast::<DevPts>().ok_or(Errno::ENODEV)?.table;
    let terminal = table.ptys.lock().get(&index).map(|entry| entry.terminal.clone()).ok_or(Errno::EIO)?;
    match terminal {
        Terminal::Pty(pty) => open_pty(caller, &pty, place, flags),
        Terminal::Host(description) => {
            let description = description.upgrade().ok_or(Errno::EIO)?;
            let ops = host::open_terminal(&description, caller.task.map(|task| &**task), flags);
            Ok(File::at(ops, status_flags(flags), place))
        }
    }
}

/// Opens the slave of `pty`, as `place`.
pub(crate) fn open_pty(
    caller: &Caller<'_>,
    pty: &Arc<Pty>,
    place: VfsPath,
    flags: OpenFlags,
) -> Result<Arc<File>, Errno> {
    pty.open_slave()?;
    let file = File::at(Box::new(Slave { pty: pty.clone() }), status_flags(flags), place);
    if !flags.contains(OpenFlags::NOCTTY)
        && let Some(task) = caller.task
    {
        // It is no error if the caller cannot have it.
        let _ = pty.control(task, false);
    }
    Ok(file)
}

/// Opens the slave of the master `file` (`TIOCGPTPEER`).
pub(super) fn open_peer(file: &File, pty: &Arc<Pty>, flags: OpenFlags) -> Result<Arc<File>, Errno> {
    let creds = crate::task::Credentials::root();
    let caller = Caller::kernel(&creds);
    let superblock = devpts_of(&caller, file.path())?;
    let table = &superblock.downcast::<DevPts>().ok_or(Errno::EIO)?.table;
    let inode = table.ptys.lock().get(&pty.index()).map(|e| e.inode.clone()).ok_or(Errno::EIO)?;
    let name = format!("/dev/pts/{}", pty.index());
    let dentry = Dentry::new_detached(superblock.clone(), inode, name.as_bytes());
    open_pty(&caller, pty, file.path().with_dentry(dentry), flags)
}

impl FileSystem for DevPts {
    fn type_name(&self) -> &'static str {
        "devpts"
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs::pseudo(DEVPTS_SUPER_MAGIC))
    }

    fn show_options(&self) -> String {
        format!("gid={},mode={:o},ptmxmode=666", self.table.gid, self.table.mode)
    }
}

struct Root {
    stat: Stat,
    table: Arc<Table>,
    ptmx: Arc<Inode>,
}

impl InodeOps for Root {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.stat)
    }

    fn lookup(&self, _: &Arc<Inode>, _: &Caller<'_>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        if name == b"ptmx" {
            return Ok(self.ptmx.clone());
        }
        let text = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let index: u32 = text.parse().map_err(|_| Errno::ENOENT)?;
        if index.to_string() != text {
            return Err(Errno::ENOENT);
        }
        let ptys = self.table.ptys.lock();
        let entry = ptys.get(&index).filter(|entry| entry.is_alive()).ok_or(Errno::ENOENT)?;
        Ok(entry.inode.clone())
    }

    fn caches(&self, name: &[u8]) -> bool {
        name == b"ptmx"
    }

    fn read_dir(&self, _: &Caller<'_>) -> Result<Vec<DirEntry>, Errno> {
        let mut list = vec![DirEntry { name: b"ptmx".to_vec(), ino: 2, kind: FileType::CharDevice }];
        let ptys = self.table.ptys.lock();
        list.extend(ptys.iter().filter(|(_, entry)| entry.is_alive()).map(|(index, _)| DirEntry {
            name: index.to_string().into_bytes(),
            ino: FIRST_INO + u64::from(*index),
            kind: FileType::CharDevice,
        }));
        Ok(list)
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Ok(open_directory())
    }
}
