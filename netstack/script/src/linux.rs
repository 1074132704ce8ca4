//! Backend B: the kernel of the host, in a network namespace of the script's own whose only way out is a tun device
//! that the script holds the other end of.

mod figures;
mod namespace;
mod option;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use netstack::packet::Packet;
use netstack_host_links::{HostLink, TapLink};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, Shutdown, SockFlag, SockType, SockaddrStorage, bind, connect, listen,
    recv, send, sendto, shutdown, socket,
};
use nix::sys::time::TimeSpec;

use crate::backend::{Backend, Captured, Reply, Setup, SocketId, Ticket, Tolerance};
use crate::call::{Call, Flags, How, Protocol};
use crate::syntax::BackendName;
use crate::value::Value;

/// The kernel, seen from a thread in a namespace of its own.
#[derive(Debug)]
pub struct LinuxBackend {
    link: Arc<TapLink>,
    setup: Setup,
    begin: Instant,
    sockets: BTreeMap<SocketId, Arc<OwnedFd>>,
    next_id: u32,
    sent: VecDeque<Captured>,
    waiting: BTreeMap<u32, Receiver<Returned>>,
}

/// What a call gives before its descriptors have got numbers.
#[derive(Debug)]
enum Outcome {
    Number(i64),
    Data(Vec<u8>),
    Socket(OwnedFd),
    Name(String),
}

/// When a call returned, and with what.
type Returned = (Duration, Result<Outcome, Errno>);

impl LinuxBackend {
    /// Moves the calling thread into a new namespace, which lives as long as the thread and its sockets do.
    ///
    /// # Errors
    /// Lacking privileges, devices or tools, and settings that the kernel does not have.
    pub fn new(setup: &Setup) -> Result<Self, String> {
        let link = namespace::enter(setup)?;
        Ok(Self {
            link,
            setup: setup.clone(),
            begin: Instant::now(),
            sockets: BTreeMap::new(),
            next_id: 0,
            sent: VecDeque::new(),
            waiting: BTreeMap::new(),
        })
    }

    /// Reads what the kernel has sent, waiting for it until `until` at most.
    fn read(&mut self, until: Duration) {
        let left = until.saturating_sub(self.now());
        let mut fds = [PollFd::new(self.link.fd(), PollFlags::POLLIN)];
        // An interrupted wait is tried again by the caller.
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(left)), None);
        let at = self.now();
        let mut frames: Vec<Packet> = Vec::new();
        if self.link.lead().receive(&mut frames).is_ok() {
            self.sent.extend(frames.iter().map(|frame| Captured { at, bytes: frame.to_vec() }));
        }
    }

    fn fd(&self, id: SocketId) -> Result<Arc<OwnedFd>, Errno> {
        self.sockets.get(&id).map(Arc::clone).ok_or(Errno::EBADF)
    }

    fn any(&self) -> IpAddr {
        if self.setup.is_v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
    }

    fn settle(&mut self, result: Result<Outcome, Errno>) -> Reply {
        match result {
            Ok(Outcome::Number(number)) => Reply::Number(number),
            Ok(Outcome::Data(data)) => Reply::Data(data),
            Ok(Outcome::Name(name)) => Reply::Name(name),
            Ok(Outcome::Socket(fd)) => {
                let id = SocketId(self.next_id);
                self.next_id += 1;
                self.sockets.insert(id, Arc::new(fd));
                Reply::Socket(id)
            }
            Err(errno) => Reply::Error(format!("{errno:?}")),
        }
    }

    fn try_call(&mut self, call: &Call) -> Result<Outcome, Errno> {
        if let Call::Socket(protocol) = call {
            return open(*protocol, self.setup.is_v6);
        }
        let id = call.socket().ok_or(Errno::EBADF)?;
        if let Call::Close(_) = call {
            let fd = self.sockets.remove(&id).ok_or(Errno::EBADF)?;
            drop(fd);
            return Ok(Outcome::Number(0));
        }
        let fd = self.fd(id)?;
        match call {
            Call::Bind(_, port) => {
                bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(self.any(), *port)))?;
                Ok(Outcome::Number(0))
            }
            Call::Accept(_) | Call::Connect(..) => {
                set_nonblocking(&fd, true)?;
                let result = perform(&fd, call, self.setup.peer(), MsgFlags::empty());
                set_nonblocking(&fd, false)?;
                result
            }
            Call::SetOption(_, name, value) => option::set(&fd, name, value),
            Call::GetOption(_, name) => option::get(&fd, name),
            Call::Poll(_, events) => poll(&fd, events),
            call => perform(&fd, call, self.setup.peer(), MsgFlags::MSG_DONTWAIT),
        }
    }
}

