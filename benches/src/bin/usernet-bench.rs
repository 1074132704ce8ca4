#![forbid(unsafe_code)]
//! The user-mode gateway against passt's pasta and slirp4netns: a guest's kernel behind a tap device, and a server on
//! the host's loopback, in namespaces of the program's own. All peers are measured in turns within one run.
//!
//! ```sh
//! apt-get install passt slirp4netns
//! cargo build --release -p netstack-usernet && cargo run --release -p benches --bin usernet-bench -- --rounds 5
//! ```

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use integration_tests::{Netns, Running};

/// Measure usernet, pasta and slirp4netns in turns.
#[derive(Debug, Parser)]
struct Cli {
    /// How often each figure is taken; the table has medians
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    secs: f64,
    /// The gateway's program; the release build of this workspace if left out
    #[arg(long)]
    usernet: Option<PathBuf>,
}

/// A gateway with its guest.
struct Peer {
    name: &'static str,
    guest: Netns,
    /// Where the guest finds the host's loopback.
    gateway: &'static str,
    /// The program, for its CPU time.
    process: Running,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    /// The guest sends.
    Upload,
    /// The guest receives.
    Download,
    /// Connections one after the other, each closed by the server.
    Connections,
    /// One byte to and fro.
    RoundTrips,
}

/// One figure, and what it cost.
#[derive(Debug, Clone, Copy)]
struct Figure {
    /// Gbit/s, or events per second.
    rate: f64,
    /// CPU seconds of the gateway per GB or per event.
    cpu: f64,
}

const ROWS: [Row; 4] = [Row::Upload, Row::Download, Row::Connections, Row::RoundTrips];

fn main() -> Result<()> {
    let cli = Cli::parse();
    let host = host_namespace()?;
    let servers = Servers::start(&host)?;
    let peers = peers(&cli, &host)?;
    let mut figures = vec![vec![Vec::new(); peers.len()]; ROWS.len()];
    for _ in 0..cli.rounds {
        for (row, figures) in ROWS.iter().zip(&mut figures) {
            for (peer, figures) in peers.iter().zip(figures) {
                figures.push(measure(*row, peer, &servers, Duration::from_secs_f64(cli.secs))?);
            }
        }
    }
    print(&peers, figures);
    Ok(())
}

/// A namespace that looks to pasta as if it had a way out: pasta takes its guest's addresses from there.
fn host_namespace() -> Result<Netns> {
    let host = Netns::new();
    host.ip(&["link", "add", "ext0", "type", "veth", "peer", "name", "ext1"]);
    host.ip(&["link", "set", "ext1", "up"]);
    host.ip(&["addr", "add", "192.0.2.10/24", "dev", "ext0"]);
    host.ip(&["link", "set", "ext0", "up"]);
    host.ip(&["route", "add", "default", "via", "192.0.2.1"]);
    Ok(host)
}

fn peers(cli: &Cli, host: &Netns) -> Result<Vec<Peer>> {
    let release = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/usernet");
    let usernet = cli.usernet.clone().unwrap_or_else(|| release.into());
    if !usernet.exists() {
        bail!("{}: build it first (cargo build --release -p netstack-usernet)", usernet.display());
    }
    let usernet = usernet.to_string_lossy().into_owned();
    let mut peers = Vec::new();
    for (name, gateway) in [("usernet", "10.0.2.2"), ("pasta", "192.0.2.1"), ("slirp4netns", "10.0.2.2")] {
        let guest = Netns::new();
        let path = guest.path();
        let arguments: Vec<&str> = match name {
            "usernet" => vec![&usernet, "--netns", &path, "--tap", "tap0", "--configure", "--host-loopback"],
            // As root it would become nobody, who may not enter the namespace.
            "pasta" => {
                vec![
                    "pasta",
                    "-q",
                    "-f",
                    "-4",
                    "--config-net",
                    "-t",
                    "none",
                    "-u",
                    "none",
                    "-T",
                    "none",
                    "-U",
                    "none",
                    "--runas",
                    "0:0",
                    "--netns",
                    &path,
                ]
            }
            _ => vec!["slirp4netns", "--configure", "--mtu=65520", "--netns-type=path", &path, "tap0"],
        };
        if Command::new(arguments[0])
            .arg("--help")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_err()
        {
            eprintln!("{name} is not installed: left out");
            continue;
        }
        let process = Running::start(host.command(arguments[0]).args(&arguments[1..]));
        integration_tests::wait_until("the guest's route", Duration::from_secs(20), || {
            let routes = Command::new("ip").args(["-n", guest.name(), "route"]).output();
            routes.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("default"))
        });
        peers.push(Peer { name, guest, gateway, process });
    }
    // A new tap device drops frames until its carrier is noticed.
    std::thread::sleep(Duration::from_millis(1500));
    Ok(peers)
}

/// The host's end of the measurements.
struct Servers {
    received: Arc<AtomicU64>,
}

impl Servers {
    fn start(host: &Netns) -> Result<Self> {
        let received = Arc::new(AtomicU64::new(0));
        for row in ROWS {
            let listener = host.inside(|| TcpListener::bind(("127.0.0.1", row.port())))?;
            let received = Arc::clone(&received);
            // Lives as long as the program.
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let received = Arc::clone(&received);
                    match row {
                        // Closing it is all.
                        Row::Connections => drop(stream),
                        _ => drop(std::thread::spawn(move || serve(row, stream, &received))),
                    }
                }
            });
        }
        Ok(Self { received })
    }
}

