//! The user-mode gateway under a guest that sends whatever it likes, beside a connection that has to go on.
//!
//! The gateway's sockets are real. They are in a network namespace with nothing but a loopback, so that no fuzzer's frame
//! leads anywhere; where such a namespace cannot be made, nothing is tried.

use std::cell::OnceCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netstack::options::{Family, RecvFlags};
use netstack::packet::Packet;
use netstack::wire::checksum::sum;
use netstack::{MacAddr, NicId, Stack, TcpSocket};
use netstack_host_links::{HostLink, TapMode, pipe_link, pipe_pair};
use netstack_usernet::{Config, Gateway, HostLoopback};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{MsgFlags, send};

use crate::input::Input;

/// Feeds a gateway with frames.
pub fn usernet(data: &[u8]) {
    if !usernet_is_possible() {
        return;
    }
    let mut input = Input::new(data);
    let mut world = World::new();
    world.say(b"before");
    while !input.is_empty() {
        for _ in 0..=input.u8() % 16 {
            let frame = frame(&mut input);
            world.send(&frame);
        }
        world.turn();
        world.assert_bounded();
    }
    // The guest may have told everybody that it is somewhere else. It is the same guest who says otherwise now.
    world.guest.announce_address(world.nic, GUEST.into()).expect("its own address");
    world.say(b"after");
}

/// Whether this thread has a network of its own, which it gets with the first question.
#[must_use]
pub fn usernet_is_possible() -> bool {
    thread_local!(static ENTERED: OnceCell<bool> = const { OnceCell::new() });
    ENTERED.with(|entered| {
        *entered.get_or_init(|| {
            let up = ["link", "set", "lo", "up"];
            unshare(CloneFlags::CLONE_NEWNET).is_ok()
                && Command::new("ip").args(up).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
        })
    })
}

/// A gateway with a guest that has one connection to the host.
struct World {
    gateway: Gateway,
    guest: Stack,
    nic: NicId,
    link: Arc<dyn HostLink>,
    /// The guest's end of the link once more, for frames that no stack would send.
    raw: OwnedFd,
    client: TcpSocket,
    server: TcpStream,
    sent: usize,
}

impl World {
    fn new() -> Self {
        let config = Config { host_loopback: HostLoopback::Gateway, ..Config::default() };
        let (theirs, ours) = pipe_pair().expect("a pair of sockets");
        let raw = ours.try_clone().expect("a descriptor");
        let mtu = usize::try_from(config.mtu).expect("an MTU");
        let gateway =
            Gateway::new(pipe_link(theirs, TapMode::Tap(config.mac), mtu), &config).expect("a gateway");
        let link: Arc<dyn HostLink> = pipe_link(ours, TapMode::Tap(MacAddr(GUEST_MAC)), mtu);
        let guest = Stack::builder().without_loopback().build();
        let nic = guest.add_nic("eth0", Arc::clone(&link) as _).expect("a new stack takes a NIC");
        guest.add_address(nic, "10.0.2.15/24".parse().expect("well-formed")).expect("a new address");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let client = TcpSocket::new(&guest, Family::V4);
        client.connect(SocketAddr::from((GATEWAY, port))).expect("a route");
        listener.set_nonblocking(true).expect("an option");
        let mut half = (gateway, guest, link);
        let end = Instant::now() + PATIENCE;
        let server = loop {
            turn(&mut half.0, &half.1, nic, &half.2);
            if let Ok((server, _)) = listener.accept() {
                break server;
            }
            assert!(Instant::now() < end, "the guest's connection");
        };
        server.set_nonblocking(true).expect("an option");
        let (gateway, guest, link) = half;
        Self { gateway, guest, nic, link, raw, client, server, sent: 0 }
    }

    /// Carries what waits, in both directions.
    fn turn(&mut self) {
        turn(&mut self.gateway, &self.guest, self.nic, &self.link);
    }

    /// Sends a frame behind its virtio-net header, if there is room.
    fn send(&mut self, frame: &[u8]) {
        if send(self.raw.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT).is_ok() {
            self.sent += 1;
        }
    }

