//! `struct msghdr` in guest memory.

use sentry_abi::socket::{MsgHdr, SOCKADDR_STORAGE_LEN, UIO_MAXIOV};

use crate::errno::Errno;
use crate::mm::{UserAddr, UserIo};
use crate::task::CurrentTask;

/// Ancillary data beyond this is refused (`net.core.optmem_max` of Linux 6.x).
const CONTROL_MAX: u64 = 131_072;

/// A decoded `struct msghdr`.
pub(super) struct Message {
    /// `msg_name`.
    pub name: UserAddr,
    /// `msg_namelen`, cut to what an address can have; zero without a name.
    pub name_len: i32,
    /// The data.
    pub io: UserIo,
    /// `msg_control`.
    pub control: UserAddr,
    /// `msg_controllen`.
    pub control_len: usize,
}

/// Reads the header at `addr` (`copy_msghdr_from_user`).
///
/// # Errors
/// `EFAULT`, `EINVAL` for negative lengths, `EMSGSIZE` for too many buffers.
pub(super) fn read(task: &CurrentTask, addr: UserAddr) -> Result<Message, Errno> {
    let header: MsgHdr = task.mm().read_obj(addr)?;
    if header.name_len < 0 {
        return Err(Errno::EINVAL);
    }
    let storage = i32::try_from(SOCKADDR_STORAGE_LEN).unwrap_or(i32::MAX);
    let name_len = if header.name == 0 { 0 } else { header.name_len.min(storage) };
    if header.iov_len > u64::from(UIO_MAXIOV) {
        return Err(Errno::EMSGSIZE);
    }
    let vecs = task.mm().read_iovec(UserAddr(header.iov), header.iov_len)?;
    let control_len = if header.control == 0 { 0 } else { header.control_len };
    Ok(Message {
        name: UserAddr(header.name),
        name_len,
        io: UserIo::from_vecs(task.mm().clone(), &vecs),
        control: UserAddr(header.control),
        control_len: usize::try_from(control_len).map_err(|_| Errno::ENOBUFS)?,
    })
}

/// Reads the ancillary data of a message to send.
///
/// # Errors
/// `ENOBUFS` when it is too long, `EFAULT`.
pub(super) fn read_control(task: &CurrentTask, message: &Message) -> Result<Vec<u8>, Errno> {
    if message.control_len as u64 > CONTROL_MAX {
        return Err(Errno::ENOBUFS);
    }
    let mut control = vec![0; message.control_len];
    task.mm().read_bytes(message.control, &mut control)?;
    Ok(control)
}
