//! User and group ids (`credentials(7)`, `setuid(2)`, `setresuid(2)`).

use std::sync::Arc;

use crate::errno::{Errno, SysResult};
use crate::syscall::Args;
use crate::task::{Capabilities, Credentials, CurrentTask, Gid, Uid};

/// "Leave unchanged".
const KEEP: u32 = u32::MAX;
/// `SECBIT_NO_SETUID_FIXUP` and `SECBIT_KEEP_CAPS`.
const NO_SETUID_FIXUP: u32 = 1 << 2;
const KEEP_CAPS: u32 = 1 << 4;
/// `NGROUPS_MAX`.
const NGROUPS_MAX: u64 = 65536;

pub(crate) fn sys_getuid(task: &mut CurrentTask, _: &Args) -> SysResult {
    let creds = task.creds();
    Ok(creds.user_ns.show_uid(creds.uid).into())
}

pub(crate) fn sys_geteuid(task: &mut CurrentTask, _: &Args) -> SysResult {
    let creds = task.creds();
    Ok(creds.user_ns.show_uid(creds.euid).into())
}

pub(crate) fn sys_getgid(task: &mut CurrentTask, _: &Args) -> SysResult {
    let creds = task.creds();
    Ok(creds.user_ns.show_gid(creds.gid).into())
}

pub(crate) fn sys_getegid(task: &mut CurrentTask, _: &Args) -> SysResult {
    let creds = task.creds();
    Ok(creds.user_ns.show_gid(creds.egid).into())
}

/// `getresuid(2)`.
pub(crate) fn sys_getresuid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let creds = task.creds();
    for (n, uid) in [creds.uid, creds.euid, creds.suid].into_iter().enumerate() {
        task.mm().write_obj(args.addr(n), &creds.user_ns.show_uid(uid))?;
    }
    Ok(0)
}

/// `getresgid(2)`.
pub(crate) fn sys_getresgid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let creds = task.creds();
    for (n, gid) in [creds.gid, creds.egid, creds.sgid].into_iter().enumerate() {
        task.mm().write_obj(args.addr(n), &creds.user_ns.show_gid(gid))?;
    }
    Ok(0)
}

/// An id that nobody has.
const NOBODY: Uid = Uid(u32::MAX);

/// The user that an argument names, where it names one.
fn user(creds: &Credentials, id: u32) -> Result<u32, Errno> {
    if id == KEEP { Ok(KEEP) } else { creds.user_ns.uid(id).map(|uid| uid.0).ok_or(Errno::EINVAL) }
}

/// The group that an argument names, where it names one.
fn group(creds: &Credentials, id: u32) -> Result<u32, Errno> {
    if id == KEEP { Ok(KEEP) } else { creds.user_ns.gid(id).map(|gid| gid.0).ok_or(Errno::EINVAL) }
}

/// What changes of user ids do to capabilities (`capabilities(7)`, "Effect of user ID changes on capabilities").
fn fix_capabilities(old: &Credentials, new: &mut Credentials) {
    if old.securebits & NO_SETUID_FIXUP != 0 {
        return;
    }
    // An id that is nobody here cannot be anybody's.
    let root = old.user_ns.uid(0).unwrap_or(NOBODY);
    let had_root = [old.uid, old.euid, old.suid].contains(&root);
    let has_root = [new.uid, new.euid, new.suid].contains(&root);
    if had_root && !has_root {
        if old.securebits & KEEP_CAPS == 0 {
            new.permitted = Capabilities::empty();
            new.effective = Capabilities::empty();
        }
        new.ambient = Capabilities::empty();
    }
    if old.euid == root && new.euid != root {
        new.effective = Capabilities::empty();
    }
    if old.euid != root && new.euid == root {
        new.effective = new.permitted;
    }
}

fn install_uids(task: &mut CurrentTask, uid: Uid, euid: Uid, suid: Uid) {
    let old = task.creds();
    let mut new = Credentials { uid, euid, suid, fsuid: euid, ..Credentials::clone(&old) };
    fix_capabilities(&old, &mut new);
    task.set_creds(Arc::new(new));
}

