//! The golden tables: goodput, retransmissions and fairness over loss and round-trip time.
//!
//! One cell is a stream over a bottleneck of 1 Gbit/s whose queue holds a round trip (at least 5 ms), with random loss in
//! both directions; its goodput is the median over [`SEEDS`]. Fairness is Jain's index of two streams that share 20
//! Mbit/s for twenty seconds, the second of which starts a second late.

use std::time::Duration;

use netstack::options::Family;
use netstack::tcp::{Algorithm, Config};
use serde::{Deserialize, Serialize};

use crate::host::HostSpec;
use crate::link::{LinkSpec, Loss};
use crate::network::{Network, NodeId, Way};
use crate::smoltcp_host::SmoltcpSpec;
use crate::transfer::{Transfer, TransferSpec};

/// Who sends. In JSON: Linux's name of the congestion control, or `smoltcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Sender {
    /// Our stack.
    Ours(Algorithm),
    /// smoltcp. Its Reno and its CUBIC give the same figures, since it compares their window with what it is about to
    /// send and not with what is in flight.
    Smoltcp,
}

impl From<Sender> for &'static str {
    fn from(sender: Sender) -> Self {
        match sender {
            Sender::Ours(algorithm) => algorithm.name(),
            Sender::Smoltcp => "smoltcp",
        }
    }
}

impl TryFrom<String> for Sender {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match Algorithm::from_name(&name) {
            Some(algorithm) => Ok(Self::Ours(algorithm)),
            None if name == "smoltcp" => Ok(Self::Smoltcp),
            None => Err(format!("no congestion control {name:?}")),
        }
    }
}

impl Sender {
    /// All of them, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        Algorithm::ALL.iter().copied().map(Self::Ours).chain([Self::Smoltcp])
    }

    const fn is_smoltcp(self) -> bool {
        matches!(self, Self::Smoltcp)
    }

    /// A node of this kind. Sender and receiver are of one kind, as a stack's users would have it. smoltcp does not tune
    /// its buffers; larger ones than the default of [`SmoltcpSpec`] help it on clean long paths and ruin it elsewhere.
    fn add(self, network: &mut Network) -> NodeId {
        match self {
            Self::Smoltcp => network.add_smoltcp(SmoltcpSpec::default()),
            Self::Ours(congestion) => {
                let tcp = Config { congestion, ..Config::default() };
                network.add_host(HostSpec { tcp, ..HostSpec::default() })
            }
        }
    }
}

/// One cell of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Who sends.
    pub sender: Sender,
    /// Frames lost in each direction, in parts per million.
    pub loss_ppm: u32,
    /// The round-trip time of the empty path.
    pub rtt_ms: u64,
}

/// What was measured in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The cell.
    #[serde(flatten)]
    pub cell: Cell,
    /// Megabits of payload per second.
    pub goodput_mbit: f64,
    /// Retransmitted bytes in percent of the payload; smoltcp does not count them.
    pub retransmitted_percent: Option<f64>,
    /// Jain's index of two streams: 1 is an even share, 0.5 all for one.
    pub fairness: f64,
}

