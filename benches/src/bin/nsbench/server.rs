//! The services.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use anyhow::Context as _;
use netstack::error::{AcceptError, RecvError, SendError};
use netstack::options::{Family, RecvFlags, RecvMessage, SendMeta};
use netstack::wait::Readiness;
use netstack::{TcpSocket, UdpSocket};

use crate::cli::Cli;
use crate::engine::{Context, Engine, Step, Task};
use crate::report::{Report, cpu_time};

/// Serves until the time is over.
pub(crate) fn run(mut engine: Engine, cli: &Cli) -> anyhow::Result<Report> {
    let services = [Service::Sink, Service::Source, Service::Echo, Service::Close, Service::Hold];
    for (offset, service) in (0..).zip(services) {
        let listener = listen(&engine, cli.ip.address(), cli.port + offset)?;
        engine.spawn(Box::new(Acceptor { listener, service, is_watched: false }));
    }
    for (offset, is_echo) in [(5, false), (6, true)] {
        let local = SocketAddr::new(cli.ip.address(), cli.port + offset);
        let socket = UdpSocket::new(&engine.stack, family(local.ip()));
        socket.set_options(|options| options.recv_buffer = UDP_BUFFER);
        socket.bind(local).with_context(|| format!("bind {local}"))?;
        engine.spawn(Box::new(Datagrams { socket, is_echo, is_watched: false }));
    }
    let start = (Instant::now(), cpu_time());
    engine.run(cli.secs.map(|_| start.0 + cli.duration()), |_| false)?;
    let wall = start.0.elapsed().as_secs_f64();
    let mut report = Report::new("server");
    // Byte and event counts stay far below 2^53.
    report.add("mbps", engine.tallies.bytes as f64 * 8e-6 / wall);
    report.add("pps", engine.tallies.events as f64 / wall);
    report.add("cps", engine.tallies.connected as f64 / wall);
    report.add("cpu_s", (cpu_time() - start.1).as_secs_f64());
    Ok(report)
}

pub(crate) fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

fn listen(engine: &Engine, address: IpAddr, port: u16) -> anyhow::Result<TcpSocket> {
    let local = SocketAddr::new(address, port);
    let listener = TcpSocket::new(&engine.stack, family(address));
    listener.set_options(|options| options.reuse_address = true);
    listener.bind(local).with_context(|| format!("bind {local}"))?;
    listener.listen(BACKLOG).with_context(|| format!("listen on {local}"))?;
    Ok(listener)
}

/// What a port does with its connections.
#[derive(Debug, Clone, Copy)]
enum Service {
    Sink,
    Source,
    Echo,
    Close,
    Hold,
}

struct Acceptor {
    listener: TcpSocket,
    service: Service,
    is_watched: bool,
}

impl Task for Acceptor {
    fn step(&mut self, context: &mut Context<'_>) -> anyhow::Result<Step> {
        if !std::mem::replace(&mut self.is_watched, true) {
            context.watch(self.listener.wait_queue(), Readiness::IN);
        }
        loop {
            let socket = match self.listener.try_accept() {
                Ok((socket, _)) => socket,
                Err(AcceptError::WouldBlock) => return Ok(Step::Wait),
                Err(error) => return Err(error).context("accept"),
            };
            context.tallies.connected += 1;
            socket.set_tcp_options(|options| options.no_delay = true);
            match self.service {
                Service::Sink => context.spawn(Sink { socket, is_watched: false }),
                Service::Source => context.spawn(Source { socket, is_watched: false }),
                Service::Echo => context.spawn(Echo { socket, pending: Vec::new(), is_watched: false }),
                Service::Close => socket.close(),
                Service::Hold => context.spawn(Hold { socket, is_watched: false }),
            }
        }
    }
}

/// Reads and forgets.
pub(crate) struct Sink {
    pub(crate) socket: TcpSocket,
    pub(crate) is_watched: bool,
}

impl Task for Sink {
    fn step(&mut self, context: &mut Context<'_>) -> anyhow::Result<Step> {
        if !std::mem::replace(&mut self.is_watched, true) {
            context.watch(self.socket.wait_queue(), Readiness::IN);
        }
        for _ in 0..CALLS_PER_STEP {
            match self.socket.try_recv(&mut &mut context.buffer[..], RecvFlags::default()) {
                Ok(0) => return Ok(Step::Done),
                // A buffer is shorter than 2^64.
                Ok(count) => context.tallies.bytes += count as u64,
                Err(RecvError::WouldBlock) => return Ok(Step::Wait),
                Err(_) => {
                    context.tallies.failures += 1;
                    return Ok(Step::Done);
                }
            }
        }
        Ok(Step::Again)
    }
}

/// Writes as much as is taken.
pub(crate) struct Source {
    pub(crate) socket: TcpSocket,
    pub(crate) is_watched: bool,
}

