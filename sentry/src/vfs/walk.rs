//! From a path to a place (`path_resolution(7)`, `openat2(2)`).

use std::borrow::Cow;
use std::sync::Arc;

use crate::errno::Errno;
use crate::vfs::attr::S_ISVTX;
use crate::vfs::dentry::{Cached, NAME_MAX};
use crate::vfs::permission::check_access;
use crate::vfs::{Access, Caller, FileType, LinkTarget, MountFlags, MountNamespace, VfsPath};

/// The longest path with its NUL (`limits.h`).
pub const PATH_MAX: usize = 4096;
/// How many symbolic links one walk follows (`path_resolution(7)`).
const MAX_LINKS: u32 = 40;
/// How many names one prefetch covers.
const PREFETCH_NAMES: usize = 16;

bitflags::bitflags! {
    /// Restrictions on a walk, with the values of `openat2(2)`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    #[allow(missing_docs, reason = "the names are those of openat2(2)")]
    pub struct Resolve: u64 {
        const NO_XDEV = 1;
        const NO_MAGICLINKS = 2;
        const NO_SYMLINKS = 4;
        const BENEATH = 8;
        const IN_ROOT = 16;
        const CACHED = 32;
    }
}

/// What to do about the last component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// It must exist; a symbolic link is followed.
    Follow,
    /// It must exist; a symbolic link is the result.
    NoFollow,
    /// It may be missing; a symbolic link is followed (`O_CREAT`).
    FollowOrMissing,
    /// It may be missing; a symbolic link counts as existing, even before a trailing slash (`mkdir`, `unlink`,
    /// `rename`, `O_CREAT|O_EXCL`).
    Parent,
}

/// Where walks begin and what they may see.
#[derive(Debug, Clone)]
pub struct WalkRoot {
    /// The mounts.
    pub namespace: Arc<MountNamespace>,
    /// The root directory of absolute paths; `..` does not leave it.
    pub root: VfsPath,
    /// The directory of relative paths.
    pub start: VfsPath,
}

/// The last component of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastName {
    /// A name.
    Name(Vec<u8>),
    /// `.`, or the path was only slashes.
    Dot,
    /// `..`.
    DotDot,
}

/// The result of a walk.
#[derive(Debug)]
pub struct Walked {
    /// The directory that holds the last component.
    pub dir: VfsPath,
    /// The last component.
    pub name: LastName,
    /// What it leads to; `None` where it is missing and may be.
    pub found: Option<VfsPath>,
    /// The path ended with a slash.
    pub has_trailing_slash: bool,
}

impl Walked {
    /// The place found.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn existing(self) -> Result<VfsPath, Errno> {
        self.found.ok_or(Errno::ENOENT)
    }
}

/// Walks `path`.
///
/// # Errors
/// As `path_resolution(7)` and `openat2(2)` say.
pub fn walk(
    caller: &Caller<'_>,
    from: &WalkRoot,
    path: &[u8],
    last: Last,
    resolve: Resolve,
) -> Result<Walked, Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    if path.len() >= PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let scoped = resolve.intersects(Resolve::BENEATH | Resolve::IN_ROOT);
    let root = if scoped { from.start.clone() } else { from.root.clone() };
    let mut walker = Walker { caller, namespace: &from.namespace, root, resolve, scoped, links: 0 };
    let start = if path[0] == b'/' { walker.jump_to_root(&from.start)? } else { from.start.clone() };
    walker.run(start, path, last)
}

struct Walker<'a> {
    caller: &'a Caller<'a>,
    namespace: &'a MountNamespace,
    root: VfsPath,
    resolve: Resolve,
    scoped: bool,
    links: u32,
}

/// The state between components.
struct Step<'p> {
    name: &'p [u8],
    rest: &'p [u8],
    is_last: bool,
    has_trailing_slash: bool,
}

