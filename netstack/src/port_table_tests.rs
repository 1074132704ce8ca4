//! Tests of the binding rules. The expectations on conflicts are Linux's (`inet_csk_bind_conflict`, `udp_lib_get_port`).

use super::*;

struct Socket(&'static str);

fn any(family: Family) -> Binding {
    Binding { address: None, family, only_v6: false, nic: None, reuse_address: false, reuse_port: false }
}

fn on(address: &str) -> Binding {
    let address: IpAddr = address.parse().unwrap();
    Binding { address: Some(address), ..any(crate::cidr::family_of(address)) }
}

fn target(local: &str, remote: &str) -> Target {
    Target {
        local: local.parse().unwrap(),
        local_port: 7,
        remote: remote.parse().unwrap(),
        remote_port: 9,
        nic: NicId::from_index(1).unwrap(),
    }
}

#[test]
fn conflicts() {
    let v4 = any(Family::V4);
    let v6 = any(Family::V6);
    let only_v6 = Binding { only_v6: true, ..v6 };
    let reuse = |binding| Binding { reuse_address: true, ..binding };
    let group = |binding| Binding { reuse_port: true, ..binding };
    let nic = |binding, index| Binding { nic: NicId::from_index(index), ..binding };
    for (first, second, conflict) in [
        (v4, v4, true),
        (v4, v6, true),
        (v4, only_v6, false),
        (v6, only_v6, true),
        (v4, on("10.0.0.1"), true),
        (on("10.0.0.1"), on("10.0.0.2"), false),
        (on("10.0.0.1"), on("10.0.0.1"), true),
        (v6, on("10.0.0.1"), true),
        (only_v6, on("10.0.0.1"), false),
        (v4, on("2001:db8::1"), false),
        (reuse(v4), reuse(v4), false),
        (reuse(v4), v4, true),
        (group(v4), group(v4), false),
        (group(v4), reuse(v4), true),
        (nic(v4, 1), nic(v4, 2), false),
        (nic(v4, 1), v4, true),
    ] {
        for sharing in [Sharing::Stream, Sharing::Datagram] {
            let table = PortTable::new(sharing);
            table.bind(7, first, &Arc::new(Socket("first"))).unwrap();
            let result = table.bind(7, second, &Arc::new(Socket("second")));
            assert_eq!(result.is_err(), conflict, "{sharing:?}: {first:?} then {second:?}");
        }
    }
}

#[test]
fn a_listener_is_not_shared_by_reuse_address() {
    let table = PortTable::new(Sharing::Stream);
    let binding = Binding { reuse_address: true, ..any(Family::V4) };
    let (first, second) = (Arc::new(Socket("first")), Arc::new(Socket("second")));
    table.bind(7, binding, &first).unwrap();
    table.bind(7, binding, &second).unwrap();
    table.start_receiving(7, &first).unwrap();
    assert_eq!(table.start_receiving(7, &second), Err(Taken));
    assert_eq!(table.bind(7, binding, &Arc::new(Socket("third"))), Err(Taken));
    table.unbind(7, &first);
    table.start_receiving(7, &second).unwrap();
}

#[test]
fn connections_hold_their_port() {
    let table = PortTable::<Socket>::new(Sharing::Stream);
    let reuse = Binding { reuse_address: true, ..any(Family::V4) };
    table.add_user(7, PortUse::Shared);
    assert!(table.bind(7, any(Family::V4), &Arc::new(Socket("plain"))).is_err());
    assert!(table.bind(7, reuse, &Arc::new(Socket("sharing"))).is_ok());
    table.add_user(8, PortUse::Exclusive);
    assert!(table.bind(8, reuse, &Arc::new(Socket("sharing"))).is_err());
    // Asked only where some connection could exclude the socket.
    let beside = |port, binding, has_rival: bool| {
        let mut was_asked = false;
        let socket = Arc::new(Socket("beside"));
        let bound = table.bind_beside(port, binding, &socket, || {
            was_asked = true;
            has_rival
        });
        table.unbind(port, &socket);
        (bound, was_asked)
    };
    assert_eq!(beside(8, reuse, true), (Err(Taken), true));
    assert_eq!(beside(8, reuse, false), (Ok(()), true));
    assert_eq!(beside(9, reuse, true), (Ok(()), false));
    table.remove_user(8, PortUse::Exclusive);
    assert!(table.bind(8, any(Family::V4), &Arc::new(Socket("plain"))).is_ok());
}

#[test]
fn the_most_precise_socket_wins() {
    let table = PortTable::new(Sharing::Datagram);
    let reuse = |binding| Binding { reuse_address: true, ..binding };
    let bind = |name, binding| {
        let socket = Arc::new(Socket(name));
        table.bind(7, reuse(binding), &socket).unwrap();
        socket
    };
    let found = |local, remote| table.lookup(&target(local, remote), || 0).map(|found| found.by_hash().0);
    bind("any6", any(Family::V6));
    assert_eq!(found("10.0.0.1", "10.0.0.9"), Some("any6"));
    bind("any4", any(Family::V4));
    assert_eq!(found("10.0.0.1", "10.0.0.9"), Some("any4"));
    assert_eq!(found("2001:db8::1", "2001:db8::9"), Some("any6"));
    bind("address", on("10.0.0.1"));
    assert_eq!(found("10.0.0.1", "10.0.0.9"), Some("address"));
    assert_eq!(found("10.0.0.2", "10.0.0.9"), Some("any4"));
    let connected = bind("connected", any(Family::V4));
    table.narrow(7, &connected, Some("10.0.0.1".parse().unwrap()), Some(("10.0.0.9".parse().unwrap(), 9)));
    assert_eq!(found("10.0.0.1", "10.0.0.9"), Some("connected"));
    assert_eq!(found("10.0.0.1", "10.0.0.8"), Some("address"));
    bind("newest", any(Family::V4));
    assert_eq!(found("10.0.0.2", "10.0.0.9"), Some("newest"));
}

#[test]
fn groups_share_by_hash() {
    let table = PortTable::new(Sharing::Datagram);
    let binding = Binding { reuse_port: true, ..any(Family::V4) };
    for name in ["a", "b", "c", "d"] {
        table.bind(7, binding, &Arc::new(Socket(name))).unwrap();
    }
    let pick = |hash| table.lookup(&target("10.0.0.1", "10.0.0.9"), || hash).unwrap().by_hash().0;
    assert_eq!([0, 1 << 62, 2 << 62, 3 << 62].map(pick), ["a", "b", "c", "d"]);
    assert_eq!(pick(u64::MAX), "d");
}

#[test]
fn picked_ports_are_in_the_range_and_run_out() {
    let table = PortTable::new(Sharing::Stream);
    let secrets = Secrets::new(Some(1));
    let binding = Binding { reuse_address: true, ..any(Family::V4) };
    let mut ports: Vec<_> = (0..4)
        .map(|_| table.bind_any(&(100..=103), &secrets, binding, &Arc::new(Socket("x"))).unwrap())
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [100, 101, 102, 103]);
    assert_eq!(table.bind_any(&(100..=103), &secrets, binding, &Arc::new(Socket("x"))), Err(Taken));
}
