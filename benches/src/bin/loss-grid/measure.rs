//! One measurement: namespaces, links, forwarder and the two ends.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path as FilePath;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use integration_tests::Netns;
use netstack::wire::ethernet::MacAddr;
use netstack_host_links::{Filter, HostLink, PacketLink, PacketOptions, TapLink, TapOptions, VnetHeaders};
use serde_json::{Value, json};

use crate::cli::{Cli, Control, Direction};
use crate::forward::{self, Path, Tally};
use crate::kernel;

/// A place in the grid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cell {
    pub(crate) rtt_ms: u32,
    pub(crate) loss_percent: f64,
}

/// Measurements that belong together: they are taken one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) cell: Cell,
    pub(crate) seed: u64,
    pub(crate) control: Control,
    pub(crate) directions: Vec<Direction>,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    cell: Cell,
    seed: u64,
    control: Control,
    direction: Direction,
}

/// What it gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) cell: Cell,
    pub(crate) seed: u64,
    pub(crate) control: Control,
    pub(crate) direction: Direction,
    pub(crate) mbps: f64,
    tally: Tally,
}

impl Job {
    /// Whether losses keep the rate so low that several can be measured at once.
    pub(crate) fn is_light(&self) -> bool {
        let Cell { rtt_ms, loss_percent } = self.cell;
        self.control != Control::Bbr && (loss_percent >= 1.0 && rtt_ms >= 20 || loss_percent >= 5.0)
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> {
        let Self { cell, seed, control, .. } = *self;
        self.directions.iter().map(move |&direction| Run { cell, seed, control, direction })
    }
}

impl Sample {
    pub(crate) fn to_json(self) -> Value {
        let Self { cell, seed, control, direction, mbps, tally } = self;
        json!({
            "rtt_ms": cell.rtt_ms, "loss_percent": cell.loss_percent, "seed": seed, "cc": control.name(),
            "direction": direction.name(), "mbps": (mbps * 1000.0).round() / 1000.0,
            "forwarded": tally.forwarded, "lost": tally.lost, "overflowed": tally.overflowed,
        })
    }
}

impl Run {
    /// Makes the namespaces, measures, and removes everything.
    pub(crate) fn measure(&self, nsbench: &FilePath, cli: &Cli) -> anyhow::Result<Sample> {
        // The sender's, the receiver's.
        let spaces = [Netns::new(), Netns::new()];
        let ours = match self.direction {
            Direction::Linux => None,
            Direction::Send => Some(0),
            Direction::Receive => Some(1),
        };
        for (index, space) in spaces.iter().enumerate() {
            prepare(space, index, ours == Some(index))?;
        }
        let path = self.path(cli);
        let stop = AtomicBool::new(false);
        // First, or the first SYN would be refused.
        let server = usize::from(self.direction != Direction::Receive);
        let listener = spaces[server].inside(|| listen(server)).context("listen")?;
        std::thread::scope(|scope| {
            // Ours opens the tap before the forwarder listens to its other side.
            let child = ours.map(|index| self.start(nsbench, &spaces[index], index, cli)).transpose()?;
            let mut child = Guard { child, stop: &stop };
            let links = [open(&spaces[0], 0, ours)?, open(&spaces[1], 1, ours)?];
            let forwarder = scope.spawn(|| forward::run(links, &path, &stop));
            let bytes = self.ends(&spaces, &listener, &mut child, cli, &stop);
            drop(child);
            let tally = forwarder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            let Self { cell, seed, control, direction } = *self;
            Ok(Sample { cell, seed, control, direction, mbps: bytes?, tally })
        })
    }

    fn path(&self, cli: &Cli) -> Path {
        let rate = cli.rate.max(1) * 1_000_000;
        Path {
            rtt: Duration::from_millis(self.cell.rtt_ms.into()),
            loss: self.cell.loss_percent / 100.0,
            seed: self.seed,
            rate,
            queue: Duration::from_nanos(cli.queue * FRAME_BITS * 1_000_000_000 / rate),
        }
    }

