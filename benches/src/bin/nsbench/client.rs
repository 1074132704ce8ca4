//! The measuring ends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use netstack::error::{RecvError, SendError};
use netstack::options::{RecvFlags, SendMessage, SendMeta};
use netstack::wait::Readiness;
use netstack::{Stack, TcpSocket, UdpSocket, tcp};
use netstack_host_links::Queues;

use crate::cli::{Cli, Mode};
use crate::engine::{Context, Engine, Seat, Step, Task};
use crate::report::{Report, cpu_time};
use crate::server::{Hold, Sink, Source, family};

/// Measures for the time given, with the streams spread over the queues of the link.
pub(crate) fn run_on_queues(seats: Vec<Seat>, mode: Mode, cli: &Cli) -> anyhow::Result<Report> {
    let count = seats.len();
    ensure!(
        count == 1 || (matches!(mode, Mode::Tx | Mode::Rx) && cli.streams >= count),
        "several queues are for tx and rx, with a stream each at least"
    );
    std::thread::scope(|scope| {
        let start = |(index, seat)| {
            let streams = cli.streams / count + usize::from(index < cli.streams % count);
            let own = Cli { streams, ..cli.clone() };
            scope.spawn(move || {
                Queues::use_queue(index);
                run(Engine::new(seat, &own)?, mode, &own)
            })
        };
        let threads: Vec<_> = seats.into_iter().enumerate().map(start).collect();
        let mut reports = Vec::new();
        for thread in threads {
            reports.push(thread.join().map_err(|_| anyhow::anyhow!("a queue's thread panicked"))??);
        }
        Report::merge(reports).context("there is a queue")
    })
}

/// Measures for the time given.
fn run(mut engine: Engine, mode: Mode, cli: &Cli) -> anyhow::Result<Report> {
    let peer = cli.peer.context("--peer is missing")?;
    let service = |offset| SocketAddr::new(peer, cli.port + offset);
    let mut report = Report::new(mode.name());
    match mode {
        Mode::Tx | Mode::Rx => {
            let offset = u16::from(mode == Mode::Rx);
            bulk(&mut engine, mode, cli, service(offset), &mut report)?;
        }
        Mode::Rr => round_trips(&mut engine, cli, service(2), &mut report)?,
        Mode::Crr => connections(&mut engine, cli, service(3), &mut report)?,
        Mode::Idle => idle(&mut engine, cli, service(4), &mut report)?,
        Mode::Udptx => datagrams(&mut engine, cli, service(5), &mut report)?,
        Mode::Udprr => datagram_round_trips(&mut engine, cli, service(6), &mut report)?,
        Mode::Server => bail!("a server is no client"),
    }
    Ok(report)
}

/// Connects all streams.
fn connect(engine: &mut Engine, count: usize, remote: SocketAddr) -> anyhow::Result<Vec<TcpSocket>> {
    let sockets: Result<Vec<_>, _> = (0..count).map(|_| start(&engine.stack, remote)).collect();
    let sockets = sockets.with_context(|| format!("connect to {remote}"))?;
    let end = Instant::now() + CONNECT_LIMIT;
    engine.run(Some(end), |_| sockets.iter().all(is_settled))?;
    for socket in &sockets {
        if let Some(error) = socket.take_error() {
            return Err(error).with_context(|| format!("connect to {remote}"));
        }
        ensure!(is_settled(socket), "connect to {remote}: no answer within {CONNECT_LIMIT:?}");
    }
    Ok(sockets)
}

fn start(stack: &Stack, remote: SocketAddr) -> Result<TcpSocket, netstack::error::ConnectError> {
    let socket = TcpSocket::new(stack, family(remote.ip()));
    socket.set_tcp_options(|options| options.no_delay = true);
    socket.connect(remote)?;
    Ok(socket)
}

/// The handshake is over, well or not.
fn is_settled(socket: &TcpSocket) -> bool {
    !matches!(socket.state(), tcp::State::SynSent | tcp::State::SynReceived)
}

fn bulk(
    engine: &mut Engine,
    mode: Mode,
    cli: &Cli,
    remote: SocketAddr,
    report: &mut Report,
) -> anyhow::Result<()> {
    let sockets = connect(engine, cli.streams, remote)?;
    let start = (Instant::now(), cpu_time());
    let queued = QueuedBytes::default();
    for socket in sockets {
        match mode {
            Mode::Tx => {
                let queued = std::rc::Rc::clone(&queued);
                let source = Source { socket, is_watched: false };
                engine.spawn(Box::new(Metered { source, queued, own: 0 }));
            }
            _ => engine.spawn(Box::new(Sink { socket, is_watched: false })),
        }
    }
    engine.run(Some(start.0 + cli.duration()), |_| false)?;
    let wall = start.0.elapsed().as_secs_f64();
    ensure!(engine.tallies.failures == 0, "{} connections failed", engine.tallies.failures);
    // Byte counts stay far below 2^53.
    let bytes = engine.tallies.bytes.saturating_sub(queued.get());
    report.add("mbps", bytes as f64 * 8e-6 / wall);
    report.add("cpu_s", (cpu_time() - start.1).as_secs_f64());
    report.add("wall_s", wall);
    Ok(())
}

