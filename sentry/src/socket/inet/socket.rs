//! An internet socket: one of the stack's sockets behind the operations of `socket(2)`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use netstack::error::MembershipError;
use netstack::options::{Family as IpFamily, QueuedError, Shutdown, SocketOptions};
use netstack::packet::Owner;
use netstack::tcp::State;
use netstack::{NicId, PingSocket, RawSocket, TcpSocket, UdpSocket};
use sentry_abi::mroute::{SIOCGETSGCNT, SIOCGETVIFCNT};
use sentry_abi::socket::{AF_INET, AF_INET6, FIONREAD, MsgFlags, SIOCATMARK, SIOCOUTQNSD, TIOCOUTQ, Ucred};

use crate::errno::{Errno, SysResult};
use crate::io::{IoDst, IoSrc};
use crate::kernel::Clocks;
use crate::mm::UserAddr;
use crate::socket::NetNamespace;
use crate::socket::base::{SocketBase, SocketType, Switches};
use crate::socket::inet::ToErrno;
use crate::socket::inet::notes::Notes;
use crate::socket::inet::receive::{Receive, ReceiveSwitches};
use crate::socket::inet::{address, ancillary, error_queue, repair};
use crate::socket::mroute;
use crate::socket::ops::{
    Accepted, Family, RawAddr, Received, RecvRequest, SendRequest, ShutdownHow, Socket,
};
use crate::socket::settings::DEFAULT_BUFFER;
use crate::task::{Capabilities, CurrentTask};
use crate::vfs::File;
use crate::wait::{Readiness, WaitQueue};

mod transfer;

pub use transfer::Batch;

/// The kinds of internet sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// `SOCK_STREAM`.
    Tcp,
    /// `SOCK_DGRAM`.
    Udp,
    /// `SOCK_DGRAM` with `IPPROTO_ICMP`.
    Ping,
    /// `SOCK_RAW`.
    Raw,
}

/// The stack's socket.
#[derive(Debug)]
pub enum Protocol {
    /// TCP.
    Tcp(TcpSocket),
    /// UDP.
    Udp(UdpSocket),
    /// ICMP echo.
    Ping(PingSocket),
    /// Raw IP.
    Raw(RawSocket),
}

/// Evaluates an expression for whichever socket it is; all kinds have the method.
macro_rules! each {
    ($socket:expr, $s:ident => $e:expr) => {
        match &$socket.protocol {
            Protocol::Tcp($s) => $e,
            Protocol::Udp($s) => $e,
            Protocol::Ping($s) => $e,
            Protocol::Raw($s) => $e,
        }
    };
}

/// An `AF_INET` or `AF_INET6` socket.
pub struct InetSocket {
    base: SocketBase,
    namespace: Arc<NetNamespace>,
    family: IpFamily,
    protocol: Protocol,
    receive: ReceiveSwitches,
    /// A connection attempt was begun and its end not reported yet (`SS_CONNECTING`).
    is_connecting: AtomicBool,
    /// The connection waits for the first data (`TCP_FASTOPEN_CONNECT`).
    is_deferred: AtomicBool,
    notes: Notes,
    clocks: Clocks,
}

impl InetSocket {
    /// An unbound socket.
    #[must_use]
    pub fn new(
        namespace: Arc<NetNamespace>,
        family: IpFamily,
        transport: Transport,
        protocol: i32,
        owner: Ucred,
    ) -> Arc<Self> {
        let stack = namespace.stack();
        let (kind, socket) = match transport {
            Transport::Tcp => (SocketType::Stream, Protocol::Tcp(TcpSocket::new(stack, family))),
            Transport::Udp => (SocketType::Datagram, Protocol::Udp(UdpSocket::new(stack, family))),
            Transport::Ping => (SocketType::Datagram, Protocol::Ping(PingSocket::new(stack, family))),
            Transport::Raw => {
                // The caller checked the range.
                let number = u8::try_from(protocol).unwrap_or(u8::MAX);
                (SocketType::Raw, Protocol::Raw(RawSocket::new(stack, family, number)))
            }
        };
        let number = match family {
            IpFamily::V4 => AF_INET,
            IpFamily::V6 => AF_INET6,
        };
        let base = SocketBase::new(number, kind, protocol, owner);
        // SOCK_RAW has INET_PROTOSW_REUSE.
        base.set(Switches::REUSE_ADDRESS, transport == Transport::Raw);
        let settings = namespace.settings();
        let buffers = (settings.send_default.get(), settings.receive_default.get());
        let socket = Self::wrap(namespace, family, base, socket);
        let Ucred { uid: user, gid: group, .. } = socket.base.owner;
        // TCP's have settings of their own; the stack gives all others what Linux does by default.
        let has_own_buffers = transport != Transport::Tcp && buffers != (DEFAULT_BUFFER, DEFAULT_BUFFER);
        let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        socket.change_options(|options| {
            options.owner = Some(Owner { user, group });
            // inet6_create sets MC6_ALL only.
            options.multicast_all = family == IpFamily::V4;
            if has_own_buffers {
                options.send_buffer = size(buffers.0);
                options.recv_buffer = size(buffers.1);
            }
        });
        socket
    }