fn install_gids(task: &mut CurrentTask, gid: Gid, egid: Gid, sgid: Gid) {
    let old = task.creds();
    let new = Credentials { gid, egid, sgid, fsgid: egid, ..Credentials::clone(&old) };
    task.set_creds(Arc::new(new));
}

/// `setuid(2)`.
pub(crate) fn sys_setuid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let old = task.creds();
    let uid = old.user_ns.uid(args.u32(0)).ok_or(Errno::EINVAL)?;
    if old.has_in_own(Capabilities::SETUID) {
        install_uids(task, uid, uid, uid);
    } else if uid == old.uid || uid == old.suid {
        install_uids(task, old.uid, uid, old.suid);
    } else {
        return Err(Errno::EPERM.into());
    }
    Ok(0)
}

/// `setgid(2)`.
pub(crate) fn sys_setgid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let old = task.creds();
    let gid = old.user_ns.gid(args.u32(0)).ok_or(Errno::EINVAL)?;
    if old.has_in_own(Capabilities::SETGID) {
        install_gids(task, gid, gid, gid);
    } else if gid == old.gid || gid == old.sgid {
        install_gids(task, old.gid, gid, old.sgid);
    } else {
        return Err(Errno::EPERM.into());
    }
    Ok(0)
}

/// `setreuid(2)`.
pub(crate) fn sys_setreuid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let old = task.creds();
    let (real, effective) = (user(&old, args.u32(0))?, user(&old, args.u32(1))?);
    let privileged = old.has_in_own(Capabilities::SETUID);
    let may_real = real == KEEP || privileged || [old.uid.0, old.euid.0].contains(&real);
    let may_effective =
        effective == KEEP || privileged || [old.uid.0, old.euid.0, old.suid.0].contains(&effective);
    if !may_real || !may_effective {
        return Err(Errno::EPERM.into());
    }
    let uid = if real == KEEP { old.uid } else { Uid(real) };
    let euid = if effective == KEEP { old.euid } else { Uid(effective) };
    // The saved id follows when the real one is set, or the effective one to something else than the old real one.
    let saves = real != KEEP || (effective != KEEP && euid != old.uid);
    install_uids(task, uid, euid, if saves { euid } else { old.suid });
    Ok(0)
}

/// `setregid(2)`.
pub(crate) fn sys_setregid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let old = task.creds();
    let (real, effective) = (group(&old, args.u32(0))?, group(&old, args.u32(1))?);
    let privileged = old.has_in_own(Capabilities::SETGID);
    let may_real = real == KEEP || privileged || [old.gid.0, old.egid.0].contains(&real);
    let may_effective =
        effective == KEEP || privileged || [old.gid.0, old.egid.0, old.sgid.0].contains(&effective);
    if !may_real || !may_effective {
        return Err(Errno::EPERM.into());
    }
    let gid = if real == KEEP { old.gid } else { Gid(real) };
    let egid = if effective == KEEP { old.egid } else { Gid(effective) };
    let saves = real != KEEP || (effective != KEEP && egid != old.gid);
    install_gids(task, gid, egid, if saves { egid } else { old.sgid });
    Ok(0)
}

/// `setresuid(2)`.
pub(crate) fn sys_setresuid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let old = task.creds();
    let allowed = [old.uid.0, old.euid.0, old.suid.0];
    let ids = [user(&old, args.u32(0))?, user(&old, args.u32(1))?, user(&old, args.u32(2))?];
    if !old.has_in_own(Capabilities::SETUID) && ids.iter().any(|id| *id != KEEP && !allowed.contains(id)) {
        return Err(Errno::EPERM.into());
    }
    let pick = |n: usize| if ids[n] == KEEP { Uid(allowed[n]) } else { Uid(ids[n]) };
    install_uids(task, pick(0), pick(1), pick(2));
    Ok(0)
}