impl Backend for LinuxBackend {
    fn name(&self) -> BackendName {
        BackendName::Linux
    }

    fn tolerance(&self) -> Tolerance {
        // Timers of the kernel are late by a tick, and by an eighth of their length where the wheel is coarse; threads
        // of a busy machine run late.
        Tolerance { early: Duration::from_millis(15), late: Duration::from_millis(60), late_percent: 15 }
    }

    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn advance(&mut self, until: Duration) {
        loop {
            self.read(until);
            if self.now() >= until {
                return;
            }
        }
    }

    fn next_packet(&mut self, until: Duration) -> Option<Captured> {
        loop {
            if let Some(captured) = self.sent.pop_front() {
                return Some(captured);
            }
            let is_last = self.now() >= until;
            self.read(until);
            if is_last && self.sent.is_empty() {
                return None;
            }
        }
    }

    fn inject(&mut self, bytes: &[u8]) {
        use netstack::link::Link;
        let mut packets = [Packet::from_frame(bytes.to_vec().into())];
        // A device that is down shows in what does not come.
        let _ = self.link.send_batch(&mut packets);
    }

    fn call(&mut self, call: &Call) -> Reply {
        let result = self.try_call(call);
        self.settle(result)
    }

    fn start(&mut self, call: Call) -> Ticket {
        let ticket = Ticket(self.next_id);
        self.next_id += 1;
        let (sender, receiver) = channel();
        let (begin, peer) = (self.begin, self.setup.peer());
        let fd = match (&call, call.socket()) {
            // The thread has the last handle.
            (Call::Close(id), _) => self.sockets.remove(id).ok_or(Errno::EBADF),
            (_, Some(id)) => self.fd(id),
            (_, None) => Err(Errno::EBADF),
        };
        std::thread::spawn(move || {
            let result = fd.and_then(|fd| match call {
                Call::Close(_) => {
                    drop(fd);
                    Ok(Outcome::Number(0))
                }
                call => perform(&fd, &call, peer, MsgFlags::empty()),
            });
            // The script may have ended.
            let _ = sender.send((begin.elapsed(), result));
        });
        self.waiting.insert(ticket.0, receiver);
        ticket
    }

    fn finished(&mut self, ticket: Ticket) -> Option<(Duration, Reply)> {
        let (at, result) = self.waiting.get(&ticket.0)?.try_recv().ok()?;
        self.waiting.remove(&ticket.0);
        Some((at, self.settle(result)))
    }

    fn info(&mut self, socket: SocketId, field: &str) -> Option<Value> {
        figures::field(self.sockets.get(&socket)?, field)
    }

    fn counter(&mut self, name: &str) -> Option<i64> {
        figures::counter(name)
    }
}

impl Drop for LinuxBackend {
    fn drop(&mut self) {
        // Threads in calls that never return hold the namespace; this ends the calls.
        for fd in self.sockets.values() {
            let _ = shutdown(fd.as_raw_fd(), Shutdown::Both);
        }
    }
}

fn open(protocol: Protocol, is_v6: bool) -> Result<Outcome, Errno> {
    let family = if is_v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let kind = match protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
    };
    Ok(Outcome::Socket(socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?))
}

