use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::*;

fn at(micros: u64) -> Instant {
    Instant::from_micros(micros)
}

fn eventfd() -> OwnedFd {
    sys::eventfd().unwrap()
}

fn signal(fd: &OwnedFd) {
    sys::write(fd.as_fd(), &1u64.to_ne_bytes()).unwrap();
}

/// One that sleeps for ten seconds unless it is woken.
fn bounded(wake: &OwnedFd) -> Sleep {
    let mut sleep = Sleep::new(wake.as_fd()).unwrap();
    sleep.set_alarm(|| at(0), at(10_000_000)).unwrap();
    sleep
}

#[test]
fn links_are_reported_as_long_as_they_can_be_read() {
    let (wake, link) = (eventfd(), eventfd());
    let mut sleep = bounded(&wake);
    sleep.add(link.as_fd(), 7).unwrap();
    assert!(sleep.wait(Patience::None).unwrap().is_empty());
    signal(&link);
    for _ in 0..2 {
        assert_eq!(sleep.wait(Patience::Endless).unwrap().as_slice(), [7]);
    }
    sleep.remove(link.as_fd());
    assert!(sleep.wait(Patience::None).unwrap().is_empty());
}

/// More of them than poll(2) waits for.
#[test]
fn many_links_are_reported_each_under_its_key() {
    let wake = eventfd();
    let mut sleep = bounded(&wake);
    let links: Vec<OwnedFd> = (0..2 * MAX_POLLED).map(|_| eventfd()).collect();
    for (key, link) in (100..).zip(&links) {
        sleep.add(link.as_fd(), key).unwrap();
    }
    for (key, link) in (100..).zip(&links) {
        signal(link);
        assert_eq!(sleep.wait(Patience::Endless).unwrap().as_slice(), [key]);
        sys::read(link.as_fd(), &mut [0; 8]).unwrap();
    }
    // Whichever is forgotten, the others keep their keys.
    for forgotten in [1, 0, 2 * MAX_POLLED - 1] {
        sleep.remove(links[forgotten].as_fd());
        signal(&links[forgotten]);
    }
    assert!(sleep.wait(Patience::None).unwrap().is_empty());
    for index in [2, MAX_POLLED] {
        signal(&links[index]);
    }
    assert_eq!(sleep.wait(Patience::Endless).unwrap().as_slice(), [102, 100 + MAX_POLLED as u64]);
}

#[test]
fn end_of_a_link_is_reported() {
    let (wake, (link, peer)) = (eventfd(), UnixStream::pair().unwrap());
    let mut sleep = bounded(&wake);
    sleep.add(link.as_fd(), 3).unwrap();
    drop(peer);
    assert_eq!(sleep.wait(Patience::Endless).unwrap().as_slice(), [3]);
}

#[test]
fn each_wake_ends_one_wait() {
    let wake = eventfd();
    let mut sleep = bounded(&wake);
    for _ in 0..2 {
        signal(&wake);
        let begun = std::time::Instant::now();
        assert!(sleep.wait(Patience::Endless).unwrap().is_empty());
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    // Without anything to end it, the next would go on: what was reported is not reported again.
    assert!(sys::epoll_wait(sleep.epoll.as_fd(), Patience::None).unwrap().is_empty());
    assert_eq!(sys::poll(&mut sleep.polled, Some(Duration::ZERO)).unwrap(), 0);
}

#[test]
fn alarm_is_set_once_for_deadlines_that_move_later() {
    let wake = eventfd();
    let mut sleep = Sleep::new(wake.as_fd()).unwrap();
    sleep.set_alarm(|| at(0), at(20_000)).unwrap();
    for end in [19_960, 20_000, 60_000_000] {
        sleep.set_alarm(|| unreachable!("it goes off early enough"), at(end)).unwrap();
    }
    let begun = std::time::Instant::now();
    sleep.wait(Patience::Endless).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(15));
    // It has gone off; an earlier deadline than that of the new one replaces it.
    sleep.set_alarm(|| at(20_000), at(60_000_000)).unwrap();
    sleep.set_alarm(|| at(20_000), at(30_000)).unwrap();
    let begun = std::time::Instant::now();
    sleep.wait(Patience::Endless).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30));
    // One in the past goes off at once.
    sleep.set_alarm(|| at(30_000), at(1)).unwrap();
    sleep.wait(Patience::Endless).unwrap();
}
