//! What two flows of one stack share on the path of a segment.

use std::cell::RefCell;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use super::{Mode, Record, record};
use crate::link::{Capabilities, Link, LinkError, Medium};
use crate::options::{Family, RecvFlags, SendMeta};
use crate::packet::Packet;
use crate::pool::own_shelf;
use crate::{MacAddr, NicId, Stack, TcpSocket, UdpSocket, tcp};

/// A device whose queue belongs to the thread that sends, as one with many queues.
struct ThreadQueue(u8);

thread_local! {
    static SENT: RefCell<Vec<(u8, Packet)>> = const { RefCell::new(Vec::new()) };
}

impl Link for ThreadQueue {
    fn medium(&self) -> Medium {
        Medium::Ethernet(MacAddr([2, 0, 0, 0, 0, self.0]))
    }

    fn mtu(&self) -> usize {
        1500
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        SENT.with_borrow_mut(|sent| {
            sent.extend(packets.iter_mut().map(|packet| (self.0, std::mem::take(packet))));
        });
        Ok(packets.len())
    }
}

struct Host {
    stack: Stack,
    nic: NicId,
}

impl Host {
    fn new(number: u8) -> Self {
        let mut config = tcp::Config::default();
        config.send_buffer.default = config.send_buffer.max;
        let stack =
            Stack::builder().manual_clock().deterministic(u64::from(number)).tcp_config(config).build();
        let nic = stack.add_nic("eth0", Arc::new(ThreadQueue(number))).unwrap();
        stack.add_address(nic, format!("10.0.0.{number}/24").parse().unwrap()).unwrap();
        Self { stack, nic }
    }
}

/// Carries what this thread sent until nothing is sent any more.
fn settle(hosts: &[Host; 2]) {
    loop {
        let sent = SENT.take();
        if sent.is_empty() {
            return;
        }
        for (from, packet) in sent {
            let to = &hosts[usize::from(from == 1)];
            to.stack.deliver(to.nic, &mut vec![Packet::from_frame(packet.to_bytes())]);
        }
    }
}

fn tcp_flow(hosts: &[Host; 2], port: u16) -> (TcpSocket, TcpSocket) {
    let address = format!("10.0.0.2:{port}").parse().unwrap();
    let listener = TcpSocket::new(&hosts[1].stack, Family::V4);
    listener.bind(address).unwrap();
    listener.listen(1).unwrap();
    let client = TcpSocket::new(&hosts[0].stack, Family::V4);
    client.connect(address).unwrap();
    settle(hosts);
    (client, listener.try_accept().unwrap().0)
}

/// 40,000 bytes one way, which take a block of the pool, and a byte back, with all acknowledgments.
fn tcp_exchange(hosts: &[Host; 2], (client, server): &(TcpSocket, TcpSocket)) {
    let data = [7; 40_000];
    assert_eq!(client.try_send(&mut &data[..]), Ok(data.len()), "the send buffer has room");
    settle(hosts);
    let mut received = Vec::new();
    while received.len() < data.len() {
        if server.try_recv(&mut received, RecvFlags::default()).is_err() {
            // While the window is small, the last segment of a flight waits for its acknowledgment.
            hosts.iter().for_each(|host| host.stack.advance_to(host.stack.now() + Duration::from_millis(50)));
        }
        settle(hosts);
    }
    assert_eq!(server.try_send(&mut &b"x"[..]), Ok(1));
    settle(hosts);
    assert_eq!(client.try_recv(&mut received, RecvFlags::default()), Ok(1));
}

fn udp_flow(hosts: &[Host; 2], port: u16) -> (UdpSocket, UdpSocket) {
    let address = format!("10.0.0.2:{port}").parse().unwrap();
    let server = UdpSocket::new(&hosts[1].stack, Family::V4);
    server.bind(address).unwrap();
    let client = UdpSocket::new(&hosts[0].stack, Family::V4);
    client.connect(address).unwrap();
    (client, server)
}

