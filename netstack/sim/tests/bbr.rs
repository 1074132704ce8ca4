//! BBR's start on paths that lose at random.

use std::time::Duration;

use netstack::tcp::{Algorithm, Config};
use netstack_sim::{HostSpec, LinkSpec, Loss, Network, Transfer, TransferSpec, Way};

/// Mbit/s of the second second over 300 Mbit/s, 20 ms and 5 % loss.
fn goodput(seed: u64) -> usize {
    let mut network = Network::new(seed);
    let tcp = Config { congestion: Algorithm::Bbr, ..Config::default() };
    let [sender, receiver] =
        [(); 2].map(|()| network.add_host(HostSpec { tcp: tcp.clone(), ..HostSpec::default() }));
    let away = LinkSpec::with_delay(Duration::from_millis(10));
    let bottleneck =
        LinkSpec { rate: 300_000_000, queue: 750_000, loss: Loss::Random { ppm: 50_000 }, ..away };
    network.set_link(receiver, Way::Down, bottleneck);
    network.set_link(sender, Way::Down, away);
    network.introduce();
    let spec = TransferSpec { chunk: 256 << 10, ..TransferSpec::one_way(usize::MAX >> 8) };
    let mut transfer = Transfer::start(&mut network, sender, receiver, spec);
    let mut second = |network: &mut Network| {
        network.run_until(Duration::from_secs(1), |network| {
            transfer.step(network);
            false
        });
        transfer.received()[0]
    };
    let before = second(&mut network);
    (second(&mut network) - before) * 8 / 1_000_000
}

/// Rounds in which recovery holds the sender back say nothing of the path's bandwidth: STARTUP goes on, whichever
/// segments are lost. One of these seeds had a tenth of the path for seconds while such rounds were counted.
#[test]
fn startup_survives_random_losses() {
    let goodputs: Vec<_> = (1..=24).map(goodput).collect();
    let least = goodputs.iter().min().unwrap();
    assert!(*least > 150, "{goodputs:?}");
}
