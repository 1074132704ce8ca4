//! Recording the packets of the sandbox's network, with what only its kernel knows about them.
//!
//! The threads that carry packets put them into a queue and never wait. A thread of the recording writes them down, and finds
//! out whose socket each belongs to: it may take locks that the others hold.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::fs::File as HostOsFile;
use std::io::{self, BufWriter};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netstack::link::Medium;
use netstack::link::sniffer::{Direction, PcapWriter};
use netstack::monitor::{PacketMonitor, Seen};
use netstack::packet::Packet;
use netstack::tcp::{Flow, State};
use netstack::wire::ip::Protocol;
use netstack::{NicId, Stack};
use parking_lot::{Condvar, Mutex};

use crate::boot::CaptureEnd;
use crate::kernel::Kernel;
use crate::socket::{NetNamespace, owner};

/// Bytes of packets that may wait to be written; what comes beyond that is counted as lost.
const MAX_WAITING: usize = 16 << 20;
/// What a waiting packet costs besides its bytes.
const OVERHEAD: usize = 256;
/// Owners that are remembered. A sandbox with more conversations forgets them all and looks again.
const MAX_OWNERS: usize = 4096;

/// A recording under way. It ends when dropped.
pub(super) struct Capture {
    namespace: Arc<NetNamespace>,
    queue: Arc<Queue>,
    thread: Option<JoinHandle<u64>>,
}

impl Capture {
    /// Starts to write pcapng to `file`, of each packet the first `snap_len` bytes.
    pub(super) fn start(
        kernel: Arc<Kernel>,
        namespace: Arc<NetNamespace>,
        file: OwnedFd,
        snap_len: u32,
    ) -> io::Result<Self> {
        let snap_len = usize::try_from(snap_len).unwrap_or(usize::MAX);
        let file = BufWriter::with_capacity(256 << 10, HostOsFile::from(file));
        let writer = PcapWriter::new(Box::new(file), snap_len)?;
        let stack = namespace.stack().clone();
        let queue = Arc::new(Queue { stack: stack.clone(), state: Mutex::default(), news: Condvar::new() });
        let scribe = Scribe {
            kernel,
            namespace: namespace.clone(),
            queue: queue.clone(),
            writer,
            interfaces: HashMap::new(),
            owners: HashMap::new(),
        };
        let builder = std::thread::Builder::new().name("capture".to_owned()).stack_size(128 << 10);
        let thread = builder.spawn(move || scribe.run())?;
        namespace.departed().keep(true);
        stack.set_packet_monitor(Some(queue.clone()));
        Ok(Self { namespace, queue, thread: Some(thread) })
    }

    /// Writes down what waits, and tells how much there was.
    pub(super) fn end(mut self) -> CaptureEnd {
        self.finish()
    }

    fn finish(&mut self) -> CaptureEnd {
        self.namespace.stack().set_packet_monitor(None);
        self.queue.state.lock().is_over = true;
        self.queue.news.notify_one();
        // The thread does not panic.
        let packets = self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(0);
        self.namespace.departed().keep(false);
        CaptureEnd { packets, lost: self.queue.state.lock().lost }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.finish();
        }
    }
}

/// What was seen and not written yet.
struct Queue {
    stack: Stack,
    state: Mutex<QueueState>,
    news: Condvar,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Entry>,
    bytes: usize,
    lost: u64,
    is_over: bool,
}

/// A packet as it was seen.
struct Entry {
    since_epoch: Duration,
    nic: NicId,
    interface: Arc<str>,
    medium: Medium,
    direction: Direction,
    packet: Packet,
    discarded: Vec<&'static str>,
    flow: Option<(Protocol, Flow)>,
    state: Option<State>,
}