    fn wrap(
        namespace: Arc<NetNamespace>,
        family: IpFamily,
        base: SocketBase,
        protocol: Protocol,
    ) -> Arc<Self> {
        Arc::new(Self {
            base,
            namespace,
            family,
            protocol,
            receive: ReceiveSwitches::default(),
            is_connecting: AtomicBool::new(false),
            is_deferred: AtomicBool::new(false),
            notes: Notes::default(),
            clocks: Clocks::default(),
        })
    }

    /// IPv4 or IPv6.
    #[must_use]
    pub fn ip_family(&self) -> IpFamily {
        self.family
    }

    /// The stack's socket.
    #[must_use]
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// The TCP socket, where it is one.
    #[must_use]
    pub fn tcp(&self) -> Option<&TcpSocket> {
        match &self.protocol {
            Protocol::Tcp(tcp) => Some(tcp),
            Protocol::Udp(_) | Protocol::Ping(_) | Protocol::Raw(_) => None,
        }
    }

    /// What waits in the receive queue of a datagram socket, in bytes of its buffer, and how many datagrams it has lost.
    pub fn datagram_queue(&self) -> Option<(usize, u32)> {
        match &self.protocol {
            Protocol::Tcp(_) => None,
            Protocol::Udp(s) => Some((s.recv_queue_len(), s.dropped())),
            Protocol::Ping(s) => Some((s.recv_queue_len(), s.dropped())),
            Protocol::Raw(s) => Some((s.recv_queue_len(), s.dropped())),
        }
    }

    /// The UDP socket, where it is one.
    #[must_use]
    pub fn udp(&self) -> Option<&UdpSocket> {
        match &self.protocol {
            Protocol::Udp(udp) => Some(udp),
            Protocol::Tcp(_) | Protocol::Ping(_) | Protocol::Raw(_) => None,
        }
    }

    /// The raw socket, where it is one.
    #[must_use]
    pub fn raw(&self) -> Option<&RawSocket> {
        match &self.protocol {
            Protocol::Raw(raw) => Some(raw),
            Protocol::Tcp(_) | Protocol::Ping(_) | Protocol::Udp(_) => None,
        }
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &Arc<NetNamespace> {
        &self.namespace
    }

    /// The stack's options.
    #[must_use]
    pub fn options(&self) -> SocketOptions {
        each!(self, s => s.options())
    }

    /// Changes the stack's options.
    pub fn change_options(&self, change: impl FnOnce(&mut SocketOptions)) {
        each!(self, s => s.set_options(change));
    }

    /// How many connections wait to be accepted, and how many may: what a listening socket has in place of bytes.
    #[must_use]
    pub fn accept_queue(&self) -> (u32, u32) {
        let waiting = self.tcp().map_or(0, |tcp| tcp.listen_queue_lens().0);
        (u32::try_from(waiting).unwrap_or(u32::MAX), self.notes.backlog())
    }

    /// The numbers beside the stack's options.
    #[must_use]
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Which control messages it wants.
    #[must_use]
    pub fn receive_switches(&self) -> &ReceiveSwitches {
        &self.receive
    }

    /// Joins or leaves a multicast group.
    ///
    /// # Errors
    /// `EPROTO` on a TCP socket as Linux says; as `setsockopt(2)` of `IP_ADD_MEMBERSHIP`.
    pub fn change_membership(
        &self,
        group: IpAddr,
        nic: Option<NicId>,
        join: Membership,
    ) -> Result<(), Errno> {
        let done: Result<(), MembershipError> = match (&self.protocol, join) {
            (Protocol::Udp(s), Membership::Join) => s.join_group(group, nic),
            (Protocol::Udp(s), Membership::Leave) => s.leave_group(group, nic),
            (Protocol::Raw(s), Membership::Join) => s.join_group(group, nic),
            (Protocol::Raw(s), Membership::Leave) => s.leave_group(group, nic),
            (Protocol::Tcp(_), _) => return Err(Errno::EPROTO),
            (Protocol::Ping(_), _) => return Err(Errno::EOPNOTSUPP),
        };
        done.map_err(|e| e.to_errno())
    }

    /// This end.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        each!(self, s => s.local_addr())
    }

