//! Stacks joined by local links, which take packets under the locks under which they were made: by one thread, and by several
//! that share both stacks. Time stands still, so nothing is ever sent again: a frame that gets lost ends the test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use netstack::link::local::LocalLink;
use netstack::link::{Capabilities, FrameTap, Medium};
use netstack::options::{Family, RecvFlags, Shutdown};
use netstack::packet::Packet;
use netstack::wire::ethernet::MacAddr;
use netstack::{NicId, Stack, TcpSocket};

struct Host {
    stack: Stack,
    link: Arc<LocalLink>,
    nic: NicId,
}

impl Host {
    fn new(number: u8) -> Self {
        Self::with(number, Capabilities::default())
    }

    fn with(number: u8, capabilities: Capabilities) -> Self {
        let stack = Stack::builder().manual_clock().deterministic(u64::from(number)).build();
        let medium = Medium::Ethernet(MacAddr([2, 0, 0, 0, 0, number]));
        let link = LocalLink::new(medium, 1500, capabilities, 1 << 14);
        let nic = stack.add_nic("eth0", link.clone()).unwrap();
        for address in [format!("10.0.0.{number}/24"), format!("fd00::{number}/64")] {
            stack.add_address(nic, address.parse().unwrap()).unwrap();
        }
        Self { stack, link, nic }
    }

    fn listen(&self, local: SocketAddr) -> TcpSocket {
        let socket = TcpSocket::new(&self.stack, family_of(local));
        socket.bind(local).unwrap();
        socket.listen(1).unwrap();
        socket
    }
}

fn family_of(address: SocketAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// Carries what this thread has made either stack send, until both are silent.
fn carry(a: &Host, b: &Host) {
    let mut frames = Vec::new();
    loop {
        let mut was_silent = true;
        for (from, to) in [(a, b), (b, a)] {
            from.link.take_into(&mut frames);
            was_silent &= frames.is_empty();
            to.stack.deliver(to.nic, &mut frames);
        }
        if was_silent {
            return;
        }
    }
}

/// Opens a connection to `remote`, sends `count` messages of all sizes there and back, and closes it.
fn converse(a: &Host, b: &Host, remote: SocketAddr, count: usize) {
    let listener = b.listen(remote);
    let client = TcpSocket::new(&a.stack, family_of(remote));
    client.connect(remote).unwrap();
    let server = wait(a, b, || listener.try_accept().ok()).0;
    let mut buf = [0; 4096];
    for round in 0..count {
        // Those up to 64 bytes leave in the buffer of their headers, longer ones in pieces.
        let len = 1 + round * 37 % 300;
        let message: Vec<u8> = (0..len).map(|at| ((round + at) % 251) as u8).collect();
        for (from, to) in [(&client, &server), (&server, &client)] {
            let mut rest = &message[..];
            wait(a, b, || {
                let _ = from.try_send(&mut rest);
                rest.is_empty().then_some(())
            });
            let mut received = Vec::new();
            wait(a, b, || {
                if let Ok(count) = to.try_recv(&mut &mut buf[..], RecvFlags::default()) {
                    received.extend_from_slice(&buf[..count]);
                }
                (received.len() >= len).then_some(())
            });
            assert_eq!(received, message);
        }
    }
    for end in [&client, &server] {
        end.shutdown(Shutdown::Write).unwrap();
    }
    for end in [&client, &server] {
        let end_of_stream = || end.try_recv(&mut &mut buf[..], RecvFlags::default()).ok();
        assert_eq!(wait(a, b, end_of_stream), 0);
    }
}

/// Tries until there is something, and carries what it caused and what other threads have left to this one.
fn wait<T>(a: &Host, b: &Host, mut attempt: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        let result = attempt();
        carry(a, b);
        if let Some(result) = result {
            return result;
        }
        assert!(Instant::now() < limit, "a message got lost");
        std::thread::yield_now();
    }
}

#[test]
fn one_thread_talks_over_both_families() {
    let (a, b) = (Host::new(1), Host::new(2));
    for remote in ["10.0.0.2:80", "[fd00::2]:80"] {
        converse(&a, &b, remote.parse().unwrap(), 300);
    }
    let counts = |host: &Host| host.stack.nic(host.nic).unwrap().stats;
    assert_eq!(counts(&a).tx_packets, counts(&b).rx_packets);
    assert_eq!(counts(&b).tx_bytes, counts(&a).rx_bytes);
}

#[test]
fn checksums_that_the_sender_left_unfinished_are_as_good_as_right_ones() {
    // Its frames carry nothing but the sums of the pseudo-headers, and the other one's link vouches for nothing.
    let (a, b) = (Host::with(1, Capabilities { tx_checksum: true, ..Capabilities::default() }), Host::new(2));
    for remote in ["10.0.0.2:80", "[fd00::2]:80"] {
        converse(&a, &b, remote.parse().unwrap(), 300);
    }
    assert_eq!(b.stack.stats().tcp_in_csum_errors, 0);
}

/// Takes every frame.
#[derive(Default)]
struct TakesAll(AtomicUsize);

impl FrameTap for TakesAll {
    fn wants(&self, _: &Packet) -> bool {
        true
    }

    fn receive(&self, frames: &mut Vec<Packet>) {
        self.0.fetch_add(frames.len(), Ordering::Relaxed);
        frames.clear();
    }
}

#[test]
fn a_tap_gets_the_frames_of_a_connection_that_is_under_way() {
    let (a, b) = (Host::new(1), Host::new(2));
    let remote = "10.0.0.2:80".parse().unwrap();
    let listener = b.listen(remote);
    let client = TcpSocket::new(&a.stack, Family::V4);
    client.connect(remote).unwrap();
    let server = wait(&a, &b, || listener.try_accept().ok()).0;
    let mut buf = [0; 16];
    let mut receive = || server.try_recv(&mut &mut buf[..], RecvFlags::default()).ok();
    // Its frames come the short way.
    for _ in 0..10 {
        client.try_send(&mut &b"x"[..]).unwrap();
        assert_eq!(wait(&a, &b, &mut receive), 1);
    }
    let tap = Arc::new(TakesAll::default());
    b.stack.set_frame_tap(b.nic, Some(tap.clone())).unwrap();
    client.try_send(&mut &b"y"[..]).unwrap();
    carry(&a, &b);
    assert_eq!((tap.0.load(Ordering::Relaxed), receive()), (1, None));
    b.stack.set_frame_tap(b.nic, None).unwrap();
    // The byte is sent again.
    let next = a.stack.next_deadline().expect("it was not acknowledged");
    a.stack.advance_to(next);
    assert_eq!(wait(&a, &b, &mut receive), 1);
}

#[test]
fn threads_that_share_both_stacks_talk_at_once() {
    const THREADS: usize = 4;
    let (a, b) = (Host::new(1), Host::new(2));
    // The neighbours know each other afterwards.
    converse(&a, &b, "10.0.0.2:79".parse().unwrap(), 1);
    let finished = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (a, b, finished) = (&a, &b, &finished);
            scope.spawn(move || {
                let port = 80 + u16::try_from(thread).unwrap();
                converse(a, b, SocketAddr::from(([10, 0, 0, 2], port)), 3000);
                finished.fetch_add(1, Ordering::Relaxed);
                // What others find this thread busy with, it sends for them.
                wait(a, b, || (finished.load(Ordering::Relaxed) == THREADS).then_some(()));
            });
        }
    });
}
