//! Our stack and smoltcp in one simulated network: bulk, many short connections, half-closes, simultaneous closes.

use std::time::Duration;

use netstack::options::Family;
use netstack_sim::{HostSpec, LinkSpec, Loss, Network, NodeId, SmoltcpSpec, Transfer, TransferSpec, Way};

/// A node of ours, and one of smoltcp's, on links with that spec.
fn pair(seed: u64, spec: LinkSpec) -> (Network, [NodeId; 2]) {
    let mut network = Network::new(seed);
    let nodes = [network.add_host(HostSpec::default()), network.add_smoltcp(SmoltcpSpec::default())];
    for node in nodes {
        network.set_link(node, Way::Down, spec);
    }
    (network, nodes)
}

fn lossy() -> LinkSpec {
    LinkSpec {
        loss: Loss::Random { ppm: 10_000 },
        reorder_ppm: 5_000,
        reorder_by: Duration::from_millis(3),
        duplicate_ppm: 5_000,
        corrupt_ppm: 2_000,
        ..LinkSpec::with_delay(Duration::from_millis(2))
    }
}

#[test]
fn bulk_crosses_in_both_directions_whoever_connects() {
    for spec in [LinkSpec::with_delay(Duration::from_millis(1)), lossy()] {
        for family in [Family::V4, Family::V6] {
            for order in [[0, 1], [1, 0]] {
                let (mut network, nodes) = pair(11, spec);
                let spec = TransferSpec { family, ..TransferSpec::both_ways(500_000) };
                let [client, server] = order.map(|index| nodes[index]);
                Transfer::start(&mut network, client, server, spec).run_to_end(&mut network);
                network.drain();
                network.assert_clean();
            }
        }
    }
}

#[test]
fn thousands_of_short_connections_leave_nothing_behind() {
    let (mut network, [ours, theirs]) = pair(12, LinkSpec::with_delay(Duration::from_micros(200)));
    let mut port = 1000;
    for _ in 0..50 {
        let mut transfers: Vec<_> = (0..40)
            .map(|index| {
                port += 1;
                let (client, server) = if index % 2 == 0 { (ours, theirs) } else { (theirs, ours) };
                let spec = TransferSpec { port, ..TransferSpec::both_ways(index * 10) };
                Transfer::start(&mut network, client, server, spec)
            })
            .collect();
        let is_over = network.run_until(Duration::from_secs(120), |network| {
            transfers.retain_mut(|transfer| !transfer.step(network));
            transfers.is_empty()
        });
        assert!(is_over, "{transfers:#?}");
    }
    network.drain();
    network.assert_clean();
}

/// One side sends long after the other has finished, in both roles.
#[test]
fn half_closed_connections_carry_data() {
    for (from_client, from_server) in [(0, 300_000), (300_000, 0), (1, 100_000)] {
        for order in [[0, 1], [1, 0]] {
            let (mut network, nodes) = pair(13, lossy());
            let [client, server] = order.map(|index| nodes[index]);
            let spec = TransferSpec { from_client, from_server, chunk: 5000, ..TransferSpec::one_way(0) };
            Transfer::start(&mut network, client, server, spec).run_to_end(&mut network);
            network.drain();
            network.assert_clean();
        }
    }
}
