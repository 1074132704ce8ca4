//! Marks and priorities of packets as control messages (`SO_MARK` and `SO_PRIORITY` of `socket(7)`).

use netstack::options::SendMeta;
use sentry_abi::socket::*;

use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::base::{SocketBase, Switches};
use crate::socket::control::ControlMessage;
use crate::task::{Capabilities, CurrentTask};

/// The priorities that take no privilege (`sk_set_prio_allowed`).
pub(in crate::socket) const UNPRIVILEGED: std::ops::RangeInclusive<i32> = 0..=6;

/// Whether the messages of `SOL_SOCKET` are some that a socket of the internet families takes, and the sender may send them
/// (`__sock_cmsg_send`).
///
/// # Errors
/// `EPERM`; `EINVAL` for others, and for values of another size.
pub fn check(
    task: &CurrentTask,
    namespace: &NetNamespace,
    base: &SocketBase,
    control: &[ControlMessage],
) -> Result<(), Errno> {
    for message in control {
        let ControlMessage::Bytes { level: SOL_SOCKET, kind, data } = message else { continue };
        let creds = task.creds();
        let may = |cap| namespace.grants(&creds, cap);
        let is_privileged = || may(Capabilities::NET_ADMIN) || may(Capabilities::NET_RAW);
        match *kind {
            SO_MARK if !is_privileged() => return Err(Errno::EPERM),
            SO_MARK => drop(tag(message)?),
            SO_PRIORITY => {
                let priority = tag(message)?.map_or(0, |(_, priority)| priority.cast_signed());
                if !UNPRIVILEGED.contains(&priority) && !is_privileged() {
                    return Err(Errno::EPERM);
                }
            }
            SO_TIMESTAMPING | SO_TIMESTAMPING_NEW => {}
            SO_TXTIME if base.kept((SOL_SOCKET, SO_TXTIME)).is_some() && data.len() == 8 => {}
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(())
}

fn tag(message: &ControlMessage) -> Result<Option<(i32, u32)>, Errno> {
    match message {
        ControlMessage::Bytes { level: SOL_SOCKET, kind: kind @ (SO_MARK | SO_PRIORITY), data } => {
            let bytes = <[u8; 4]>::try_from(data.as_slice()).map_err(|_| Errno::EINVAL)?;
            Ok(Some((*kind, u32::from_ne_bytes(bytes))))
        }
        _ => Ok(None),
    }
}

/// Applies a message to a datagram.
///
/// # Errors
/// `EINVAL` for values of another size.
pub(super) fn apply(message: &ControlMessage, meta: &mut SendMeta) -> Result<(), Errno> {
    match tag(message)? {
        Some((SO_MARK, mark)) => meta.mark = Some(mark),
        Some((_, priority)) => meta.priority = Some(priority),
        None => {}
    }
    Ok(())
}

/// Tells what a packet has, if the socket wants to know (`__sock_recv_cmsgs`).
pub(in crate::socket) fn describe(
    base: &SocketBase,
    (mark, priority): (u32, u32),
    out: &mut Vec<ControlMessage>,
) {
    let switches = base.switches();
    if switches.contains(Switches::TELLS_MARKS) {
        out.push(ControlMessage::value(SOL_SOCKET, SO_MARK, &mark));
    }
    if switches.contains(Switches::TELLS_PRIORITIES) {
        out.push(ControlMessage::value(SOL_SOCKET, SO_PRIORITY, &priority));
    }
}

/// The priority that a type of service stands for (`rt_tos2priority`).
pub(in crate::socket) fn priority_of_tos(tos: u8) -> u32 {
    /// `ip_tos2prio`: best effort, bulk, interactive, interactive bulk; by the bits of RFC 1349.
    const PRIORITIES: [u32; 4] = [0, 2, 6, 4];
    PRIORITIES[usize::from(tos >> 3 & 3)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_service_have_priorities() {
        let priorities = [0, 4, 8, 0x10, 0x18, 0x1e, 0xe0, 0xb8].map(priority_of_tos);
        assert_eq!(priorities, [0, 0, 2, 6, 4, 4, 0, 4]);
    }

    #[test]
    fn messages_have_the_size_of_an_int() {
        let mut meta = SendMeta::default();
        for (kind, value) in [(SO_MARK, 7_u32), (SO_PRIORITY, 3)] {
            assert_eq!(apply(&ControlMessage::value(SOL_SOCKET, kind, &value), &mut meta), Ok(()));
            let short = ControlMessage::value(SOL_SOCKET, kind, &1_u16);
            assert_eq!(apply(&short, &mut meta), Err(Errno::EINVAL));
        }
        assert_eq!((meta.mark, meta.priority), (Some(7), Some(3)));
    }
}
