//! The kernel of this machine as the oracle, behind a tap device in a namespace of the test's own.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use integration_tests::Netns;
use netstack::MacAddr;
use netstack::link::Link;
use netstack::packet::Packet;
use netstack_host_links::{HostLink, TapLink, TapOptions, VnetHeaders};

use crate::reply;

/// A host with the addresses of the subject, and its sockets.
pub(crate) struct Kernel {
    tap: Arc<TapLink>,
    _listener: TcpListener,
    _datagrams: UdpSocket,
    _ns: Netns,
}

impl Kernel {
    pub(crate) fn new() -> Self {
        let ns = Netns::new();
        ns.ip(&["tuntap", "add", "k0", "mode", "tap"]);
        ns.ip(&["link", "set", "k0", "address", "02:00:00:00:00:01"]);
        let options =
            TapOptions { vnet_headers: VnetHeaders::Absent, ..TapOptions::tap(MacAddr([2, 0, 0, 0, 0, 2])) };
        let tap = ns.inside(|| TapLink::open("k0", options)).unwrap();
        ns.ip(&["link", "set", "k0", "up"]);
        for address in ["10.9.0.1/24", "fd09::1/64", "fe80::1/64"] {
            ns.ip(&["addr", "add", address, "dev", "k0", "nodad"]);
        }
        for peer in ["10.9.0.2", "fd09::2", "fe80::2"] {
            ns.ip(&["neigh", "add", peer, "lladdr", "02:00:00:00:00:02", "dev", "k0", "nud", "permanent"]);
        }
        ns.inside(|| {
            // Every error is wanted, at once.
            fs::write("/proc/sys/net/ipv4/icmp_ratelimit", "0").unwrap();
            fs::write("/proc/sys/net/ipv6/icmp/ratelimit", "0").unwrap();
        });
        let listener = ns.inside(|| TcpListener::bind("[::]:80")).unwrap();
        let datagrams = ns.inside(|| UdpSocket::bind("[::]:7")).unwrap();
        let kernel = Self { tap, _listener: listener, _datagrams: datagrams, _ns: ns };
        kernel.wait_for_carrier();
        kernel
    }

    /// Takes frames and answers.
    #[track_caller]
    pub(crate) fn take(&self, frames: &[Vec<u8>]) -> String {
        for frame in frames {
            self.send(frame);
        }
        // Handled in order: what comes before the answer to this request is all that will come.
        self.send(&marker());
        let answers = self.answers(LIMIT).expect("an answer to the last request");
        reply::describe_all(&answers)
    }

    fn send(&self, frame: &[u8]) {
        let packet = Packet::from_frame(Bytes::copy_from_slice(frame));
        assert_eq!(self.tap.send_batch(&mut [packet]), Ok(1));
    }

    /// What comes before the answer to the marker, if that comes in time.
    fn answers(&self, limit: Duration) -> Option<Vec<Vec<u8>>> {
        let end = Instant::now() + limit;
        let mut answers = Vec::new();
        while Instant::now() < end {
            let mut frames = Vec::new();
            if self.tap.lead().receive(&mut frames).unwrap() == 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
            for frame in frames.iter().map(Packet::to_vec) {
                if frame.get(38..40) == Some(&MARK) && frame.get(34) == Some(&0) {
                    return Some(answers);
                }
                answers.push(frame);
            }
        }
        None
    }

    /// A fresh tap drops frames until its carrier was noticed.
    fn wait_for_carrier(&self) {
        let end = Instant::now() + LIMIT;
        loop {
            self.send(&marker());
            if self.answers(Duration::from_millis(100)).is_some() {
                // Answers to earlier markers.
                while self.answers(Duration::from_millis(50)).is_some() {}
                return;
            }
            assert!(Instant::now() < end, "the kernel does not answer");
        }
    }
}

/// An echo request with an identifier of its own.
fn marker() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1]);
    frame.extend([8, 0, 0, 0, MARK[0], MARK[1], 0, 1]);
    let header_sum = !netstack::wire::checksum::sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&header_sum.to_be_bytes());
    let icmp_sum = !netstack::wire::checksum::sum(&frame[34..]);
    frame[36..38].copy_from_slice(&icmp_sum.to_be_bytes());
    frame
}

/// The identifier of markers.
const MARK: [u8; 2] = [0xbe, 0xef];

const LIMIT: Duration = Duration::from_secs(20);