impl PacketMonitor for Queue {
    fn packet(&self, seen: &Seen<'_>) {
        let cost = seen.packet.len() + OVERHEAD;
        {
            let mut state = self.state.lock();
            if state.bytes + cost > MAX_WAITING {
                state.lost += 1;
                return;
            }
            // Given back by the writer.
            state.bytes += cost;
        }
        let flow = seen.flow();
        let is_tcp = |(protocol, _): &&(Protocol, Flow)| *protocol == Protocol::TCP;
        let entry = Entry {
            since_epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            nic: seen.nic,
            interface: seen.interface.clone(),
            medium: seen.medium,
            direction: seen.direction,
            packet: seen.packet.clone(),
            discarded: seen.discarded.to_vec(),
            state: flow.as_ref().filter(is_tcp).and_then(|(_, flow)| self.stack.tcp_state(flow)),
            flow,
        };
        self.state.lock().waiting.push_back(entry);
        self.news.notify_one();
    }
}

/// Writes the recording.
struct Scribe {
    kernel: Arc<Kernel>,
    namespace: Arc<NetNamespace>,
    queue: Arc<Queue>,
    writer: Arc<PcapWriter>,
    /// The recording's numbers of the NICs.
    interfaces: HashMap<NicId, u32>,
    owners: HashMap<(Protocol, Flow), Option<String>>,
}

impl Scribe {
    /// Writes until the recording is over; how many packets it wrote.
    fn run(mut self) -> u64 {
        let mut written = 0;
        loop {
            let (batch, is_over) = self.take();
            for entry in &batch {
                self.write(entry);
            }
            written += batch.len() as u64;
            let done: usize = batch.iter().map(|entry| entry.packet.len() + OVERHEAD).sum();
            self.queue.state.lock().bytes -= done;
            if let Err(error) = self.writer.flush() {
                tracing::error!("write the packets: {error}");
                self.queue.stack.set_packet_monitor(None);
                return written;
            }
            if is_over {
                return written;
            }
        }
    }

    /// Waits for packets or for the end.
    fn take(&self) -> (VecDeque<Entry>, bool) {
        let mut state = self.queue.state.lock();
        while state.waiting.is_empty() && !state.is_over {
            self.queue.news.wait(&mut state);
        }
        (std::mem::take(&mut state.waiting), state.is_over)
    }

    fn write(&mut self, entry: &Entry) {
        let comment = self.comment(entry);
        let writer = &self.writer;
        let add = || writer.add_interface(&entry.interface, entry.medium);
        let number = *self.interfaces.entry(entry.nic).or_insert_with(add);
        writer.record_noted(number, entry.direction, &entry.packet, entry.since_epoch, comment.trim_end());
    }

    /// Lines `key: value`, which `netcap` reads.
    fn comment(&mut self, entry: &Entry) -> String {
        let mut comment = String::new();
        // Writing to a string does not fail.
        if !entry.discarded.is_empty() {
            let _ = writeln!(comment, "drop: {}", entry.discarded.join(" "));
        }
        // On a loopback NIC there are two ends.
        let other = entry
            .flow
            .filter(|_| entry.medium == Medium::Loopback)
            .map(|(protocol, flow)| (protocol, flow.reversed()));
        match [entry.flow, other].map(|flow| flow.and_then(|flow| self.owner(flow))) {
            [Some(owner), None] => drop(writeln!(comment, "process: {owner}")),
            [Some(owner), Some(sender)] => drop(writeln!(comment, "process: {owner}, from {sender}")),
            [None, Some(sender)] => drop(writeln!(comment, "process: none, from {sender}")),
            [None, None] => {}
        }
        if let Some(state) = entry.state {
            let _ = writeln!(comment, "state: {state}");
        }
        comment
    }

    /// The process whose socket the packet is from or for, as far as there is one.
    fn owner(&mut self, (protocol, flow): (Protocol, Flow)) -> Option<String> {
        if self.owners.len() > MAX_OWNERS {
            self.owners.clear();
        }
        let known = self.owners.entry((protocol, flow)).or_default();
        if known.is_none() {
            *known = owner::of(&self.kernel, self.namespace.departed(), protocol, &flow);
        }
        known.clone()
    }
}
