//! A stream of length-prefixed messages over a Unix socket, each with optional file descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use thiserror::Error;

/// Longest message; a command line with its environment (2 MiB on Linux) fits.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// Most descriptors with one message; the kernel's own limit is SCM_MAX_FD = 253.
pub const MAX_FDS: usize = 64;

/// Why a message could not be sent or received.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// The other end closed the connection.
    #[error("the other end closed the connection")]
    Closed,
    /// The other end announced a longer message than [`MAX_MESSAGE_BYTES`].
    #[error("a message of {0} bytes is too long")]
    TooLong(usize),
    /// The system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One end of a connection.
#[derive(Debug)]
pub struct Channel(UnixStream);

/// A received message.
#[derive(Debug)]
pub struct Message {
    /// The bytes.
    pub body: Vec<u8>,
    /// The descriptors that came along, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

impl Channel {
    /// Wraps a connected stream socket.
    pub fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// A connected pair.
    ///
    /// # Errors
    /// The errors of socketpair(2).
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = UnixStream::pair()?;
        Ok((Self(a), Self(b)))
    }

    /// A second handle on the same connection.
    ///
    /// # Errors
    /// The errors of dup(2).
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Sends one message; blocks while the other end does not read.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub fn send(&self, body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let length = u32::try_from(body.len())
            .ok()
            .filter(|_| body.len() <= MAX_MESSAGE_BYTES)
            .ok_or(ChannelError::TooLong(body.len()))?;
        let header = length.to_le_bytes();
        let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
        // The descriptors travel with the first byte of the header.
        let sent = retry(|| {
            sendmsg::<()>(
                self.0.as_raw_fd(),
                &[IoSlice::new(&header), IoSlice::new(body)],
                control,
                MsgFlags::MSG_NOSIGNAL,
                None,
            )
        })?;
        let mut rest = sent.saturating_sub(header.len());
        if sent < header.len() {
            self.send_rest(&header[sent..])?;
            rest = 0;
        }
        self.send_rest(&body[rest..])
    }

    fn send_rest(&self, mut bytes: &[u8]) -> Result<(), ChannelError> {
        while !bytes.is_empty() {
            let sent = retry(|| nix::sys::socket::send(self.0.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL))?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    /// Receives one message; blocks until it is complete.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub fn receive(&self) -> Result<Message, ChannelError> {
        let mut fds = Vec::new();
        let mut header = [0u8; 4];
        self.receive_exact(&mut header, &mut fds)?;
        let length = usize::try_from(u32::from_le_bytes(header)).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE_BYTES {
            return Err(ChannelError::TooLong(length));
        }
        let mut body = vec![0; length];
        self.receive_exact(&mut body, &mut fds)?;
        Ok(Message { body, fds })
    }

    fn receive_exact(&self, mut buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<(), ChannelError> {
        while !buffer.is_empty() {
            let received = self.receive_some(buffer, fds)?;
            if received == 0 {
                return Err(ChannelError::Closed);
            }
            buffer = &mut buffer[received..];
        }
        Ok(())
    }

    fn receive_some(&self, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
        loop {
            let mut slices = [IoSliceMut::new(buffer)];
            let message = match recvmsg::<()>(
                self.0.as_raw_fd(),
                &mut slices,
                Some(&mut space),
                MsgFlags::MSG_CMSG_CLOEXEC,
            ) {
                Ok(message) => message,
                Err(nix::Error::EINTR) => continue,
                Err(nix::Error::ECONNRESET) => return Ok(0),
                Err(error) => return Err(error.into()),
            };
            for control in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(numbers) = control {
                    for number in numbers {
                        // SAFETY: the kernel installed this descriptor for us with this call and
                        // nothing else knows its number yet.
                        fds.push(unsafe { OwnedFd::from_raw_fd(number) });
                    }
                }
            }
            return Ok(message.bytes);
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0.into()
    }
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> Result<T, ChannelError> {
    loop {
        match call() {
            Ok(value) => return Ok(value),
            Err(nix::Error::EINTR) => {}
            Err(nix::Error::EPIPE | nix::Error::ECONNRESET) => return Err(ChannelError::Closed),
            Err(error) => return Err(ChannelError::Io(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (a, b) = Channel::pair().unwrap();
        let file = File::open("/proc/self/comm").unwrap();
        a.send(b"hello", &[file.as_fd()]).unwrap();
        let message = b.receive().unwrap();
        assert_eq!(message.body, b"hello");
        let [fd]: [OwnedFd; 1] = message.fds.try_into().unwrap();
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        assert!(!text.is_empty());
    }

    #[test]
    fn messages_larger_than_the_socket_buffer_arrive_whole() {
        let (a, b) = Channel::pair().unwrap();
        let body: Vec<u8> = (0..3_000_000u32).map(|i| i.to_le_bytes()[0]).collect();
        let copy = body.clone();
        let sender = std::thread::spawn(move || a.send(&copy, &[]));
        assert_eq!(b.receive().unwrap().body, body);
        sender.join().unwrap().unwrap();
    }

    #[test]
    fn a_closed_end_is_told_apart_from_an_error() {
        let (a, b) = Channel::pair().unwrap();
        drop(a);
        assert!(matches!(b.receive(), Err(ChannelError::Closed)));
    }

    #[test]
    fn a_hostile_length_is_refused_before_allocation() {
        let (a, b) = Channel::pair().unwrap();
        nix::unistd::write(&a, &u32::MAX.to_le_bytes()).unwrap();
        assert!(matches!(b.receive(), Err(ChannelError::TooLong(_))));
    }
}