    /// A word of the guest for the host, and back.
    fn say(&mut self, word: &[u8]) {
        let end = Instant::now() + PATIENCE;
        let (mut heard, mut answer) = (Vec::new(), Vec::new());
        let mut unsent = word;
        while answer != word {
            assert!(Instant::now() < end, "the connection died: {:?}", self.client.take_error());
            let count = self.client.try_send(&mut &*unsent).unwrap_or(0);
            unsent = &unsent[count..];
            self.turn();
            let mut buffer = [0; 64];
            match self.server.read(&mut buffer) {
                Ok(count) => {
                    assert!(count > 0, "the connection ended");
                    heard.extend_from_slice(&buffer[..count]);
                    // There is room for a word.
                    self.server.write_all(&buffer[..count]).expect("an open connection");
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
            let _ = self.client.try_recv(&mut answer, RecvFlags::default());
        }
        assert_eq!(heard, word);
    }

    /// What frames cost is in proportion to their number, and limited where one of them could cost more.
    fn assert_bounded(&self) {
        let statistics = self.gateway.statistics();
        assert!(statistics.tcp_flows <= self.sent + 1 && statistics.udp_flows <= self.sent, "{statistics:?}");
        let gauges = self.gateway.gauges();
        assert!(gauges.reassembly_bytes <= 2 * (4 << 20) + (128 << 10), "{gauges:?}");
    }
}

fn turn(gateway: &mut Gateway, guest: &Stack, nic: NicId, link: &Arc<dyn HostLink>) {
    assert!(gateway.run_for(Duration::ZERO).expect("a turn"), "the link is there");
    let mut frames: Vec<Packet> = Vec::new();
    let mut leader = link.lead();
    while leader.receive(&mut frames).is_ok_and(|count| count > 0) {
        guest.deliver(nic, &mut frames);
    }
    drop(leader);
    guest.run_timers();
}

/// One of the frames that the gateway acts on, with changes; or nothing but the input's own bytes.
fn frame(input: &mut Input<'_>) -> Vec<u8> {
    // "The device vouches for the checksum": the fuzzer's time is better spent.
    let mut virtio = [2_u8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let how = input.u8();
    if how & 1 != 0 {
        virtio.copy_from_slice(&[input.take(10), &[0; 10]].concat()[..10]);
    }
    let sample = usize::from(input.u8());
    let samples = samples();
    let mut frame = samples.get(sample % (samples.len() + 1)).cloned().unwrap_or_default();
    for _ in 0..input.u8() % 8 {
        let (at, value) = (usize::from(input.u16()), input.u8());
        // The addresses of the frame stay: what is for others is dropped at once.
        if let Some(byte) = frame.len().checked_sub(12).and_then(|len| frame.get_mut(12 + at % len.max(1))) {
            *byte = value;
        }
    }
    match how >> 1 & 3 {
        0 => frame.truncate(usize::from(input.u16()) % (frame.len() + 1)),
        1 => frame.extend_from_slice(input.take(usize::from(how >> 3) * 8)),
        _ => {}
    }
    repair_header(&mut frame);
    [&virtio[..], &frame].concat()
}

/// The checksum of an IPv4 header, and its length.
fn repair_header(frame: &mut [u8]) {
    if frame.len() >= 34 && frame[12..15] == [8, 0, 0x45] {
        let len = u16::try_from(frame.len() - 14).unwrap_or(u16::MAX);
        frame[16..18].copy_from_slice(&len.to_be_bytes());
        frame[24..26].fill(0);
        let checksum = !sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    }
}

const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const PATIENCE: Duration = Duration::from_secs(20);

fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&Config::default().mac.0[..], &GUEST_MAC, &ether_type.to_be_bytes(), payload].concat()
}

fn ipv4(protocol: u8, to: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let header = [0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 2, 15];
    ethernet(0x0800, &[&header[..], &to, payload].concat())
}

fn ipv6(next_header: u8, hop_limit: u8, to: [u8; 16], payload: &[u8]) -> Vec<u8> {
    // Below 64 KiB: these are samples.
    let len = u16::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let header = [0x60, 0, 0, 0, len[0], len[1], next_header, hop_limit];
    let from = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    ethernet(0x86dd, &[&header[..], &from, &to, payload].concat())
}

/// One good frame of each kind that the gateway acts on.
fn samples() -> Vec<Vec<u8>> {
    let (gateway, name_server, elsewhere) = ([10, 0, 2, 2], [10, 0, 2, 3], [198, 51, 100, 1]);
    let mut group = [0; 16];
    group[0] = 0xff;
    (group[1], group[15]) = (2, 2);
    let mut gateway_v6 = [0; 16];
    (gateway_v6[0], gateway_v6[15]) = (0xfd, 2);
    let syn = [0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 5, 0xb4];
    let udp = [0x9c, 0x40, 0, 53, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let echo = [8, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4];
    let mut dhcp = vec![0_u8; 8 + 236];
    dhcp[..11].copy_from_slice(&[0, 68, 0, 67, 1, 4, 0, 0, 1, 1, 6]);
    dhcp.extend_from_slice(&[99, 130, 83, 99, 53, 1, 1, 50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2, 255, 0, 0]);
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &GUEST_MAC, &[10, 0, 2, 15], &[0; 6], &gateway].concat();
    vec![
        ethernet(0x0806, &arp),
        ipv4(6, gateway, &syn),
        ipv4(6, elsewhere, &syn),
        ipv4(17, gateway, &udp),
        ipv4(17, name_server, &udp),
        ipv4(17, elsewhere, &udp),
        ipv4(1, gateway, &echo),
        ipv4(1, elsewhere, &echo),
        ipv4(17, [255; 4], &dhcp),
        ipv6(58, 255, group, &[133, 0, 0, 0, 0, 0, 0, 0]),
        ipv6(6, 64, gateway_v6, &syn),
        ipv6(17, 64, gateway_v6, &udp),
        ipv6(58, 64, gateway_v6, &[128, 0, 0, 0, 0, 1, 0, 1, 1, 2]),
    ]
}
