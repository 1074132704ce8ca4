//! An `AF_NETLINK` socket that talks to the kernel.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sentry_abi::netlink::{
    NETLINK_KOBJECT_UEVENT, NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG, SockAddrNl,
};
use sentry_abi::socket::{AF_NETLINK, MsgFlags, Ucred};
use zerocopy::{FromBytes, IntoBytes};

use crate::errno::Errno;
use crate::io::{IoDst, IoSrc};
use crate::socket::NetNamespace;
use crate::socket::base::{SocketBase, SocketType, Switches};
use crate::socket::control::ControlMessage;
use crate::socket::netlink::rtnetlink;
use crate::socket::ops::{
    Destination, Family, RawAddr, Received, RecvRequest, SendRequest, ShutdownHow, Socket,
};
use crate::task::{CurrentTask, Task};
use crate::wait::{Readiness, WaitQueue};

/// A netlink socket.
pub struct NetlinkSocket {
    base: SocketBase,
    namespace: Arc<NetNamespace>,
    privilege: Privilege,
    state: Mutex<State>,
    queue: WaitQueue,
    me: Weak<Self>,
}

/// Whether a socket's maker may change the network's configuration. A request is judged by who made the socket:
/// `netlink_capable` asks for both the maker and the sender, who are rarely different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// It has `CAP_NET_ADMIN`.
    Admin,
    /// It can only look.
    Ordinary,
}

struct State {
    /// The port, zero while not bound.
    port: u32,
    /// Multicast groups: bit n-1 for group n.
    groups: u64,
    inbox: VecDeque<(Vec<u8>, u32)>,
    queued: usize,
    send_buffer: usize,
    recv_buffer: usize,
    cap_acks: bool,
    extended_acks: bool,
}

impl NetlinkSocket {
    /// A socket for one of netlink's protocols.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` for protocols that are not built: programs then do without audit, generic netlink, ...
    pub fn new(
        namespace: Arc<NetNamespace>,
        kind: SocketType,
        protocol: i32,
        owner: Ucred,
        privilege: Privilege,
    ) -> Result<Arc<Self>, Errno> {
        if !matches!(protocol, NETLINK_ROUTE | NETLINK_SOCK_DIAG | NETLINK_KOBJECT_UEVENT | NETLINK_NETFILTER)
        {
            return Err(Errno::EPROTONOSUPPORT);
        }
        Ok(Arc::new_cyclic(|me| Self {
            base: SocketBase::new(AF_NETLINK, kind, protocol, owner),
            namespace,
            privilege,
            state: Mutex::new(State {
                port: 0,
                groups: 0,
                inbox: VecDeque::new(),
                queued: 0,
                send_buffer: DEFAULT_BUFFER,
                recv_buffer: DEFAULT_BUFFER,
                cap_acks: false,
                extended_acks: false,
            }),
            queue: WaitQueue::default(),
            me: me.clone(),
        }))
    }

    /// Carries out the requests in `data`, and returns the datagrams that answer them.
    #[must_use]
    pub fn answer(&self, data: &[u8]) -> Vec<Vec<u8>> {
        self.answer_to(data, None)
    }

    /// The same for a task, whose descriptors the requests may name.
    fn answer_to(&self, data: &[u8], task: Option<&Task>) -> Vec<Vec<u8>> {
        let port = self.port();
        rtnetlink::answer(self, port, data, task)
    }

    /// `SO_SNDBUF`.
    #[must_use]
    pub fn send_buffer(&self) -> usize {
        self.state.lock().send_buffer
    }

    /// Sets `SO_SNDBUF`.
    pub fn set_send_buffer(&self, bytes: usize) {
        self.state.lock().send_buffer = bytes;
    }

    /// `SO_RCVBUF`.
    #[must_use]
    pub fn recv_buffer(&self) -> usize {
        self.state.lock().recv_buffer
    }

    /// Sets `SO_RCVBUF`.
    pub fn set_recv_buffer(&self, bytes: usize) {
        self.state.lock().recv_buffer = bytes;
    }

