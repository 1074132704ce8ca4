//! Socket addresses in and out of guest memory.

use sentry_abi::socket::SOCKADDR_STORAGE_LEN;

use crate::errno::Errno;
use crate::mm::UserAddr;
use crate::socket::RawAddr;
use crate::task::CurrentTask;

/// Reads an address of `len` bytes (`move_addr_to_kernel`).
///
/// # Errors
/// `EINVAL` for a length that no address has, `EFAULT`.
pub(super) fn read(task: &CurrentTask, addr: UserAddr, len: i32) -> Result<RawAddr, Errno> {
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    if len > SOCKADDR_STORAGE_LEN {
        return Err(Errno::EINVAL);
    }
    let mut address = RawAddr::from_elem(0, len);
    task.mm().read_bytes(addr, &mut address)?;
    Ok(address)
}

/// Writes an address cut to the room that `*len_addr` says and stores its full length there (`move_addr_to_user`).
///
/// # Errors
/// `EINVAL` for negative room, `EFAULT`.
pub(super) fn write(
    task: &CurrentTask,
    address: &[u8],
    addr: UserAddr,
    len_addr: UserAddr,
) -> Result<(), Errno> {
    let room: i32 = task.mm().read_obj(len_addr)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    task.mm().write_bytes(addr, &address[..address.len().min(room)])?;
    let len = i32::try_from(address.len()).map_err(|_| Errno::EINVAL)?;
    task.mm().write_obj(len_addr, &len)
}