/// The calls that may wait.
fn perform(fd: &OwnedFd, call: &Call, peer: IpAddr, flags: MsgFlags) -> Result<Outcome, Errno> {
    let raw = fd.as_raw_fd();
    let to = |port: u16| SockaddrStorage::from(SocketAddr::new(peer, port));
    match call {
        Call::Listen(_, backlog) => {
            let backlog = i32::try_from(*backlog).map_err(|_| Errno::EINVAL)?;
            listen(fd, Backlog::new(backlog)?).map(|()| Outcome::Number(0))
        }
        Call::Accept(_) => {
            let clone = fd.try_clone().map_err(from_io)?;
            let (stream, _) = TcpListener::from(clone).accept().map_err(from_io)?;
            Ok(Outcome::Socket(stream.into()))
        }
        Call::Connect(_, port) => connect(raw, &to(*port)).map(|()| Outcome::Number(0)),
        Call::Send(_, data, more) => count(send(raw, data, flags | message_flags(*more))),
        Call::SendTo(_, data, port, more) => {
            count(sendto(raw, data, &to(*port), flags | message_flags(*more)))
        }
        Call::Recv(_, len, more) => {
            let mut buffer = vec![0; *len];
            let count = recv(raw, &mut buffer, flags | message_flags(*more))?;
            buffer.truncate(count);
            Ok(Outcome::Data(buffer))
        }
        Call::Shutdown(_, how) => {
            let how = match how {
                How::Read => Shutdown::Read,
                How::Write => Shutdown::Write,
                How::Both => Shutdown::Both,
            };
            shutdown(raw, how).map(|()| Outcome::Number(0))
        }
        Call::Socket(_)
        | Call::Bind(..)
        | Call::Close(_)
        | Call::SetOption(..)
        | Call::GetOption(..)
        | Call::Poll(..) => Err(Errno::ENOSYS),
    }
}

fn message_flags(flags: Flags) -> MsgFlags {
    let Flags { oob, peek, wait_all, more, fast_open } = flags;
    let mut out = MsgFlags::MSG_NOSIGNAL;
    out.set(MsgFlags::MSG_OOB, oob);
    out.set(MsgFlags::MSG_PEEK, peek);
    out.set(MsgFlags::MSG_WAITALL, wait_all);
    out.set(MsgFlags::from_bits_retain(libc::MSG_MORE), more);
    out.set(MsgFlags::from_bits_retain(libc::MSG_FASTOPEN), fast_open);
    out
}

fn count(result: nix::Result<usize>) -> Result<Outcome, Errno> {
    result.map(|count| Outcome::Number(i64::try_from(count).unwrap_or(i64::MAX)))
}

/// `poll`, by way of epoll: it knows all events.
fn poll(fd: &OwnedFd, events: &[String]) -> Result<Outcome, Errno> {
    let wanted = EVENTS
        .iter()
        .filter(|(name, _)| events.iter().any(|event| event == name))
        .fold(EpollFlags::empty(), |flags, (_, flag)| flags | *flag);
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(fd, EpollEvent::new(wanted, 0))?;
    let mut found = [EpollEvent::empty()];
    epoll.wait(&mut found, EpollTimeout::ZERO)?;
    let ready = found[0].events();
    let names: Vec<&str> =
        EVENTS.iter().filter(|(_, flag)| ready.contains(*flag)).map(|(name, _)| *name).collect();
    Ok(Outcome::Name(if names.is_empty() { "NONE".to_owned() } else { names.join("|") }))
}

fn set_nonblocking(fd: &OwnedFd, on: bool) -> Result<(), Errno> {
    let mut flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, on);
    fcntl(fd, FcntlArg::F_SETFL(flags)).map(drop)
}

fn from_io(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

const EVENTS: [(&str, EpollFlags); 6] = [
    ("IN", EpollFlags::EPOLLIN),
    ("PRI", EpollFlags::EPOLLPRI),
    ("OUT", EpollFlags::EPOLLOUT),
    ("ERR", EpollFlags::EPOLLERR),
    ("HUP", EpollFlags::EPOLLHUP),
    ("RDHUP", EpollFlags::EPOLLRDHUP),
];
