//! Backend A: netstack in manual mode. Time is virtual: nothing waits.

mod errno;
mod figures;
mod option;
mod sysctl;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use netstack::error::{ConnectError, FastOpenError};
use netstack::link::channel::ChannelLink;
use netstack::link::{Capabilities, Medium};
use netstack::options::{Family, RecvFlags, SendFlags, SendMeta, Shutdown};
use netstack::route::Route;
use netstack::tcp::{Config, FastOpenModes, UrgentError};
use netstack::time::Instant;
use netstack::wait::Readiness;
use netstack::{IpCidr, NicId, Stack, TcpSocket, UdpSocket};

use crate::backend::{Backend, COMMON_SYSCTLS, Captured, Reply, Setup, SocketId, Ticket, Tolerance};
use crate::call::{Call, Flags, How, Protocol};
use crate::syntax::BackendName;
use crate::value::Value;
use errno::{AsErrno, error};

/// A stack with one link, whose other end is the script.
pub struct NetstackBackend {
    stack: Stack,
    link: Arc<ChannelLink>,
    nic: NicId,
    setup: Setup,
    sockets: BTreeMap<SocketId, Socket>,
    next_id: u32,
    sent: VecDeque<Captured>,
    waiting: Vec<(Ticket, Call)>,
    finished: BTreeMap<u32, (Duration, Reply)>,
}

impl std::fmt::Debug for NetstackBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetstackBackend").field("setup", &self.setup).finish_non_exhaustive()
    }
}

enum Socket {
    Tcp(Box<TcpState>),
    Udp(UdpSocket),
}

/// A TCP socket with what the caller of the stack keeps for it.
struct TcpState {
    socket: TcpSocket,
    /// `SO_LINGER`, in seconds.
    linger: Option<i64>,
    /// A connection attempt was begun and its end not reported yet (`SS_CONNECTING`).
    is_connecting: bool,
}

impl NetstackBackend {
    /// Makes the stack that `setup` describes.
    ///
    /// # Errors
    /// Settings that the stack does not have.
    pub fn new(setup: &Setup) -> Result<Self, String> {
        let mut config = Config::default();
        for (name, value) in COMMON_SYSCTLS {
            sysctl::apply(&mut config, name, &Value::of_text(value))?;
        }
        let of_ip = |name: &str| name.starts_with("ipv6.") || name.starts_with("ipv4.");
        for (name, value) in setup.sysctls.iter().chain(&setup.config).filter(|(name, _)| !of_ip(name)) {
            sysctl::apply(&mut config, name, value)?;
        }
        let stack = Stack::builder().manual_clock().deterministic(1).tcp_config(config).build();
        for (name, value) in setup.sysctls.iter().filter(|(name, _)| of_ip(name)) {
            if !sysctl::apply_to_ip(&stack, name, value) {
                return Err(format!("netstack has no setting `{name} = {value}`"));
            }
        }
        let mtu = usize::try_from(setup.mtu).unwrap_or(usize::MAX);
        let link = ChannelLink::new(Medium::Ip, mtu, Capabilities::default(), QUEUE);
        let nic = stack.add_nic("tun0", link.clone()).map_err(|error| error.to_string())?;
        for (address, default) in [("192.0.2.1/24", "0.0.0.0/0"), ("2001:db8::1/64", "::/0")] {
            let cidr = |text: &str| text.parse::<IpCidr>().map_err(|_| format!("bad address {text}"));
            stack.add_address(nic, cidr(address)?).map_err(|error| error.to_string())?;
            let route = Route::connected(cidr(default)?, nic);
            stack.add_route(route).map_err(|error| error.to_string())?;
        }
        // Time zero is special in places (no timestamp, no deadline); a machine that just booted is past it.
        stack.advance_to(Instant::ZERO + EPOCH);
        link.take();
        Ok(Self {
            stack,
            link,
            nic,
            setup: setup.clone(),
            sockets: BTreeMap::new(),
            next_id: 0,
            sent: VecDeque::new(),
            waiting: Vec::new(),
            finished: BTreeMap::new(),
        })
    }

    /// Takes what the stack has sent, and tries the calls that wait again: every input may end them.
    fn collect(&mut self) {
        loop {
            let at = self.now();
            let frames = self.link.take();
            self.sent.extend(frames.iter().map(|frame| Captured { at, bytes: frame.to_vec() }));
            let mut progressed = false;
            for (ticket, call) in std::mem::take(&mut self.waiting) {
                match self.attempt(&call) {
                    Some(reply) => {
                        self.finished.insert(ticket.0, (at, reply));
                        progressed = true;
                    }
                    None => self.waiting.push((ticket, call)),
                }
            }
            if !progressed {
                return;
            }
        }
    }

