//! Transfers over bad networks: every byte arrives once and in order, both ends close, and nothing stays behind.

use std::time::Duration;

use netstack::options::Family;
use netstack::tcp::{Algorithm, Config, EcnMode};
use netstack_sim::{
    HostSpec, LinkSpec, Loss, Network, NodeId, Order, Rng, TooLarge, Transfer, TransferSpec, Way,
};
use proptest::prelude::*;

fn milliseconds(rng: &mut Rng, bound: u64) -> Duration {
    Duration::from_micros(rng.below(bound * 1000))
}

fn random_link(rng: &mut Rng) -> LinkSpec {
    let bursty = Loss::Bursty { begin_ppm: 5_000, end_ppm: 200_000, good_ppm: 1_000, bad_ppm: 500_000 };
    let losses = [Loss::None, Loss::Random { ppm: 5_000 }, Loss::Random { ppm: 50_000 }, bursty];
    LinkSpec {
        delay: milliseconds(rng, 40),
        jitter: if rng.chance_ppm(500_000) { milliseconds(rng, 10) } else { Duration::ZERO },
        order: rng.pick(&[Order::Kept, Order::Free]),
        loss: rng.pick(&losses),
        reorder_ppm: rng.pick(&[0, 0, 20_000]),
        reorder_by: milliseconds(rng, 50),
        duplicate_ppm: rng.pick(&[0, 0, 30_000]),
        corrupt_ppm: rng.pick(&[0, 0, 10_000]),
        rate: rng.pick(&[0, 0, 5_000_000, 100_000_000]),
        queue: 20_000 + rng.index(400_000),
        ..LinkSpec::IDEAL
    }
}

fn random_config(rng: &mut Rng) -> Config {
    let mut half = || rng.chance_ppm(500_000);
    let mut config = Config {
        ecn: if half() { EcnMode::On } else { EcnMode::Passive },
        congestion: if half() { Algorithm::NewReno } else { Algorithm::Cubic },
        sack: half() || half(),
        timestamps: half() || half(),
        window_scaling: half() || half(),
        rack: half() || half(),
        // A tenth of the frames lost each way may take more than the default's attempts.
        orphan_retries: 14,
        syn_retries: 12,
        synack_retries: 12,
        ..Config::default()
    };
    if rng.chance_ppm(300_000) {
        let size = 4096 + u32::try_from(rng.below(60_000)).unwrap();
        config.receive_buffer.default = size;
        config.receive_buffer.max = size;
    }
    config
}

/// Several clients and servers with settings of their own, on links that change while they talk.
fn run(seed: u64) {
    let mut network = Network::new(seed);
    if let Some(path) = std::env::var_os("SIM_PCAP") {
        network.record(Box::new(std::fs::File::create(path).unwrap())).unwrap();
    }
    let mut rng = Rng::new(seed ^ 0x51ed);
    let count = 2 + rng.index(3);
    let nodes: Vec<NodeId> = (0..count)
        .map(|_| {
            let tcp = random_config(&mut rng);
            network.add_host(HostSpec { mtu: rng.pick(&[1500, 1500, 9000, 1280]), tcp })
        })
        .collect();
    network.introduce();
    for &node in &nodes {
        for way in [Way::Up, Way::Down] {
            network.set_link(node, way, random_link(&mut rng));
            if rng.chance_ppm(300_000) {
                let at = network.now() + milliseconds(&mut rng, 2_000);
                network.set_link_at(at, node, way, random_link(&mut rng));
            }
        }
    }
    let mut start = |index: u16, network: &mut Network| {
        let (client, server) = (rng.index(count), rng.index(count));
        let size = |rng: &mut Rng| {
            let bits = 4 + rng.index(14);
            rng.index(1 << bits)
        };
        let spec = TransferSpec {
            family: rng.pick(&[Family::V4, Family::V6]),
            port: 1000 + index,
            from_client: size(&mut rng),
            from_server: size(&mut rng),
            chunk: 1 + rng.index(60_000),
            lazy_ppm: rng.pick(&[0, 0, 500_000]),
        };
        Transfer::start(network, nodes[client], nodes[server], spec)
    };
    let mut transfers: Vec<_> = (0..3).map(|index| start(index, &mut network)).collect();
    let is_over = network.run_until(Duration::from_secs(3600), |network| {
        transfers.retain_mut(|transfer| !transfer.step(network));
        transfers.is_empty()
    });
    assert!(is_over, "seed {seed}: stuck at {:?}: {transfers:#?}", network.now());
    network.drain();
    network.assert_clean();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_arrives_once_and_nothing_stays_behind(seed in any::<u64>()) {
        run(seed);
    }
}

/// The same on seeds that do not change, so that a change of the code shows.
#[test]
fn fixed_seeds_pass() {
    let first = std::env::var("SIM_FIRST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let count = std::env::var("SIM_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(100);
    for seed in first..first + count {
        let result = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = result {
            eprintln!("SIM_FIRST_SEED={seed} SIM_SEEDS=1");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn one_seed_gives_one_run() {
    let trace = |seed| {
        let mut network = Network::new(seed);
        let nodes = [0, 1].map(|_| network.add_host(HostSpec::default()));
        let spec =
            LinkSpec { loss: Loss::Random { ppm: 30_000 }, ..LinkSpec::with_delay(Duration::from_millis(5)) };
        nodes.iter().for_each(|&node| network.set_link(node, Way::Down, spec));
        let transfer = Transfer::start(&mut network, nodes[0], nodes[1], TransferSpec::both_ways(200_000));
        let took = transfer.run_to_end(&mut network);
        (took, nodes.map(|node| network.link_stats(node, Way::Up)))
    };
    assert_eq!(trace(3), trace(3));
    assert_ne!(trace(3), trace(4));
}

/// A path that narrows in the middle of a transfer: reported by a router, the sender obeys; unreported, the transfer
/// stands still unless the stack probes the path, so only the report is tested here.
#[test]
fn a_path_that_narrows_is_survived() {
    for family in [Family::V4, Family::V6] {
        let mut network = Network::new(5);
        let nodes = [0, 1].map(|_| network.add_host(HostSpec::default()));
        let wide =
            LinkSpec { rate: 50_000_000, queue: 200_000, ..LinkSpec::with_delay(Duration::from_millis(10)) };
        nodes.iter().for_each(|&node| network.set_link(node, Way::Down, wide));
        let narrow = LinkSpec { mtu: 1300, too_large: TooLarge::Report, ..wide };
        network.set_link_at(network.now() + Duration::from_millis(200), nodes[1], Way::Down, narrow);
        let spec = TransferSpec { family, ..TransferSpec::one_way(5_000_000) };
        Transfer::start(&mut network, nodes[0], nodes[1], spec).run_to_end(&mut network);
        assert!(network.link_stats(nodes[1], Way::Down).too_large > 0);
        network.drain();
        network.assert_clean();
    }
}
