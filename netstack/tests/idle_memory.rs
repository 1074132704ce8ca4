//! What an idle connection takes, as the allocator counts it: endpoint, machine, waiters, socket and table entries.
//!
//! A program of its own with one test, so that nobody else's memory is counted.

mod common;

use std::time::Duration;

use common::{Wire, read_available};
use netstack::TcpSocket;
use netstack::time::Instant;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// Bytes in use, with what the C library's allocator adds: 8 bytes for each block, and multiples of 16.
fn in_use() -> usize {
    let stats = ALLOCATOR.stats();
    let blocks = stats.allocations - stats.deallocations;
    stats.bytes_allocated - stats.bytes_deallocated + blocks * 16
}

fn open(wire: &mut Wire, listener: &TcpSocket) -> Vec<(TcpSocket, TcpSocket)> {
    let mut held = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        let client = wire.a.connect("10.0.0.2:80");
        wire.settle();
        held.push((client, listener.try_accept().expect("nothing is lost").0));
    }
    held
}

/// Lets connections, timers and tables settle; returns what is in use then.
fn rest(wire: &mut Wire) -> usize {
    let now = wire.a.stack.now() + Duration::from_secs(5);
    wire.advance_to(now);
    wire.settle();
    wire.seen = Vec::new();
    in_use()
}

#[test]
fn idle_connections_are_small_unused_and_after_use() {
    let mut wire = Wire::new();
    let listener = wire.b.listen("10.0.0.2:80", 8);
    // The tables of both stacks grow in steps: with connections that are gone again they have their size.
    drop(open(&mut wire, &listener));
    wire.settle();
    wire.run(Duration::from_millis(5));
    wire.advance_to(Instant::from_millis(200_000));
    wire.settle();
    let before = rest(&mut wire);

    let held = open(&mut wire, &listener);
    let unused = (rest(&mut wire) - before) / (2 * COUNT);
    for (client, server) in &held {
        for (from, to) in [(client, server), (server, client)] {
            assert_eq!(from.try_send(&mut &[7; 3000][..]), Ok(3000));
            wire.settle();
            assert_eq!(read_available(to).len(), 3000);
        }
    }
    let used = (rest(&mut wire) - before) / (2 * COUNT);
    println!("unused {unused} bytes, used {used} bytes");
    assert!(unused <= UNUSED && used <= USED, "unused {unused} bytes, used {used} bytes");
    // And they still work.
    let (client, server) = &held[COUNT / 2];
    assert_eq!(client.try_send(&mut &b"hello"[..]), Ok(5));
    wire.settle();
    assert_eq!(read_available(server), b"hello");
}

const COUNT: usize = 300;
/// The goals of docs/performance.md: 0.6 KiB, and 1 KiB where what has been learnt about the path is kept.
const UNUSED: usize = 614;
const USED: usize = 1024;
