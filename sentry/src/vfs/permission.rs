//! Who may do what with an inode (`path_resolution(7)`, `capabilities(7)`).

use std::sync::Arc;

use crate::errno::Errno;
use crate::task::{Capabilities, Credentials, Gid, Task, Uid};
use crate::vfs::acl::AclKind;
use crate::vfs::attr::{S_ISGID, S_ISUID, S_ISVTX, S_IXGRP};
use crate::vfs::{FileType, Inode, SetAttr, Stat};

bitflags::bitflags! {
    /// What somebody wants to do, with the values of `access(2)`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Access: u32 {
        /// Execute a file, search a directory.
        const EXEC = 1;
        /// Change the contents.
        const WRITE = 2;
        /// Read the contents.
        const READ = 4;
    }
}

/// On whose behalf the VFS works.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Identity and capabilities.
    pub creds: &'a Credentials,
    /// The task, where there is one (`/proc/self`, `/dev/tty`).
    pub task: Option<&'a Arc<Task>>,
}

impl<'a> Caller<'a> {
    /// The kernel itself, with the credentials given (at boot: root's).
    #[must_use]
    pub fn kernel(creds: &'a Credentials) -> Self {
        Self { creds, task: None }
    }

    /// A task with its present credentials.
    #[must_use]
    pub fn task(task: &'a Arc<Task>, creds: &'a Credentials) -> Self {
        Self { creds, task: Some(task) }
    }

    /// True where every capability of `caps` is effective for the whole sandbox.
    #[must_use]
    pub fn has(&self, caps: Capabilities) -> bool {
        self.creds.has(caps)
    }

    /// True where every capability of `caps` is effective for a file with these attributes: its owner and group have to
    /// be somebody in the caller's user namespace (`capable_wrt_inode_uidgid`).
    #[must_use]
    pub fn has_for(&self, stat: &Stat, caps: Capabilities) -> bool {
        let creds = self.creds;
        creds.effective.contains(caps)
            && (creds.user_ns.is_initial()
                || self.is_mapped(stat) && creds.user_ns.gid_of(Gid(stat.gid)).is_some())
    }

    fn is_mapped(&self, stat: &Stat) -> bool {
        self.creds.user_ns.uid_of(Uid(stat.uid)).is_some()
    }

    /// True for the owner of a file and for those with `CAP_FOWNER` where the owner is somebody.
    #[must_use]
    pub fn owns(&self, stat: &Stat) -> bool {
        self.creds.fsuid.0 == stat.uid
            || self.creds.effective.contains(Capabilities::FOWNER) && self.is_mapped(stat)
    }

    /// True where the caller is in the group of a file.
    #[must_use]
    pub fn in_group(&self, gid: u32) -> bool {
        self.creds.in_group(Gid(gid))
    }
}

/// Checks the mode bits of `inode`, or its access control list.
///
/// # Errors
/// `EACCES`; what `stat` of the file system returns.
pub fn check_access(caller: &Caller<'_>, inode: &Inode, want: Access) -> Result<(), Errno> {
    if let Some(answer) = inode.ops().check_access(caller, want) {
        return answer;
    }
    // The common case, a privileged caller searching a directory, needs no attributes at all.
    if inode.kind() == FileType::Directory && caller.has(Capabilities::DAC_OVERRIDE) {
        return Ok(());
    }
    let stat = inode.ops().stat()?;
    // Where the group, which then is the mask, may nothing, no list gives more (`acl_permission_check`).
    if caller.creds.fsuid.0 != stat.uid
        && stat.mode & 0o070 != 0
        && let Some(list) = inode.ops().acl(AclKind::Access)
    {
        return if list.allows(caller, &stat, want) { Ok(()) } else { check_capable(caller, &stat, want) };
    }
    check_mode(caller, &stat, want)
}

