//! The inodes of a tree of the host.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::fs::gofer::early::Early;
use crate::fs::gofer::fs::Shared;
use crate::fs::gofer::protocol::{Attr, MAX_WALK, NewAttr, NewTime, Op, OpenFor, Reply, TreePath};
use crate::vfs::{DirEntry, FileIdentity, FileTime, FileType, Inode, ManyFaced, SetAttr, SetTime, Stat};

/// A file of the host as the sentry knows it.
pub(super) struct Node {
    pub(super) shared: Arc<Shared>,
    place: Mutex<Place>,
    pub(super) state: Mutex<State>,
    kind: FileType,
    identity: FileIdentity,
}

/// Where the file is. The parent is kept alive by the child's path; the inode of the root has none.
struct Place {
    parent: Option<Arc<Node>>,
    name: Vec<u8>,
}

pub(super) struct State {
    stat: Stat,
    /// The name is gone, or another file's by now: nothing is asked by path any more.
    is_removed: bool,
    link: Option<Vec<u8>>,
    read_fd: Option<Arc<OwnedFd>>,
    write_fd: Option<Arc<OwnedFd>>,
    /// Names fetched before they were asked for.
    pub(super) prefetched: HashMap<Vec<u8>, Prefetched>,
    pub(super) early: Early,
    /// Counts changes of the entries of this directory.
    pub(super) generation: u64,
}

/// What a prefetch brought: an entry with those below it, or that there is none.
pub(super) enum Prefetched {
    Entry(Box<Attr>, Vec<(Vec<u8>, Option<Attr>)>),
    Absent,
}

impl Node {
    pub(super) fn root(shared: &Arc<Shared>, attr: Attr) -> Arc<Inode> {
        Self::make(shared, Place { parent: None, name: Vec::new() }, attr)
    }

    /// The inode of `name` in this directory.
    pub(super) fn child(self: &Arc<Self>, name: &[u8], attr: Attr) -> Arc<Inode> {
        Self::make(&self.shared, Place { parent: Some(self.clone()), name: name.to_vec() }, attr)
    }

    fn make(shared: &Arc<Shared>, place: Place, mut attr: Attr) -> Arc<Inode> {
        let kind = attr.file_type();
        let stat = attr.to_stat(shared.ino(&attr));
        let state = State {
            stat,
            is_removed: false,
            link: attr.link.take(),
            read_fd: None,
            write_fd: None,
            prefetched: HashMap::new(),
            early: Early::default(),
            generation: 0,
        };
        let node = Arc::new(Self {
            shared: shared.clone(),
            place: Mutex::new(place),
            state: Mutex::new(state),
            kind,
            identity: FileIdentity { dev: attr.dev, ino: attr.ino },
        });
        Inode::new(kind, Box::new(GoferInode(node)))
    }

    pub(super) fn kind(&self) -> FileType {
        self.kind
    }

    /// Which file of the host it is, where others can lead to it and it still has its name.
    pub(super) fn identity(&self) -> Option<(&Arc<ManyFaced>, FileIdentity)> {
        (self.shared.is_shared() && !self.state.lock().is_removed)
            .then_some((&self.shared.files, self.identity))
    }