/// `setresgid(2)`.
pub(crate) fn sys_setresgid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let old = task.creds();
    let allowed = [old.gid.0, old.egid.0, old.sgid.0];
    let ids = [group(&old, args.u32(0))?, group(&old, args.u32(1))?, group(&old, args.u32(2))?];
    if !old.has_in_own(Capabilities::SETGID) && ids.iter().any(|id| *id != KEEP && !allowed.contains(id)) {
        return Err(Errno::EPERM.into());
    }
    let pick = |n: usize| if ids[n] == KEEP { Gid(allowed[n]) } else { Gid(ids[n]) };
    install_gids(task, pick(0), pick(1), pick(2));
    Ok(0)
}

/// `setfsuid(2)`: returns the old id, whether or not it changed.
pub(crate) fn sys_setfsuid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let old = task.creds();
    let shown = old.user_ns.show_uid(old.fsuid);
    let Some(uid) = old.user_ns.uid(args.u32(0)) else { return Ok(shown.into()) };
    let allowed =
        [old.uid, old.euid, old.suid, old.fsuid].contains(&uid) || old.has_in_own(Capabilities::SETUID);
    if allowed {
        let mut new = Credentials { fsuid: uid, ..Credentials::clone(&old) };
        // capabilities(7): the file system capabilities follow the file system user.
        let fs_caps = Capabilities::CHOWN
            | Capabilities::DAC_OVERRIDE
            | Capabilities::DAC_READ_SEARCH
            | Capabilities::FOWNER
            | Capabilities::FSETID
            | Capabilities::LINUX_IMMUTABLE
            | Capabilities::MKNOD
            | Capabilities::MAC_OVERRIDE;
        let root = old.user_ns.uid(0);
        if old.securebits & NO_SETUID_FIXUP == 0 {
            if Some(old.fsuid) == root && Some(uid) != root {
                new.effective.remove(fs_caps);
            } else if Some(old.fsuid) != root && Some(uid) == root {
                new.effective |= new.permitted & fs_caps;
            }
        }
        task.set_creds(Arc::new(new));
    }
    Ok(shown.into())
}

/// `setfsgid(2)`.
pub(crate) fn sys_setfsgid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let old = task.creds();
    let shown = old.user_ns.show_gid(old.fsgid);
    let Some(gid) = old.user_ns.gid(args.u32(0)) else { return Ok(shown.into()) };
    let allowed =
        [old.gid, old.egid, old.sgid, old.fsgid].contains(&gid) || old.has_in_own(Capabilities::SETGID);
    if allowed {
        task.set_creds(Arc::new(Credentials { fsgid: gid, ..Credentials::clone(&old) }));
    }
    Ok(shown.into())
}

/// `getgroups(2)`.
pub(crate) fn sys_getgroups(task: &mut CurrentTask, args: &Args) -> SysResult {
    let size = args.i32(0);
    let creds = task.creds();
    let groups = &creds.groups;
    let room = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    if room > 0 {
        if groups.len() > room {
            return Err(Errno::EINVAL.into());
        }
        let bytes: Vec<u8> = groups.iter().flat_map(|g| creds.user_ns.show_gid(*g).to_le_bytes()).collect();
        task.mm().write_bytes(args.addr(1), &bytes)?;
    }
    Ok(groups.len() as u64)
}

/// `setgroups(2)`.
pub(crate) fn sys_setgroups(task: &mut CurrentTask, args: &Args) -> SysResult {
    let old = task.creds();
    // user_namespaces(7): not before there is a map, and not where it was denied.
    if !old.has_in_own(Capabilities::SETGID) || !old.user_ns.has_settable_groups() {
        return Err(Errno::EPERM.into());
    }
    let count = u64::from(args.u32(0));
    if count > NGROUPS_MAX {
        return Err(Errno::EINVAL.into());
    }
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let ids: Vec<u32> = task.mm().read_array(args.addr(1), count)?;
    let groups = ids.into_iter().map(|id| old.user_ns.gid(id).ok_or(Errno::EINVAL));
    let groups: Arc<[Gid]> = groups.collect::<Result<_, _>>()?;
    task.set_creds(Arc::new(Credentials { groups, ..Credentials::clone(&old) }));
    Ok(0)
}