    /// Moves to the next deadline before `until`, or to `until`; false once there.
    fn step(&mut self, until: Duration) -> bool {
        let end = Instant::ZERO + EPOCH + until;
        let deadline = self.stack.next_deadline().filter(|deadline| *deadline <= end);
        self.stack.advance_to(deadline.unwrap_or(end));
        self.collect();
        deadline.is_some()
    }

    /// Tries a call that may wait; `None` as long as it has to.
    fn attempt(&mut self, call: &Call) -> Option<Reply> {
        if let Call::Connect(id, _) = call
            && let Some(Socket::Tcp(tcp)) = self.sockets.get(id)
        {
            let ready = tcp.socket.readiness();
            if ready.intersects(Readiness::OUT | Readiness::ERR | Readiness::HUP) {
                return Some(match tcp.socket.take_error() {
                    Some(reason) => error(reason.errno()),
                    None => Reply::Number(0),
                });
            }
            return None;
        }
        match self.call(call) {
            Reply::Error(name) if name == "EAGAIN" => None,
            reply => Some(reply),
        }
    }

    fn add(&mut self, socket: Socket) -> Reply {
        let id = SocketId(self.next_id);
        self.next_id += 1;
        self.sockets.insert(id, socket);
        Reply::Socket(id)
    }

    fn any(&self) -> IpAddr {
        if self.setup.is_v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
    }

    fn open(&mut self, protocol: Protocol) -> Reply {
        let family = if self.setup.is_v6 { Family::V6 } else { Family::V4 };
        let socket = match protocol {
            Protocol::Tcp => Socket::Tcp(Box::new(TcpState {
                socket: TcpSocket::new(&self.stack, family),
                linger: None,
                is_connecting: false,
            })),
            Protocol::Udp => Socket::Udp(UdpSocket::new(&self.stack, family)),
        };
        self.add(socket)
    }

    fn accept(&mut self, id: SocketId) -> Reply {
        let Some(Socket::Tcp(tcp)) = self.sockets.get(&id) else { return error("EOPNOTSUPP") };
        match tcp.socket.try_accept() {
            Ok((socket, _)) => {
                let linger = tcp.linger;
                self.add(Socket::Tcp(Box::new(TcpState { socket, linger, is_connecting: false })))
            }
            Err(reason) => error(reason.errno()),
        }
    }

    fn connect(&mut self, id: SocketId, port: u16) -> Reply {
        let remote = SocketAddr::new(self.setup.peer(), port);
        let result = match self.sockets.get_mut(&id) {
            Some(Socket::Tcp(tcp)) => match tcp.socket.connect(remote) {
                Ok(()) if tcp.socket.waits_for_data() => Ok(()),
                Ok(()) => {
                    tcp.is_connecting = true;
                    return error("EINPROGRESS");
                }
                Err(ConnectError::AlreadyConnected) if tcp.is_connecting => {
                    tcp.is_connecting = false;
                    Ok(())
                }
                Err(reason) => Err(reason),
            },
            Some(Socket::Udp(udp)) => udp.connect(remote),
            None => return error("EBADF"),
        };
        done(result)
    }

    fn close(&mut self, id: SocketId) -> Reply {
        match self.sockets.remove(&id) {
            Some(Socket::Tcp(tcp)) => match tcp.linger {
                Some(0) => tcp.socket.abort(),
                _ => tcp.socket.close(),
            },
            // Dropping it closes it.
            Some(Socket::Udp(_)) => {}
            None => return error("EBADF"),
        }
        Reply::Number(0)
    }

    fn poll(&mut self, id: SocketId, events: &[String]) -> Reply {
        let ready = match self.sockets.get(&id) {
            Some(Socket::Tcp(tcp)) => tcp.socket.readiness(),
            Some(Socket::Udp(udp)) => udp.readiness(),
            None => return error("EBADF"),
        };
        let names: Vec<&str> = READINESS
            .iter()
            .filter(|(name, bit)| {
                let is_wanted = matches!(*name, "ERR" | "HUP") || events.iter().any(|event| event == name);
                is_wanted && ready.contains(*bit)
            })
            .map(|(name, _)| *name)
            .collect();
        Reply::Name(if names.is_empty() { "NONE".to_owned() } else { names.join("|") })
    }
}

impl Backend for NetstackBackend {
    fn name(&self) -> BackendName {
        BackendName::Netstack
    }