/// Bytes that sockets took and peers have not acknowledged.
type QueuedBytes = std::rc::Rc<std::cell::Cell<u64>>;

/// A source that says how much of what it wrote has not arrived.
struct Metered {
    source: Source,
    queued: QueuedBytes,
    own: u64,
}

impl Task for Metered {
    fn step(&mut self, context: &mut Context<'_>) -> anyhow::Result<Step> {
        let step = self.source.step(context)?;
        let own = self.source.socket.send_queue_len() as u64;
        self.queued.set(self.queued.get() - self.own + own);
        self.own = own;
        Ok(step)
    }
}

fn round_trips(
    engine: &mut Engine,
    cli: &Cli,
    remote: SocketAddr,
    report: &mut Report,
) -> anyhow::Result<()> {
    let sockets = connect(engine, cli.streams, remote)?;
    let start = (Instant::now(), cpu_time());
    for socket in sockets {
        let requester = Requester { socket, size: cli.size, sent: 0, received: 0, begun: None };
        engine.spawn(Box::new(requester));
    }
    engine.run(Some(start.0 + cli.duration()), |_| false)?;
    finish_events(engine, start, "tps", report);
    ensure!(engine.tallies.failures == 0, "{} connections failed", engine.tallies.failures);
    Ok(())
}

/// Events per second, latencies and processor time.
fn finish_events(engine: &mut Engine, start: (Instant, Duration), name: &str, report: &mut Report) {
    let wall = start.0.elapsed().as_secs_f64();
    // Event counts stay far below 2^53.
    report.add(name, engine.tallies.events as f64 / wall);
    report.add_latencies(std::mem::take(&mut engine.tallies.latencies));
    report.add("cpu_s", (cpu_time() - start.1).as_secs_f64());
    report.add("wall_s", wall);
}

/// Sends a request, waits for as many bytes back, and again.
struct Requester {
    socket: TcpSocket,
    size: usize,
    sent: usize,
    received: usize,
    begun: Option<Instant>,
}

impl Task for Requester {
    fn step(&mut self, context: &mut Context<'_>) -> anyhow::Result<Step> {
        if self.begun.is_none() {
            context.watch(self.socket.wait_queue(), Readiness::IN | Readiness::OUT);
            self.begun = Some(Instant::now());
        }
        if self.sent == self.size {
            match self
                .socket
                .try_recv(&mut &mut context.buffer[..self.size - self.received], RecvFlags::default())
            {
                Err(RecvError::WouldBlock) => return Ok(Step::Wait),
                Ok(0) | Err(_) => {
                    context.tallies.failures += 1;
                    return Ok(Step::Done);
                }
                Ok(count) => self.received += count,
            }
            if self.received < self.size {
                return Ok(Step::Again);
            }
            let now = Instant::now();
            let begun = self.begun.replace(now).unwrap_or(now);
            context.tallies.events += 1;
            context.tallies.latencies.push(u64::try_from((now - begun).as_nanos()).unwrap_or(u64::MAX));
            (self.sent, self.received) = (0, 0);
        }
        match self.socket.try_send(&mut &context.buffer[..self.size - self.sent]) {
            Ok(count) => self.sent += count,
            Err(SendError::WouldBlock) => return Ok(Step::Wait),
            Err(_) => {
                context.tallies.failures += 1;
                return Ok(Step::Done);
            }
        }
        // The answer notifies; a partial request goes on when there is room.
        Ok(Step::Wait)
    }
}

fn connections(
    engine: &mut Engine,
    cli: &Cli,
    remote: SocketAddr,
    report: &mut Report,
) -> anyhow::Result<()> {
    // The first one resolves the neighbour.
    drop(connect(engine, 1, remote)?);
    let start = (Instant::now(), cpu_time());
    for _ in 0..cli.streams {
        engine.spawn(Box::new(Visitor { remote, visit: None }));
    }
    engine.run(Some(start.0 + cli.duration()), |_| false)?;
    finish_events(engine, start, "cps", report);
    ensure!(engine.tallies.failures == 0, "{} connections failed", engine.tallies.failures);
    Ok(())
}

/// Connects, waits for the peer to close, closes, and again.
struct Visitor {
    remote: SocketAddr,
    visit: Option<(TcpSocket, Instant)>,
}

impl Task for Visitor {
    fn step(&mut self, context: &mut Context<'_>) -> anyhow::Result<Step> {
        let now = Instant::now();
        if let Some((socket, begun)) = &self.visit {
            match socket.try_recv(&mut &mut context.buffer[..], RecvFlags::default()) {
                Ok(0) => {}
                Err(RecvError::WouldBlock) | Ok(_) => return Ok(Step::Wait),
                // Refused or reset.
                Err(_) => context.tallies.failures += 1,
            }
            context.tallies.events += 1;
            context.tallies.latencies.push(u64::try_from((now - *begun).as_nanos()).unwrap_or(u64::MAX));
        }
        // Closes the one before.
        self.visit = None;
        let socket =
            start(context.stack, self.remote).with_context(|| format!("connect to {}", self.remote))?;
        context.watch(socket.wait_queue(), Readiness::IN);
        self.visit = Some((socket, now));
        Ok(Step::Wait)
    }
}

