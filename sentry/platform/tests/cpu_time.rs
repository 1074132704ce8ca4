//! CPU clocks of spaces and contexts.

mod harness;

use std::time::{Duration, Instant};

use harness::{CODE, Guest, at, each};
use sentry_platform::{Context, Event};

/// 1: jmp 1b
const SPIN: [u8; 2] = [0xeb, 0xfe];

/// Lets the guest compute until its clock has gone on by `time`.
fn spin(context: &mut dyn Context, time: Duration) {
    let clock = context.cpu_clock();
    let (start, begin) = (clock.read(), Instant::now());
    while clock.read() - start < time {
        let interrupter = context.interrupter();
        let kicker = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(10));
            interrupter.interrupt();
        });
        assert_eq!(context.switch(&mut at(CODE)), Event::Interrupted);
        kicker.join().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(20), "the clock stands still at {:?}", clock.read());
    }
}

#[test]
fn computing_thread_uses_time_and_an_idle_one_does_not() {
    each(|platform| {
        let guest = Guest::new(platform, &SPIN);
        let (mut busy, mut idle) = (guest.context(), guest.context());
        spin(&mut *idle, Duration::from_nanos(1));
        let before = (busy.cpu_clock().read(), idle.cpu_clock().read());
        let start = Instant::now();
        spin(&mut *busy, Duration::from_millis(30));
        let (used, wall) = (busy.cpu_clock().read() - before.0, start.elapsed());
        assert!(used <= wall, "{used:?} of {wall:?}");
        let idled = idle.cpu_clock().read() - before.1;
        assert!(idled < used / 3, "the idle one used {idled:?}");
        let total = guest.space.cpu_time();
        assert!(total >= busy.cpu_clock().read() + before.1, "{total:?} in all");
    });
}

#[test]
fn clock_begins_at_zero_for_the_next_guest_on_a_host_thread_and_outlives_it() {
    each(|platform| {
        let guest = Guest::new(platform, &SPIN);
        let mut first = guest.context();
        spin(&mut *first, Duration::from_millis(30));
        let clock = first.cpu_clock();
        let used = clock.read();
        drop(first);
        assert!(clock.read() >= used);
        let next = guest.context();
        let begun = next.cpu_clock().read();
        assert!(begun < Duration::from_millis(20), "{begun:?} at the start");
        let total = guest.space.cpu_time();
        assert!(total >= used, "{total:?} after {used:?}");
        guest.space.kill();
        assert!(guest.space.cpu_time() >= total && clock.read() >= used);
        drop((next, guest));
        assert!(clock.read() >= used);
    });
}