    /// The path from the root of the tree.
    pub(super) fn path(&self) -> TreePath {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut at = {
            let place = self.place.lock();
            if place.parent.is_some() {
                names.push(place.name.clone());
            }
            place.parent.clone()
        };
        while let Some(node) = at {
            let place = node.place.lock();
            if place.parent.is_some() {
                names.push(place.name.clone());
            }
            at = place.parent.clone();
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The path of `name` in this directory.
    pub(super) fn path_of(&self, name: &[u8]) -> TreePath {
        let mut path = self.path();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// Notes that the file has another name now.
    pub(super) fn moved(&self, parent: Arc<Self>, name: &[u8]) {
        *self.place.lock() = Place { parent: Some(parent), name: name.to_vec() };
    }

    /// The attributes; asked for again where others may have changed them.
    pub(super) fn stat(&self) -> Result<Stat, Errno> {
        if self.shared.is_shared() && !self.state.lock().is_removed {
            match self.shared.call(Op::Stat(self.path())) {
                Ok((Reply::Attr(attr), _)) => self.store(&attr),
                Ok(_) => return Err(Errno::EIO),
                // Removed, but perhaps still open: what was known last.
                Err(Errno::ENOENT) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(self.state.lock().stat)
    }

    /// The attributes known last.
    pub(super) fn known_stat(&self) -> Stat {
        self.state.lock().stat
    }

    pub(super) fn store(&self, attr: &Attr) {
        let stat = attr.to_stat(self.shared.ino(attr));
        self.state.lock().stat = stat;
    }

    pub(super) fn link(&self) -> Option<Vec<u8>> {
        self.state.lock().link.clone()
    }

    /// Changes the cached attributes after a change that the sentry made itself.
    pub(super) fn update(&self, change: impl FnOnce(&mut Stat)) {
        change(&mut self.state.lock().stat);
    }

    /// Notes that the name was removed or given to another file.
    pub(super) fn removed(&self) {
        let mut state = self.state.lock();
        state.is_removed = true;
        let links = state.stat.nlink.saturating_sub(1);
        state.stat.nlink = if self.kind == FileType::Directory { 0 } else { links };
        if state.stat.nlink == 0 {
            self.shared.files.forget(self.identity);
        }
        state.stat.ctime = FileTime::now();
    }

    /// Stamps a directory whose entries changed.
    pub(super) fn touch(&self, links: i32) {
        self.update(|stat| {
            let now = FileTime::now();
            stat.mtime = now;
            stat.ctime = now;
            stat.nlink = stat.nlink.saturating_add_signed(links);
        });
        // Again: a listing may have been fetched while the change was made.
        let mut state = self.state.lock();
        state.generation += 1;
        state.early.on_change();
    }

    pub(super) fn set_attr(&self, attr: &SetAttr) -> Result<(), Errno> {
        if self.state.lock().is_removed {
            return self.set_attr_of_removed(attr);
        }
        let time = |t: SetTime| match t {
            SetTime::Now => NewTime::Now,
            SetTime::At(at) => NewTime::At(at.sec, at.nsec),
        };
        let SetAttr { mode, uid, gid, size, atime, mtime } = *attr;
        let new = NewAttr { mode, uid, gid, size, atime: atime.map(time), mtime: mtime.map(time) };
        match self.shared.call(Op::SetAttr(self.path(), new))? {
            (Reply::Attr(attr), _) => {
                self.store(&attr);
                Ok(())
            }
            _ => Err(Errno::EIO),
        }
    }

    /// Attributes of a file without a name are the sentry's alone: nobody on the host can look it up any more.
    fn set_attr_of_removed(&self, attr: &SetAttr) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if state.stat.nlink > 0 && self.kind != FileType::Directory {
            // DEVIATION: it has other names, but not known which.
            return Err(Errno::ENOENT);
        }
        if let Some(size) = attr.size {
            let fd = state.write_fd.as_ref().ok_or(Errno::EACCES)?;
            let len = i64::try_from(size).map_err(|_| Errno::EFBIG)?;
            nix::unistd::ftruncate(fd, len).map_err(|e| Errno::from_code(e as i32).unwrap_or(Errno::EIO))?;
            state.stat.size = size;
        }
        attr.apply(&mut state.stat);
        Ok(())
    }

    /// A descriptor of the file, donated once for reading and once for writing.
    pub(super) fn fd(&self, how: OpenFor) -> Result<Arc<OwnedFd>, Errno> {
        {
            let state = self.state.lock();
            let known = match how {
                OpenFor::Read => state.read_fd.clone().or_else(|| state.write_fd.clone()),
                OpenFor::ReadWrite => state.write_fd.clone(),
            };
            if let Some(fd) = known {
                return Ok(fd);
            }
        }
        let (reply, fd) = self.shared.call(Op::Open(self.path(), how))?;
        let fd = Arc::new(fd.ok_or(Errno::EIO)?);
        if let Reply::Attr(attr) = reply {
            self.store(&attr);
        }
        self.keep_fd(how, fd.clone());
        Ok(fd)
    }

    pub(super) fn keep_fd(&self, how: OpenFor, fd: Arc<OwnedFd>) {
        let mut state = self.state.lock();
        match how {
            OpenFor::Read => state.read_fd = Some(fd),
            OpenFor::ReadWrite => state.write_fd = Some(fd),
        }
    }

    /// Fetches `names`, one below the other, in one round trip.
    pub(super) fn prefetch(&self, names: &[&[u8]]) {
        let names: Vec<Vec<u8>> = names.iter().take(MAX_WALK).map(|n| n.to_vec()).collect();
        let Some(first) = names.first().cloned() else { return };
        if self.state.lock().prefetched.contains_key(&first) {
            return;
        }
        let Ok((Reply::Walked(found, error), _)) = self.shared.call(Op::Walk(self.path(), names.clone()))
        else {
            return;
        };
        let absent = error == Some(Errno::ENOENT.code());
        let found_count = found.len();
        let mut rest: Vec<(Vec<u8>, Option<Attr>)> =
            names.iter().skip(1).cloned().zip(found.iter().skip(1).cloned().map(Some)).collect();
        if absent && found_count > 0 && found_count < names.len() {
            rest.push((names[found_count].clone(), None));
        }
        let entry = match found.into_iter().next() {
            Some(attr) => Prefetched::Entry(Box::new(attr), rest),
            None if absent => Prefetched::Absent,
            None => return,
        };
        self.state.lock().prefetched.insert(first, entry);
    }

    /// Finds `name`, in what was prefetched or by asking.
    pub(super) fn lookup(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        if !self.shared.is_shared() {
            let known = {
                let mut state = self.state.lock();
                let known = state.prefetched.remove(name);
                if known.is_some() {
                    state.early.on_hit();
                }
                known
            };
            match known {
                Some(Prefetched::Absent) => return Err(Errno::ENOENT),
                Some(Prefetched::Entry(attr, rest)) => return Ok(self.adopt(name, *attr, rest)),
                None => return self.fetch(name),
            }
        }
        self.ask(name)
    }

    /// Asks for `name` alone.
    pub(super) fn ask(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        match self.shared.call(Op::Walk(self.path(), vec![name.to_vec()]))? {
            (Reply::Walked(found, error), _) => match found.into_iter().next() {
                Some(attr) => Ok(self.child(name, attr)),
                None => Err(error.and_then(|e| Errno::from_code(e.into())).unwrap_or(Errno::EIO)),
            },
            _ => Err(Errno::EIO),
        }
    }

    fn adopt(
        self: &Arc<Self>,
        name: &[u8],
        attr: Attr,
        mut rest: Vec<(Vec<u8>, Option<Attr>)>,
    ) -> Arc<Inode> {
        let inode = self.child(name, attr);
        if rest.is_empty() {
            return inode;
        }
        let (next, next_attr) = rest.remove(0);
        if let Some(node) = inode.downcast::<GoferInode>() {
            let entry = match next_attr {
                Some(attr) => Prefetched::Entry(Box::new(attr), rest),
                None => Prefetched::Absent,
            };
            node.0.state.lock().prefetched.insert(next, entry);
        }
        inode
    }

    /// Forgets a prefetched name that is about to change.
    pub(super) fn forget(&self, name: &[u8]) {
        let mut state = self.state.lock();
        state.prefetched.remove(name);
        state.generation += 1;
        state.early.on_change();
    }

    /// Asks for the entries.
    pub(super) fn list(&self) -> Result<Vec<DirEntry>, Errno> {
        let path = self.path();
        let mut all = Vec::new();
        let mut from = 0;
        loop {
            let (reply, _) = self.shared.call(Op::List(path.clone(), from))?;
            let Reply::Entries(entries, next) = reply else { return Err(Errno::EIO) };
            all.extend(entries.into_iter().map(|(name, ino, kind)| DirEntry {
                name,
                ino,
                // d_type is S_IFMT shifted by 12; unknown ones show as regular files until they are looked up.
                kind: FileType::from_mode(u32::from(kind) << 12).unwrap_or(FileType::Regular),
            }));
            match next {
                // A gofer that goes backwards must not keep us here.
                Some(next) if next > from => from = next,
                _ => return Ok(all),
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let counted = self.state.get_mut().early.counted();
        if counted > 0 {
            self.shared.kept.remove(counted);
        }
    }
}

/// The VFS's handle on a node.
pub(super) struct GoferInode(pub(super) Arc<Node>);