/// Checks the mode bits in `stat`.
///
/// # Errors
/// `EACCES`.
pub fn check_mode(caller: &Caller<'_>, stat: &Stat, want: Access) -> Result<(), Errno> {
    let shift = if caller.creds.fsuid.0 == stat.uid {
        6
    } else if caller.in_group(stat.gid) {
        3
    } else {
        0
    };
    if (stat.mode >> shift) & want.bits() == want.bits() {
        return Ok(());
    }
    check_capable(caller, stat, want)
}

/// Lets those pass whom the permissions of a file do not stop (`generic_permission`).
fn check_capable(caller: &Caller<'_>, stat: &Stat, want: Access) -> Result<(), Errno> {
    if stat.is_dir() {
        if caller.has_for(stat, Capabilities::DAC_OVERRIDE) {
            return Ok(());
        }
        if !want.contains(Access::WRITE) && caller.has_for(stat, Capabilities::DAC_READ_SEARCH) {
            return Ok(());
        }
        return Err(Errno::EACCES);
    }
    // CAP_DAC_OVERRIDE gives execution only where somebody has it (capabilities(7)).
    let executable = !want.contains(Access::EXEC) || stat.mode & 0o111 != 0;
    if executable && caller.has_for(stat, Capabilities::DAC_OVERRIDE) {
        return Ok(());
    }
    if want == Access::READ && caller.has_for(stat, Capabilities::DAC_READ_SEARCH) {
        return Ok(());
    }
    Err(Errno::EACCES)
}

/// Checks that `caller` may remove or replace `victim` in the directory `dir`, including the sticky bit.
///
/// # Errors
/// `EACCES` without write permission on the directory, `EPERM` for the sticky bit.
pub fn check_delete(caller: &Caller<'_>, dir: &Inode, victim: &Inode) -> Result<(), Errno> {
    check_access(caller, dir, Access::WRITE | Access::EXEC)?;
    let parent = dir.ops().stat()?;
    if parent.mode & S_ISVTX == 0 || caller.has(Capabilities::FOWNER) {
        return Ok(());
    }
    let (uid, victim) = (caller.creds.fsuid.0, victim.ops().stat()?);
    let may = uid == parent.uid || uid == victim.uid || caller.has_for(&victim, Capabilities::FOWNER);
    if may { Ok(()) } else { Err(Errno::EPERM) }
}

/// The mode that a file keeps after an unprivileged write or change of owner: set-user-ID and, where the group may
/// execute, set-group-ID go (`inode(7)`, `write(2)`).
#[must_use]
pub fn without_set_id(mode: u32) -> u32 {
    let gid_bit = if mode & S_IXGRP != 0 { S_ISGID } else { 0 };
    mode & !(S_ISUID | gid_bit)
}

/// As [`without_set_id`]; the set-group-ID bit of a file that the group may not execute is left only to who could set it
/// (`setattr_should_drop_suidgid`).
#[must_use]
pub fn without_set_id_for(caller: &Caller<'_>, stat: &Stat) -> u32 {
    let mode = without_set_id(stat.permissions());
    let keeps = caller.in_group(stat.gid) || caller.has_for(stat, Capabilities::FSETID);
    if keeps { mode } else { mode & !S_ISGID }
}

/// Takes the set-id bits of a regular file that `caller` is about to change the contents of (`file_remove_privs`).
///
/// # Errors
/// What the file system says to the change of the mode.
pub fn shed_set_id(caller: &Caller<'_>, inode: &Inode) -> Result<(), Errno> {
    if inode.kind() != FileType::Regular || caller.has(Capabilities::FSETID) {
        return Ok(());
    }
    // With each write: what others did to the mode since the file was opened is not asked for.
    let stat = inode.ops().known_stat()?;
    if stat.mode & (S_ISUID | S_ISGID) == 0 {
        return Ok(());
    }
    let mode = without_set_id_for(caller, &stat);
    if mode == stat.permissions() {
        return Ok(());
    }
    inode.ops().set_attr(&SetAttr { mode: Some(mode), ..SetAttr::default() })
}