    fn tolerance(&self) -> Tolerance {
        // The clock is exact; scripts are written with the kernel's ticks of 4 ms in mind.
        Tolerance { early: Duration::from_millis(5), late: Duration::from_millis(5), late_percent: 1 }
    }

    fn now(&self) -> Duration {
        self.stack.now().saturating_duration_since(Instant::ZERO + EPOCH)
    }

    fn advance(&mut self, until: Duration) {
        while self.now() < until && self.step(until) {}
        self.collect();
    }

    fn next_packet(&mut self, until: Duration) -> Option<Captured> {
        loop {
            if let Some(captured) = self.sent.pop_front() {
                return Some(captured);
            }
            if self.now() >= until {
                return None;
            }
            self.step(until);
        }
    }

    fn inject(&mut self, bytes: &[u8]) {
        self.stack.inject(self.nic, bytes.to_vec());
        // What is due at this very instant happens before anything else.
        self.stack.run_timers();
        self.collect();
    }

    fn call(&mut self, call: &Call) -> Reply {
        let reply = match call {
            Call::Socket(protocol) => self.open(*protocol),
            Call::Bind(id, port) => {
                let local = SocketAddr::new(self.any(), *port);
                match self.sockets.get(id) {
                    Some(Socket::Tcp(tcp)) => done(tcp.socket.bind(local)),
                    Some(Socket::Udp(udp)) => done(udp.bind(local)),
                    None => error("EBADF"),
                }
            }
            Call::Listen(id, backlog) => self.tcp(*id, |tcp| done(tcp.socket.listen(*backlog))),
            Call::Accept(id) => self.accept(*id),
            Call::Connect(id, port) => self.connect(*id, *port),
            Call::Send(id, data, flags) => match self.sockets.get(id) {
                Some(Socket::Tcp(tcp)) => send(tcp, data, *flags),
                Some(Socket::Udp(udp)) => counted(udp.try_send(&mut data.as_slice(), &SendMeta::default())),
                None => error("EBADF"),
            },
            Call::SendTo(id, data, port, flags) => {
                let to = SocketAddr::new(self.setup.peer(), *port);
                match self.sockets.get_mut(id) {
                    Some(Socket::Tcp(tcp)) if flags.fast_open => {
                        if !self.stack.tcp_config().fast_open.contains(FastOpenModes::CLIENT) {
                            return error("EOPNOTSUPP");
                        }
                        send_in_syn(tcp, data, to)
                    }
                    Some(Socket::Tcp(tcp)) => send(tcp, data, *flags),
                    Some(Socket::Udp(udp)) => {
                        let meta = SendMeta { to: Some(to), ..SendMeta::default() };
                        counted(udp.try_send(&mut data.as_slice(), &meta))
                    }
                    None => error("EBADF"),
                }
            }
            Call::Recv(id, len, flags) => match self.sockets.get(id) {
                Some(Socket::Tcp(tcp)) => receive(tcp, *len, *flags),
                Some(Socket::Udp(udp)) => {
                    let mut buffer = vec![0; *len];
                    match udp.try_recv(&mut buffer.as_mut_slice(), RecvFlags { peek: flags.peek, skip: None })
                    {
                        Ok(datagram) => {
                            buffer.truncate(datagram.copied);
                            Reply::Data(buffer)
                        }
                        Err(reason) => error(reason.errno()),
                    }
                }
                None => error("EBADF"),
            },
            Call::Shutdown(id, how) => {
                let how = match how {
                    How::Read => Shutdown::Read,
                    How::Write => Shutdown::Write,
                    How::Both => Shutdown::Both,
                };
                match self.sockets.get(id) {
                    Some(Socket::Tcp(tcp)) => done(tcp.socket.shutdown(how)),
                    Some(Socket::Udp(udp)) => done(udp.shutdown(how)),
                    None => error("EBADF"),
                }
            }
            Call::Close(id) => self.close(*id),
            Call::SetOption(id, name, value) => match self.sockets.get_mut(id) {
                Some(Socket::Tcp(tcp)) => option::set(tcp, name, value),
                Some(Socket::Udp(udp)) => option::set_udp(udp, name, value),
                None => error("EBADF"),
            },
            Call::GetOption(id, name) => match self.sockets.get(id) {
                Some(Socket::Tcp(tcp)) => option::get(tcp, name, &self.stack.tcp_config()),
                Some(Socket::Udp(udp)) => option::get_udp(udp, name),
                None => error("EBADF"),
            },
            Call::Poll(id, events) => self.poll(*id, events),
        };
        let at = self.now();
        let frames = self.link.take();
        self.sent.extend(frames.iter().map(|frame| Captured { at, bytes: frame.to_vec() }));
        reply
    }

