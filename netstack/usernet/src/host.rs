//! The host's side: sockets that do not block, and the epoll set that they are in.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};

use crate::slab::Key;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// The guest's link.
    Link,
    /// A TCP flow's host socket.
    Tcp(Key),
    /// A UDP flow's host socket.
    Udp(Key),
    /// An echo flow's ping socket.
    Echo(Key),
    /// The host's end of a port forward, by its place in the list.
    Forward(u32),
}

impl Token {
    fn to_bits(self) -> u64 {
        let (kind, rest) = match self {
            Self::Link => (0, 0),
            Self::Tcp(key) => (1, key.to_bits()),
            Self::Udp(key) => (2, key.to_bits()),
            Self::Echo(key) => (3, key.to_bits()),
            Self::Forward(index) => (4, u64::from(index)),
        };
        kind << KIND_SHIFT | rest
    }

    fn from_bits(bits: u64) -> Self {
        let rest = bits & ((1 << KIND_SHIFT) - 1);
        let key = Key::from_bits(rest);
        match bits >> KIND_SHIFT {
            1 => Self::Tcp(key),
            2 => Self::Udp(key),
            3 => Self::Echo(key),
            4 => Self::Forward(u32::try_from(rest).unwrap_or(u32::MAX)),
            _ => Self::Link,
        }
    }
}

/// The epoll set.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

/// How a descriptor is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Told for as long as there is something to read.
    Readable,
    /// Told once about each arrival. Room to write is there until a write has said otherwise.
    Arrivals,
    /// Told once about each change, in both directions.
    Changes,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        let arrivals = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        match self {
            Self::Readable => EpollFlags::EPOLLIN,
            Self::Arrivals => arrivals,
            Self::Changes => arrivals | EpollFlags::EPOLLOUT,
        }
    }
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, events: vec![EpollEvent::empty(); MAX_EVENTS] })
    }

    /// Watches a descriptor until it is closed.
    pub(crate) fn add(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(interest.flags(), token.to_bits()))?)
    }

    /// Watches a descriptor differently. What is the case already is told, too.
    pub(crate) fn change(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(interest.flags(), token.to_bits()))?)
    }

    /// Waits, at most for `limit`, and says what happened.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> io::Result<usize> {
        let timeout = match limit {
            None => EpollTimeout::NONE,
            // Rounded up: too early is a turn for nothing.
            Some(limit) => {
                let millis = limit.as_micros().div_ceil(1000).min(MAX_WAIT_MS);
                EpollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
            }
        };
        match self.epoll.wait(&mut self.events, timeout) {
            Ok(count) => Ok(count),
            Err(nix::Error::EINTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// One of the events of the last wait.
    pub(crate) fn event(&self, index: usize) -> (Token, EpollFlags) {
        let event = &self.events[index];
        (Token::from_bits(event.data()), event.events())
    }
}

/// How far an attempt to connect has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Connected,
    Connecting,
}

/// Starts a connection. One to the same host is complete when this returns, or has failed.
pub(crate) fn start_connect(to: SocketAddr) -> io::Result<(TcpStream, Progress)> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family(to.ip()), SockType::Stream, flags, None)?;
    // The guest has decided already what goes in which segment.
    setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    let to = SockaddrStorage::from(to);
    // The first call says that it has begun even where the handshake was over within it; the second knows.
    let mut begun = connect(fd.as_raw_fd(), &to);
    if begun == Err(nix::Error::EINPROGRESS) {
        begun = connect(fd.as_raw_fd(), &to);
    }
    match begun {
        Ok(()) | Err(nix::Error::EISCONN) => Ok((fd.into(), Progress::Connected)),
        Err(nix::Error::EALREADY | nix::Error::EINPROGRESS) => Ok((fd.into(), Progress::Connecting)),
        Err(error) => Err(error.into()),
    }
}

/// Whether an error means that the host, or this process's share of it, is used up.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}

/// A descriptor that can be given up to accept, and refuse, a client when there are no others.
pub(crate) fn spare_descriptor() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?)
}

/// A datagram socket that is connected to `to`.
pub(crate) fn connected_udp(to: SocketAddr) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family(to.ip()), SockType::Datagram, flags, None)?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(fd.into())
}

/// A ping socket (icmp(7), `net.ipv4.ping_group_range`) that is connected to `to`.
pub(crate) fn connected_ping(to: IpAddr) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let protocol = match to {
        IpAddr::V4(_) => SockProtocol::Icmp,
        IpAddr::V6(_) => SockProtocol::IcmpV6,
    };
    let fd: OwnedFd = socket(family(to), SockType::Datagram, flags, protocol)?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(to, 0)))?;
    Ok(fd.into())
}

/// Makes the close of a connection a reset.
pub(crate) fn set_reset_on_close(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // Without it the peer sees an ordinary end, which is the best that is left.
    let _ = setsockopt(stream, sockopt::Linger, &linger);
}

/// The name servers of the host, from resolv.conf(5).
#[must_use]
pub fn host_resolvers() -> Vec<IpAddr> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok()).collect()
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// Above the 56 bits of a key.
const KIND_SHIFT: u32 = 56;
/// Events of one wait: more only delay what comes later.
const MAX_EVENTS: usize = 256;
/// What fits the type below; the loop looks again then.
const MAX_WAIT_MS: u128 = 60_000;
