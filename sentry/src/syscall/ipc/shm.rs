//! `shmget(2)`, `shmat(2)`, `shmdt(2)`, `shmctl(2)`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_abi::sysv_ipc::{ShmLimits, ShmUsage, ShmidDs, cmd, shm};

use crate::errno::{Errno, SysResult};
use crate::ipc::{Access, IpcId, IpcObject, Request, SHMMIN, ShmAttachment, ShmSegment, show_ids};
use crate::mm::{MapFile, MapRequest, PAGE_SIZE, Placement, Prot, UserAddr, VmaFlags};
use crate::syscall::Args;
use crate::task::{Capabilities, CurrentTask, Tid};

/// `shmget(2)`.
pub(crate) fn sys_shmget(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (key, size, flags) = (args.i32(0), args.u64(1), args.i32(2));
    let ipc = task.ipc();
    let creds = task.creds();
    let limit = ipc.limits.shmmni.load(Ordering::Relaxed);
    let request = Request { key, flags, creds: &creds, owner: ipc.base.owner(), limit };
    let check = |segment: &ShmSegment| if size > segment.size() { Err(Errno::EINVAL) } else { Ok(()) };
    let pid = task.pid().0;
    let id = ipc.shm.get(&request, check, |others, id, permission| {
        if size < SHMMIN || size > ipc.limits.shmmax.load(Ordering::Relaxed) {
            return Err(Errno::EINVAL);
        }
        let pages = size.div_ceil(PAGE_SIZE);
        let total = others.fold(pages, |sum, other| sum.saturating_add(other.page_count()));
        if total > ipc.limits.shmall.load(Ordering::Relaxed) {
            return Err(Errno::ENOSPC);
        }
        if flags & shm::SHM_HUGETLB != 0 {
            // As on a machine without reserved huge pages.
            return Err(Errno::ENOMEM);
        }
        ShmSegment::new(&ipc.shm, task.kernel().frames(), id, size, permission, pid)
    })?;
    Ok(id_value(id))
}

/// An id as a system call returns it; ids are never negative.
pub(super) fn id_value(id: IpcId) -> u64 {
    u64::from(id.0.cast_unsigned())
}

/// `shmat(2)`.
pub(crate) fn sys_shmat(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (id, addr, flags) = (IpcId(args.i32(0)), args.u64(1), args.i32(2));
    let placement = placement(addr, flags)?;
    let segment = task.ipc().shm.by_id(id)?;
    let (mut prot, mut access) = (Prot::READ, Access::READ);
    if flags & shm::SHM_RDONLY == 0 {
        prot |= Prot::WRITE;
        access.0 |= Access::ALTER.0;
    }
    if flags & shm::SHM_EXEC != 0 {
        prot |= Prot::EXEC;
        access.0 |= 0o111;
    }
    let permission = segment.permission();
    permission.check(access, &task.creds(), task.ipc().base.owner())?;
    let mut max_prot = Prot::all();
    max_prot.set(Prot::WRITE, prot.contains(Prot::WRITE));
    let size = segment.size();
    let mappable: Arc<ShmAttachment> = segment.attach(task.pid().0);
    let name = format!("/SYSV{:08x} (deleted)", permission.key).into();
    let request = MapRequest {
        max_prot,
        flags: VmaFlags::SHARED,
        source: Some(MapFile { mappable, offset: 0, file: None, name }),
        ..MapRequest::anonymous(placement, size, prot)
    };
    // shmat(2): EINVAL where something is mapped there already.
    let at = task.mm().map(&request);
    Ok(at.map_err(|errno| if errno == Errno::EEXIST { Errno::EINVAL } else { errno })?)
}

fn placement(addr: u64, flags: i32) -> Result<Placement, Errno> {
    let replaces = flags & shm::SHM_REMAP != 0;
    if addr == 0 {
        return if replaces { Err(Errno::EINVAL) } else { Ok(Placement::Hint(0)) };
    }
    let at = addr - addr % PAGE_SIZE;
    let is_usable = at == addr || (flags & shm::SHM_RND != 0 && (at != 0 || !replaces));
    match () {
        () if !is_usable => Err(Errno::EINVAL),
        // Address 0 after rounding means "anywhere", as Linux has it.
        () if at == 0 => Ok(Placement::Hint(0)),
        () if replaces => Ok(Placement::Fixed(at)),
        () => Ok(Placement::FixedNoReplace(at)),
    }
}