impl Cell {
    /// All cells, in the order of the table.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for rtt_ms in [1, 20, 100] {
            for loss_ppm in [0, 1_000, 10_000, 50_000] {
                cells.extend(Sender::all().map(|sender| Self { sender, loss_ppm, rtt_ms }));
            }
        }
        cells
    }

    /// Measures the cell.
    #[must_use]
    pub fn measure(self) -> Row {
        self.measure_with(SEEDS)
    }

    /// The same with other seeds: how much of a figure is luck. Fairness is that of the first.
    #[must_use]
    pub fn measure_with(self, seeds: [u64; SEEDS.len()]) -> Row {
        let runs = seeds.map(|seed| self.run(seed));
        let goodput_mbit = rounded(median(runs.map(|(goodput, _)| goodput)));
        let retransmitted = runs.map(|(_, retransmitted)| retransmitted.unwrap_or_default());
        let retransmitted_percent = (!self.sender.is_smoltcp()).then(|| rounded(median(retransmitted)));
        Row { cell: self, goodput_mbit, retransmitted_percent, fairness: self.fairness(seeds[0]) }
    }

    /// Only the goodput.
    #[must_use]
    pub fn goodput(self) -> f64 {
        rounded(median(SEEDS.map(|seed| self.run(seed).0)))
    }

    /// Goodput in Mbit/s, and what was retransmitted in percent.
    fn run(self, seed: u64) -> (f64, Option<f64>) {
        let mut network = Network::new(seed);
        let sender = self.sender.add(&mut network);
        let receiver = self.sender.add(&mut network);
        self.set_links(&mut network, &[sender], receiver, RATE);
        let total = if self.loss_ppm == 0 { CLEAN_BYTES } else { LOSSY_BYTES };
        let spec = TransferSpec { family: Family::V4, chunk: 256 << 10, ..TransferSpec::one_way(total) };
        let mut transfer = Transfer::start(&mut network, sender, receiver, spec);
        let start = network.now();
        let has_arrived = network.run_until(LIMIT, |network| {
            transfer.step(network);
            transfer.received()[0] == total
        });
        let took = if has_arrived { network.now() - start } else { LIMIT };
        let goodput = transfer.received()[0] as f64 * 8.0 / took.as_secs_f64() / 1e6;
        let info = transfer.client.ours().and_then(netstack::TcpSocket::info);
        let percent = info.map(|info| info.bytes_retransmitted as f64 * 100.0 / total as f64);
        (goodput, percent)
    }

    fn fairness(self, seed: u64) -> f64 {
        let mut network = Network::new(seed);
        let senders = [(); 2].map(|()| self.sender.add(&mut network));
        let receiver = self.sender.add(&mut network);
        self.set_links(&mut network, &senders, receiver, SHARED_RATE);
        let start = |network: &mut Network, index: u16| {
            let spec =
                TransferSpec { port: 80 + index, chunk: 256 << 10, ..TransferSpec::one_way(usize::MAX >> 8) };
            Transfer::start(network, senders[usize::from(index)], receiver, spec)
        };
        let mut first = start(&mut network, 0);
        run(&mut network, HEAD_START, &mut [&mut first]);
        let mut second = start(&mut network, 1);
        run(&mut network, SETTLING, &mut [&mut first, &mut second]);
        let before = [first.received()[0], second.received()[0]];
        run(&mut network, SHARING, &mut [&mut first, &mut second]);
        let shares = [first.received()[0] - before[0], second.received()[0] - before[1]];
        jain(shares.map(|share| share as f64))
    }

    /// Bytes that the bottleneck's queue holds: a round trip of them, at least 5 ms.
    fn queue(self, rate: u64) -> usize {
        usize::try_from(rate / 8 * self.rtt_ms.max(5) / 1000).unwrap_or(usize::MAX)
    }

    /// Half of the delay is on the way to the receiver, behind the bottleneck, and half on the way back.
    fn set_links(self, network: &mut Network, senders: &[NodeId], receiver: NodeId, rate: u64) {
        let delay = Duration::from_micros(self.rtt_ms * 500);
        let loss = if self.loss_ppm == 0 { Loss::None } else { Loss::Random { ppm: self.loss_ppm } };
        let back = LinkSpec { loss, ..LinkSpec::with_delay(delay) };
        network.set_link(receiver, Way::Down, LinkSpec { rate, queue: self.queue(rate), ..back });
        senders.iter().for_each(|&sender| network.set_link(sender, Way::Down, back));
        network.introduce();
    }
}

fn run(network: &mut Network, span: Duration, transfers: &mut [&mut Transfer]) {
    network.run_until(span, |network| {
        for transfer in &mut *transfers {
            transfer.step(network);
        }
        false
    });
}

/// Jain, Chiu and Hawe 1984.
fn jain(shares: [f64; 2]) -> f64 {
    let (sum, squares) = (shares[0] + shares[1], shares[0] * shares[0] + shares[1] * shares[1]);
    if squares == 0.0 { 0.0 } else { rounded(sum * sum / (2.0 * squares)) }
}

fn median(mut values: [f64; SEEDS.len()]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[SEEDS.len() / 2]
}

/// Three decimals are more than a run of another seed would confirm.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The table as Markdown.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| RTT | loss | sender | goodput Mbit/s | retransmitted | fairness |\n|---|---|---|---|---|---|\n",
    );
    for Row { cell: Cell { sender, loss_ppm, rtt_ms }, goodput_mbit, retransmitted_percent, fairness } in rows
    {
        let loss = f64::from(*loss_ppm) / 10_000.0;
        let name: &str = (*sender).into();
        let again = retransmitted_percent.map_or("-".to_owned(), |percent| format!("{percent:.2} %"));
        text +=
            &format!("| {rtt_ms} ms | {loss} % | {name} | {goodput_mbit:.2} | {again} | {fairness:.2} |\n");
    }
    text
}

/// Several, so that the median is not one lucky run.
pub const SEEDS: [u64; 7] = [1, 2, 3, 4, 5, 6, 7];
/// The bottleneck of a goodput cell, in bits per second.
const RATE: u64 = 1_000_000_000;
/// That of a fairness cell: slow enough for both streams to fill it at every round-trip time.
const SHARED_RATE: u64 = 20_000_000;
const CLEAN_BYTES: usize = 30_000_000;
const LOSSY_BYTES: usize = 8_000_000;
/// A stream that is not through by then has the goodput that it reached.
const LIMIT: Duration = Duration::from_secs(60);
const HEAD_START: Duration = Duration::from_secs(1);
const SETTLING: Duration = Duration::from_secs(4);
const SHARING: Duration = Duration::from_secs(20);
