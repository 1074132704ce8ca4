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
    Ok(task.creds().uid.0.into())
}

pub(crate) fn sys_geteuid(task: &mut CurrentTask, _: &Args) -> SysResult {
    Ok(task.creds().euid.0.into())
}

pub(crate) fn sys_getgid(task: &mut CurrentTask, _: &Args) -> SysResult {
    Ok(task.creds().gid.0.into())
}

pub(crate) fn sys_getegid(task: &mut CurrentTask, _: &Args) -> SysResult {
    Ok(task.creds().egid.0.into())
}

/// `getresuid(2)`.
pub(crate) fn sys_getresuid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let creds = task.creds();
    for (n, uid) in [creds.uid, creds.euid, creds.suid].into_iter().enumerate() {
        task.mm().write_obj(args.addr(n), &uid.0)?;
    }
    Ok(0)
}

/// `getresgid(2)`.
pub(crate) fn sys_getresgid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let creds = task.creds();
    for (n, gid) in [creds.gid, creds.egid, creds.sgid].into_iter().enumerate() {
        task.mm().write_obj(args.addr(n), &gid.0)?;
    }
    Ok(0)
}

/// What changes of user ids do to capabilities (`capabilities(7)`, "Effect of user ID changes on capabilities").
fn fix_capabilities(old: &Credentials, new: &mut Credentials) {
    if old.securebits & NO_SETUID_FIXUP != 0 {
        return;
    }
    let had_root = [old.uid, old.euid, old.suid].contains(&Uid::ROOT);
    let has_root = [new.uid, new.euid, new.suid].contains(&Uid::ROOT);
    if had_root && !has_root {
        if old.securebits & KEEP_CAPS == 0 {
            new.permitted = Capabilities::empty();
            new.effective = Capabilities::empty();
        }
        new.ambient = Capabilities::empty();
    }
    if old.euid == Uid::ROOT && new.euid != Uid::ROOT {
        new.effective = Capabilities::empty();
    }
    if old.euid != Uid::ROOT && new.euid == Uid::ROOT {
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
    let (old, uid) = (task.creds(), Uid(args.u32(0)));
    if uid.0 == KEEP {
        return Err(Errno::EINVAL.into());
    }
    if old.has(Capabilities::SETUID) {
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
    let (old, gid) = (task.creds(), Gid(args.u32(0)));
    if gid.0 == KEEP {
        return Err(Errno::EINVAL.into());
    }
    if old.has(Capabilities::SETGID) {
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
    let (real, effective) = (args.u32(0), args.u32(1));
    let old = task.creds();
    let privileged = old.has(Capabilities::SETUID);
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
    let (real, effective) = (args.u32(0), args.u32(1));
    let old = task.creds();
    let privileged = old.has(Capabilities::SETGID);
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
    let ids = [args.u32(0), args.u32(1), args.u32(2)];
    if !old.has(Capabilities::SETUID) && ids.iter().any(|id| *id != KEEP && !allowed.contains(id)) {
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
    let ids = [args.u32(0), args.u32(1), args.u32(2)];
    if !old.has(Capabilities::SETGID) && ids.iter().any(|id| *id != KEEP && !allowed.contains(id)) {
        return Err(Errno::EPERM.into());
    }
    let pick = |n: usize| if ids[n] == KEEP { Gid(allowed[n]) } else { Gid(ids[n]) };
    install_gids(task, pick(0), pick(1), pick(2));
    Ok(0)
}

/// `setfsuid(2)`: returns the old id, whether or not it changed.
pub(crate) fn sys_setfsuid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (old, uid) = (task.creds(), Uid(args.u32(0)));
    let allowed = [old.uid, old.euid, old.suid, old.fsuid].contains(&uid) || old.has(Capabilities::SETUID);
    if uid.0 != KEEP && allowed {
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
        if old.securebits & NO_SETUID_FIXUP == 0 {
            if old.fsuid == Uid::ROOT && uid != Uid::ROOT {
                new.effective.remove(fs_caps);
            } else if old.fsuid != Uid::ROOT && uid == Uid::ROOT {
                new.effective |= new.permitted & fs_caps;
            }
        }
        task.set_creds(Arc::new(new));
    }
    Ok(old.fsuid.0.into())
}

/// `setfsgid(2)`.
pub(crate) fn sys_setfsgid(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (old, gid) = (task.creds(), Gid(args.u32(0)));
    let allowed = [old.gid, old.egid, old.sgid, old.fsgid].contains(&gid) || old.has(Capabilities::SETGID);
    if gid.0 != KEEP && allowed {
        task.set_creds(Arc::new(Credentials { fsgid: gid, ..Credentials::clone(&old) }));
    }
    Ok(old.fsgid.0.into())
}

/// `getgroups(2)`.
pub(crate) fn sys_getgroups(task: &mut CurrentTask, args: &Args) -> SysResult {
    let size = args.i32(0);
    let groups = task.creds().groups.clone();
    let room = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    if room > 0 {
        if groups.len() > room {
            return Err(Errno::EINVAL.into());
        }
        let bytes: Vec<u8> = groups.iter().flat_map(|g| g.0.to_le_bytes()).collect();
        task.mm().write_bytes(args.addr(1), &bytes)?;
    }
    Ok(groups.len() as u64)
}

/// `setgroups(2)`.
pub(crate) fn sys_setgroups(task: &mut CurrentTask, args: &Args) -> SysResult {
    let old = task.creds();
    if !old.has(Capabilities::SETGID) {
        return Err(Errno::EPERM.into());
    }
    let count = u64::from(args.u32(0));
    if count > NGROUPS_MAX {
        return Err(Errno::EINVAL.into());
    }
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let ids: Vec<u32> = task.mm().read_array(args.addr(1), count)?;
    let groups: Arc<[Gid]> = ids.into_iter().map(Gid).collect();
    task.set_creds(Arc::new(Credentials { groups, ..Credentials::clone(&old) }));
    Ok(0)
}
