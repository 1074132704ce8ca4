//! Captures for tests: transfers between our stacks in the simulated network.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netstack::tcp::Info;
use netstack_sim::{HostSpec, LinkSpec, Network, Transfer, TransferSpec, Way};

use crate::examine::{Examined, Examiner};
use crate::source::{self, Packet};

/// What is written goes to a vector that others see.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A capture of a transfer, and what the sender's own stack says at its end.
pub(crate) struct Simulated {
    pub(crate) file: Vec<u8>,
    pub(crate) client: Info,
}

/// Sends `bytes` over links like that, both ends being `host`. The capture has what each end sends, before losses.
pub(crate) fn simulate(seed: u64, bytes: usize, link: LinkSpec, host: &HostSpec) -> Simulated {
    let out = Shared::default();
    let mut network = Network::new(seed);
    network.record(Box::new(out.clone())).unwrap();
    let (client, server) = (network.add_host(host.clone()), network.add_host(host.clone()));
    network.introduce();
    network.set_link(client, Way::Up, link);
    let back = LinkSpec { delay: link.delay, ..LinkSpec::default() };
    network.set_link(server, Way::Up, back);
    let mut transfer = Transfer::start(&mut network, client, server, TransferSpec::one_way(bytes));
    let mut info = None;
    let is_over = network.run_until(Duration::from_secs(600), |network| {
        info = transfer.client.ours().and_then(netstack::TcpSocket::info).or(info.take());
        transfer.step(network)
    });
    assert!(is_over);
    drop(network);
    let file = std::mem::take(&mut *out.0.lock().unwrap());
    Simulated { file, client: info.unwrap() }
}

/// The packets of a file.
pub(crate) fn packets(file: Vec<u8>) -> Vec<Packet> {
    source::read(io::Cursor::new(file), "test".into()).unwrap().map(Result::unwrap).collect()
}

/// All that is known about them.
pub(crate) fn examine(packets: Vec<Packet>) -> (Vec<Examined>, Examiner) {
    let mut examiner = Examiner::default();
    let examined = packets.into_iter().map(|packet| examiner.examine(packet)).collect();
    (examined, examiner)
}

/// A slow link without faults: 20 ms, 10 Mbit/s.
pub(crate) fn plain_link() -> LinkSpec {
    LinkSpec { delay: Duration::from_millis(20), rate: 10_000_000, queue: 1 << 20, ..LinkSpec::default() }
}