fn idle(engine: &mut Engine, cli: &Cli, remote: SocketAddr, report: &mut Report) -> anyhow::Result<()> {
    let start = (Instant::now(), cpu_time());
    let mut held = 0;
    while held < cli.streams {
        // A peer's backlog takes only so many at once.
        let sockets = connect(engine, CONNECTS_AT_ONCE.min(cli.streams - held), remote)?;
        held += sockets.len();
        sockets.into_iter().for_each(|socket| engine.spawn(Box::new(Hold { socket, is_watched: false })));
    }
    let wall = start.0.elapsed().as_secs_f64();
    // Connection counts stay far below 2^53.
    report.add("cps", held as f64 / wall);
    engine.run(Some(Instant::now() + cli.duration()), |_| false)?;
    report.add("held", held as f64);
    report.add("cpu_s", (cpu_time() - start.1).as_secs_f64());
    Ok(())
}

fn connect_udp(engine: &mut Engine, remote: SocketAddr) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::new(&engine.stack, family(remote.ip()));
    socket.connect(remote).with_context(|| format!("connect to {remote}"))?;
    Ok(socket)
}

fn datagrams(engine: &mut Engine, cli: &Cli, remote: SocketAddr, report: &mut Report) -> anyhow::Result<()> {
    // Resolves the neighbour, and waits for a tap's carrier, with a connection that is closed at once.
    drop(connect(engine, 1, SocketAddr::new(remote.ip(), cli.port + 3))?);
    let socket = connect_udp(engine, remote)?;
    let start = (Instant::now(), cpu_time());
    engine.spawn(Box::new(Blaster { socket, size: cli.size }));
    engine.run(Some(start.0 + cli.duration()), |_| false)?;
    finish_events(engine, start, "pps", report);
    report.add("failures", engine.tallies.failures as f64);
    Ok(())
}

/// Sends datagrams without end.
struct Blaster {
    socket: UdpSocket,
    size: usize,
}

impl Task for Blaster {
    fn step(&mut self, context: &mut Context<'_>) -> anyhow::Result<Step> {
        let mut data = [&context.buffer[..self.size]; DATAGRAMS_PER_STEP];
        let mut messages = data.each_mut().map(|data| SendMessage::new(data));
        match self.socket.try_send_many(&mut messages) {
            Ok(count) => context.tallies.events += count as u64,
            Err(_) => context.tallies.failures += 1,
        }
        Ok(Step::Again)
    }
}

fn datagram_round_trips(
    engine: &mut Engine,
    cli: &Cli,
    remote: SocketAddr,
    report: &mut Report,
) -> anyhow::Result<()> {
    let socket = connect_udp(engine, remote)?;
    let start = (Instant::now(), cpu_time());
    let end = start.0 + cli.duration();
    engine.spawn(Box::new(Pinger { socket, size: cli.size, begun: None }));
    // Each slice ends with a request in flight at most; a lost one is sent anew in the next.
    while Instant::now() < end {
        let before = engine.tallies.events;
        engine.run(Some(end.min(Instant::now() + UDP_LOSS)), |_| false)?;
        if engine.tallies.events == before && Instant::now() < end {
            engine.tallies.failures += 1;
            let socket = connect_udp(engine, remote)?;
            engine.spawn(Box::new(Pinger { socket, size: cli.size, begun: None }));
        }
    }
    finish_events(engine, start, "tps", report);
    report.add("failures", engine.tallies.failures as f64);
    Ok(())
}

/// Sends a datagram, waits for one back, and again.
struct Pinger {
    socket: UdpSocket,
    size: usize,
    begun: Option<Instant>,
}

impl Task for Pinger {
    fn step(&mut self, context: &mut Context<'_>) -> anyhow::Result<Step> {
        let now = Instant::now();
        match self.begun {
            None => context.watch(self.socket.wait_queue(), Readiness::IN),
            Some(begun) => {
                match self.socket.try_recv(&mut &mut context.buffer[..], RecvFlags::default()) {
                    Ok(_) => {}
                    Err(_) => return Ok(Step::Wait),
                }
                context.tallies.events += 1;
                context.tallies.latencies.push(u64::try_from((now - begun).as_nanos()).unwrap_or(u64::MAX));
            }
        }
        self.begun = Some(now);
        // What is not taken counts as lost.
        let _ = self.socket.try_send(&mut &context.buffer[..self.size], &SendMeta::default());
        Ok(Step::Wait)
    }
}

/// How long a handshake may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Handshakes under way at once.
const CONNECTS_AT_ONCE: usize = 256;

/// Datagrams between two looks at the link.
const DATAGRAMS_PER_STEP: usize = 32;

/// After which time a datagram or its answer counts as lost.
const UDP_LOSS: Duration = Duration::from_millis(200);