/// `shmdt(2)`.
pub(crate) fn sys_shmdt(task: &mut CurrentTask, args: &Args) -> SysResult {
    let addr = args.u64(0);
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.into());
    }
    let attachment = task.mm().detach::<ShmAttachment>(addr).ok_or(Errno::EINVAL)?;
    attachment.segment().note_detach(task.pid().0);
    Ok(0)
}

/// `shmctl(2)`.
pub(crate) fn sys_shmctl(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (id, command, buf) = (args.i32(0), args.i32(1), args.addr(2));
    if id < 0 || command < 0 {
        return Err(Errno::EINVAL.into());
    }
    let ipc = task.ipc();
    match command {
        cmd::IPC_INFO => show_limits(task, buf),
        cmd::SHM_INFO => show_usage(task, buf),
        cmd::IPC_STAT | cmd::SHM_STAT | cmd::SHM_STAT_ANY => {
            let (found, segment) = if command == cmd::IPC_STAT {
                (None, ipc.shm.by_id(IpcId(id))?)
            } else {
                let (id, segment) = ipc.shm.by_index(id)?;
                (Some(id), segment)
            };
            if command != cmd::SHM_STAT_ANY {
                segment.permission().check(Access::READ, &task.creds(), task.ipc().base.owner())?;
            }
            let mut stat = segment.stat();
            show_ids(&mut stat.perm, task.user_ns());
            (stat.cpid, stat.lpid) = (task.number(Tid(stat.cpid)), task.number(Tid(stat.lpid)));
            task.mm().write_obj(buf, &stat)?;
            Ok(found.map_or(0, id_value))
        }
        cmd::IPC_SET => {
            let to: ShmidDs = task.mm().read_obj(buf)?;
            let segment = ipc.shm.by_id(IpcId(id))?;
            let creds = task.creds();
            segment.update(|permission| {
                permission.check_control(&creds, task.ipc().base.owner())?;
                permission.set(&to.perm, task.user_ns())
            })?;
            Ok(0)
        }
        cmd::IPC_RMID => {
            let segment = ipc.shm.by_id(IpcId(id))?;
            segment.permission().check_control(&task.creds(), task.ipc().base.owner())?;
            segment.remove();
            Ok(0)
        }
        cmd::SHM_LOCK | cmd::SHM_UNLOCK => {
            let segment = ipc.shm.by_id(IpcId(id))?;
            let creds = task.creds();
            if !creds.has_in(ipc.base.owner(), Capabilities::IPC_LOCK) {
                segment.permission().check_control(&creds, task.ipc().base.owner())?;
            }
            segment.set_locked(command == cmd::SHM_LOCK);
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

/// `IPC_INFO`.
fn show_limits(task: &CurrentTask, buf: UserAddr) -> SysResult {
    let ipc = task.ipc();
    let shmmni = ipc.limits.shmmni.load(Ordering::Relaxed) as u64;
    let limits = ShmLimits {
        shmmax: ipc.limits.shmmax.load(Ordering::Relaxed),
        shmmin: SHMMIN,
        shmmni,
        shmseg: shmmni,
        shmall: ipc.limits.shmall.load(Ordering::Relaxed),
        unused: [0; 4],
    };
    task.mm().write_obj(buf, &limits)?;
    Ok(u64::from(ipc.shm.highest_index().cast_unsigned()))
}

/// `SHM_INFO`.
fn show_usage(task: &CurrentTask, buf: UserAddr) -> SysResult {
    let ipc = task.ipc();
    let all = ipc.shm.all();
    let usage = ShmUsage {
        used_ids: i32::try_from(all.len()).unwrap_or(i32::MAX),
        shm_tot: all.iter().map(|(_, segment)| segment.page_count()).sum(),
        shm_rss: all.iter().map(|(_, segment)| segment.resident() / PAGE_SIZE).sum(),
        ..ShmUsage::default()
    };
    task.mm().write_obj(buf, &usage)?;
    Ok(u64::from(ipc.shm.highest_index().cast_unsigned()))
}