impl Task for Source {
    fn step(&mut self, context: &mut Context<'_>) -> anyhow::Result<Step> {
        if !std::mem::replace(&mut self.is_watched, true) {
            context.watch(self.socket.wait_queue(), Readiness::OUT);
        }
        for _ in 0..CALLS_PER_STEP {
            match self.socket.try_send(&mut &*context.buffer) {
                Ok(count) => context.tallies.bytes += count as u64,
                Err(SendError::WouldBlock) => return Ok(Step::Wait),
                Err(_) => {
                    context.tallies.failures += 1;
                    return Ok(Step::Done);
                }
            }
        }
        Ok(Step::Again)
    }
}

/// Writes back what it reads, in order.
struct Echo {
    socket: TcpSocket,
    /// Read, not yet taken by the socket.
    pending: Vec<u8>,
    is_watched: bool,
}

impl Task for Echo {
    fn step(&mut self, context: &mut Context<'_>) -> anyhow::Result<Step> {
        if !std::mem::replace(&mut self.is_watched, true) {
            context.watch(self.socket.wait_queue(), Readiness::IN | Readiness::OUT);
        }
        if !self.pending.is_empty() {
            match self.socket.try_send(&mut &self.pending[..]) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(SendError::WouldBlock) => return Ok(Step::Wait),
                Err(_) => return Ok(Step::Done),
            }
            return Ok(Step::Again);
        }
        let count = match self.socket.try_recv(&mut &mut context.buffer[..], RecvFlags::default()) {
            Ok(0) => return Ok(Step::Done),
            Ok(count) => count,
            Err(RecvError::WouldBlock) => return Ok(Step::Wait),
            Err(_) => return Ok(Step::Done),
        };
        context.tallies.bytes += count as u64;
        let data = &context.buffer[..count];
        match self.socket.try_send(&mut &*data) {
            Ok(sent) => self.pending.extend(&data[sent..]),
            Err(SendError::WouldBlock) => self.pending.extend(data),
            Err(_) => return Ok(Step::Done),
        }
        // Most often the peer waits for this answer before it sends more.
        Ok(if self.pending.is_empty() && self.socket.recv_queue_len() == 0 {
            Step::Wait
        } else {
            Step::Again
        })
    }
}

/// Keeps a connection until the peer closes it.
pub(crate) struct Hold {
    pub(crate) socket: TcpSocket,
    pub(crate) is_watched: bool,
}

impl Task for Hold {
    fn step(&mut self, context: &mut Context<'_>) -> anyhow::Result<Step> {
        if !std::mem::replace(&mut self.is_watched, true) {
            context.watch(self.socket.wait_queue(), Readiness::IN);
        }
        match self.socket.try_recv(&mut &mut context.buffer[..], RecvFlags::default()) {
            Ok(1..) => Ok(Step::Again),
            Err(RecvError::WouldBlock) => Ok(Step::Wait),
            Ok(0) | Err(_) => Ok(Step::Done),
        }
    }
}

/// Counts datagrams, and sends them back if it is an echo.
struct Datagrams {
    socket: UdpSocket,
    is_echo: bool,
    is_watched: bool,
}

impl Task for Datagrams {
    fn step(&mut self, context: &mut Context<'_>) -> anyhow::Result<Step> {
        if !std::mem::replace(&mut self.is_watched, true) {
            context.watch(self.socket.wait_queue(), Readiness::IN);
        }
        if !self.is_echo {
            return Ok(self.count(context));
        }
        for _ in 0..DATAGRAMS_PER_STEP {
            let datagram = match self.socket.try_recv(&mut &mut context.buffer[..], RecvFlags::default()) {
                Ok(datagram) => datagram,
                Err(RecvError::WouldBlock) => return Ok(Step::Wait),
                // An ICMP error about an echo that nobody wanted.
                Err(_) => continue,
            };
            context.tallies.events += 1;
            context.tallies.bytes += datagram.copied as u64;
            let meta = SendMeta { to: Some(datagram.from), ..SendMeta::default() };
            // A lost answer is the client's to notice.
            let _ = self.socket.try_send(&mut &context.buffer[..datagram.copied], &meta);
        }
        Ok(Step::Again)
    }
}

impl Datagrams {
    /// Receives a batch and counts it. What exceeds its share of the buffer is cut off, and counted.
    fn count(&self, context: &mut Context<'_>) -> Step {
        let share = context.buffer.len() / DATAGRAMS_PER_STEP;
        let mut rooms: Vec<&mut [u8]> =
            context.buffer.chunks_exact_mut(share).take(DATAGRAMS_PER_STEP).collect();
        let mut messages: Vec<_> = rooms.iter_mut().map(|room| RecvMessage::new(room)).collect();
        match self.socket.try_recv_many(&mut messages) {
            Ok(count) => {
                let datagrams = messages.iter().filter_map(|message| message.datagram.clone());
                context.tallies.bytes += datagrams.map(|datagram| datagram.len as u64).sum::<u64>();
                context.tallies.events += count as u64;
                Step::Again
            }
            Err(RecvError::WouldBlock) => Step::Wait,
            Err(_) => Step::Again,
        }
    }
}

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;

/// Bytes of datagrams that wait to be read.
const UDP_BUFFER: usize = 8 << 20;

/// Reads or writes before the link is looked at again: about the bytes that fit a cache.
const CALLS_PER_STEP: usize = 4;

const DATAGRAMS_PER_STEP: usize = 64;
