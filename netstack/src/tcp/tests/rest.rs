//! Idle connections are small, and nobody can tell. Each test of this folder that uses a [`Network`] lets idle ends rest
//! and checks that waking gives back the same; these are about when they do.

use super::super::{Algorithm, Config, Connection, Options, Readiness, State};
use super::network::{Link, Network};
use crate::time::Instant;
use core::time::Duration;
use std::sync::Arc;

const DELAY: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

fn network(options: Options) -> Network {
    let config = Arc::new(Config::default());
    let mut network = Network::new(
        1,
        Link::ideal(DELAY),
        [&config; 2],
        [options, Options { keepalive: false, ..options }],
        1460,
    );
    network.establish();
    network.run_for(DELAY * 4);
    network
}

/// Carries `len` bytes to the server, all of which are read.
fn exchange(network: &mut Network, len: usize) {
    let (mut written, mut read) = (0, 0);
    let mut buf = vec![0; 65_536];
    while read < len {
        let now = network.now;
        written += network.client().send(now, &vec![7; (len - written).min(10_000)]).unwrap_or(0);
        network.run_for(DELAY);
        let now = network.now;
        while let Ok(count @ 1..) = network.server().recv(now, &mut buf) {
            read += count;
        }
    }
}

fn is_resting(connection: &Connection) -> bool {
    format!("{connection:?}").contains("Resting")
}

#[test]
fn unused_connection_rests_at_once_and_used_one_after_a_second() {
    for algorithm in Algorithm::ALL {
        let mut network = network(Options { congestion: Some(*algorithm), ..Options::default() });
        assert!(is_resting(network.client()) && is_resting(network.server()), "{algorithm:?}");
        assert_eq!(network.client().next_deadline(), None);
        network.always_rest = false;
        exchange(&mut network, 300_000);
        network.run_for(SECOND / 2);
        assert!(!is_resting(network.client()) && !is_resting(network.server()), "{algorithm:?}");
        network.run_for(SECOND);
        assert!(is_resting(network.client()) && is_resting(network.server()), "{algorithm:?}");
        assert_eq!(network.client().next_deadline(), None);
    }
}

#[test]
fn resting_connection_answers_as_if_it_were_not() {
    let mut network = network(Options::default());
    exchange(&mut network, 100_000);
    network.run_for(SECOND * 2);
    let now = network.now;
    let info = network.client().info(now).expect("it is established");
    let room = network.client().send_room();
    assert!(is_resting(network.client()));
    assert_eq!(network.client().state(), State::Established);
    assert_eq!(network.client().readiness(), Readiness::WRITABLE);
    network.client().wake_for_test();
    assert!(!is_resting(network.client()));
    assert_eq!(network.client().info(now), Some(info));
    assert_eq!(network.client().send_room(), room);
    assert_eq!(network.client().readiness(), Readiness::WRITABLE);
    assert_eq!(network.client().recv(now, &mut [0; 8]), Err(super::super::RecvError::WouldBlock));
}

#[test]
fn unread_data_keeps_it_awake_until_it_is_read() {
    let mut network = network(Options::default());
    let now = network.now;
    assert_eq!(network.client().send(now, b"hello"), Ok(5));
    network.run_for(SECOND * 5);
    assert!(is_resting(network.client()) && !is_resting(network.server()));
    let now = network.now;
    assert_eq!(network.server().recv(now, &mut [0; 8]), Ok(5));
    network.always_rest = false;
    network.run_for(SECOND * 2);
    assert!(is_resting(network.server()));
}

#[test]
fn keepalive_goes_on_while_it_rests() {
    let idle = Duration::from_secs(60);
    let options = Options { keepalive: true, keepalive_idle: Some(idle), ..Options::default() };
    let mut network = network(options);
    assert!(is_resting(network.client()));
    let deadline = network.client().next_deadline().expect("keepalive is on");
    let before = network.ends[0].sent_segments;
    network.run_for(deadline - network.now + DELAY * 4);
    assert_eq!(network.ends[0].sent_segments, before + 1, "a probe");
    network.run_for(SECOND * 2);
    assert!(is_resting(network.client()));
    assert!(network.client().next_deadline().is_some_and(|at| at > deadline && at < Instant::FAR_FUTURE));
}

/// What a connection of each kind takes at rest, allocations included; the budget of docs/performance.md counts on it.
#[test]
fn resting_connection_is_small() {
    use super::super::open::Resting;
    // It rests in place.
    let sizes = [size_of::<Connection>(), size_of::<Resting>(), Resting::HISTORY_LEN];
    assert!(sizes[0] <= 240 && sizes[1] <= 208 && sizes[2] <= 368, "{sizes:?}");
}
