//! Messages with descriptors over a Unix socket that keeps their boundaries: one host call for each.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};

/// The longest message. The kernel's default socket buffers hold it.
pub const MAX_PACKET: usize = 128 * 1024;
/// The most descriptors with one message.
const MAX_FDS: usize = 4;

/// One end of a connection.
#[derive(Debug)]
pub struct SeqPacket(OwnedFd);

impl SeqPacket {
    /// A connected pair, close-on-exec.
    ///
    /// # Errors
    /// The errors of socketpair(2).
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(a), Self(b)))
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The errors of sendmsg(2).
    pub fn send(&self, body: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let raw = fd.map(|fd| [fd.as_raw_fd()]);
        let rights = raw.as_ref().map(|raw| [ControlMessage::ScmRights(raw)]);
        let control = rights.as_ref().map_or(&[][..], |rights| &rights[..]);
        loop {
            match sendmsg::<()>(
                self.0.as_raw_fd(),
                &[IoSlice::new(body)],
                control,
                MsgFlags::MSG_NOSIGNAL,
                None,
            ) {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Receives one message into `buf` and returns its length, 0 when the other end is gone, and its descriptor.
    /// Descriptors beyond the first are closed.
    ///
    /// # Errors
    /// The errors of recvmsg(2); `InvalidData` for a message that is longer than `buf`.
    pub fn receive(&self, buf: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; MAX_FDS]);
        loop {
            let mut pieces = [IoSliceMut::new(buf)];
            let received =
                recvmsg::<()>(self.0.as_raw_fd(), &mut pieces, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
            let message = match received {
                Ok(message) => message,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            };
            let mut first = None;
            for control in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(raws) = control {
                    for raw in raws {
                        // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
                        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
                        first.get_or_insert(fd);
                    }
                }
            }
            if message.flags.contains(MsgFlags::MSG_TRUNC) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            return Ok((message.bytes, first));
        }
    }
}

impl From<OwnedFd> for SeqPacket {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<SeqPacket> for OwnedFd {
    fn from(socket: SeqPacket) -> Self {
        socket.0
    }
}

impl AsFd for SeqPacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