    /// Joins a group.
    pub fn join(&self, group: u32) {
        self.state.lock().groups |= group_bit(group);
        if let Some(me) = self.me.upgrade() {
            self.namespace.subscribers().add(&me);
        }
    }

    /// Leaves a group.
    pub fn leave(&self, group: u32) {
        self.state.lock().groups &= !group_bit(group);
    }

    /// The groups it is in.
    #[must_use]
    pub fn groups(&self) -> u64 {
        self.state.lock().groups
    }

    /// `NETLINK_CAP_ACK`: errors come without the request's body.
    #[must_use]
    pub fn caps_acks(&self) -> bool {
        self.state.lock().cap_acks
    }

    /// Sets `NETLINK_CAP_ACK`.
    pub fn set_cap_acks(&self, on: bool) {
        self.state.lock().cap_acks = on;
    }

    /// `NETLINK_EXT_ACK`: errors come with attributes.
    #[must_use]
    pub fn extends_acks(&self) -> bool {
        self.state.lock().extended_acks
    }

    /// Sets `NETLINK_EXT_ACK`.
    pub fn set_extended_acks(&self, on: bool) {
        self.state.lock().extended_acks = on;
    }

    /// True where requests may change something.
    pub(super) fn is_admin(&self) -> bool {
        self.privilege == Privilege::Admin
    }

    pub(super) fn namespace(&self) -> &Arc<NetNamespace> {
        &self.namespace
    }

    /// The port, taking one if there is none (`netlink_autobind`: the process id if it is free).
    fn port(&self) -> u32 {
        let mut state = self.state.lock();
        if state.port == 0 {
            let subscribers = self.namespace.subscribers();
            let mut port = self.base.owner.pid.unsigned_abs();
            while !subscribers.take_port(self.base.protocol, port) {
                port = self.namespace.next_netlink_port();
            }
            state.port = port;
        }
        state.port
    }

    /// Puts a datagram into the inbox; one that does not fit is dropped, as by Linux with `NETLINK_NO_ENOBUFS`.
    fn enqueue(&self, datagram: Vec<u8>, group: u32) {
        {
            let mut state = self.state.lock();
            if state.queued + datagram.len() > state.recv_buffer {
                return;
            }
            state.queued += datagram.len();
            state.inbox.push_back((datagram, group));
        }
        self.queue.notify(Readiness::IN);
    }

    /// Gives the socket a message of the kernel's own.
    pub(crate) fn deliver(&self, message: Vec<u8>) {
        self.enqueue(message, 0);
    }

    /// Another reference to the socket.
    pub(crate) fn shared(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// Takes a message that went to a multicast group.
    pub(super) fn on_broadcast(&self, protocol: i32, group: u32, datagram: &[u8]) {
        if self.base.protocol == protocol && self.state.lock().groups & group_bit(group) != 0 {
            self.enqueue(datagram.to_vec(), group);
        }
    }
}

/// The bit of a group; numbers beyond 64 have none.
fn group_bit(group: u32) -> u64 {
    1_u64.checked_shl(group.wrapping_sub(1)).unwrap_or(0)
}

fn decode(address: &[u8]) -> Result<SockAddrNl, Errno> {
    let (nl, _) = SockAddrNl::read_from_prefix(address).map_err(|_| Errno::EINVAL)?;
    if nl.family == AF_NETLINK { Ok(nl) } else { Err(Errno::EINVAL) }
}

fn encode(pid: u32, groups: u32) -> RawAddr {
    RawAddr::from_slice(SockAddrNl { family: AF_NETLINK, pad: 0, pid, groups }.as_bytes())
}

impl Socket for NetlinkSocket {
    fn base(&self) -> &SocketBase {
        &self.base
    }

    fn family(&self) -> Family<'_> {
        Family::Netlink(self)
    }

