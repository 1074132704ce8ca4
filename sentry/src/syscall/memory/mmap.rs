//! `mmap(2)`, `munmap(2)`.

use std::sync::Arc;

use crate::errno::{Errno, SysResult};
use crate::mm::{MapFile, MapRequest, PAGE_SIZE, Placement, Prot, SharedMemory, VmaFlags};
use crate::syscall::Args;
use crate::task::CurrentTask;
use crate::vfs::{Fd, MountFlags};

const MAP_SHARED: u32 = 1;
const MAP_PRIVATE: u32 = 2;
const MAP_SHARED_VALIDATE: u32 = 3;
const MAP_TYPE: u32 = 0xf;
const MAP_FIXED: u32 = 0x10;
const MAP_ANONYMOUS: u32 = 0x20;
const MAP_32BIT: u32 = 0x40;
const MAP_GROWSDOWN: u32 = 0x100;
const MAP_DENYWRITE: u32 = 0x800;
const MAP_EXECUTABLE: u32 = 0x1000;
const MAP_LOCKED: u32 = 0x2000;
const MAP_NORESERVE: u32 = 0x4000;
const MAP_POPULATE: u32 = 0x8000;
const MAP_NONBLOCK: u32 = 0x10000;
const MAP_STACK: u32 = 0x20000;
const MAP_HUGETLB: u32 = 0x40000;
const MAP_FIXED_NOREPLACE: u32 = 0x10_0000;
/// `LEGACY_MAP_MASK`: what `MAP_SHARED_VALIDATE` accepts.
const VALIDATED: u32 = MAP_TYPE
    | MAP_FIXED
    | MAP_ANONYMOUS
    | MAP_32BIT
    | MAP_GROWSDOWN
    | MAP_DENYWRITE
    | MAP_EXECUTABLE
    | MAP_LOCKED
    | MAP_NORESERVE
    | MAP_POPULATE
    | MAP_NONBLOCK
    | MAP_STACK
    | MAP_HUGETLB
    | MAP_FIXED_NOREPLACE;

/// `mmap(2)`.
pub(crate) fn sys_mmap(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (addr, len, prot, flags) = (args.u64(0), args.u64(1), args.u32(2), args.u32(3));
    let (fd, offset) = (args.fd(4), args.u64(5));
    if !offset.is_multiple_of(PAGE_SIZE) || len == 0 {
        return Err(Errno::EINVAL.into());
    }
    let is_anonymous = flags & MAP_ANONYMOUS != 0;
    let end = offset.checked_add(len).filter(|e| e.cast_signed() >= 0);
    // What has no file has no offset, and what is too long for any place is that first.
    if !is_anonymous && len.cast_signed() >= 0 && end.is_none() {
        return Err(Errno::EOVERFLOW.into());
    }
    let is_shared = match flags & MAP_TYPE {
        MAP_SHARED => true,
        MAP_SHARED_VALIDATE if flags & !VALIDATED != 0 => return Err(Errno::EOPNOTSUPP.into()),
        MAP_SHARED_VALIDATE => true,
        MAP_PRIVATE => false,
        _ => return Err(Errno::EINVAL.into()),
    };
    if flags & MAP_HUGETLB != 0 && is_anonymous {
        // As on a machine without reserved huge pages.
        return Err(Errno::ENOMEM.into());
    }
    let placement = match () {
        () if flags & MAP_FIXED_NOREPLACE != 0 => Placement::FixedNoReplace(addr),
        () if flags & MAP_FIXED != 0 => Placement::Fixed(addr),
        () => Placement::Hint(addr),
    };
    let mut vma_flags = VmaFlags::empty();
    vma_flags.set(VmaFlags::SHARED, is_shared);
    vma_flags.set(VmaFlags::GROWS_DOWN, flags & MAP_GROWSDOWN != 0 && !is_shared);
    vma_flags.set(VmaFlags::LOCKED, flags & MAP_LOCKED != 0);
    // PROT_GROWSDOWN, PROT_SEM and unknown bits mean nothing here.
    let prot = Prot::from_bits_truncate(prot);
    let mut request = MapRequest { flags: vma_flags, ..MapRequest::anonymous(placement, len, prot) };
    if !is_anonymous {
        request_file(task, &mut request, fd, offset, is_shared)?;
    } else if is_shared {
        let size = len.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
        let mappable = SharedMemory::new(task.kernel().frames(), size);
        let name = "/dev/zero (deleted)".into();
        request.source = Some(MapFile { mappable, offset: 0, file: None, name });
    }
    let at = task.mm().map(&request)?;
    if flags & (MAP_POPULATE | MAP_LOCKED) != 0 && flags & MAP_NONBLOCK == 0 {
        task.mm().populate(at, len);
    }
    Ok(at)
}

/// Checks the descriptor and fills in what is mapped.
fn request_file(
    task: &CurrentTask,
    request: &mut MapRequest,
    fd: Fd,
    offset: u64,
    is_shared: bool,
) -> Result<(), Errno> {
    let file = task.files().get(fd)?;
    let flags = file.flags();
    if !flags.is_readable() {
        return Err(Errno::EACCES);
    }
    if is_shared && !flags.is_writable() {
        if request.prot.contains(Prot::WRITE) {
            return Err(Errno::EACCES);
        }
        request.max_prot.remove(Prot::WRITE);
    }
    if file.path().mount.flags().contains(MountFlags::NOEXEC) {
        if request.prot.contains(Prot::EXEC) {
            return Err(Errno::EPERM);
        }
        request.max_prot.remove(Prot::EXEC);
    }
    let mappable = file.ops().mappable(&file)?;
    mappable.accepts(offset, request.len.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?)?;
    request.source = Some(MapFile { mappable, offset, file: Some(Arc::clone(&file)), name: "".into() });
    Ok(())
}

/// `munmap(2)`.
pub(crate) fn sys_munmap(task: &mut CurrentTask, args: &Args) -> SysResult {
    task.mm().unmap(args.u64(0), args.u64(1))?;
    Ok(0)
}