    /// Starts our end.
    fn start(&self, nsbench: &FilePath, space: &Netns, index: usize, cli: &Cli) -> anyhow::Result<Child> {
        let (mode, secs) = match self.direction {
            // The kernel's end measures; ours goes on a little longer.
            Direction::Send => ("tx", cli.secs + 20.0),
            _ => ("rx", cli.secs),
        };
        let mut command = space.command(nsbench);
        command.args([mode, "--link", &format!("tap:{TAP}"), "--ip", &format!("{}/24", address(index))]);
        command.args(["--peer", &address(1 - index).to_string(), "--port", &base_port(self.direction)]);
        command.args(["--gso", "off", "--json", "--cc", self.control.name(), "--secs", &secs.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut child = child.context("start nsbench")?;
        let end = Instant::now() + Duration::from_secs(5);
        while !is_up(space)? {
            ensure!(Instant::now() < end && child.try_wait()?.is_none(), "nsbench does not open its tap");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(child)
    }

    /// Runs the ends and returns the goodput in Mbit/s.
    fn ends(
        &self,
        spaces: &[Netns; 2],
        listener: &TcpListener,
        child: &mut Guard<'_>,
        cli: &Cli,
        stop: &AtomicBool,
    ) -> anyhow::Result<f64> {
        let span = cli.duration();
        let control = self.control;
        if self.direction == Direction::Receive {
            return std::thread::scope(|scope| {
                let source = scope.spawn(|| kernel::serve(listener, control, stop));
                let mbps = child.report();
                stop.store(true, Ordering::Relaxed);
                source.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                mbps
            });
        }
        wait_until_up(&spaces[1])?;
        let bytes = std::thread::scope(|scope| {
            let sink = scope.spawn(|| {
                let bytes = kernel::sink(listener, span);
                stop.store(true, Ordering::Relaxed);
                bytes
            });
            if self.direction == Direction::Linux {
                wait_until_up(&spaces[0])?;
                let remote = SocketAddr::new(address(1).into(), PORT);
                spaces[0].inside(|| kernel::send_to(remote, control, stop))?;
            }
            sink.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        // Byte counts stay far below 2^53.
        Ok(bytes as f64 * 8e-6 / span.as_secs_f64())
    }
}

/// Ends our end and the forwarder with the measurement, however that ends.
struct Guard<'a> {
    child: Option<Child>,
    stop: &'a AtomicBool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Guard<'_> {
    /// The goodput that our receiver reports when it ends.
    fn report(&mut self) -> anyhow::Result<f64> {
        let output = self.child.take().context("nsbench is gone")?.wait_with_output()?;
        ensure!(output.status.success(), "nsbench failed: {}", output.status);
        let value: Value = serde_json::from_slice(&output.stdout).context("the report of nsbench")?;
        value["mbps"].as_f64().context("nsbench reports no rate")
    }
}

/// Makes the tap; the kernel has an address on it where it is an end.
fn prepare(space: &Netns, index: usize, is_ours: bool) -> anyhow::Result<()> {
    space.ip(&["tuntap", "add", TAP, "mode", "tap"]);
    let settings = space.inside(|| -> std::io::Result<()> {
        std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?;
        // Or a measurement would begin with what the one before has learnt.
        std::fs::write("/proc/sys/net/ipv4/tcp_no_metrics_save", "1")
    });
    settings.context("sysctl")?;
    // Linux orphans packets at a tap: the queue must hold a window.
    space.ip(&["link", "set", TAP, "txqueuelen", "10000"]);
    if !is_ours {
        space.ip(&["addr", "add", &format!("{}/24", address(index)), "dev", TAP]);
    }
    space.ip(&["link", "set", TAP, "up"]);
    Ok(())
}

/// Opens the forwarder's side: the tap itself where the kernel is the end, a packet socket on the tap that ours owns.
fn open(space: &Netns, index: usize, ours: Option<usize>) -> anyhow::Result<Arc<dyn HostLink>> {
    space.inside(|| -> anyhow::Result<Arc<dyn HostLink>> {
        if ours == Some(index) {
            let options = PacketOptions {
                filter: Filter::Promiscuous,
                vnet_headers: VnetHeaders::Absent,
                ..PacketOptions::default()
            };
            return Ok(PacketLink::open(TAP, options).context("open the packet socket")?);
        }
        let options = TapOptions { vnet_headers: VnetHeaders::Absent, ..TapOptions::tap(MacAddr::ZERO) };
        Ok(TapLink::open(TAP, options).context("open the tap")?)
    })
}

fn listen(index: usize) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::new(address(index).into(), PORT))
}

/// `nsbench` counts services from a base: the sink is the first, the source the second.
fn base_port(direction: Direction) -> String {
    let offset = u16::from(direction == Direction::Receive);
    (PORT - offset).to_string()
}

fn wait_until_up(space: &Netns) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        if is_up(space)? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("the tap of {} does not come up", space.name())
}

/// Whether the kernel has noticed the carrier; before, it drops everything.
fn is_up(space: &Netns) -> anyhow::Result<bool> {
    let output = Command::new("ip").args(["-n", space.name(), "-o", "link", "show", TAP]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).contains("LOWER_UP") && output.status.success())
}

/// The address of an end.
fn address(index: usize) -> Ipv4Addr {
    // Zero or one.
    Ipv4Addr::new(10, 77, 0, 1 + u8::from(index == 1))
}

const TAP: &str = "t0";
const PORT: u16 = 7001;
/// A full frame on the wire.
const FRAME_BITS: u64 = 1514 * 8;