    fn bind(&self, _: &mut CurrentTask, address: &[u8]) -> Result<(), Errno> {
        let nl = decode(address)?;
        {
            let mut state = self.state.lock();
            if state.port != 0 && nl.pid != 0 && nl.pid != state.port {
                return Err(Errno::EINVAL);
            }
            if state.port == 0 && nl.pid != 0 {
                if !self.namespace.subscribers().take_port(self.base.protocol, nl.pid) {
                    return Err(Errno::EADDRINUSE);
                }
                state.port = nl.pid;
            }
            state.groups = (state.groups & !u64::from(u32::MAX)) | u64::from(nl.groups);
        }
        self.port();
        if let Some(me) = self.me.upgrade().filter(|_| nl.groups != 0) {
            self.namespace.subscribers().add(&me);
        }
        Ok(())
    }

    fn connect(&self, _: &mut CurrentTask, address: &[u8]) -> Result<(), Errno> {
        let nl = decode(address)?;
        // Only the kernel is there to talk to.
        if nl.pid != 0 {
            return Err(Errno::ECONNREFUSED);
        }
        self.port();
        Ok(())
    }

    fn local_address(&self) -> Result<RawAddr, Errno> {
        let state = self.state.lock();
        // The address shows the first 32 groups.
        Ok(encode(state.port, (state.groups & u64::from(u32::MAX)) as u32))
    }

    fn peer_address(&self) -> Result<RawAddr, Errno> {
        Ok(encode(0, 0))
    }

    fn try_send(&self, src: &mut dyn IoSrc, request: &SendRequest<'_>) -> Result<usize, Errno> {
        if request.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        if let Destination::Address(address) = &request.to {
            let nl = decode(address)?;
            if nl.pid != 0 || nl.groups != 0 {
                return Err(if nl.groups != 0 { Errno::EPERM } else { Errno::ECONNREFUSED });
            }
        }
        let len = src.remaining();
        if len > self.send_buffer().saturating_sub(32) {
            return Err(Errno::EMSGSIZE);
        }
        let mut data = vec![0; len];
        if len > 0 && src.take(&mut data)? < len {
            return Err(Errno::EFAULT);
        }
        for datagram in self.answer_to(&data, request.task.as_deref()) {
            self.enqueue(datagram, 0);
        }
        Ok(len)
    }

    fn try_recv(&self, dst: &mut dyn IoDst, request: RecvRequest) -> Result<Received, Errno> {
        if request.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let (datagram, group) = {
            let mut state = self.state.lock();
            if request.flags.contains(MsgFlags::PEEK) {
                state.inbox.front().cloned().ok_or(Errno::EAGAIN)?
            } else {
                let (datagram, group) = state.inbox.pop_front().ok_or(Errno::EAGAIN)?;
                state.queued -= datagram.len();
                (datagram, group)
            }
        };
        let want = datagram.len().min(dst.remaining());
        let copied = if want == 0 { 0 } else { dst.put(&datagram[..want])? };
        let from = encode(0, if group == 0 { 0 } else { (group_bit(group) & u64::from(u32::MAX)) as u32 });
        let mut received = Received { copied, len: datagram.len(), from, ..Received::default() };
        received.flags.set(MsgFlags::TRUNC, copied < datagram.len());
        if self.base.has(Switches::PASS_CREDENTIALS) {
            received.control.push(ControlMessage::Credentials(Ucred { pid: 0, uid: 0, gid: 0 }));
        }
        Ok(received)
    }

    fn shutdown(&self, _: ShutdownHow) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn take_error(&self) -> Option<Errno> {
        None
    }

    fn readiness(&self) -> Readiness {
        let has_data = !self.state.lock().inbox.is_empty();
        if has_data { Readiness::IN | Readiness::OUT } else { Readiness::OUT }
    }

    fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn close(&self) {
        let port = std::mem::take(&mut self.state.lock().port);
        if port != 0 {
            self.namespace.subscribers().free_port(self.base.protocol, port);
        }
    }
}

/// `net.core.rmem_default`.
const DEFAULT_BUFFER: usize = 212_992;
