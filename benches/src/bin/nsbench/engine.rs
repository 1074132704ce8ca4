//! The loop: a stack on a link, and tasks that run when their socket may be ready.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use netstack::route::Route;
use netstack::tcp::{self, BufferSizes};
use netstack::wait::{Observer, Readiness, WaitQueue};
use netstack::wire::ethernet::MacAddr;
use netstack::{IpCidr, NicId, Stack};
use netstack_host_links::{
    HostLink, PacketLink, PacketOptions, Pump, Queues, TapLink, TapMode, TapOptions, Transmit, VnetHeaders,
    Wake, XdpLink, XdpOptions, XdpPeer,
};
use parking_lot::Mutex;

use crate::cli::{Cli, LinkSpec, Switch};

/// Something with a socket.
pub(crate) trait Task {
    /// Does what can be done now, but not for long.
    fn step(&mut self, context: &mut Context<'_>) -> anyhow::Result<Step>;
}

/// What a task wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Another step after the others had theirs.
    Again,
    /// A step when a socket it watches may be ready.
    Wait,
    /// Nothing any more.
    Done,
}

/// What a task works with during a step.
pub(crate) struct Context<'a> {
    pub(crate) stack: &'a Stack,
    /// Room for one read or write, shared by all tasks.
    pub(crate) buffer: &'a mut [u8],
    pub(crate) tallies: &'a mut Tallies,
    token: &'a Arc<Token>,
    spawned: &'a mut Vec<Box<dyn Task>>,
}

impl Context<'_> {
    /// Has this task stepped when the socket with that queue may be ready.
    pub(crate) fn watch(&self, queue: &WaitQueue, interest: Readiness) {
        queue.register(interest, Arc::clone(self.token) as Arc<dyn Observer>);
    }

    pub(crate) fn spawn(&mut self, task: impl Task + 'static) {
        self.spawned.push(Box::new(task));
    }
}

/// What all tasks count together.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) connected: usize,
    pub(crate) bytes: u64,
    pub(crate) events: u64,
    pub(crate) failures: u64,
    pub(crate) latencies: Vec<u64>,
}

/// The loop.
pub(crate) struct Engine {
    pub(crate) stack: Stack,
    pub(crate) tallies: Tallies,
    pump: Pump,
    tasks: Vec<Option<Entry>>,
    free: Vec<usize>,
    ready: Arc<ReadyQueue>,
    buffer: Vec<u8>,
    yields: bool,
}

/// What the engine of a queue is made of.
pub(crate) struct Seat {
    stack: Stack,
    nic: NicId,
    queue: Arc<dyn HostLink>,
}

struct Entry {
    task: Box<dyn Task>,
    token: Arc<Token>,
}

/// The tasks that may get on. Another queue's thread may have found out.
struct ReadyQueue {
    indices: Mutex<VecDeque<usize>>,
    wake: Wake,
}

/// Puts its task into the ready queue, once until it has run.
struct Token {
    index: usize,
    is_queued: AtomicBool,
    queue: Arc<ReadyQueue>,
}

impl Observer for Token {
    fn notify(&self, _ready: Readiness) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.queue.indices.lock().push_back(self.index);
            self.queue.wake.wake_soon();
        }
    }
}

impl Engine {
    /// Opens the link and makes a stack on it. The threads of the queues make their engines themselves.
    pub(crate) fn open(cli: &Cli) -> anyhow::Result<Vec<Seat>> {
        let queues = open_queues(cli)?;
        let link = Queues::new(queues).context("--queues is at least 1")?;
        let mut config = tcp::Config { congestion: cli.cc.into(), ..tcp::Config::default() };
        if let Some(max) = cli.socket_buffer {
            let limit = |sizes: BufferSizes| BufferSizes { max, default: sizes.default.min(max), ..sizes };
            config.send_buffer = limit(config.send_buffer);
            config.receive_buffer = limit(config.receive_buffer);
        }
        let stack = Stack::builder().tcp_config(config).build();
        let nic = stack.add_nic("eth0", Arc::<Queues>::clone(&link))?;
        stack.add_address(nic, cli.ip)?;
        if let Some(gateway) = cli.gw {
            let all = if gateway.is_ipv4() { IpCidr::DEFAULT_V4 } else { IpCidr::DEFAULT_V6 };
            stack.add_route(Route::via(all, gateway, nic))?;
        }
        let seat = |queue: &Arc<dyn HostLink>| Seat { stack: stack.clone(), nic, queue: Arc::clone(queue) };
        Ok(link.queues().iter().map(seat).collect())
    }