    /// The other end.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        each!(self, s => s.peer_addr())
    }

    fn take_queued_error(&self) -> Option<QueuedError> {
        each!(self, s => s.take_queued_error())
    }

    /// Privileged ports need a capability (`ip(7)`: `ip_unprivileged_port_start`).
    fn check_port(&self, task: &CurrentTask, address: SocketAddr) -> Result<(), Errno> {
        let start = self.namespace.settings().unprivileged_port_start.get();
        let is_privileged = (1..start).contains(&address.port().into());
        if is_privileged && !self.namespace.grants(&task.creds(), Capabilities::NET_BIND_SERVICE) {
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    fn bind_local(&self, local: SocketAddr) -> Result<(), Errno> {
        each!(self, s => s.bind(local)).map_err(|e| e.to_errno())
    }

    /// A destination, with the flow label in it if the socket looks at those (`IPV6_FLOWINFO_SEND`).
    fn decode_to(&self, address: &[u8]) -> Result<Option<SocketAddr>, Errno> {
        let mut decoded = address::decode(self.family, address)?;
        if let Some(SocketAddr::V6(to)) = &mut decoded {
            let is_wanted = self.receive.get().contains(Receive::FLOW_INFO_SEND);
            to.set_flowinfo(if is_wanted { to.flowinfo() & ancillary::LABEL_MASK } else { 0 });
            self.namespace.flow_labels().check(self, to.flowinfo())?;
        }
        Ok(decoded)
    }

    fn connect_to(&self, address: &[u8]) -> Result<(), Errno> {
        if let Protocol::Tcp(tcp) = &self.protocol {
            return self.connect_tcp(tcp, address);
        }
        let Some(remote) = self.decode_to(address)? else {
            match &self.protocol {
                Protocol::Udp(s) => s.disconnect(),
                Protocol::Ping(s) => s.disconnect(),
                Protocol::Raw(s) => s.disconnect(),
                Protocol::Tcp(s) => s.abort(),
            }
            return Ok(());
        };
        self.notes.note_label(remote);
        each!(self, s => s.connect(remote)).map_err(|e| e.to_errno())
    }

    fn connect_tcp(&self, tcp: &TcpSocket, address: &[u8]) -> Result<(), Errno> {
        let Some(remote) = self.decode_to(address)? else {
            tcp.abort();
            self.is_connecting.store(false, Ordering::Relaxed);
            return Ok(());
        };
        if self.is_connecting.load(Ordering::Relaxed) {
            return match self.connect_result() {
                Err(Errno::EAGAIN) => Err(Errno::EALREADY),
                done => done,
            };
        }
        self.notes.note_label(remote);
        if repair::is_on(&self.base) {
            return repair::connect(&self.base, tcp, remote);
        }
        tcp.connect(remote).map_err(|e| e.to_errno())?;
        if tcp.waits_for_data() {
            // TCP_FASTOPEN_CONNECT: for the program it is connected, and its first write leads the handshake.
            self.is_deferred.store(true, Ordering::Relaxed);
            return Ok(());
        }
        self.is_connecting.store(true, Ordering::Relaxed);
        // Also when the handshake is over already, as over the loopback: a non-blocking connect always says this.
        Err(Errno::EINPROGRESS)
    }

    fn queue_len(&self, request: u32) -> Result<usize, Errno> {
        match (&self.protocol, request) {
            (Protocol::Tcp(tcp), FIONREAD | TIOCOUTQ) if tcp.state() == State::Listen => Err(Errno::EINVAL),
            (Protocol::Tcp(tcp), FIONREAD) => Ok(tcp.recv_queue_len()),
            (Protocol::Tcp(tcp), TIOCOUTQ) => Ok(tcp.send_queue_len()),
            (Protocol::Tcp(tcp), SIOCOUTQNSD) => {
                Ok(tcp.info().map_or(0, |info| usize::try_from(info.not_sent).unwrap_or(usize::MAX)))
            }
            (Protocol::Tcp(tcp), SIOCATMARK) => Ok(tcp.is_at_mark().into()),
            (Protocol::Udp(s), FIONREAD) => Ok(s.next_datagram_len().unwrap_or(0)),
            (Protocol::Ping(s), FIONREAD) => Ok(s.next_datagram_len().unwrap_or(0)),
            (Protocol::Raw(s), FIONREAD) => Ok(s.next_datagram_len().unwrap_or(0)),
            // Datagrams leave at once: nothing of them waits in the socket.
            (Protocol::Udp(_) | Protocol::Ping(_) | Protocol::Raw(_), TIOCOUTQ) => Ok(0),
            _ => Err(Errno::ENOTTY),
        }
    }
}

/// Joining or leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// `IP_ADD_MEMBERSHIP`.
    Join,
    /// `IP_DROP_MEMBERSHIP`.
    Leave,
}

