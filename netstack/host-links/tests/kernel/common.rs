//! A stack on a host link, facing the kernel in a network namespace of the test's own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use integration_tests::Netns;
use netstack::error::{AcceptError, RecvError, SendError};
use netstack::options::{Family, RecvFlags};
use netstack::wait::{Readiness, WaitQueue};
use netstack::wire::ethernet::MacAddr;
use netstack::{NicId, Stack, TcpSocket};
use netstack_host_links::{
    Crew, HostLink, PacketLink, PacketOptions, Pump, Reader, TapLink, TapMode, TapOptions, VnetHeaders,
};

/// A test that needs a namespace, a tap and the tools returns, counted, where one is missing.
#[macro_export]
macro_rules! require_net {
    () => {
        integration_tests::require!(
            integration_tests::Need::Root,
            integration_tests::Need::Program("ip"),
            integration_tests::Need::Program("ping"),
            integration_tests::Need::Program("ethtool"),
            integration_tests::Need::File("/dev/net/tun")
        );
    };
}

/// Nothing in these tests takes longer, on a machine that does ten other things.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The kernel's addresses and the stack's.
pub(crate) const KERNEL: [&str; 2] = ["10.9.0.1", "fd09::1"];
pub(crate) const STACK: [&str; 2] = ["10.9.0.2", "fd09::2"];

/// The ways to reach the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A packet socket on a veth pair with all its offloads.
    Veth,
    /// The same; the pair can do nothing by itself.
    VethWithoutOffloads,
    /// A packet socket without virtio-net headers.
    VethWithoutHeaders,
    /// A tap with offloads.
    Tap,
    /// A tap without any.
    TapWithoutHeaders,
    /// A tun with offloads.
    Tun,
}

impl Way {
    pub(crate) const ALL: [Self; 6] = [
        Self::Veth,
        Self::VethWithoutOffloads,
        Self::VethWithoutHeaders,
        Self::Tap,
        Self::TapWithoutHeaders,
        Self::Tun,
    ];
}

/// Who reads the link.
pub(crate) enum Drive {
    /// A thread of its own.
    Reader(#[expect(dead_code, reason = "held for its drop")] Reader),
    /// Whoever waits.
    Crew(Crew),
    /// Nobody, for now.
    Nobody,
}

/// A stack whose link is read by somebody, and the kernel behind it.
pub(crate) struct Net {
    // Before the namespace: fields are dropped in order.
    pub(crate) drive: Drive,
    pub(crate) stack: Stack,
    pub(crate) kernel: Netns,
    link: Arc<dyn HostLink>,
    nic: NicId,
    _stack_end: Option<Netns>,
}

impl Net {
    /// With a reader thread.
    pub(crate) fn new(way: Way, mtu: u32) -> Self {
        Self::with_drive(way, mtu, |pump| Drive::Reader(Reader::spawn(pump).unwrap()))
    }

    pub(crate) fn with_drive(way: Way, mtu: u32, drive: impl FnOnce(Pump) -> Drive) -> Self {
        let kernel = Netns::new();
        let (link, stack_end) = match way {
            Way::Veth | Way::VethWithoutOffloads | Way::VethWithoutHeaders => {
                let stack_end = Netns::new();
                let link = veth(way, mtu, &kernel, &stack_end);
                (link as Arc<dyn HostLink>, Some(stack_end))
            }
            Way::Tap | Way::TapWithoutHeaders | Way::Tun => {
                (tap(way, mtu, &kernel) as Arc<dyn HostLink>, None)
            }
        };
        for (address, length) in KERNEL.iter().zip(["24", "64"]) {
            kernel.ip(&["addr", "add", &format!("{address}/{length}"), "dev", "k0", "nodad"]);
        }
        let stack = Stack::builder().build();
        let nic = stack.add_nic("eth0", Arc::<dyn HostLink>::clone(&link)).unwrap();
        for (address, length) in STACK.iter().zip(["24", "64"]) {
            stack.add_address(nic, format!("{address}/{length}").parse().unwrap()).unwrap();
        }
        let mut pump = Pump::new(stack.clone()).unwrap();
        pump.add(nic, Arc::clone(&link));
        let net = Self { drive: drive(pump), stack, kernel, link, nic, _stack_end: stack_end };
        net.wait_for_carrier();
        net
    }

    /// Stops reading the link, until [`resume`](Self::resume).
    pub(crate) fn pause(&mut self) {
        self.drive = Drive::Nobody;
    }

    /// Reads the link again, on a thread.
    pub(crate) fn resume(&mut self) {
        let mut pump = Pump::new(self.stack.clone()).unwrap();
        pump.add(self.nic, Arc::clone(&self.link));
        self.drive = Drive::Reader(Reader::spawn(pump).unwrap());
    }

