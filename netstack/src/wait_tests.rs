//! Tests of the wait queue.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::{Observer, Readiness, WaitQueue};

fn recorder() -> (Arc<AtomicU32>, Arc<dyn Observer>) {
    let seen = Arc::new(AtomicU32::new(0));
    let sink = Arc::clone(&seen);
    (
        seen,
        Arc::new(move |ready: Readiness| {
            sink.fetch_or(ready.bits(), Ordering::SeqCst);
        }),
    )
}

#[test]
fn notify_reaches_only_the_interested() {
    let queue = WaitQueue::new();
    let (reader, observer) = recorder();
    queue.register(Readiness::IN, observer);
    let (writer, observer) = recorder();
    queue.register(Readiness::OUT, observer);
    queue.notify(Readiness::IN);
    assert_eq!(reader.load(Ordering::SeqCst), Readiness::IN.bits());
    assert_eq!(writer.load(Ordering::SeqCst), 0);
}

#[test]
fn errors_reach_everybody() {
    let queue = WaitQueue::new();
    let (seen, observer) = recorder();
    queue.register(Readiness::empty(), observer);
    queue.notify(Readiness::ERR);
    assert_eq!(seen.load(Ordering::SeqCst), Readiness::ERR.bits());
}

#[test]
fn unregistered_observers_hear_nothing() {
    let queue = WaitQueue::new();
    let (seen, observer) = recorder();
    let id = queue.register(Readiness::IN, observer);
    assert!(!queue.is_empty());
    assert!(queue.unregister(id));
    assert!(!queue.unregister(id));
    assert!(queue.is_empty());
    queue.notify(Readiness::IN);
    assert_eq!(seen.load(Ordering::SeqCst), 0);
}

#[test]
fn update_replaces_the_interest() {
    let queue = WaitQueue::new();
    let (seen, observer) = recorder();
    let id = queue.register(Readiness::IN, observer);
    assert!(queue.update(id, Readiness::OUT));
    queue.notify(Readiness::IN);
    assert_eq!(seen.load(Ordering::SeqCst), 0);
    queue.notify(Readiness::OUT);
    assert_eq!(seen.load(Ordering::SeqCst), Readiness::OUT.bits());
}

#[test]
fn an_observer_may_unregister_itself_while_notified() {
    let queue = Arc::new(WaitQueue::new());
    let id = Arc::new(Mutex::new(None));
    let observer = {
        let (queue, id) = (Arc::clone(&queue), Arc::clone(&id));
        Arc::new(move |_: Readiness| {
            let id = id.lock().unwrap().take();
            assert!(queue.unregister(id.unwrap()));
        })
    };
    *id.lock().unwrap() = Some(queue.register(Readiness::IN, observer));
    queue.notify(Readiness::IN);
    queue.notify(Readiness::IN);
    assert!(queue.is_empty());
}

/// Counts its notifications, and takes at most one.
#[derive(Default)]
struct Sleeping {
    wakes: AtomicU32,
    is_woken: AtomicBool,
}

impl Observer for Sleeping {
    fn notify(&self, _: Readiness) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
    }

    fn notify_in_turn(&self, ready: Readiness) -> bool {
        let is_first = !self.is_woken.swap(true, Ordering::SeqCst);
        if is_first {
            self.notify(ready);
        }
        is_first
    }
}

#[test]
fn those_who_wait_in_turn_are_told_one_by_one_in_order() {
    let queue = WaitQueue::new();
    let sleepers: Vec<Arc<Sleeping>> = (0..4).map(|_| Arc::default()).collect();
    let ids: Vec<_> = sleepers.iter().map(|s| queue.register_in_turn(Readiness::IN, s.clone())).collect();
    let (seen, observer) = recorder();
    queue.register(Readiness::IN, observer);
    let wakes = || -> Vec<u32> { sleepers.iter().map(|s| s.wakes.load(Ordering::SeqCst)).collect() };
    queue.notify_next(Readiness::OUT);
    assert_eq!((wakes(), seen.load(Ordering::SeqCst)), (vec![0, 0, 0, 0], 0));
    queue.notify_next(Readiness::IN);
    assert_eq!((wakes(), seen.load(Ordering::SeqCst)), (vec![1, 0, 0, 0], Readiness::IN.bits()));
    // The first has been woken already, the second is gone.
    queue.unregister(ids[1]);
    queue.notify_next(Readiness::IN);
    assert_eq!(wakes(), [1, 0, 1, 0]);
    // What concerns all reaches all.
    queue.notify(Readiness::HUP);
    assert_eq!(wakes(), [2, 0, 2, 1]);
}

/// Register, look again, sleep: with that order a flag set by another thread is never missed.
#[test]
fn no_wake_up_is_lost() {
    for _ in 0..500 {
        let queue = Arc::new(WaitQueue::new());
        let flag = Arc::new(AtomicBool::new(false));
        let producer = {
            let (queue, flag) = (Arc::clone(&queue), Arc::clone(&flag));
            std::thread::spawn(move || {
                flag.store(true, Ordering::Relaxed);
                queue.notify(Readiness::IN);
            })
        };
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let waker = Arc::clone(&gate);
        queue.register(
            Readiness::IN,
            Arc::new(move |_: Readiness| {
                *waker.0.lock().unwrap() = true;
                waker.1.notify_one();
            }),
        );
        if !flag.load(Ordering::Relaxed) {
            let woken = gate.0.lock().unwrap();
            let (woken, _) =
                gate.1.wait_timeout_while(woken, Duration::from_secs(10), |woken| !*woken).unwrap();
            assert!(*woken, "the wake-up was lost");
        }
        producer.join().unwrap();
    }
}