    fn start(&mut self, call: Call) -> Ticket {
        let ticket = Ticket(self.next_id);
        self.next_id += 1;
        let first = self.call(&call);
        match first {
            Reply::Error(name) if name == "EAGAIN" || name == "EINPROGRESS" => {
                self.waiting.push((ticket, call));
            }
            reply => {
                self.finished.insert(ticket.0, (self.now(), reply));
            }
        }
        ticket
    }

    fn finished(&mut self, ticket: Ticket) -> Option<(Duration, Reply)> {
        self.finished.remove(&ticket.0)
    }

    fn info(&mut self, socket: SocketId, field: &str) -> Option<Value> {
        match self.sockets.get(&socket)? {
            Socket::Tcp(tcp) => figures::field(&tcp.socket, field),
            Socket::Udp(_) => None,
        }
    }

    fn counter(&mut self, name: &str) -> Option<i64> {
        figures::counter(&self.stack.stats(), name)
    }
}

impl NetstackBackend {
    fn tcp(&self, id: SocketId, work: impl FnOnce(&TcpState) -> Reply) -> Reply {
        match self.sockets.get(&id) {
            Some(Socket::Tcp(tcp)) => work(tcp),
            Some(Socket::Udp(_)) => error("EOPNOTSUPP"),
            None => error("EBADF"),
        }
    }
}

fn done<E: AsErrno>(result: Result<(), E>) -> Reply {
    match result {
        Ok(()) => Reply::Number(0),
        Err(reason) => error(reason.errno()),
    }
}

fn counted<E: AsErrno>(result: Result<usize, E>) -> Reply {
    match result {
        Ok(count) => Reply::Number(i64::try_from(count).unwrap_or(i64::MAX)),
        Err(reason) => error(reason.errno()),
    }
}

fn send(tcp: &TcpState, data: &[u8], flags: Flags) -> Reply {
    if flags.fast_open {
        return error("EOPNOTSUPP");
    }
    let flags = SendFlags { more: flags.more, urgent: flags.oob, stamp: None };
    match tcp.socket.send_as(&mut &data[..], flags) {
        // The stack knows datagrams, too; for a stream it is EPIPE (observed).
        Err(netstack::error::SendError::NotConnected) => error("EPIPE"),
        result => counted(result),
    }
}

/// `MSG_FASTOPEN`: connects with data, or asks for a cookie and leaves the data for later (tcp(7)).
fn send_in_syn(tcp: &mut TcpState, data: &[u8], to: SocketAddr) -> Reply {
    match tcp.socket.connect_with_data(to, &mut &data[..]) {
        Ok(0) => {
            tcp.is_connecting = true;
            error("EINPROGRESS")
        }
        Ok(count) => {
            tcp.is_connecting = true;
            Reply::Number(i64::try_from(count).unwrap_or(i64::MAX))
        }
        Err(FastOpenError::Connect(reason)) => error(reason.errno()),
        Err(FastOpenError::Fault(_)) => error("EFAULT"),
    }
}

fn receive(tcp: &TcpState, len: usize, flags: Flags) -> Reply {
    if flags.oob {
        return match tcp.socket.try_recv_urgent(RecvFlags { peek: flags.peek, skip: None }) {
            Ok(byte) => Reply::Data(vec![byte]),
            Err(UrgentError::WouldBlock) => error("EAGAIN"),
            Err(UrgentError::Nothing) => error("EINVAL"),
            Err(UrgentError::NotConnected) => error("ENOTCONN"),
            Err(UrgentError::EndOfStream) => Reply::Data(Vec::new()),
        };
    }
    if flags.wait_all
        && tcp.socket.recv_queue_len() < len
        && !tcp.socket.readiness().contains(Readiness::RDHUP)
    {
        return error("EAGAIN");
    }
    let mut buffer = vec![0; len];
    match tcp.socket.try_recv(&mut buffer.as_mut_slice(), RecvFlags { peek: flags.peek, skip: None }) {
        Ok(count) => {
            buffer.truncate(count);
            Reply::Data(buffer)
        }
        Err(reason) => error(reason.errno()),
    }
}

const READINESS: [(&str, Readiness); 6] = [
    ("IN", Readiness::IN),
    ("PRI", Readiness::PRI),
    ("OUT", Readiness::OUT),
    ("ERR", Readiness::ERR),
    ("HUP", Readiness::HUP),
    ("RDHUP", Readiness::RDHUP),
];

/// Frames between two looks at the link.
const QUEUE: usize = 65_536;
/// What the stack's clock shows at the script's zero.
const EPOCH: Duration = Duration::from_secs(1000);
