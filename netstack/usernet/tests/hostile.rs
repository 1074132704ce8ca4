//! A guest that sends nonsense: the gateway neither panics nor stops serving.
//!
//! The gateway runs in a network namespace without routes, so that nothing that the nonsense asks for gets anywhere.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use integration_tests::{Need, Netns, require};
use netstack_host_links::{PacketLink, PacketLinkParams, VnetHeaders};
use netstack_usernet::{Config, Gateway, HostLoopback};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

/// The gateway on a thread in the namespace; gives the guest's end of its link.
fn gateway(netns: &Netns) -> (OwnedFd, std::thread::JoinHandle<()>) {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .expect("socketpair");
    let path = netns.path();
    let thread = std::thread::spawn(move || {
        let file = std::fs::File::open(path).expect("the namespace");
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("enter the namespace");
        let config = Config { host_loopback: HostLoopback::Gateway, ..Config::default() };
        let params = PacketLinkParams {
            mac: config.mac,
            mtu: 65_520,
            vnet_headers: VnetHeaders::Present,
            udp_segmentation: false,
        };
        let mut gateway = Gateway::new(PacketLink::from_fd(theirs, params), &config).expect("a gateway");
        gateway.run().expect("a run until the link is gone");
    });
    (ours, thread)
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("below a usize")
    }
}

const GUEST: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];

fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&Config::default().mac.0[..], &GUEST, &ether_type.to_be_bytes(), payload].concat()
}

/// An IPv4 packet with a right header checksum; those of the transports are left to the "device".
fn ipv4(protocol: u8, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + payload.len()).expect("short");
    let [l0, l1] = len.to_be_bytes();
    let mut header = [0x45, 0, l0, l1, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 2, 15, 0, 0, 0, 0];
    header[16..].copy_from_slice(&to.octets());
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    // Folded once more, it fits.
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded");
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    ethernet(0x0800, &[&header[..], payload].concat())
}

fn arp_request() -> Vec<u8> {
    let fixed = [0, 1, 8, 0, 6, 4, 0, 1];
    ethernet(0x0806, &[&fixed[..], &GUEST, &[10, 0, 2, 15], &[0; 6], &[10, 0, 2, 2]].concat())
}

/// One good frame of each kind that the gateway acts on.
fn samples() -> Vec<Vec<u8>> {
    let gateway = Ipv4Addr::new(10, 0, 2, 2);
    let elsewhere = Ipv4Addr::new(198, 51, 100, 1);
    let syn = [0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 5, 0xb4];
    let udp = [0x9c, 0x40, 0, 53, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let echo = [8, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4];
    let mut dhcp = vec![0_u8; 8 + 236];
    dhcp[..6].copy_from_slice(&[0, 68, 0, 67, 1, 4]);
    dhcp[8..11].copy_from_slice(&[1, 1, 6]);
    dhcp.extend_from_slice(&[99, 130, 83, 99, 53, 1, 1, 50, 4, 10, 0, 2, 15, 255, 0, 0]);
    let mut router_solicitation = vec![0x60, 0, 0, 0, 0, 8, 58, 255];
    router_solicitation.extend_from_slice(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    router_solicitation.extend_from_slice(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    router_solicitation.extend_from_slice(&[133, 0, 0, 0, 0, 0, 0, 0]);
    vec![
        arp_request(),
        ipv4(6, gateway, &syn),
        ipv4(6, elsewhere, &syn),
        ipv4(17, gateway, &udp),
        ipv4(17, elsewhere, &udp),
        ipv4(1, elsewhere, &echo),
        ipv4(17, Ipv4Addr::BROADCAST, &dhcp),
        ethernet(0x86dd, &router_solicitation),
    ]
}

/// Changes some bytes, the length, and the virtio-net header.
fn spoil(random: &mut Random, frame: &[u8]) -> Vec<u8> {
    // "The device vouches for the checksum", or some nonsense.
    let mut header = [2_u8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    if random.below(4) == 0 {
        header.iter_mut().for_each(|byte| *byte = (random.next() & 0xff) as u8);
    }
    let mut frame = frame.to_vec();
    for _ in 0..random.below(4) {
        // The addresses of the frame stay: what is for others is dropped at once.
        let at = 12 + random.below(frame.len() - 12);
        frame[at] = (random.next() & 0xff) as u8;
    }
    match random.below(8) {
        0 => frame.truncate(random.below(frame.len())),
        1 => frame.resize(frame.len() + random.below(3000), 0x5a),
        _ => {}
    }
    [&header[..], &frame].concat()
}

#[test]
fn nonsense_does_not_stop_the_gateway() {
    require!(Need::Root, Need::Program("ip"));
    let netns = Netns::new();
    let (link, thread) = gateway(&netns);
    let samples = samples();
    let seed = 0x2545_f491_4f6c_dd1d;
    let mut random = Random(seed);
    let mut buffer = vec![0; 70_000];
    for _ in 0..FRAMES {
        let sample = &samples[random.below(samples.len())];
        let frame = spoil(&mut random, sample);
        // A full queue is no reason to fail, and its answers have to go somewhere.
        while send(link.as_raw_fd(), &frame, MsgFlags::MSG_DONTWAIT).is_err() {
            assert!(!thread.is_finished(), "the gateway ended, seed {seed}");
            std::thread::yield_now();
        }
        while recv(link.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_ok_and(|len| len > 0) {}
    }
    let question = [&[0; 10][..], &arp_request()].concat();
    let start = Instant::now();
    loop {
        assert!(!thread.is_finished() && start.elapsed() < Duration::from_secs(20), "no answer, seed {seed}");
        let _ = send(link.as_raw_fd(), &question, MsgFlags::MSG_DONTWAIT);
        std::thread::sleep(Duration::from_millis(5));
        let len = recv(link.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).unwrap_or(0);
        // The answer's operation is 2 (RFC 826).
        if buffer[..len].get(22..24) == Some(&[8, 6]) && buffer[31] == 2 {
            break;
        }
    }
    drop(link);
    thread.join().expect("the gateway ends with its link");
}

const FRAMES: usize = 30_000;
