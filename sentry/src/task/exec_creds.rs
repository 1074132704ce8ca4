//! Who a task is after executing a program (`capabilities(7)`, "Transformation of capabilities during execve()").

use std::sync::Arc;

use crate::errno::Errno;
use crate::task::file_caps::FileCaps;
use crate::task::{Capabilities, Credentials, Gid, Uid};
use crate::vfs::{File, MountFlags, MountNamespace};

/// Bits of the file mode.
const S_ISUID: u32 = 0o4000;
const S_ISGID: u32 = 0o2000;
const S_IXGRP: u32 = 0o010;
/// `SECBIT_NOROOT` and `SECBIT_KEEP_CAPS`.
const NOROOT: u32 = 1;
const KEEP_CAPS: u32 = 1 << 4;

/// The credentials after executing `file`, and whether they are more than before (`AT_SECURE`). With `is_held` by a tracer, and
/// with `no_new_privs`, they are not.
///
/// # Errors
/// `EPERM` where a program that does not ask for its capabilities would not get all of them.
pub(super) fn credentials_after(
    old: &Arc<Credentials>,
    file: &File,
    namespace: &Arc<MountNamespace>,
    is_held: bool,
) -> Result<(Arc<Credentials>, bool), Errno> {
    let mut new = Credentials::clone(old);
    let stat = file.stat()?;
    let mount = &file.path().mount;
    let home = mount.superblock().user_ns();
    // A file system that was mounted in a user namespace has its say in there only, and so have the mounts of another
    // mount namespace (`mnt_may_suid`).
    let may_give = !mount.flags().contains(MountFlags::NOSUID)
        && home.holds(&old.user_ns)
        && (old.user_ns.is_initial() || mount.namespace().is_some_and(|of| Arc::ptr_eq(&of, namespace)));
    let gives_more = !old.no_new_privs && !is_held;
    // Who owns the file has to be somebody here.
    let is_owned = old.user_ns.is_initial()
        || old.user_ns.uid_of(Uid(stat.uid)).is_some() && old.user_ns.gid_of(Gid(stat.gid)).is_some();
    let gives_ids = may_give && gives_more && is_owned;
    if gives_ids && stat.mode & S_ISUID != 0 {
        new.euid = Uid(stat.uid);
    }
    if gives_ids && stat.mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP {
        new.egid = Gid(stat.gid);
    }
    let is_set_id = new.euid != old.uid || new.egid != old.gid;
    new.suid = new.euid;
    new.fsuid = new.euid;
    new.sgid = new.egid;
    new.fsgid = new.egid;
    let caps = if may_give { FileCaps::of(file.inode(), &home, old)? } else { None };
    let (permitted, is_effective) = capabilities_after(old, &new, caps)?;
    new.permitted = permitted;
    if !gives_more {
        // They get no more than they had, and maybe less (`cap_bprm_creds_from_file`).
        new.permitted &= old.permitted;
    }
    if is_set_id || caps.is_some() {
        new.ambient = Capabilities::empty();
    }
    new.permitted |= new.ambient;
    new.effective = if is_effective { new.permitted } else { new.ambient };
    new.securebits &= !KEEP_CAPS;
    let root = old.user_ns.uid(0);
    let grew = is_effective || !new.permitted.difference(new.ambient).is_empty();
    let is_secure = is_set_id || Some(old.uid) != root && grew;
    Ok((Arc::new(new), is_secure))
}

/// What the program is permitted without ambient capabilities, and whether that is effective at once.
fn capabilities_after(
    old: &Credentials,
    new: &Credentials,
    caps: Option<FileCaps>,
) -> Result<(Capabilities, bool), Errno> {
    let mut permitted = Capabilities::empty();
    let mut is_effective = false;
    if let Some(caps) = caps {
        permitted = caps.permitted & old.bounding | caps.inheritable & old.inheritable;
        is_effective = caps.is_effective;
        // "Safety checking for capability-dumb binaries"
        if is_effective && !permitted.contains(caps.permitted) {
            return Err(Errno::EPERM);
        }
    }
    let root = old.user_ns.uid(0);
    let (is_root, runs_as_root) = (Some(new.uid) == root, Some(new.euid) == root);
    // "If a file has capabilities and is set-user-ID-root": only the capabilities count.
    let only_caps = caps.is_some() && runs_as_root && !is_root;
    if old.securebits & NOROOT == 0 && !only_caps {
        if is_root || runs_as_root {
            permitted = old.inheritable | old.bounding;
        }
        is_effective |= runs_as_root;
    }
    Ok((permitted, is_effective))
}
