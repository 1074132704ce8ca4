//! A socket of the host behind the operations of `socket(2)`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use sentry_abi::netlink::SockAddrNl;
use sentry_abi::socket::{
    AF_NETLINK, FIONREAD, MsgFlags, SIOCATMARK, SIOCOUTQNSD, SO_ACCEPTCONN, SO_ERROR, SOL_SOCKET, TIOCOUTQ,
    Ucred,
};
use sentry_hostio::socket::{HostSocket as Fd, IntRequest};
use zerocopy::{FromBytes, IntoBytes};

use crate::errno::{Errno, SysResult};
use crate::host_events::Watched;
use crate::io::{IoDst, IoSrc};
use crate::mm::UserAddr;
use crate::socket::base::{SocketBase, SocketType};
use crate::socket::host::{control, errno, netlink};
use crate::socket::ops::{
    Accepted, Destination, Family, RawAddr, Received, RecvRequest, SendRequest, ShutdownHow, Socket,
};
use crate::task::CurrentTask;
use crate::vfs::File;
use crate::wait::{Readiness, WaitQueue};

/// An internet or routing socket of the host.
pub struct HostSocket {
    base: SocketBase,
    fd: Watched<Fd>,
    /// Where a connection attempt goes whose end has not been reported.
    connecting: Mutex<Option<RawAddr>>,
    /// Answers of our own to requests that the host is not asked.
    refusals: Mutex<VecDeque<Vec<u8>>>,
}

impl HostSocket {
    /// A new socket of the host.
    ///
    /// # Errors
    /// As `socket(2)` says to the sentry, which has no privilege.
    pub fn new(family: u16, kind: SocketType, protocol: i32, owner: Ucred) -> Result<Arc<Self>, Errno> {
        let number = i32::try_from(kind.number()).map_err(|_| Errno::EINVAL)?;
        let fd = Fd::new(family.into(), number, protocol).map_err(|error| errno(&error))?;
        Ok(Self::wrap(SocketBase::new(family, kind, protocol, owner), fd))
    }

    fn wrap(base: SocketBase, fd: Fd) -> Arc<Self> {
        Arc::new(Self {
            base,
            fd: Watched::new(fd),
            connecting: Mutex::new(None),
            refusals: Mutex::default(),
        })
    }

    /// The host's socket.
    pub(super) fn fd(&self) -> &Fd {
        self.fd.get()
    }

    fn is_netlink(&self) -> bool {
        self.base.family == AF_NETLINK
    }

    fn is_stream(&self) -> bool {
        self.base.kind == SocketType::Stream
    }

    fn send_stream(&self, src: &mut dyn IoSrc, flags: i32) -> Result<usize, Errno> {
        let mut done = 0;
        loop {
            let want = src.remaining().min(STREAM_CHUNK);
            let sent = with_scratch(want, |buf| {
                let taken = if want == 0 { 0 } else { src.take(buf)? };
                let sent = self.fd.get().send(&buf[..taken], None, &[], flags);
                src.untake(taken - sent.as_ref().copied().unwrap_or(0));
                sent.map_err(|error| errno(&error))
            });
            match sent {
                Ok(sent) => done += sent,
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
            if src.remaining() == 0 {
                return Ok(done);
            }
        }
    }

    fn send_message(
        &self,
        src: &mut dyn IoSrc,
        request: &SendRequest<'_>,
        flags: i32,
    ) -> Result<usize, Errno> {
        let len = src.remaining();
        if len > MESSAGE_MAX {
            return Err(Errno::EMSGSIZE);
        }
        let control = control::encode(&request.control)?;
        let to = match &request.to {
            Destination::Address(address) => Some(*address),
            Destination::Default | Destination::Socket(_) => None,
        };
        with_scratch(len, |buf| {
            if len > 0 && src.take(buf)? < len {
                return Err(Errno::EFAULT);
            }
            if self.is_netlink()
                && let Some(refusal) = netlink::refusal(self.base.protocol, buf, self.netlink_port())
            {
                self.refuse(refusal)?;
                return Ok(len);
            }
            let sent = self.fd.get().send(buf, to, &control, flags);
            if sent.is_err() {
                src.untake(len);
            }
            sent.map_err(|error| errno(&error))
        })
    }

    /// The port of a routing socket, bound now if it was not (`netlink_autobind`).
    fn netlink_port(&self) -> u32 {
        let read = || {
            let address = self.fd.get().local_address().ok()?;
            SockAddrNl::read_from_prefix(address.as_bytes()).ok().map(|(address, _)| address.pid)
        };
        if read() == Some(0) {
            let any = SockAddrNl { family: AF_NETLINK, pad: 0, pid: 0, groups: 0 };
            // Without a port the answer has none either.
            let _ = self.fd.get().bind(any.as_bytes());
        }
        read().unwrap_or(0)
    }

    fn refuse(&self, answer: Vec<u8>) -> Result<(), Errno> {
        let mut refusals = self.refusals.lock();
        // As a full receive buffer would have it.
        if refusals.len() == REFUSALS_MAX {
            return Err(Errno::ENOBUFS);
        }
        refusals.push_back(answer);
        drop(refusals);
        self.fd.queue().notify(Readiness::IN);
        Ok(())
    }

    /// Delivers an answer of our own, where there is one.
    fn take_refusal(&self, dst: &mut dyn IoDst, flags: MsgFlags) -> Option<Result<Received, Errno>> {
        let mut refusals = self.refusals.lock();
        let answer = refusals.front()?;
        let stored = answer.len().min(dst.remaining());
        let copied = if stored == 0 { Ok(0) } else { dst.put(&answer[..stored]) };
        let received = copied.map(|copied| Received {
            copied,
            len: answer.len(),
            flags: if copied < answer.len() { MsgFlags::TRUNC } else { MsgFlags::empty() },
            from: RawAddr::from_slice(
                SockAddrNl { family: AF_NETLINK, pad: 0, pid: 0, groups: 0 }.as_bytes(),
            ),
            control: Vec::new(),
        });
        if !flags.contains(MsgFlags::PEEK) {
            refusals.pop_front();
        }
        Some(received)
    }

    fn int(&self, name: i32) -> Option<i32> {
        let mut value = [0; 4];
        let len = self.fd.get().option(SOL_SOCKET, name, &mut value).ok()?;
        (len == 4).then(|| i32::from_ne_bytes(value))
    }
}

impl Socket for HostSocket {
    fn base(&self) -> &SocketBase {
        &self.base
    }

