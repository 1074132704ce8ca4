//! Ancillary data (`cmsg(3)`): decoding what a guest sends, encoding what it receives.

use std::sync::Arc;

use sentry_abi::inet::TCP_CM_INQ;
use sentry_abi::socket::{
    CMSG_HDR_LEN, CmsgHdr, SCM_CREDENTIALS, SCM_PIDFD, SCM_RIGHTS, SO_INQ, SOL_SOCKET, SOL_TCP, Ucred,
    cmsg_align,
};
use smallvec::SmallVec;
use zerocopy::{FromBytes, IntoBytes};

use crate::errno::Errno;
use crate::task::pidfd;
use crate::task::{Capabilities, CurrentTask, Gid, Resource, Tid, Uid};
use crate::vfs::{Fd, FdFlags, File};

/// One piece of ancillary data.
#[derive(Debug, Clone)]
pub enum ControlMessage {
    /// `SCM_RIGHTS`: open files.
    Rights(Vec<Arc<File>>),
    /// `SCM_CREDENTIALS`: who sends.
    Credentials(Ucred),
    /// `SCM_PIDFD`: the process that sends, which the receiver gets a descriptor of.
    Process(Tid),
    /// Anything that is only bytes.
    Bytes {
        /// The level.
        level: i32,
        /// The type.
        kind: i32,
        /// The data.
        data: SmallVec<[u8; 24]>,
    },
}

impl ControlMessage {
    /// A message made of one value.
    #[must_use]
    pub fn value<T: IntoBytes + zerocopy::Immutable + ?Sized>(level: i32, kind: i32, value: &T) -> Self {
        Self::Bytes { level, kind, data: SmallVec::from_slice(value.as_bytes()) }
    }

    /// Whether it only tells how much is left to read, so that reading may go on and tell it anew.
    #[must_use]
    pub fn is_queue_len(&self) -> bool {
        matches!(
            self,
            Self::Bytes { level: SOL_SOCKET, kind: SO_INQ, .. }
                | Self::Bytes { level: SOL_TCP, kind: TCP_CM_INQ, .. }
        )
    }
}

/// Splits a control buffer and gives the messages of `SOL_SOCKET` their meaning.
///
/// # Errors
/// `EINVAL` for a length that leaves the buffer, an unknown type of `SOL_SOCKET` or too many files; `EBADF` for a
/// file that is not open; `EPERM` for credentials that are not the sender's.
pub fn decode(task: &CurrentTask, buf: &[u8], accepts: Accepts) -> Result<Vec<ControlMessage>, Errno> {
    let mut messages = Vec::new();
    let mut rights = Vec::new();
    let mut rest = buf;
    // CMSG_OK: a header that does not fit ends the walk without an error.
    while let Ok((header, _)) = CmsgHdr::read_from_prefix(rest) {
        let len = usize::try_from(header.len).map_err(|_| Errno::EINVAL)?;
        let data = rest.get(CMSG_HDR_LEN..len).ok_or(Errno::EINVAL)?;
        match (header.level, header.kind) {
            (SOL_SOCKET, SCM_RIGHTS) if accepts == Accepts::Rights => decode_rights(task, data, &mut rights)?,
            (SOL_SOCKET, SCM_CREDENTIALS) if accepts == Accepts::Rights => {
                let ucred = Ucred::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
                let ucred = check_credentials(task, ucred)?;
                messages.push(ControlMessage::Credentials(ucred));
            }
            (SOL_SOCKET, SCM_RIGHTS | SCM_CREDENTIALS) => {}
            (SOL_SOCKET, _) if accepts == Accepts::Rights => return Err(Errno::EINVAL),
            (level, kind) => {
                messages.push(ControlMessage::Bytes { level, kind, data: SmallVec::from_slice(data) });
            }
        }
        rest = rest.get(cmsg_align(len)..).unwrap_or(&[]);
    }
    if !rights.is_empty() {
        messages.push(ControlMessage::Rights(rights));
    }
    Ok(messages)
}

/// Whether a socket passes files and credentials (`scm_send`), or ignores them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// `AF_UNIX`, `AF_NETLINK`.
    Rights,
    /// All others.
    OnlyBytes,
}

fn decode_rights(task: &CurrentTask, data: &[u8], rights: &mut Vec<Arc<File>>) -> Result<(), Errno> {
    for fd in data.chunks_exact(4) {
        let fd = Fd(i32::from_ne_bytes([fd[0], fd[1], fd[2], fd[3]]));
        if rights.len() == SCM_MAX_FD {
            return Err(Errno::EINVAL);
        }
        rights.push(task.files().get(fd)?);
    }
    Ok(())
}

/// unix(7): a process without privilege can send only its own process id and one of its real, effective and saved
/// user and group ids. Returns the ids as the sandbox keeps them.
fn check_credentials(task: &CurrentTask, claimed: Ucred) -> Result<Ucred, Errno> {
    let creds = task.creds();
    let (uid, gid) = (creds.user_ns.uid(claimed.uid), creds.user_ns.gid(claimed.gid));
    let (uid, gid) = (uid.ok_or(Errno::EINVAL)?, gid.ok_or(Errno::EINVAL)?);
    let is_own = claimed.pid == task.number(task.pid());
    let is_pid = is_own || creds.has_in(task.pid_ns().base.owner(), Capabilities::SYS_ADMIN);
    let pid = if is_own { Some(task.pid()) } else { task.named(claimed.pid).ok() };
    let is_uid = [creds.uid, creds.euid, creds.suid].contains(&uid) || creds.has_in_own(Capabilities::SETUID);
    let is_gid = [creds.gid, creds.egid, creds.sgid].contains(&gid) || creds.has_in_own(Capabilities::SETGID);
    if is_pid && is_uid && is_gid {
        Ok(Ucred { pid: pid.ok_or(Errno::ESRCH)?.0, uid: uid.0, gid: gid.0 })
    } else {
        Err(Errno::EPERM)
    }
}

