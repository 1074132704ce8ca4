//! The gofer's side: executes requests on directory trees of the host.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags};
use nix::sys::stat::{FileStat, SFlag};
use nix::sys::time::TimeSpec;
use sentry_hostio::seqpacket::{MAX_PACKET, SeqPacket};
use sentry_hostio::tree::{self, HostTree};

use crate::fs::gofer::protocol::{
    Attr, MAX_ENTRIES, MAX_LOOK, MAX_LOOK_BYTES, MAX_WALK, MakeKind, NewAttr, NewTime, Op, OpenFor, Owner,
    RenameHow, Reply, Request,
};
use crate::vfs::attr::{MODE_MASK, S_IFMT};
use crate::vfs::{FileType, NAME_MAX};

/// Whether the gofer changes a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Never.
    ReadOnly,
    /// On request.
    ReadWrite,
}

/// A tree that a gofer serves.
#[derive(Debug)]
pub struct ServedTree {
    tree: HostTree,
    access: Access,
}

impl ServedTree {
    /// Serves what is below `root`: a directory (opened with `O_PATH` or for reading) or a single regular file.
    #[must_use]
    pub fn new(root: OwnedFd, access: Access) -> Self {
        Self { tree: HostTree::new(root), access }
    }
}

/// Answers the requests that come in on `socket` until the other end closes it. Several sockets are served by
/// several threads over the same trees. The process's umask has to be 0.
///
/// # Errors
/// What the host says about the socket. Malformed requests end the connection.
pub fn serve(socket: &SeqPacket, trees: &[ServedTree]) -> io::Result<()> {
    let mut buf = vec![0; MAX_PACKET];
    loop {
        let (n, _unasked) = socket.receive(&mut buf)?;
        if n == 0 {
            return Ok(());
        }
        let request: Request =
            postcard::from_bytes(&buf[..n]).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        let (reply, fd) = execute(trees, &request);
        let body = postcard::to_allocvec(&reply).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        socket.send(&body, fd.as_ref().map(AsFd::as_fd))?;
    }
}

/// Executes one request.
#[must_use]
pub fn execute(trees: &[ServedTree], request: &Request) -> (Reply, Option<OwnedFd>) {
    let tree = usize::try_from(request.tree).ok().and_then(|n| trees.get(n));
    let Some(tree) = tree else { return (failed(Errno::EBADF), None) };
    match run(tree, &request.op) {
        Ok(done) => done,
        Err(errno) => (failed(errno), None),
    }
}

fn failed(errno: Errno) -> Reply {
    // Error numbers are small and positive.
    Reply::Failed(u16::try_from(errno as i32).unwrap_or(5))
}

type Answer = Result<(Reply, Option<OwnedFd>), Errno>;

fn run(served: &ServedTree, op: &Op) -> Answer {
    check(served, op)?;
    let tree = &served.tree;
    match op {
        Op::Stat(path) => Ok((Reply::Attr(attr_at(tree, path)?), None)),
        Op::Walk(path, names) => walk(tree, path, names),
        Op::Open(path, how) => open(tree, path, *how),
        Op::List(path, from) => list(tree, path, *from),
        Op::Look(path, from, count) => look(tree, path, from, *count),
        Op::Make(path, kind, owner) => make(tree, path, kind, *owner),
        Op::Link(from, to) => {
            tree.link(from, to)?;
            Ok((Reply::Attr(attr_at(tree, to)?), None))
        }
        Op::Unlink(path) => tree.unlink(path).map(|()| (Reply::Done, None)),
        Op::RemoveDir(path) => tree.rmdir(path).map(|()| (Reply::Done, None)),
        Op::Rename(from, to, how) => {
            let flags = match how {
                RenameHow::Replace => RenameFlags::empty(),
                RenameHow::NoReplace => RenameFlags::RENAME_NOREPLACE,
                RenameHow::Exchange => RenameFlags::RENAME_EXCHANGE,
            };
            tree.rename(from, to, flags).map(|()| (Reply::Done, None))
        }
        Op::SetAttr(path, new) => set_attr(tree, path, new),
        Op::StatFs(path) => stat_fs(tree, path),
    }
}