impl Socket for InetSocket {
    fn base(&self) -> &SocketBase {
        &self.base
    }

    fn family(&self) -> Family<'_> {
        Family::Inet(self)
    }

    fn bind(&self, task: &mut CurrentTask, address: &[u8]) -> Result<(), Errno> {
        let needed = match self.family {
            IpFamily::V4 => 16,
            IpFamily::V6 => 24,
        };
        if address.len() < needed {
            return Err(Errno::EINVAL);
        }
        let family = u16::from_ne_bytes([address[0], address[1]]);
        // inet_bind takes AF_UNSPEC with the wildcard address for AF_INET; inet6_bind takes AF_INET6 only.
        let local = match (self.family, family) {
            (IpFamily::V4, sentry_abi::socket::AF_UNSPEC) if address[4..8] == [0; 4] => {
                let port = u16::from_be_bytes([address[2], address[3]]);
                SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), port)
            }
            (IpFamily::V6, AF_INET) => return Err(Errno::EAFNOSUPPORT),
            _ => address::decode(self.family, address)?.ok_or(Errno::EAFNOSUPPORT)?,
        };
        self.check_port(task, local)?;
        if self.namespace.settings().binds_anywhere() {
            // The option itself stays as the program has set it.
            let before = self.options().free_bind;
            self.change_options(|options| options.free_bind = true);
            let bound = self.bind_local(local);
            self.change_options(|options| options.free_bind = before);
            return bound;
        }
        self.bind_local(local)
    }

    fn listen(&self, _: &mut CurrentTask, backlog: u32) -> Result<(), Errno> {
        let tcp = self.tcp().ok_or(Errno::EOPNOTSUPP)?;
        tcp.listen(backlog).map_err(|e| e.to_errno())?;
        // A value of its own, only shown.
        self.notes.set_backlog(backlog);
        Ok(())
    }

    fn try_accept(&self) -> Result<Accepted, Errno> {
        let tcp = self.tcp().ok_or(Errno::EOPNOTSUPP)?;
        let (accepted, peer) = tcp.try_accept().map_err(|e| e.to_errno())?;
        let base = self.base.inherit();
        base.set_peek_offset(self.base.peek_offset());
        let socket = Self::wrap(self.namespace.clone(), self.family, base, Protocol::Tcp(accepted));
        let wanted = self.receive.get();
        socket.receive.set(wanted, true);
        Ok(Accepted { socket, peer: address::encode(self.family, peer) })
    }

    fn connect(&self, _: &mut CurrentTask, address: &[u8]) -> Result<(), Errno> {
        self.connect_to(address)
    }

    fn is_connecting(&self) -> bool {
        self.is_connecting.load(Ordering::Relaxed)
    }

    fn connect_result(&self) -> Result<(), Errno> {
        let Some(tcp) = self.tcp() else { return Ok(()) };
        let result = match tcp.state() {
            State::SynSent | State::SynReceived => return Err(Errno::EAGAIN),
            State::Closed => Err(self.take_error().unwrap_or(Errno::ECONNABORTED)),
            State::Established
            | State::FinWait1
            | State::FinWait2
            | State::TimeWait
            | State::CloseWait
            | State::LastAck
            | State::Closing
            | State::Listen => Ok(()),
        };
        self.is_connecting.store(false, Ordering::Relaxed);
        result
    }

    fn local_address(&self) -> Result<RawAddr, Errno> {
        Ok(address::encode(self.family, self.local()))
    }

    fn peer_address(&self) -> Result<RawAddr, Errno> {
        let peer = self.peer().ok_or(Errno::ENOTCONN)?;
        if self.tcp().is_some_and(|tcp| matches!(tcp.state(), State::SynSent | State::Closed)) {
            return Err(Errno::ENOTCONN);
        }
        Ok(address::encode(self.family, peer))
    }

    fn try_send(&self, src: &mut dyn IoSrc, request: &SendRequest<'_>) -> Result<usize, Errno> {
        match &self.protocol {
            Protocol::Tcp(tcp) => self.send_tcp(tcp, src, request),
            Protocol::Udp(_) | Protocol::Ping(_) | Protocol::Raw(_) => self.send_datagram(src, request),
        }
    }

    fn try_recv(&self, dst: &mut dyn IoDst, request: RecvRequest) -> Result<Received, Errno> {
        if request.flags.contains(MsgFlags::ERRQUEUE) {
            return match self.take_queued_error() {
                Some(error) => error_queue::deliver(self.family, &error, dst),
                None => self.recv_stamp(dst),
            };
        }
        match &self.protocol {
            Protocol::Tcp(tcp) => self.recv_tcp(tcp, dst, request),
            Protocol::Udp(_) | Protocol::Ping(_) | Protocol::Raw(_) => self.recv_datagram(dst, request),
        }
    }

    fn shutdown(&self, how: ShutdownHow) -> Result<(), Errno> {
        let how = match how {
            ShutdownHow::Read => Shutdown::Read,
            ShutdownHow::Write => Shutdown::Write,
            ShutdownHow::Both => Shutdown::Both,
        };
        each!(self, s => s.shutdown(how)).map_err(|e| e.to_errno())
    }

    fn ioctl(&self, task: &mut CurrentTask, _: &File, request: u32, arg: u64) -> SysResult {
        if let (Protocol::Raw(_), SIOCGETVIFCNT | SIOCGETSGCNT) = (&self.protocol, request) {
            return mroute::ioctl(self, task, request, UserAddr(arg));
        }
        let value = i32::try_from(self.queue_len(request)?).unwrap_or(i32::MAX);
        task.mm().write_obj(UserAddr(arg), &value)?;
        Ok(0)
    }

    fn take_error(&self) -> Option<Errno> {
        each!(self, s => s.take_error()).map(|e| e.to_errno())
    }

    fn is_listening(&self) -> bool {
        self.tcp().is_some_and(|tcp| tcp.state() == State::Listen)
    }

    fn readiness(&self) -> Readiness {
        each!(self, s => s.readiness())
    }

    fn wait_queue(&self) -> &WaitQueue {
        each!(self, s => s.wait_queue())
    }

    fn close(&self) {
        if let Protocol::Raw(_) = &self.protocol {
            mroute::close(self);
        }
        if self.family == IpFamily::V6 {
            self.namespace.flow_labels().release(self);
        }
        let Protocol::Tcp(tcp) = &self.protocol else { return };
        // socket(7) SO_LINGER: a time of zero resets the connection. A longer time is not waited for: the connection
        // goes on in the background as without the option, and close(2) returns at once.
        if repair::is_on(&self.base) {
            tcp.forget();
        } else if self.base.has(Switches::LINGER) && self.base.linger_seconds() == 0 {
            tcp.abort();
        } else {
            tcp.close();
        }
    }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