/// Credentials as `task` sees them.
#[must_use]
pub fn seen_by(task: &CurrentTask, ucred: Ucred) -> Ucred {
    let user_ns = task.user_ns();
    let pid = task.number(Tid(ucred.pid));
    Ucred { pid, uid: user_ns.show_uid(Uid(ucred.uid)), gid: user_ns.show_gid(Gid(ucred.gid)) }
}

/// Lays out control messages in a buffer of a fixed size.
#[derive(Debug)]
pub struct Encoder {
    buf: Vec<u8>,
    room: usize,
    is_truncated: bool,
}

impl Encoder {
    /// An encoder with `room` bytes.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self { buf: Vec::new(), room, is_truncated: false }
    }

    /// Adds a message; what does not fit is cut, and the file descriptors that do not fit are not made.
    pub fn put(&mut self, task: &CurrentTask, message: ControlMessage, flags: FdFlags) {
        match message {
            ControlMessage::Rights(files) => self.put_rights(task, files, flags),
            ControlMessage::Credentials(ucred) => {
                self.put_bytes(SOL_SOCKET, SCM_CREDENTIALS, seen_by(task, ucred).as_bytes());
            }
            ControlMessage::Process(pid) => self.put_process(task, pid),
            ControlMessage::Bytes { level, kind, data } => self.put_bytes(level, kind, &data),
        }
    }

    /// `put_cmsg` of Linux: a header without room for itself is dropped, data is cut to what fits.
    pub fn put_bytes(&mut self, level: i32, kind: i32, data: &[u8]) {
        let free = self.room - self.buf.len();
        if free < CMSG_HDR_LEN {
            self.is_truncated = true;
            return;
        }
        let len = (CMSG_HDR_LEN + data.len()).min(free);
        self.is_truncated |= len < CMSG_HDR_LEN + data.len();
        let header = CmsgHdr { len: len as u64, level, kind };
        self.buf.extend_from_slice(header.as_bytes());
        self.buf.extend_from_slice(&data[..len - CMSG_HDR_LEN]);
        self.pad();
    }

    fn put_rights(&mut self, task: &CurrentTask, files: Vec<Arc<File>>, flags: FdFlags) {
        let free = self.room - self.buf.len();
        let fit = free.saturating_sub(CMSG_HDR_LEN) / size_of::<i32>();
        let limit = task.rlimit(Resource::Nofile).soft;
        let mut data = Vec::new();
        let total = files.len();
        for file in files.into_iter().take(fit) {
            // EMFILE: Linux stops and sets MSG_CTRUNC (scm_detach_fds).
            let Ok(fd) = task.files().install(file, flags, 0, limit) else { break };
            data.extend_from_slice(&fd.0.to_ne_bytes());
        }
        if data.len() / size_of::<i32>() < total {
            self.is_truncated = true;
        }
        if !data.is_empty() {
            self.put_bytes(SOL_SOCKET, SCM_RIGHTS, &data);
        }
    }

    /// `scm_recv_pidfd`: without room for a number nothing is made; an error takes the place of a descriptor.
    fn put_process(&mut self, task: &CurrentTask, pid: Tid) {
        if self.room - self.buf.len() < CMSG_HDR_LEN + size_of::<i32>() {
            self.is_truncated = true;
            return;
        }
        let number = pidfd::install(task, pid).map_or_else(|error| -i32::from(error.code()), |fd| fd.0);
        self.put_bytes(SOL_SOCKET, SCM_PIDFD, &number.to_ne_bytes());
    }

    fn pad(&mut self) {
        let padded = cmsg_align(self.buf.len()).min(self.room);
        self.buf.resize(padded, 0);
    }

    /// The bytes, and whether something did not fit (`MSG_CTRUNC`).
    #[must_use]
    pub fn finish(self) -> (Vec<u8>, bool) {
        (self.buf, self.is_truncated)
    }
}

/// The most files of one message (`SCM_MAX_FD`).
pub const SCM_MAX_FD: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_padded_and_cut_at_the_end_of_the_buffer() {
        let mut encoder = Encoder::new(24 + 20);
        encoder.put_bytes(0, 2, &[1, 2, 3, 4]);
        encoder.put_bytes(0, 1, &[9; 8]);
        let (bytes, truncated) = encoder.finish();
        assert!(truncated);
        assert_eq!(bytes.len(), 44);
        let (first, _) = CmsgHdr::read_from_prefix(&bytes).unwrap();
        assert_eq!((first.len, first.level, first.kind), (20, 0, 2));
        let (second, _) = CmsgHdr::read_from_prefix(&bytes[24..]).unwrap();
        assert_eq!((second.len, second.kind), (20, 1), "four of the eight bytes fit");
    }

    #[test]
    fn a_header_that_does_not_fit_is_dropped() {
        let mut encoder = Encoder::new(15);
        encoder.put_bytes(0, 2, &[]);
        assert_eq!(encoder.finish(), (vec![], true));
    }
}
