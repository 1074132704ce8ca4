//! A socket as an open file.

use std::sync::Arc;
use std::time::Duration;

use sentry_abi::socket::MsgFlags;

use crate::errno::{Errno, SysResult};
use crate::io::{IoDst, IoSrc};
use crate::socket::ops::{Destination, Family, RecvRequest, SendRequest, Socket};
use crate::socket::owner::Ends;
use crate::socket::{NetNamespace, net_ioctl};
use crate::task::CurrentTask;
use crate::vfs::anon::AnonKind;
use crate::vfs::{File, FileOps, Mappable, OpenFlags};
use crate::wait::{Observer, Readiness, WaitId, WaitQueue};

/// The file operations of every socket. Dropping it closes the socket.
pub struct SocketFile {
    socket: Arc<dyn Socket>,
    namespace: Arc<NetNamespace>,
    /// How a recording calls the process that opened it.
    opener: Option<Box<str>>,
}

impl SocketFile {
    /// An open file over `socket`, with `O_NONBLOCK` or nothing as `flags`.
    #[must_use]
    pub fn open(socket: Arc<dyn Socket>, namespace: &Arc<NetNamespace>, flags: OpenFlags) -> Arc<File> {
        Self::open_for(None, socket, namespace, flags)
    }

    /// The same for a process that has this name in recordings; none where there are none.
    #[must_use]
    pub(crate) fn open_for(
        opener: Option<Box<str>>,
        socket: Arc<dyn Socket>,
        namespace: &Arc<NetNamespace>,
        flags: OpenFlags,
    ) -> Arc<File> {
        let ops = Self { socket: socket.clone(), namespace: namespace.clone(), opener };
        let file = File::anonymous(Box::new(ops), flags | OpenFlags::RDWR, AnonKind::Socket);
        if let Ok(stat) = file.path().stat() {
            socket.base().set_ino(stat.ino);
            namespace.sockets().add(stat.ino, &socket);
        }
        file
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Arc<dyn Socket> {
        &self.socket
    }

    /// The namespace it lives in.
    #[must_use]
    pub fn namespace(&self) -> &Arc<NetNamespace> {
        &self.namespace
    }

    /// Gives the socket to a user, as `fchown(2)` does. Rules of the packet filter still see who opened it (`f_cred`).
    pub fn set_user(&self, user: u32) {
        self.socket.base().set_user(user);
        if let Family::Inet(inet) = self.socket.family() {
            inet.change_options(|options| options.routed_for = Some(user));
        }
    }

    /// The socket file behind `file`.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn from_file(file: &File) -> Result<&Self, Errno> {
        file.downcast().ok_or(Errno::ENOTSOCK)
    }

    /// The socket behind `file`.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn of(file: &File) -> Result<&Arc<dyn Socket>, Errno> {
        Self::from_file(file).map(Self::socket)
    }
}

impl FileOps for SocketFile {
    fn read(&self, _: &File, dst: &mut dyn IoDst, _: &mut u64) -> Result<usize, Errno> {
        let request = RecvRequest { flags: MsgFlags::empty(), wants_address: false, wants_control: false };
        self.socket.try_recv(dst, request).map(|received| received.copied)
    }

    fn write(&self, _: &File, src: &mut dyn IoSrc, _: &mut u64) -> Result<usize, Errno> {
        // DEVIATION: splice(2) and the like send the credentials of the socket's maker, since a file operation does not know
        // its task. The difference shows only to a peer with SO_PASSCRED.
        let sender = src.sender().unwrap_or(self.socket.base().owner);
        let request = SendRequest {
            to: Destination::Default,
            flags: MsgFlags::empty(),
            control: Vec::new(),
            sender,
            in_flight: None,
            task: None,
        };
        self.socket.try_send(src, &request)
    }

    fn ioctl(&self, task: &mut CurrentTask, file: &File, request: u32, arg: u64) -> SysResult {
        net_ioctl::ioctl(self, task, file, request, arg)
    }

    fn mappable(&self, _: &File) -> Result<Arc<dyn Mappable>, Errno> {
        match self.socket.family() {
            Family::Packet(packet) => packet.mappable(),
            // tcp(7) maps only what is received without a copy, which is not built; sock_no_mmap.
            Family::Inet(_) | Family::Unix(_) | Family::Netlink(_) | Family::Host(_) => Err(Errno::ENODEV),
        }
    }

    fn readiness(&self, _: &File) -> Readiness {
        let mut ready = self.socket.readiness();
        if self.socket.base().has_late_error() {
            ready |= Readiness::IN | Readiness::ERR;
        }
        ready
    }

    fn patience(&self, interest: Readiness) -> Option<Duration> {
        let base = self.socket.base();
        let timeout =
            if interest.contains(Readiness::IN) { base.recv_timeout() } else { base.send_timeout() };
        (!timeout.is_zero()).then_some(timeout)
    }

    fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> Option<WaitId> {
        Some(self.socket.wait_queue().register(interest, observer))
    }

    fn unregister(&self, id: WaitId) {
        self.socket.wait_queue().unregister(id);
    }

    fn turns(&self) -> Option<&WaitQueue> {
        Some(self.socket.wait_queue())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Some(opener) = self.opener.take()
            && let Some(ends) = Ends::of(self.socket.family())
        {
            self.namespace.departed().add(ends, opener);
        }
        self.namespace.sockets().remove(self.socket.base().ino());
        self.socket.close();
    }
}