fn serve(row: Row, mut stream: TcpStream, received: &AtomicU64) {
    let mut block = vec![b'x'; BLOCK];
    // Each ends when the client does.
    match row {
        Row::Upload => {
            while let Ok(count @ 1..) = stream.read(&mut block) {
                received.fetch_add(count as u64, Ordering::Relaxed);
            }
        }
        Row::Download => while stream.write_all(&block).is_ok() {},
        Row::RoundTrips => {
            let _ = stream.set_nodelay(true);
            while stream.read_exact(&mut block[..1]).is_ok() && stream.write_all(&block[..1]).is_ok() {}
        }
        Row::Connections => {}
    }
}

fn measure(row: Row, peer: &Peer, servers: &Servers, span: Duration) -> Result<Figure> {
    let address: SocketAddr = format!("{}:{}", peer.gateway, row.port()).parse()?;
    let connect = || {
        let stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        std::io::Result::Ok(stream)
    };
    let run = || -> std::io::Result<(u64, f64)> {
        let mut block = vec![b'x'; BLOCK];
        let mut stream = if row == Row::Connections { None } else { Some(connect()?) };
        let before = servers.received.load(Ordering::Relaxed);
        let start = Instant::now();
        let mut count = 0_u64;
        while start.elapsed() < span {
            match (row, &mut stream) {
                (Row::Upload, Some(stream)) => stream.write_all(&block)?,
                (Row::Download, Some(stream)) => count += stream.read(&mut block)? as u64,
                (Row::RoundTrips, Some(stream)) => {
                    stream.write_all(&block[..1])?;
                    stream.read_exact(&mut block[..1])?;
                    count += 1;
                }
                _ => match connect()?.read(&mut block) {
                    Err(error) if error.kind() != ErrorKind::ConnectionReset => return Err(error),
                    _ => count += 1,
                },
            }
        }
        let wall = start.elapsed().as_secs_f64();
        let received = servers.received.load(Ordering::Relaxed) - before;
        Ok((if row == Row::Upload { received } else { count }, wall))
    };
    let cpu = cpu_seconds(peer)?;
    let (count, wall) = peer.guest.inside(run).with_context(|| format!("{row:?} through {}", peer.name))?;
    let cpu = cpu_seconds(peer)? - cpu;
    // Counts stay far below 2^53.
    let count = count as f64;
    Ok(match row {
        Row::Upload | Row::Download => Figure { rate: count * 8e-9 / wall, cpu: cpu / (count * 1e-9) },
        Row::Connections | Row::RoundTrips => Figure { rate: count / wall, cpu: cpu / count },
    })
}

/// What the gateway's process has used so far (`schedstat` of proc_pid(5), in nanoseconds). `ip netns exec` becomes the
/// program, so that the process that was started is it.
fn cpu_seconds(peer: &Peer) -> Result<f64> {
    let path = format!("/proc/{}/schedstat", peer.process.pid());
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let nanoseconds: u64 = text.split(' ').next().unwrap_or_default().parse().context(path)?;
    Ok(nanoseconds as f64 * 1e-9)
}

fn print(peers: &[Peer], figures: Vec<Vec<Vec<Figure>>>) {
    let columns: Vec<String> = peers.iter().map(|peer| format!(" {} | its CPU |", peer.name)).collect();
    println!("| row | unit |{} usernet / pasta |", columns.concat());
    println!("|---|---|{}---|", "---|---|".repeat(peers.len()));
    for (row, figures) in ROWS.iter().zip(figures) {
        let medians: Vec<Figure> = figures.into_iter().map(median).collect();
        let cells: Vec<String> = medians.iter().map(|figure| row.cells(*figure)).collect();
        let ratio = match &medians[..] {
            [usernet, pasta, ..] => format!("{:.2} x", usernet.rate / pasta.rate),
            _ => "-".to_owned(),
        };
        println!("| {} | {} |{} {ratio} |", row.name(), row.unit(), cells.concat());
    }
}

fn median(figures: Vec<Figure>) -> Figure {
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    let rate = middle(figures.iter().map(|figure| figure.rate).collect());
    Figure { rate, cpu: middle(figures.iter().map(|figure| figure.cpu).collect()) }
}

impl Row {
    fn port(self) -> u16 {
        match self {
            Self::Upload => 5000,
            Self::Download => 5001,
            Self::Connections => 5002,
            Self::RoundTrips => 5003,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Upload => "bulk, guest to host",
            Self::Download => "bulk, host to guest",
            Self::Connections => "connections",
            Self::RoundTrips => "round trips of a byte",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Upload | Self::Download => "Gbit/s; ms/GB",
            Self::Connections | Self::RoundTrips => "1/s; us each",
        }
    }

    fn cells(self, figure: Figure) -> String {
        let Figure { rate, cpu } = figure;
        match self {
            Self::Upload | Self::Download => format!(" {rate:.1} | {:.0} |", cpu * 1e3),
            Self::Connections | Self::RoundTrips => format!(" {rate:.0} | {:.1} |", cpu * 1e6),
        }
    }
}

/// What one call sends or receives.
const BLOCK: usize = 128 << 10;
/// No call should take longer.
const LIMIT: Duration = Duration::from_secs(20);