    fn family(&self) -> Family<'_> {
        Family::Host(self)
    }

    fn bind(&self, _: &mut CurrentTask, address: &[u8]) -> Result<(), Errno> {
        self.fd.get().bind(address).map_err(|error| errno(&error))
    }

    fn listen(&self, _: &mut CurrentTask, backlog: u32) -> Result<(), Errno> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        self.fd.get().listen(backlog).map_err(|error| errno(&error))
    }

    fn try_accept(&self) -> Result<Accepted, Errno> {
        let (fd, peer) = self.fd.get().accept().map_err(|error| errno(&error))?;
        let socket = Self::wrap(self.base.inherit(), fd);
        Ok(Accepted { socket, peer: RawAddr::from_slice(peer.as_bytes()) })
    }

    fn connect(&self, _: &mut CurrentTask, address: &[u8]) -> Result<(), Errno> {
        let outcome = self.fd.get().connect(address).map_err(|error| errno(&error));
        if let Err(Errno::EINPROGRESS | Errno::EALREADY) = outcome {
            *self.connecting.lock() = Some(RawAddr::from_slice(address));
        }
        outcome
    }

    fn connect_result(&self) -> Result<(), Errno> {
        if !self.fd.readiness().intersects(Readiness::OUT | Readiness::ALWAYS) {
            return Err(Errno::EAGAIN);
        }
        // Asking again tells how it ended, and tells the host that it was told (__inet_stream_connect).
        let Some(address) = self.connecting.lock().take() else { return Ok(()) };
        match self.fd.get().connect(&address).map_err(|error| errno(&error)) {
            Err(Errno::EALREADY | Errno::EINPROGRESS) => {
                *self.connecting.lock() = Some(address);
                Err(Errno::EAGAIN)
            }
            outcome => outcome,
        }
    }

    fn local_address(&self) -> Result<RawAddr, Errno> {
        let address = self.fd.get().local_address().map_err(|error| errno(&error))?;
        Ok(RawAddr::from_slice(address.as_bytes()))
    }

    fn peer_address(&self) -> Result<RawAddr, Errno> {
        let address = self.fd.get().peer_address().map_err(|error| errno(&error))?;
        Ok(RawAddr::from_slice(address.as_bytes()))
    }

    fn try_send(&self, src: &mut dyn IoSrc, request: &SendRequest<'_>) -> Result<usize, Errno> {
        if request.flags.contains(MsgFlags::FASTOPEN) {
            return Err(Errno::EOPNOTSUPP);
        }
        let flags = (request.flags & SENT_FLAGS).bits().cast_signed();
        if self.is_stream() { self.send_stream(src, flags) } else { self.send_message(src, request, flags) }
    }

    fn try_recv(&self, dst: &mut dyn IoDst, request: RecvRequest) -> Result<Received, Errno> {
        if self.is_netlink()
            && let Some(received) = self.take_refusal(dst, request.flags)
        {
            return received;
        }
        let mut flags = request.flags & RECEIVED_FLAGS;
        // To know how long a message was, whatever the guest asks; on a stream the flag discards.
        let discards = self.is_stream() && flags.contains(MsgFlags::TRUNC);
        flags.set(MsgFlags::TRUNC, !self.is_stream() || discards);
        let mut room = [0; CONTROL_ROOM];
        let room = if request.wants_control { &mut room[..] } else { &mut [] };
        let limit = if self.is_stream() { STREAM_CHUNK } else { MESSAGE_MAX };
        with_scratch(dst.remaining().min(limit), |buf| {
            let message = self
                .fd
                .get()
                .receive(buf, room, flags.bits().cast_signed())
                .map_err(|error| errno(&error))?;
            let stored = message.len.min(buf.len());
            let copied = if discards || stored == 0 { stored } else { dst.put(&buf[..stored])? };
            let host_flags = MsgFlags::from_bits_truncate(message.flags.cast_unsigned());
            Ok(Received {
                copied,
                len: message.len,
                flags: host_flags & SHOWN_FLAGS,
                from: RawAddr::from_slice(message.from.as_bytes()),
                control: control::decode(&room[..message.control_len.min(room.len())]),
            })
        })
    }

    fn shutdown(&self, how: ShutdownHow) -> Result<(), Errno> {
        // SHUT_RD, SHUT_WR, SHUT_RDWR.
        let how = match how {
            ShutdownHow::Read => 0,
            ShutdownHow::Write => 1,
            ShutdownHow::Both => 2,
        };
        let outcome = self.fd.get().shutdown(how).map_err(|error| errno(&error));
        // The host tells its own waiters of some of these changes only.
        self.fd.queue().notify(Readiness::IN | Readiness::OUT | Readiness::RDHUP);
        outcome
    }

    fn ioctl(&self, task: &mut CurrentTask, _: &File, request: u32, arg: u64) -> SysResult {
        let request = match request {
            FIONREAD => IntRequest::Readable,
            TIOCOUTQ => IntRequest::Unacknowledged,
            SIOCOUTQNSD => IntRequest::NotSent,
            SIOCATMARK => IntRequest::AtMark,
            _ => return Err(Errno::ENOTTY.into()),
        };
        let value = self.fd.get().int_request(request).map_err(|error| errno(&error))?;
        task.mm().write_obj(UserAddr(arg), &value)?;
        Ok(0)
    }

    fn take_error(&self) -> Option<Errno> {
        let code = u16::try_from(self.int(SO_ERROR)?).ok().filter(|code| *code != 0)?;
        Errno::from_code(code.into())
    }

    fn is_listening(&self) -> bool {
        self.int(SO_ACCEPTCONN).is_some_and(|on| on != 0)
    }

    fn readiness(&self) -> Readiness {
        let has_refusal = self.is_netlink() && !self.refusals.lock().is_empty();
        let own = if has_refusal { Readiness::IN } else { Readiness::empty() };
        own | self.fd.readiness()
    }

    fn wait_queue(&self) -> &WaitQueue {
        // Whoever asks is about to wait.
        self.fd.watch();
        self.fd.queue()
    }

    fn close(&self) {
        // The host's socket is closed with the value.
    }
}