fn udp_exchange(hosts: &[Host; 2], (client, server): &(UdpSocket, UdpSocket)) {
    assert_eq!(client.try_send(&mut &[7; 1000][..], &SendMeta::DEFAULT), Ok(1000));
    settle(hosts);
    let mut received = Vec::new();
    let from = server.try_recv(&mut received, RecvFlags::default()).unwrap().from;
    let meta = SendMeta { to: Some(from), ..SendMeta::DEFAULT };
    assert_eq!(server.try_send(&mut &b"x"[..], &meta), Ok(1));
    settle(hosts);
    client.try_recv(&mut received, RecvFlags::default()).unwrap();
}

/// What two threads that carry a flow each do with locks, one after the other.
fn on_threads<F: Sync>(flows: &[F; 2], exchange: impl Fn(&F) + Sync) -> [Record; 2] {
    let mut shelves = Vec::new();
    flows.each_ref().map(|flow| {
        loop {
            // Threads have one of a few shelves of blocks. A flow on a thread with the same one would share its lock.
            let work = || (!shelves.contains(&own_shelf())).then(|| (record(|| exchange(flow)), own_shelf()));
            let done = std::thread::scope(|scope| scope.spawn(work).join().unwrap());
            if let Some((record, shelf)) = done {
                shelves.push(shelf);
                return record;
            }
        }
    })
}

/// The locks that both took, in the stricter of the two ways.
fn common(one: &Record, two: &Record) -> Vec<(&'static str, Mode)> {
    let both = one.locks.iter().filter_map(|(address, first)| Some((*first, *two.locks.get(address)?)));
    both.map(|((what, first), (_, second))| (what, first.max(second))).collect()
}

#[test]
fn two_flows_share_no_exclusive_lock_on_the_segment_path() {
    let hosts = [Host::new(1), Host::new(2)];
    let tcp = [tcp_flow(&hosts, 80), tcp_flow(&hosts, 81)];
    let udp = [udp_flow(&hosts, 53), udp_flow(&hosts, 54)];
    // Windows open, neighbours are known, timers are armed.
    for _ in 0..20 {
        tcp.iter().for_each(|flow| tcp_exchange(&hosts, flow));
        udp.iter().for_each(|flow| udp_exchange(&hosts, flow));
    }
    let records = [
        on_threads(&tcp, |flow| tcp_exchange(&hosts, flow)),
        on_threads(&udp, |flow| udp_exchange(&hosts, flow)),
    ];
    let has_blocks = |record: &Record| record.locks.values().any(|(what, _)| what.contains("Box<[u8]>"));
    assert!(records[0].iter().all(has_blocks), "blocks of the pool are on the path");
    for [one, two] in &records {
        assert!(one.locks.len() > 2, "the record works: {one:?}");
        for (what, mode) in common(one, two) {
            // These change with the configuration, or when a socket binds.
            let is_settled = what.contains("Topology") || what.contains("Port<");
            assert!(mode == Mode::Shared && is_settled, "both take {what}: {mode:?}");
        }
    }
}

#[test]
fn threads_with_a_flow_each_hardly_ever_wait_for_each_other() {
    let hosts = [Host::new(1), Host::new(2)];
    let flows = [tcp_flow(&hosts, 80), tcp_flow(&hosts, 81)];
    for _ in 0..20 {
        flows.iter().for_each(|flow| tcp_exchange(&hosts, flow));
    }
    let start = Barrier::new(flows.len());
    std::thread::scope(|scope| {
        let threads = flows.each_ref().map(|flow| {
            let (hosts, start) = (&hosts, &start);
            scope.spawn(move || {
                start.wait();
                record(|| (0..200).for_each(|_| tcp_exchange(hosts, flow)))
            })
        });
        let waits: u64 = threads.map(|thread| thread.join().unwrap().waits).iter().sum();
        // Of some 30,000 locks taken. Only threads with the same shelf of blocks can meet at all.
        assert!(waits <= 20, "{waits}");
    });
}

#[test]
fn waiting_is_counted() {
    let lock = super::Mutex::new(());
    let end = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let (guard, is_started) = (lock.lock(), Barrier::new(2));
        let waits = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                is_started.wait();
                record(|| drop(lock.lock())).waits
            });
            is_started.wait();
            // The other thread may still be on its way; then there is another try.
            std::thread::sleep(Duration::from_millis(1));
            drop(guard);
            waiter.join().unwrap()
        });
        if waits == 1 {
            return;
        }
        assert!(std::time::Instant::now() < end, "no waiting was counted");
    }
}
