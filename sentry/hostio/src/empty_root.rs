//! Root directories for processes that should see nothing, or one directory, of the host.

use std::io;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

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
    make_private()?;
    let staging = STAGING
        .into_iter()
        .find(|path| Path::new(path).is_dir())
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("none"), staging, Some("tmpfs"), flags, Some("mode=0555,nr_inodes=2,size=4k"))?;
    pivot_into(Path::new(staging))?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY,
        Some("mode=0555,nr_inodes=2,size=4k"),
    )?;
    Ok(())
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

/// Mounts `source` (and what is mounted below it) at `target`.
///
/// # Errors
/// The errors of mount(2).
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
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