    /// Makes the loop of a queue.
    pub(crate) fn new(seat: Seat, cli: &Cli) -> anyhow::Result<Self> {
        let Seat { stack, nic, queue } = seat;
        let mut pump = Pump::new(stack.clone())?;
        pump.set_busy_poll(Duration::from_micros(cli.busy_poll));
        pump.add(nic, queue);
        let ready = ReadyQueue { indices: Mutex::default(), wake: pump.wake() };
        Ok(Self {
            stack,
            tallies: Tallies::default(),
            pump,
            tasks: Vec::new(),
            free: Vec::new(),
            ready: Arc::new(ready),
            buffer: vec![b'x'; cli.buffer.max(cli.size).max(MIN_BUFFER)],
            yields: cli.yields,
        })
    }

    /// Adds a task, which gets its first step in the next round.
    pub(crate) fn spawn(&mut self, task: Box<dyn Task>) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            self.tasks.len() - 1
        });
        let queue = Arc::clone(&self.ready);
        let token = Arc::new(Token { index, is_queued: AtomicBool::new(true), queue });
        self.tasks[index] = Some(Entry { task, token });
        self.ready.indices.lock().push_back(index);
    }

    /// Runs tasks and carries frames until `end`, or until `is_done` says so.
    pub(crate) fn run(
        &mut self,
        end: Option<Instant>,
        mut is_done: impl FnMut(&Tallies) -> bool,
    ) -> anyhow::Result<()> {
        loop {
            let before = self.tallies.bytes;
            let is_busy = self.round()?;
            if self.yields && self.tallies.bytes > before {
                std::thread::yield_now();
            }
            if is_done(&self.tallies) {
                return Ok(());
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(());
            }
            self.pump.turn(if is_busy { Some(Duration::ZERO) } else { left })?;
        }
    }

    /// Steps the tasks that are ready now, once, or those at the front if together they carry more than fits the cache. True
    /// if some are ready still or again.
    fn round(&mut self) -> anyhow::Result<bool> {
        let count = self.ready.indices.lock().len();
        let end = self.tallies.bytes + BYTES_PER_ROUND;
        for _ in 0..count {
            let Some(index) = self.ready.indices.lock().pop_front() else { break };
            self.step(index)?;
            if self.tallies.bytes >= end {
                break;
            }
        }
        Ok(!self.ready.indices.lock().is_empty())
    }

    fn step(&mut self, index: usize) -> anyhow::Result<()> {
        let Some(Entry { task, token }) = &mut self.tasks[index] else { return Ok(()) };
        token.is_queued.store(false, Ordering::Release);
        let mut spawned = Vec::new();
        let mut context = Context {
            stack: &self.stack,
            buffer: &mut self.buffer,
            tallies: &mut self.tallies,
            token,
            spawned: &mut spawned,
        };
        match task.step(&mut context)? {
            Step::Again => token.notify(Readiness::empty()),
            Step::Wait => {}
            Step::Done => {
                self.tasks[index] = None;
                self.free.push(index);
            }
        }
        spawned.into_iter().for_each(|task| self.spawn(task));
        Ok(())
    }
}

fn open_queues(cli: &Cli) -> anyhow::Result<Vec<Arc<dyn HostLink>>> {
    let vnet_headers = match cli.gso {
        Switch::On => VnetHeaders::Present,
        Switch::Off => VnetHeaders::Absent,
    };
    let tap = TapOptions { vnet_headers, napi: cli.napi, ..TapOptions::tap(TAP_MAC) };
    let transmit = if cli.qdisc_bypass { Transmit::Direct } else { Transmit::Queued };
    let packet = PacketOptions { vnet_headers, transmit, ..PacketOptions::default() };
    let tun = TapOptions { mode: TapMode::Tun, ..tap };
    let queues = match (&cli.link, cli.queues) {
        (LinkSpec::Tap(name), 1) => shared([TapLink::open(name, tap)?]),
        (LinkSpec::Tap(name), count) => shared(TapLink::open_queues(name, tap, count)?),
        (LinkSpec::Tun(name), 1) => shared([TapLink::open(name, tun)?]),
        (LinkSpec::Tun(name), count) => shared(TapLink::open_queues(name, tun, count)?),
        (LinkSpec::Packet(name), 1) => shared([PacketLink::open(name, packet)?]),
        (LinkSpec::Xdp(name), count) => {
            let options = XdpOptions { peer: XdpPeer::SameHost, ..XdpOptions::default() };
            shared(XdpLink::open_queues(name, options, count)?)
        }
        (LinkSpec::Packet(name), count) => shared(PacketLink::open_queues(name, packet, count)?),
    };
    Ok(queues)
}

fn shared<L: HostLink + 'static>(links: impl IntoIterator<Item = Arc<L>>) -> Vec<Arc<dyn HostLink>> {
    links.into_iter().map(|link| link as Arc<dyn HostLink>).collect()
}

/// Our station behind a tap: locally administered (IEEE 802 clause 8.4).
const TAP_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// What all streams carry before the link is looked at, and the other end may run: about a second-level cache, and enough for
/// what it costs not to be seen.
const BYTES_PER_ROUND: u64 = 1 << 20;

/// Room for the largest datagram.
const MIN_BUFFER: usize = 65_536;