impl Walker<'_> {
    fn run(&mut self, start: VfsPath, path: &[u8], last: Last) -> Result<Walked, Errno> {
        let mut at = start;
        let mut path: Cow<'_, [u8]> = Cow::Borrowed(path);
        let mut offset = 0;
        loop {
            let Some(step) = next_component(&path[offset..]) else {
                // Only slashes: the root or the place itself.
                let slash = path.ends_with(b"/");
                return Ok(Walked {
                    dir: at.clone(),
                    name: LastName::Dot,
                    found: Some(at),
                    has_trailing_slash: slash,
                });
            };
            if !at.inode().is_dir() {
                return Err(Errno::ENOTDIR);
            }
            check_access(self.caller, at.inode(), Access::EXEC)?;
            if step.name == b"." || step.name == b".." {
                let dir = at.clone();
                if step.name == b".." {
                    at = self.dot_dot(at)?;
                }
                if step.is_last {
                    let name = if step.name == b"." { LastName::Dot } else { LastName::DotDot };
                    return Ok(Walked {
                        dir,
                        name,
                        found: Some(at),
                        has_trailing_slash: step.has_trailing_slash,
                    });
                }
                offset = path.len() - step.rest.len();
                continue;
            }
            let child = match self.lookup(&at, &step) {
                Ok(child) => child,
                Err(Errno::ENOENT)
                    if step.is_last && matches!(last, Last::FollowOrMissing | Last::Parent) =>
                {
                    return Ok(Walked {
                        dir: at,
                        name: LastName::Name(step.name.to_vec()),
                        found: None,
                        has_trailing_slash: step.has_trailing_slash,
                    });
                }
                Err(e) => return Err(e),
            };
            let follows = match last {
                _ if !step.is_last => true,
                Last::Parent => false,
                Last::Follow | Last::FollowOrMissing => true,
                Last::NoFollow => step.has_trailing_slash,
            };
            if child.inode().kind() == FileType::Symlink && follows {
                let target = self.follow(&at, &child)?;
                match target {
                    LinkTarget::Object(place) => {
                        if step.is_last {
                            if step.has_trailing_slash && !place.inode().is_dir() {
                                return Err(Errno::ENOTDIR);
                            }
                            return Ok(Walked {
                                dir: at,
                                name: LastName::Name(step.name.to_vec()),
                                found: Some(place),
                                has_trailing_slash: step.has_trailing_slash,
                            });
                        }
                        at = place;
                        offset = path.len() - step.rest.len();
                    }
                    LinkTarget::Path(text) => {
                        if text.first() == Some(&b'/') {
                            at = self.jump_to_root(&at)?;
                        }
                        let mut joined = text;
                        if !step.is_last || step.has_trailing_slash {
                            joined.push(b'/');
                            joined.extend_from_slice(step.rest);
                        }
                        path = Cow::Owned(joined);
                        offset = 0;
                    }
                }
                continue;
            }
            if step.is_last {
                if step.has_trailing_slash && last != Last::Parent && !child.inode().is_dir() {
                    return Err(Errno::ENOTDIR);
                }
                return Ok(Walked {
                    dir: at,
                    name: LastName::Name(step.name.to_vec()),
                    found: Some(child),
                    has_trailing_slash: step.has_trailing_slash,
                });
            }
            at = child;
            offset = path.len() - step.rest.len();
        }
    }

    fn lookup(&self, dir: &VfsPath, step: &Step<'_>) -> Result<VfsPath, Errno> {
        let dentry = match dir.dentry.cached(step.name) {
            Cached::Present(dentry) => dentry,
            Cached::Absent => return Err(Errno::ENOENT),
            Cached::Unknown => {
                if step.name.len() > NAME_MAX {
                    return Err(Errno::ENAMETOOLONG);
                }
                if self.resolve.contains(Resolve::CACHED) {
                    return Err(Errno::EAGAIN);
                }
                self.prefetch(dir, step);
                dir.dentry.lookup(self.caller, step.name)?
            }
        };
        let below = dir.with_dentry(dentry);
        let crossed = self.namespace.cross(below);
        if self.resolve.contains(Resolve::NO_XDEV) && !Arc::ptr_eq(&crossed.mount, &dir.mount) {
            return Err(Errno::EXDEV);
        }
        Ok(crossed)
    }

    /// Tells the file system which names follow, up to a `..`.
    fn prefetch(&self, dir: &VfsPath, step: &Step<'_>) {
        if step.is_last {
            return;
        }
        let mut names: Vec<&[u8]> = vec![step.name];
        let mut rest = step.rest;
        while let Some(next) = next_component(rest) {
            if next.name == b".." || next.name.len() > NAME_MAX || names.len() == PREFETCH_NAMES {
                break;
            }
            if next.name != b"." {
                names.push(next.name);
            }
            rest = next.rest;
        }
        if names.len() > 1 {
            dir.inode().ops().prefetch(&names);
        }
    }

    fn follow(&mut self, dir: &VfsPath, link: &VfsPath) -> Result<LinkTarget, Errno> {
        self.links += 1;
        if self.links > MAX_LINKS
            || self.resolve.contains(Resolve::NO_SYMLINKS)
            || link.mount.flags().contains(MountFlags::NOSYMFOLLOW)
        {
            return Err(Errno::ELOOP);
        }
        self.check_protected_symlink(dir, link)?;
        let target = link.inode().ops().read_link(self.caller)?;
        match &target {
            LinkTarget::Path(text) if text.is_empty() => Err(Errno::ENOENT),
            LinkTarget::Path(_) => Ok(target),
            LinkTarget::Object(_) if self.resolve.contains(Resolve::NO_MAGICLINKS) => Err(Errno::ELOOP),
            LinkTarget::Object(_) if self.scoped => Err(Errno::EXDEV),
            LinkTarget::Object(place)
                if self.resolve.contains(Resolve::NO_XDEV) && !Arc::ptr_eq(&place.mount, &dir.mount) =>
            {
                Err(Errno::EXDEV)
            }
            LinkTarget::Object(_) => Ok(target),
        }
    }

    /// `fs.protected_symlinks` (`proc_sys_fs(5)`): in a sticky world-writable directory only links of the follower
    /// or of the directory's owner are followed.
    fn check_protected_symlink(&self, dir: &VfsPath, link: &VfsPath) -> Result<(), Errno> {
        let parent = dir.inode().ops().stat()?;
        if parent.mode & (S_ISVTX | 0o002) != S_ISVTX | 0o002 {
            return Ok(());
        }
        let owner = link.inode().ops().stat()?.uid;
        if owner == self.caller.creds.fsuid.0 || owner == parent.uid { Ok(()) } else { Err(Errno::EACCES) }
    }

    fn jump_to_root(&self, from: &VfsPath) -> Result<VfsPath, Errno> {
        if self.resolve.contains(Resolve::BENEATH) {
            return Err(Errno::EXDEV);
        }
        if self.resolve.contains(Resolve::NO_XDEV) && !Arc::ptr_eq(&from.mount, &self.root.mount) {
            return Err(Errno::EXDEV);
        }
        Ok(self.root.clone())
    }

    fn dot_dot(&self, mut at: VfsPath) -> Result<VfsPath, Errno> {
        loop {
            if at.is_same(&self.root) {
                return if self.resolve.contains(Resolve::BENEATH) { Err(Errno::EXDEV) } else { Ok(at) };
            }
            if !at.is_mount_root() {
                break;
            }
            match at.mount.mount_point() {
                Some(_) if self.resolve.contains(Resolve::NO_XDEV) => return Err(Errno::EXDEV),
                Some(place) => at = place,
                None => return Ok(at),
            }
        }
        let Some(parent) = at.dentry.parent() else { return Ok(at) };
        Ok(self.namespace.cross(at.with_dentry(parent)))
    }
}

/// Splits the first component off `path`; `None` where there are only slashes.
fn next_component(path: &[u8]) -> Option<Step<'_>> {
    let begin = path.iter().position(|b| *b != b'/')?;
    let path = &path[begin..];
    let end = path.iter().position(|b| *b == b'/').unwrap_or(path.len());
    let (name, rest) = path.split_at(end);
    let more = rest.iter().any(|b| *b != b'/');
    Some(Step { name, rest, is_last: !more, has_trailing_slash: !more && !rest.is_empty() })
}