/// Flags of send(2) that mean something to the host; waiting and signals stay with the guest's kernel.
const SENT_FLAGS: MsgFlags = MsgFlags::OOB
    .union(MsgFlags::DONTROUTE)
    .union(MsgFlags::MORE)
    .union(MsgFlags::CONFIRM)
    .union(MsgFlags::EOR);

/// Flags of recv(2) that mean something to the host.
const RECEIVED_FLAGS: MsgFlags =
    MsgFlags::OOB.union(MsgFlags::PEEK).union(MsgFlags::TRUNC).union(MsgFlags::ERRQUEUE);

/// Flags that the host reports of a message and that the guest sees. It makes its own of `MSG_CTRUNC`.
const SHOWN_FLAGS: MsgFlags =
    MsgFlags::OOB.union(MsgFlags::TRUNC).union(MsgFlags::EOR).union(MsgFlags::ERRQUEUE);

/// Answers of our own that wait to be read.
const REFUSALS_MAX: usize = 64;

/// Bytes of a stream moved per call of the host.
const STREAM_CHUNK: usize = 256 << 10;

/// More than any datagram (64 KiB) or answer of the routing service (32 KiB) has.
const MESSAGE_MAX: usize = 128 << 10;

/// Room for the control messages of one datagram, of which there are a few with at most 48 bytes each.
const CONTROL_ROOM: usize = 1024;

thread_local! {
    /// Bytes on their way between guest and host, one buffer for each thread that moves any.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn with_scratch<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len {
            scratch.resize(len, 0);
        }
        work(&mut scratch[..len])
    })
}
