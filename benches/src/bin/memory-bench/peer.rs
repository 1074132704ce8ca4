//! smoltcp at both ends, set up for speed: frame buffers are reused, sockets are polled on one thread, and TIME-WAIT is cut
//! short.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

use crate::scenario::{PACKET, Pair, Scenario};

pub(crate) fn open(scenario: Scenario) -> Box<dyn Pair> {
    let mut unchecked = ChecksumCapabilities::ignored();
    unchecked.ipv4 = Checksum::None;
    let checked = ChecksumCapabilities::default();
    match scenario {
        Scenario::Bulk => Box::new(Bulk::new(1500, checked)),
        Scenario::BulkUnchecked => Box::new(Bulk::new(1500, unchecked)),
        Scenario::BulkSuper => Box::new(Bulk::new(65_535, unchecked)),
        Scenario::RoundTrip => Box::new(RoundTrip::new(checked)),
        Scenario::Connection => Box::new(Connection::new(checked)),
        Scenario::Datagram | Scenario::DatagramSingle => Box::new(Datagrams::new(checked)),
    }
}

type Frames = VecDeque<Vec<u8>>;

/// One end of the wire.
struct End {
    inbound: Frames,
    outbound: Rc<RefCell<Frames>>,
    spare: Rc<RefCell<Vec<Vec<u8>>>>,
    mtu: usize,
    checksum: ChecksumCapabilities,
}

struct Rx {
    frame: Vec<u8>,
    spare: Rc<RefCell<Vec<Vec<u8>>>>,
}

struct Tx {
    outbound: Rc<RefCell<Frames>>,
    spare: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        let result = read(&self.frame);
        self.spare.borrow_mut().push(self.frame);
        result
    }
}

impl TxToken for Tx {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = self.spare.borrow_mut().pop().unwrap_or_default();
        // Every byte is written by the stack; only growth costs.
        frame.resize(len, 0);
        let result = write(&mut frame);
        self.outbound.borrow_mut().push_back(frame);
        result
    }
}

impl Device for End {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx;

    fn receive(&mut self, now: Instant) -> Option<(Rx, Tx)> {
        let frame = self.inbound.pop_front()?;
        Some((Rx { frame, spare: Rc::clone(&self.spare) }, self.transmit(now)?))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx> {
        Some(Tx { outbound: Rc::clone(&self.outbound), spare: Rc::clone(&self.spare) })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities.checksum = self.checksum.clone();
        capabilities
    }
}

struct Host {
    end: End,
    interface: Interface,
    sockets: SocketSet<'static>,
}

impl Host {
    fn new(number: u8, mtu: usize, checksum: ChecksumCapabilities) -> Self {
        let (outbound, spare) = (Rc::default(), Rc::default());
        let mut end = End { inbound: Frames::new(), outbound, spare, mtu, checksum };
        let config = Config::new(EthernetAddress([2, 0, 0, 0, 0, number]).into());
        let mut interface = Interface::new(config, &mut end, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::v4(10, 0, 0, number), 24)).expect("there is room for one");
        });
        Self { end, interface, sockets: SocketSet::new(Vec::new()) }
    }

    fn add_tcp(&mut self, buffer: usize) -> SocketHandle {
        let make = || tcp::SocketBuffer::new(vec![0; buffer]);
        let mut socket = tcp::Socket::new(make(), make());
        socket.set_nagle_enabled(false);
        self.sockets.add(socket)
    }

    fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }
}

struct Wire {
    hosts: [Host; 2],
    now: Instant,
}

impl Wire {
    fn new(mtu: usize, checksum: &ChecksumCapabilities) -> Self {
        Self { hosts: [1, 2].map(|number| Host::new(number, mtu, checksum.clone())), now: Instant::ZERO }
    }

    /// Polls both and carries frames until there are none.
    fn settle(&mut self) {
        loop {
            for host in &mut self.hosts {
                host.interface.poll(self.now, &mut host.end, &mut host.sockets);
            }
            let [a, b] = &mut self.hosts;
            b.end.inbound.append(&mut a.end.outbound.borrow_mut());
            a.end.inbound.append(&mut b.end.outbound.borrow_mut());
            if a.end.inbound.is_empty() && b.end.inbound.is_empty() {
                return;
            }
        }
    }

    fn pass(&mut self, micros: u64) {
        self.now += Duration::from_micros(micros);
        self.settle();
    }

    fn connect(&mut self, client: SocketHandle, server: SocketHandle, port: u16) {
        let [a, b] = &mut self.hosts;
        if !b.tcp(server).is_open() {
            b.tcp(server).listen(80).expect("the socket is closed");
        }
        let Host { interface, sockets, .. } = a;
        let remote = (IpAddress::v4(10, 0, 0, 2), 80);
        let client = sockets.get_mut::<tcp::Socket<'_>>(client);
        client.connect(interface.context(), remote, port).expect("the socket is closed");
        self.settle();
    }
}

