use std::sync::Weak;
use std::time::Duration;

use super::*;
use crate::ip::PathMtu;
use crate::link::channel::ChannelLink;
use crate::link::{Capabilities, Medium};
use crate::stack::Stack;
use netstack_wire::ethernet::MacAddr;

const SECOND: Instant = Instant::from_millis(1000);

fn stack() -> (Stack, NicId) {
    let stack = Stack::builder().manual_clock().deterministic(1).build();
    let link =
        ChannelLink::new(Medium::Ethernet(MacAddr([2, 0, 0, 0, 0, 1])), 1500, Capabilities::default(), 16);
    let nic = stack.add_nic("eth0", link).unwrap();
    stack.add_address(nic, "10.0.0.1/24".parse().unwrap()).unwrap();
    (stack, nic)
}

fn find(stack: &Stack, source: Option<&str>, now: Instant) -> Egress {
    let core = &stack.core;
    let source = source.map(|source| source.parse().unwrap());
    core.ways
        .find(core, source, "10.0.0.2".parse().unwrap(), now, PacketFacts::default)
        .unwrap_or_else(|error| panic!("{error:?}"))
}

#[test]
fn way_is_found_anew_after_a_change_and_after_a_second() {
    let (stack, nic) = stack();
    let core = &stack.core;
    let reduce = |mtu| {
        let mtu = PathMtu { mtu, is_locked: false };
        core.pmtu.reduce("10.0.0.2".parse().unwrap(), mtu, Instant::ZERO, 600 * Duration::from_secs(1))
    };
    assert_eq!(find(&stack, None, Instant::ZERO).mtu, 1500);
    // Nobody told the stack, so it takes a while.
    assert!(reduce(1000));
    assert_eq!(find(&stack, None, Instant::from_millis(999)).mtu, 1500);
    assert_eq!(find(&stack, None, SECOND).mtu, 1000);
    assert!(reduce(900));
    core.topology.invalidate();
    assert_eq!(find(&stack, None, SECOND).mtu, 900);
    assert_eq!(find(&stack, None, SECOND).source, "10.0.0.1".parse::<IpAddr>().unwrap());
    stack.remove_address(nic, "10.0.0.1".parse().unwrap()).unwrap();
    stack.add_address(nic, "10.0.0.7/24".parse().unwrap()).unwrap();
    assert_eq!(find(&stack, None, SECOND).source, "10.0.0.7".parse::<IpAddr>().unwrap());
}

#[test]
fn way_in_is_that_of_the_two_ends_until_something_changes() {
    let (stack, nic) = stack();
    let core = &stack.core;
    let [local, remote, other] = ["10.0.0.1", "10.0.0.2", "10.0.0.9"].map(|ip| ip.parse::<IpAddr>().unwrap());
    let knows = |local, remote| core.ways.look_in(core, (local, remote), nic, |_| Some(())).is_some();
    find(&stack, Some("10.0.0.1"), Instant::ZERO);
    assert!(!knows(local, remote));
    let topology = core.topology.load();
    let (interface, generation) = (topology.interface(nic).unwrap(), core.topology.generation());
    core.ways.note_way_in(local, remote, interface, generation);
    assert!(knows(local, remote));
    assert!(!knows(other, remote));
    assert!(!knows(local, other));
    // Still when the way has been found anew.
    find(&stack, Some("10.0.0.1"), SECOND);
    assert!(knows(local, remote));
    core.topology.invalidate();
    assert!(!knows(local, remote));
    find(&stack, Some("10.0.0.1"), SECOND);
    assert!(!knows(local, remote));
    // What was seen before the change says nothing of what is now.
    core.ways.note_way_in(local, remote, interface, generation);
    assert!(!knows(local, remote));
}

#[test]
fn removed_interface_is_let_go() {
    let (stack, nic) = stack();
    find(&stack, None, Instant::ZERO);
    let interface: Weak<Interface> = {
        let topology = stack.core.topology.load();
        Arc::downgrade(topology.interface(nic).unwrap())
    };
    assert!(interface.upgrade().is_some());
    stack.remove_nic(nic).unwrap();
    assert!(interface.upgrade().is_none());
}