    /// A fresh tap drops frames until the kernel has noticed its carrier; IPv6 addresses of the stack are checked for
    /// duplicates first.
    fn wait_for_carrier(&self) {
        for (stack, option) in STACK.iter().zip(["-4", "-6"]) {
            let end = Instant::now() + LIMIT;
            loop {
                let ping = self.kernel.command("ping").args([option, "-c1", "-W1", stack]).output().unwrap();
                if ping.status.success() {
                    break;
                }
                assert!(Instant::now() < end, "{stack} does not answer");
            }
        }
    }

    /// A listening socket of the stack.
    pub(crate) fn listen(&self, address: &str) -> (TcpSocket, SocketAddr) {
        let address: IpAddr = address.parse().unwrap();
        let listener = TcpSocket::new(&self.stack, family(address));
        listener.bind(SocketAddr::new(address, 0)).unwrap();
        listener.listen(512).unwrap();
        let local = listener.local_addr();
        (listener, local)
    }

    /// A connected socket of the stack.
    pub(crate) fn connect(&self, remote: SocketAddr) -> TcpSocket {
        let socket = TcpSocket::new(&self.stack, family(remote.ip()));
        socket.connect(remote).unwrap();
        block(socket.wait_queue(), Readiness::OUT, || {
            socket.readiness().intersects(Readiness::OUT | Readiness::ERR).then_some(())
        });
        if let Some(error) = socket.take_error() {
            panic!("connect to {remote}: {error}");
        }
        socket
    }
}

fn veth(way: Way, mtu: u32, kernel: &Netns, stack_end: &Netns) -> Arc<PacketLink> {
    kernel.ip(&["link", "add", "k0", "type", "veth", "peer", "name", "s0", "netns", stack_end.name()]);
    for (ns, device) in [(kernel, "k0"), (stack_end, "s0")] {
        if way == Way::VethWithoutOffloads {
            let args = ["-K", device, "tso", "off", "gso", "off", "gro", "off", "tx", "off"];
            assert!(ns.command("ethtool").args(args).output().unwrap().status.success());
        }
        ns.ip(&["link", "set", device, "mtu", &mtu.to_string(), "up"]);
    }
    let vnet_headers =
        if way == Way::VethWithoutHeaders { VnetHeaders::Absent } else { VnetHeaders::Present };
    let options = PacketOptions { vnet_headers, ..PacketOptions::default() };
    stack_end.inside(|| PacketLink::open("s0", options)).unwrap()
}

fn tap(way: Way, mtu: u32, kernel: &Netns) -> Arc<TapLink> {
    let mode = if way == Way::Tun { TapMode::Tun } else { TapMode::Tap(MacAddr([2, 0, 0, 0, 0, 2])) };
    let vnet_headers = if way == Way::TapWithoutHeaders { VnetHeaders::Absent } else { VnetHeaders::Present };
    let name = if way == Way::Tun { "tun" } else { "tap" };
    kernel.ip(&["tuntap", "add", "k0", "mode", name]);
    kernel.ip(&["link", "set", "k0", "mtu", &mtu.to_string()]);
    let options = TapOptions { mode, vnet_headers, multi_queue: false, napi: false };
    let link = kernel.inside(|| TapLink::open("k0", options)).unwrap();
    kernel.ip(&["link", "set", "k0", "up"]);
    link
}

pub(crate) fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// Tries until there is a result, sleeping while the object behind `queue` has nothing new.
pub(crate) fn block<T>(queue: &WaitQueue, interest: Readiness, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    let thread = std::thread::current();
    let id = queue.register(interest, Arc::new(move |_: Readiness| thread.unpark()));
    loop {
        if let Some(result) = attempt() {
            queue.unregister(id);
            return result;
        }
        let left = end.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "nothing within {LIMIT:?}");
        std::thread::park_timeout(left);
    }
}

pub(crate) fn accept(listener: &TcpSocket) -> TcpSocket {
    block(listener.wait_queue(), Readiness::IN, || match listener.try_accept() {
        Ok((socket, _)) => Some(socket),
        Err(AcceptError::WouldBlock) => None,
        Err(error) => panic!("accept: {error}"),
    })
}

pub(crate) fn send_all(socket: &TcpSocket, mut data: &[u8]) {
    while !data.is_empty() {
        let count = block(socket.wait_queue(), Readiness::OUT, || match socket.try_send(&mut &*data) {
            Ok(count) => Some(count),
            Err(SendError::WouldBlock) => None,
            Err(error) => panic!("send: {error}"),
        });
        data = &data[count..];
    }
}

/// Receives once; empty at the end of the stream.
pub(crate) fn receive(socket: &TcpSocket) -> Vec<u8> {
    let mut data = Vec::new();
    block(socket.wait_queue(), Readiness::IN, || match socket.try_recv(&mut data, RecvFlags::default()) {
        Ok(_) => Some(()),
        Err(RecvError::WouldBlock) => None,
        Err(error) => panic!("receive: {error}"),
    });
    data
}
