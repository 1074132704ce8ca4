//! `getsockopt(2)` and `setsockopt(2)`.

use sentry_abi::inet::{
    IP_MULTICAST_IF, IP6T_SO_GET_REVISION_MATCH, IP6T_SO_GET_REVISION_TARGET, IP6T_SO_SET_ADD_COUNTERS,
    IP6T_SO_SET_REPLACE, IPV6_CHECKSUM, IPV6_FLOWLABEL_MGR, MCAST_MSFILTER, SO_ORIGINAL_DST, TCP_SAVED_SYN,
};
use sentry_abi::socket::{SO_ATTACH_FILTER, SO_BINDTODEVICE, SOL_IP, SOL_IPV6, SOL_SOCKET, SOL_TCP};

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::socket::SocketFile;
use crate::socket::option::{self, Context, MAX_VALUE};
use crate::syscall::Args;
use crate::task::CurrentTask;

/// `setsockopt(fd, level, name, value, length)`.
pub(crate) fn sys_setsockopt(task: &mut CurrentTask, args: &Args) -> SysResult {
    let len = usize::try_from(args.i32(4)).map_err(|_| Errno::EINVAL)?;
    let file = task.files().get(args.fd(0))?;
    let socket = SocketFile::from_file(&file)?;
    let mut value = vec![0; len.min(MAX_VALUE)];
    let (level, name) = (args.i32(1), args.i32(2));
    // do_ipv6_setsockopt: "if (sockptr_is_null(optval)) val = 0"
    if !(level == SOL_IPV6 && name != IPV6_CHECKSUM && args.addr(3).is_null()) {
        task.mm().read_bytes(args.addr(3), &mut value)?;
    }
    let (buffer, option) = ((args.addr(3), len), (level, name));
    let context = Context { task, socket: socket.socket(), namespace: socket.namespace(), buffer, option };
    option::set(&context, level, name, &value)?;
    Ok(0)
}

/// `getsockopt(fd, level, name, value, length)`.
pub(crate) fn sys_getsockopt(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    let socket = SocketFile::from_file(&file)?;
    let (level, name) = (args.i32(1), args.i32(2));
    let room: i32 = task.mm().read_obj(args.addr(4))?;
    let room = match usize::try_from(room) {
        Ok(room) => room,
        // do_ipv6_getsockopt compares it as an unsigned number, where it does not read the buffer first.
        Err(_) if level == SOL_IPV6 && !reads_buffer(name) => i32::MAX.unsigned_abs() as usize,
        Err(_) => {
            let (buffer, option) = ((args.addr(3), 0), (level, name));
            let namespace = socket.namespace();
            option::check_level(
                &Context { task, socket: socket.socket(), namespace, buffer, option },
                level,
            )?;
            return Err(Errno::EINVAL.into());
        }
    };
    let (buffer, option) = ((args.addr(3), room), (level, name));
    let context = Context { task, socket: socket.socket(), namespace: socket.namespace(), buffer, option };
    if (level, name) == (SOL_SOCKET, SO_ATTACH_FILTER) {
        return get_filter(&context, args.addr(4));
    }
    let value = option::get(&context, level, name).inspect_err(|_| {
        // tcp_get_saved_syn tells whoever has too little room how much it takes.
        if (level, name) == (SOL_TCP, TCP_SAVED_SYN)
            && let Some(Ok(len)) = option::saved_syn_len(&context).map(i32::try_from)
        {
            let _ = task.mm().write_obj(args.addr(4), &len);
        }
    })?;
    let len = shown_len(level, name, &value, room)?;
    task.mm().write_bytes(args.addr(3), &value[..len])?;
    let len = i32::try_from(len).map_err(|_| Errno::EINVAL)?;
    task.mm().write_obj(args.addr(4), &len)?;
    Ok(0)
}

/// Whether an option of `SOL_IPV6` is asked for with a value, which has to have some length.
fn reads_buffer(name: i32) -> bool {
    matches!(
        name,
        MCAST_MSFILTER
            | IPV6_FLOWLABEL_MGR
            | IP6T_SO_SET_REPLACE
            | IP6T_SO_SET_ADD_COUNTERS
            | IP6T_SO_GET_REVISION_MATCH
            | IP6T_SO_GET_REVISION_TARGET
            | SO_ORIGINAL_DST
    )
}

/// `SO_GET_FILTER` counts in instructions, and tells the number where there is room for none (`sk_get_filter`).
fn get_filter(context: &Context<'_>, len_at: UserAddr) -> SysResult {
    let (at, room) = context.buffer;
    let program = option::get(context, SOL_SOCKET, SO_ATTACH_FILTER)?;
    let count = program.len() / 8;
    if room > 0 && count > 0 {
        if room < count {
            return Err(Errno::EINVAL.into());
        }
        context.task.mm().write_bytes(at, &program)?;
    }
    let count = i32::try_from(count).map_err(|_| Errno::EINVAL)?;
    context.task.mm().write_obj(len_at, &count)?;
    Ok(0)
}

/// How much of a value goes to a guest with `room` bytes.
fn shown_len(level: i32, name: i32, value: &[u8], room: usize) -> Result<usize, Errno> {
    // sock_getbindtodevice: "if (len < IFNAMSIZ) return -EINVAL", unless nothing is bound.
    if (level, name) == (SOL_SOCKET, SO_BINDTODEVICE) && !value.is_empty() && room < 16 {
        return Err(Errno::EINVAL);
    }
    // do_ip_getsockopt: a value that fits a byte is given as one where there is no room for an int.
    if level == SOL_IP
        && name != IP_MULTICAST_IF
        && value.len() == 4
        && (1..4).contains(&room)
        && value[1..] == [0; 3]
    {
        return Ok(1);
    }
    Ok(value.len().min(room))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Observed on Linux 6.18.
    #[test]
    fn values_are_cut_as_each_level_does() {
        let int = 64_i32.to_ne_bytes();
        assert_eq!(shown_len(SOL_SOCKET, 2, &int, 1), Ok(1));
        assert_eq!(shown_len(SOL_IP, 2, &int, 3), Ok(1));
        assert_eq!(shown_len(SOL_IP, 2, &300_i32.to_ne_bytes(), 3), Ok(3));
        assert_eq!(shown_len(6, 1, &int, 2), Ok(2));
        assert_eq!(shown_len(SOL_SOCKET, SO_BINDTODEVICE, b"lo\0", 16), Ok(3));
        assert_eq!(shown_len(SOL_SOCKET, SO_BINDTODEVICE, b"lo\0", 1), Err(Errno::EINVAL));
        assert_eq!(shown_len(SOL_SOCKET, SO_BINDTODEVICE, b"", 0), Ok(0));
    }
}