struct Bulk {
    wire: Wire,
    client: SocketHandle,
    server: SocketHandle,
    data: Vec<u8>,
    sink: Vec<u8>,
}

impl Bulk {
    fn new(mtu: usize, checksum: ChecksumCapabilities) -> Self {
        let mut wire = Wire::new(mtu, &checksum);
        let [client, server] = [0, 1].map(|index: usize| wire.hosts[index].add_tcp(SOCKET_BUFFER));
        wire.connect(client, server, FIRST_PORT);
        Self { wire, client, server, data: vec![7; APP_BUFFER], sink: vec![0; APP_BUFFER] }
    }
}

impl Pair for Bulk {
    fn run(&mut self, count: u64) -> u64 {
        let (wanted, mut received) = (count * PACKET, 0);
        while received < wanted {
            let [a, b] = &mut self.wire.hosts;
            a.tcp(self.client).send_slice(&self.data).expect("the connection is open");
            while let Ok(count @ 1..) = b.tcp(self.server).recv_slice(&mut self.sink) {
                received += count as u64;
            }
            self.wire.pass(10);
            // Its acknowledgments are delayed by time alone.
            if self.wire.hosts[1].tcp(self.server).recv_queue() == 0 {
                self.wire.pass(10_000);
            }
        }
        received / PACKET
    }
}

struct RoundTrip {
    wire: Wire,
    ends: [SocketHandle; 2],
}

impl RoundTrip {
    fn new(checksum: ChecksumCapabilities) -> Self {
        let mut wire = Wire::new(1500, &checksum);
        let ends = [0, 1].map(|index: usize| wire.hosts[index].add_tcp(4096));
        wire.connect(ends[0], ends[1], FIRST_PORT);
        Self { wire, ends }
    }
}

impl Pair for RoundTrip {
    fn run(&mut self, count: u64) -> u64 {
        let mut byte = [0; 1];
        for _ in 0..count {
            for (from, to) in [(0, 1), (1, 0)] {
                self.wire.hosts[from].tcp(self.ends[from]).send_slice(b"x").expect("the window is open");
                self.wire.settle();
                self.wire.hosts[to].tcp(self.ends[to]).recv_slice(&mut byte).expect("it has arrived");
            }
        }
        self.wire.pass(count);
        count
    }
}

struct Connection {
    wire: Wire,
    client: SocketHandle,
    server: SocketHandle,
    port: u16,
}

impl Connection {
    fn new(checksum: ChecksumCapabilities) -> Self {
        let mut wire = Wire::new(1500, &checksum);
        let [client, server] = [0, 1].map(|index: usize| wire.hosts[index].add_tcp(4096));
        Self { wire, client, server, port: FIRST_PORT }
    }
}

impl Pair for Connection {
    fn run(&mut self, count: u64) -> u64 {
        for _ in 0..count {
            self.port = self.port.checked_add(1).unwrap_or(FIRST_PORT);
            self.wire.connect(self.client, self.server, self.port);
            self.wire.hosts[0].tcp(self.client).close();
            self.wire.settle();
            self.wire.hosts[1].tcp(self.server).close();
            self.wire.settle();
            // It would wait for ten seconds; nothing is sent from TIME-WAIT, and nothing is left to poll afterwards.
            self.wire.hosts[0].tcp(self.client).abort();
            self.wire.pass(10_000);
        }
        count
    }
}

struct Datagrams {
    wire: Wire,
    client: SocketHandle,
    server: SocketHandle,
}

impl Datagrams {
    fn new(checksum: ChecksumCapabilities) -> Self {
        let mut wire = Wire::new(1500, &checksum);
        let [client, server] = [0_usize, 1].map(|index| {
            let make =
                || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; BURST], vec![0; BURST * 128]);
            let mut socket = udp::Socket::new(make(), make());
            socket.bind(7).expect("the socket is new");
            wire.hosts[index].sockets.add(socket)
        });
        Self { wire, client, server }
    }
}

impl Pair for Datagrams {
    fn run(&mut self, count: u64) -> u64 {
        let (mut received, mut sink) = (0, [0; 64]);
        let remote = (IpAddress::v4(10, 0, 0, 2), 7);
        while received < count {
            let client = self.wire.hosts[0].sockets.get_mut::<udp::Socket<'_>>(self.client);
            for _ in 0..BURST {
                if client.send_slice(&[0; 64], remote).is_err() {
                    break;
                }
            }
            self.wire.settle();
            let server = self.wire.hosts[1].sockets.get_mut::<udp::Socket<'_>>(self.server);
            while server.recv_slice(&mut sink).is_ok() {
                received += 1;
            }
        }
        received
    }
}

/// The socket buffers of a stream: the window stays within a second-level cache.
const SOCKET_BUFFER: usize = 256 << 10;
/// Bytes that the application gives and takes at once.
const APP_BUFFER: usize = 128 << 10;
/// Datagrams sent before the receiver has its turn.
const BURST: usize = 32;
const FIRST_PORT: u16 = 49_152;