/// Nothing of what a request says is trusted: names are single components, and a read-only tree is not changed.
fn check(served: &ServedTree, op: &Op) -> Result<(), Errno> {
    let (paths, changes): (Vec<&[u8]>, bool) = match op {
        Op::Stat(path) | Op::List(path, _) | Op::Look(path, _, _) | Op::StatFs(path) => (vec![path], false),
        Op::Walk(path, names) => {
            if names.len() > MAX_WALK || names.iter().any(|name| name.contains(&b'/')) {
                return Err(Errno::EINVAL);
            }
            let all = std::iter::once(path).chain(names);
            (all.map(Vec::as_slice).collect(), false)
        }
        Op::Open(path, how) => (vec![path], *how != OpenFor::Read),
        Op::Make(path, _, _) | Op::Unlink(path) | Op::RemoveDir(path) | Op::SetAttr(path, _) => {
            (vec![path], true)
        }
        Op::Link(from, to) | Op::Rename(from, to, _) => (vec![from, to], true),
    };
    if changes && served.access == Access::ReadOnly {
        return Err(Errno::EROFS);
    }
    paths.into_iter().try_for_each(check_path)
}

fn check_path(path: &[u8]) -> Result<(), Errno> {
    if path.is_empty() {
        return Ok(());
    }
    for name in path.split(|b| *b == b'/') {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if name.is_empty() || name == b"." || name == b".." || name.contains(&0) {
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}

fn attr_at(tree: &HostTree, path: &[u8]) -> Result<Attr, Errno> {
    attr_of(&tree.name(path)?)
}

fn attr_of(fd: &OwnedFd) -> Result<Attr, Errno> {
    let stat = tree::stat(fd.as_fd())?;
    let is_link = stat.st_mode & S_IFMT == FileType::Symlink.mode_bits();
    let link = if is_link { Some(tree::link_text(fd.as_fd())?) } else { None };
    Ok(to_attr(&stat, link))
}

fn to_attr(stat: &FileStat, link: Option<Vec<u8>>) -> Attr {
    let time = |sec: i64, nsec: i64| (sec, u32::try_from(nsec).unwrap_or(0));
    Attr {
        dev: stat.st_dev,
        ino: stat.st_ino,
        mode: stat.st_mode,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: stat.st_rdev,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        blksize: u32::try_from(stat.st_blksize).unwrap_or(4096),
        blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
        times: [
            time(stat.st_atime, stat.st_atime_nsec),
            time(stat.st_mtime, stat.st_mtime_nsec),
            time(stat.st_ctime, stat.st_ctime_nsec),
        ],
        link,
    }
}

fn walk(tree: &HostTree, path: &[u8], names: &[Vec<u8>]) -> Answer {
    let mut found = Vec::with_capacity(names.len());
    let mut at = tree.name(path)?;
    for name in names {
        match tree::name_in(at.as_fd(), name) {
            Ok(fd) => {
                let attr = attr_of(&fd)?;
                let goes_on = attr.file_type() == FileType::Directory;
                found.push(attr);
                if !goes_on {
                    break;
                }
                at = fd;
            }
            Err(errno) => {
                let code = u16::try_from(errno as i32).unwrap_or(5);
                return Ok((Reply::Walked(found, Some(code)), None));
            }
        }
    }
    Ok((Reply::Walked(found, None), None))
}

fn open(tree: &HostTree, path: &[u8], how: OpenFor) -> Answer {
    // Looked at before it is opened: opening a device or a FIFO may have effects.
    let named = tree.name(path)?;
    if tree::stat(named.as_fd())?.st_mode & S_IFMT != FileType::Regular.mode_bits() {
        return Err(Errno::EINVAL);
    }
    let flags = match how {
        OpenFor::Read => OFlag::O_RDONLY,
        OpenFor::ReadWrite => OFlag::O_RDWR,
    };
    let fd = tree.open(path, flags)?;
    let stat = tree::stat(fd.as_fd())?;
    if stat.st_mode & S_IFMT != FileType::Regular.mode_bits() {
        return Err(Errno::EINVAL);
    }
    Ok((Reply::Attr(to_attr(&stat, None)), Some(fd)))
}

fn list(tree: &HostTree, path: &[u8], from: u64) -> Answer {
    let fd = tree.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    let mut entries = tree::list(fd)?;
    entries.sort_unstable();
    let first = usize::try_from(from).unwrap_or(usize::MAX).min(entries.len());
    let rest = entries.split_off(first);
    let more = rest.len() > MAX_ENTRIES;
    let part: Vec<_> = rest.into_iter().take(MAX_ENTRIES).collect();
    let next = if more { Some((first + part.len()) as u64) } else { None };
    Ok((Reply::Entries(part, next), None))
}

fn look(tree: &HostTree, path: &[u8], from: &[u8], count: u16) -> Answer {
    let dir = tree.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    let mut entries = tree::list(dir.try_clone().map_err(|_| Errno::EMFILE)?)?;
    entries.sort_unstable();
    let first = entries.partition_point(|(name, _, _)| name.as_slice() < from);
    let (mut found, mut bytes) = (Vec::new(), 0);
    for (name, _, _) in entries.drain(first..).take(count.min(MAX_LOOK).into()) {
        let attr = match attr_in(&dir, &name) {
            // Removed meanwhile.
            Err(Errno::ENOENT) => continue,
            attr => attr?,
        };
        bytes += name.len() + attr.link.as_ref().map_or(0, Vec::len);
        found.push((name, attr));
        if bytes > MAX_LOOK_BYTES {
            break;
        }
    }
    Ok((Reply::Looked(found), None))
}

fn attr_in(dir: &OwnedFd, name: &[u8]) -> Result<Attr, Errno> {
    let stat = tree::stat_in(dir.as_fd(), name)?;
    let is_link = stat.st_mode & S_IFMT == FileType::Symlink.mode_bits();
    let link = if is_link { Some(tree::link_text_in(dir.as_fd(), name)?) } else { None };
    Ok(to_attr(&stat, link))
}

fn make(tree: &HostTree, path: &[u8], kind: &MakeKind, owner: Owner) -> Answer {
    let permissions = owner.mode & MODE_MASK;
    let mut fd = None;
    match kind {
        MakeKind::Regular => fd = Some(tree.create(path, permissions)?),
        MakeKind::Directory => tree.mkdir(path, permissions)?,
        MakeKind::Symlink(target) => tree.symlink(path, target)?,
        MakeKind::Fifo => tree.mknod(path, SFlag::S_IFIFO, permissions)?,
        MakeKind::Socket => tree.mknod(path, SFlag::S_IFSOCK, permissions)?,
    }
    if let Err(errno) = tree.chown(path, Some(owner.uid), Some(owner.gid)) {
        // A rootless gofer can only make files of its own user; the guest's only user is mapped to it.
        if errno != Errno::EPERM {
            let _ = if *kind == MakeKind::Directory { tree.rmdir(path) } else { tree.unlink(path) };
            return Err(errno);
        }
    }
    let special = permissions & 0o7000 != 0;
    if special && !matches!(kind, MakeKind::Symlink(_)) {
        // chown cleared the set-id bits.
        tree.chmod(path, permissions)?;
    }
    Ok((Reply::Attr(attr_at(tree, path)?), fd))
}

fn set_attr(tree: &HostTree, path: &[u8], new: &NewAttr) -> Answer {
    let NewAttr { mode, uid, gid, size, atime, mtime } = *new;
    if let Some(size) = size {
        let fd = tree.open(path, OFlag::O_WRONLY)?;
        let size = i64::try_from(size).map_err(|_| Errno::EFBIG)?;
        nix::unistd::ftruncate(fd, size)?;
    }
    if uid.is_some() || gid.is_some() {
        tree.chown(path, uid, gid)?;
    }
    if let Some(mode) = mode {
        tree.chmod(path, mode)?;
    }
    if atime.is_some() || mtime.is_some() {
        let time = |t: Option<NewTime>| match t {
            None => TimeSpec::UTIME_OMIT,
            Some(NewTime::Now) => TimeSpec::UTIME_NOW,
            Some(NewTime::At(sec, nsec)) => TimeSpec::new(sec, nsec.into()),
        };
        tree.set_times(path, time(atime), time(mtime))?;
    }
    Ok((Reply::Attr(attr_at(tree, path)?), None))
}

fn stat_fs(tree: &HostTree, path: &[u8]) -> Answer {
    let s = nix::sys::statfs::fstatfs(tree.name(path)?)?;
    let positive = |n: i64| u64::try_from(n).unwrap_or(0);
    Ok((
        Reply::Sizes([
            positive(s.filesystem_type().0),
            positive(s.block_size()),
            s.blocks(),
            s.blocks_free(),
            s.blocks_available(),
            s.files(),
            s.files_free(),
            positive(s.maximum_name_length()),
        ]),
        None,
    ))
}
