//! Interoperation with smoltcp, an independent stack, in one process and in virtual time.

mod common;

use std::collections::VecDeque;
use std::time::Duration;

use common::{Host, as_received, pattern, read_available};
use netstack::error::{RecvError, SendError, SocketError};
use netstack::link::Capabilities;
use netstack::options::{RecvFlags, SendMeta, Shutdown};
use netstack::tcp::State;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, IpEndpoint, Ipv6Address};

/// smoltcp's side of the wire.
#[derive(Default)]
struct Queues {
    inbound: VecDeque<Vec<u8>>,
    outbound: Vec<Vec<u8>>,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = vec![0; len];
        let result = write(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        let frame = self.inbound.pop_front()?;
        Some((Rx(frame), Tx(&mut self.outbound)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.outbound))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

struct Peers {
    ours: Host,
    device: Queues,
    interface: Interface,
    sockets: SocketSet<'static>,
}

impl Peers {
    /// Ours is 10.0.0.1 and fd00::1, smoltcp is 10.0.0.2 and fd00::2.
    fn new() -> Self {
        let mut device = Queues::default();
        let config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 2]).into());
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::v4(10, 0, 0, 2), 24)).unwrap();
            addresses
                .push(IpCidr::new(IpAddress::Ipv6("fd00::2".parse::<Ipv6Address>().unwrap()), 64))
                .unwrap();
        });
        let ours = Host::new(1, 1500, Capabilities::default());
        Self { ours, device, interface, sockets: SocketSet::new(Vec::new()) }
    }

    fn add_tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 64 << 10]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Lets a millisecond pass and carries frames until both sides are silent.
    fn step(&mut self) {
        let now = self.ours.stack.now() + Duration::from_millis(1);
        self.ours.stack.advance_to(now);
        loop {
            for frame in as_received(self.ours.link.take()) {
                self.device.inbound.push_back(frame.to_vec());
            }
            let their_now = Instant::from_millis(i64::try_from(now.as_millis()).unwrap());
            self.interface.poll(their_now, &mut self.device, &mut self.sockets);
            let frames = std::mem::take(&mut self.device.outbound);
            if frames.is_empty() && self.device.inbound.is_empty() {
                return;
            }
            for frame in frames {
                self.ours.stack.inject(self.ours.nic, frame);
            }
        }
    }

    #[track_caller]
    fn step_until(&mut self, what: &str, mut is_done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..10_000 {
            if is_done(self) {
                return;
            }
            self.step();
        }
        panic!("never: {what}");
    }
}

#[test]
fn we_connect_and_both_directions_carry_a_megabyte() {
    for address in ["10.0.0.2:80", "[fd00::2]:80"] {
        let mut peers = Peers::new();
        let handle = peers.add_tcp();
        peers.tcp(handle).listen(80).unwrap();
        let client = peers.ours.connect(address);
        peers.step_until("established", |peers| peers.tcp(handle).state() == tcp::State::Established);
        let data = pattern(1 << 20);
        let (mut to_them, mut from_them, mut received, mut echoed) =
            (&data[..], &data[..], Vec::new(), Vec::new());
        peers.step_until("transferred", |peers| {
            match client.try_send(&mut &to_them[..]) {
                Ok(count) => to_them = &to_them[count..],
                Err(SendError::WouldBlock) => {}
                Err(error) => panic!("{error}"),
            }
            let socket = peers.tcp(handle);
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), received.extend_from_slice(bytes))).unwrap();
            }
            if socket.can_send() {
                let count = socket.send_slice(from_them).unwrap();
                from_them = &from_them[count..];
            }
            echoed.extend(read_available(&client));
            received.len() == data.len() && echoed.len() == data.len()
        });
        assert!(received == data && echoed == data, "the data differs");
        client.shutdown(Shutdown::Write).unwrap();
        peers.step_until("their end of stream", |peers| peers.tcp(handle).state() == tcp::State::CloseWait);
        peers.tcp(handle).close();
        peers.step_until("our TIME-WAIT", |_| client.state() == State::TimeWait);
        assert_eq!(client.try_recv(&mut Vec::new(), RecvFlags::default()), Ok(0));
        assert_eq!(peers.tcp(handle).state(), tcp::State::Closed);
    }
}

#[test]
fn they_connect_and_they_close() {
    for address in ["10.0.0.1", "fd00::1"] {
        let mut peers = Peers::new();
        let bind = if address.contains(':') { format!("[{address}]:80") } else { format!("{address}:80") };
        let listener = peers.ours.listen(&bind, 4);
        let handle = peers.add_tcp();
        let remote = IpEndpoint::new(address.parse().unwrap(), 80);
        let Peers { interface, sockets, .. } = &mut peers;
        sockets.get_mut::<tcp::Socket<'_>>(handle).connect(interface.context(), remote, 5000).unwrap();
        peers.step_until("accepted", |_| listener.listen_queue_lens().0 == 1);
        let (server, peer) = listener.try_accept().unwrap();
        assert_eq!(peer.port(), 5000);
        peers.tcp(handle).send_slice(b"hello").unwrap();
        peers.tcp(handle).close();
        peers.step_until("end of stream", |_| server.state() == State::CloseWait);
        let mut data = Vec::new();
        assert_eq!(server.try_recv(&mut data, RecvFlags::default()), Ok(5));
        assert_eq!(server.try_recv(&mut data, RecvFlags::default()), Ok(0));
        server.try_send(&mut &b"bye"[..]).unwrap();
        drop(server);
        peers.step_until("closed", |peers| peers.tcp(handle).state() == tcp::State::TimeWait);
        let mut answer = [0; 8];
        assert_eq!(peers.tcp(handle).recv_slice(&mut answer), Ok(3));
        // Their last acknowledgment may be delayed.
        peers.step_until("forgotten", |peers| peers.ours.stack.tcp_connections().is_empty());
    }
}

#[test]
fn refusals_and_resets_are_understood() {
    let mut peers = Peers::new();
    let refused = peers.ours.connect("10.0.0.2:81");
    peers.step_until("refused", |_| refused.state() == State::Closed);
    assert_eq!(refused.take_error(), Some(SocketError::ConnectionRefused));
    let handle = peers.add_tcp();
    peers.tcp(handle).listen(80).unwrap();
    let client = peers.ours.connect("10.0.0.2:80");
    peers.step_until("established", |peers| peers.tcp(handle).state() == tcp::State::Established);
    peers.tcp(handle).abort();
    peers.step_until("reset", |_| client.state() == State::Closed);
    let result = client.try_recv(&mut Vec::new(), RecvFlags::default());
    assert_eq!(result, Err(RecvError::Pending(SocketError::ConnectionReset)));
}

#[test]
fn datagrams_pass_both_ways() {
    let mut peers = Peers::new();
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 8], vec![0; 16 << 10]);
    let handle = peers.sockets.add(udp::Socket::new(buffer(), buffer()));
    peers.sockets.get_mut::<udp::Socket<'_>>(handle).bind(7).unwrap();
    let client = peers.ours.udp("10.0.0.1:5000");
    let to = SendMeta { to: Some("10.0.0.2:7".parse().unwrap()), ..SendMeta::default() };
    client.try_send(&mut &b"ping"[..], &to).unwrap();
    peers.step();
    let socket = peers.sockets.get_mut::<udp::Socket<'_>>(handle);
    let (data, from) = socket.recv().unwrap();
    assert_eq!((data, from.endpoint.port), (&b"ping"[..], 5000));
    socket.send_slice(b"pong", from).unwrap();
    peers.step();
    let (data, _) = common::recv(&client);
    assert_eq!(data, b"pong");
}
