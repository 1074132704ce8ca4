//! Root directories for processes that should see nothing, or one directory, of the host.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use crate::mount_tree::DetachedTree;

/// Places where a tmpfs can be mounted on the way to an empty root; one of them exists everywhere.
const STAGING: [&str; 4] = ["/tmp", "/run", "/var", "/proc"];

/// Gives the process an empty, read-only root directory.
///
/// Needs a mount namespace of its own and `CAP_SYS_ADMIN` in its user namespace. Afterwards the
/// mount table has one entry, and no path leads to a host file.
///
/// # Errors
/// The errors of mount(2), pivot_root(2) and umount2(2).
pub fn enter_empty() -> io::Result<()> {
    enter_with(&[])
}

/// Gives the process a read-only root directory in which only copies of `trees` are found, the first
/// as `/0`, the second as `/1` and so on; each is a directory or a file.
///
/// # Errors
/// As [`enter_empty`], and those of looking the trees up.
pub fn enter_with(trees: &[&Path]) -> io::Result<()> {
    make_private()?;
    let copies = trees.iter().map(|path| copy(path)).collect::<io::Result<Vec<_>>>()?;
    let staging = STAGING
        .into_iter()
        .map(Path::new)
        .find(|path| path.is_dir())
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // One inode for the root, one for each mount point.
    let options = format!("mode=0555,nr_inodes={},size=4k", trees.len() + 1);
    mount(Some("none"), staging, Some("tmpfs"), flags, Some(options.as_str()))?;
    for (at, (kind, tree)) in copies.into_iter().enumerate() {
        let place = staging.join(at.to_string());
        match kind {
            Kind::Directory => fs::create_dir(&place)?,
            Kind::File => drop(File::create(&place)?),
        }
        tree.attach(&place)?;
    }
    pivot_into(staging)?;
    let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, "/", None::<&str>, flags, Some(options.as_str()))?;
    Ok(())
}

enum Kind {
    Directory,
    File,
}

fn copy(path: &Path) -> io::Result<(Kind, DetachedTree)> {
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let kind = if path.metadata().map_err(at)?.is_dir() { Kind::Directory } else { Kind::File };
    Ok((kind, DetachedTree::copy_of(path).map_err(at)?))
}

/// Detaches the mount namespace from the host's: nothing that is mounted here shows up there.
///
/// Mounts of the host still propagate in, so that a file system unmounted there is not kept busy.
///
/// # Errors
/// The errors of mount(2).
pub fn make_private() -> io::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    Ok(())
}

/// Makes the mount point `new_root` the root directory and detaches the old one.
///
/// # Errors
/// The errors of chdir(2), pivot_root(2) and umount2(2).
pub fn pivot_into(new_root: &Path) -> io::Result<()> {
    chdir(new_root)?;
    // pivot_root(2): with "." twice the old root is stacked on the new one, so that no directory for
    // it is needed; unmounting "." then uncovers the new root.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    Ok(())
}
