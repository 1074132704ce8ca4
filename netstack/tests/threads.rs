//! The concurrent shell under real threads and a real clock: segments that meet a locked connection, wake-ups that race
//! with going to sleep, timers on a thread of their own. Bounded by a deadline instead of virtual time.

mod common;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::pattern;
use netstack::buffer::{Sink, Source};
use netstack::error::{AcceptError, RecvError, SendError};
use netstack::link::Link;
use netstack::link::fault::{FaultLink, Faults};
use netstack::link::veth::VethLink;
use netstack::options::{Family, RecvFlags, Shutdown};
use netstack::wait::{Readiness, WaitQueue, block_until};
use netstack::{Driver, MacAddr, Stack, TcpSocket};

const DEADLINE: Duration = Duration::from_secs(100);

/// Tries until it works, sleeping on the wait queue in between.
fn block_on<T>(queue: &WaitQueue, interest: Readiness, attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    block_until(queue, interest, Some(end), attempt).expect("nobody woke the waiter")
}

fn send_all(socket: &TcpSocket, data: &[u8]) {
    let mut rest = data;
    while rest.remaining() > 0 {
        let sent = block_on(socket.wait_queue(), Readiness::OUT, || match socket.try_send(&mut &rest[..]) {
            Ok(count) => Some(count),
            Err(SendError::WouldBlock) => None,
            Err(error) => panic!("{error}"),
        });
        rest = &rest[sent..];
    }
    socket.shutdown(Shutdown::Write).unwrap();
}

fn recv_all(socket: &TcpSocket) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        let mut chunk = [0; 30_000];
        let count = block_on(socket.wait_queue(), Readiness::IN | Readiness::RDHUP, || {
            let mut room = &mut chunk[..];
            assert_eq!(room.room(), 30_000);
            match socket.try_recv(&mut room, RecvFlags::default()) {
                Ok(count) => Some(count),
                Err(RecvError::WouldBlock) => None,
                Err(error) => panic!("{error}"),
            }
        });
        if count == 0 {
            return data;
        }
        data.extend_from_slice(&chunk[..count]);
    }
}

fn accept(listener: &TcpSocket) -> TcpSocket {
    block_on(listener.wait_queue(), Readiness::IN, || match listener.try_accept() {
        Ok((socket, _)) => Some(socket),
        Err(AcceptError::WouldBlock) => None,
        Err(error) => panic!("{error}"),
    })
}

/// Both directions of several connections at once, each direction of each end on its own thread.
fn crowd(server: &Stack, client: &Stack, address: &str, connections: usize, len: usize) {
    let listener = TcpSocket::new(server, Family::V4);
    listener.bind(address.parse().unwrap()).unwrap();
    listener.listen(128).unwrap();
    let data = pattern(len);
    thread::scope(|scope| {
        let data = &data;
        let serve = |socket: TcpSocket| {
            let socket = Arc::new(socket);
            let writer = Arc::clone(&socket);
            scope.spawn(move || send_all(&writer, data));
            scope.spawn(move || assert!(recv_all(&socket) == *data, "the data differs"));
        };
        for _ in 0..connections {
            let socket = TcpSocket::new(client, Family::V4);
            socket.connect(address.parse().unwrap()).unwrap();
            serve(socket);
        }
        for _ in 0..connections {
            serve(accept(&listener));
        }
    });
}

fn host(end: &Arc<VethLink>, link: Arc<dyn Link>, address: &str) -> (Stack, Driver) {
    let stack = Stack::builder().build();
    let nic = stack.add_nic("veth0", link).unwrap();
    end.attach(&stack, nic);
    stack.add_address(nic, address.parse().unwrap()).unwrap();
    let driver = Driver::start(&stack).unwrap();
    (stack, driver)
}

fn cable() -> [Arc<VethLink>; 2] {
    VethLink::pair(1500, [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])])
}

#[test]
fn many_threads_over_loopback() {
    let stack = Stack::builder().build();
    let _driver = Driver::start(&stack).unwrap();
    crowd(&stack, &stack, "127.0.0.1:80", 6, 1 << 20);
}

#[test]
fn many_threads_over_a_cable() {
    let ends = cable();
    let (a, _a) = host(&ends[0], ends[0].clone(), "10.0.0.1/24");
    let (b, _b) = host(&ends[1], ends[1].clone(), "10.0.0.2/24");
    crowd(&b, &a, "10.0.0.2:80", 6, 1 << 20);
}

#[test]
fn many_threads_over_a_bad_cable() {
    let ends = cable();
    let faults = Faults { loss_ppm: 5000, duplicate_ppm: 5000, reorder_ppm: 20_000, corrupt_ppm: 5000 };
    let [x, y] = [0, 1].map(|index| FaultLink::new(ends[index].clone(), faults, index as u64 + 1));
    let (a, _a) = host(&ends[0], x, "10.0.0.1/24");
    let (b, _b) = host(&ends[1], y, "10.0.0.2/24");
    crowd(&b, &a, "10.0.0.2:80", 3, 200_000);
}
