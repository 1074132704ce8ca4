//! The endpoint of one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::sync::{BriefGuard, BriefMutex};
use netstack_wire::tcp::FastOpenCookie;

use crate::bpf;
use crate::flow_table::Keyed;
use crate::hint::cold_path;
use crate::ip::Egress;
use crate::options::SocketOptions;
use crate::outbox::Outbox;
use crate::port_table::Binding;
use crate::port_users::PortUse;
use crate::stack::Core;
use crate::tcp::{self, Connection, Events, Flow, SegmentIn, State, Verdict};
use crate::tcp_endpoint::input;
use crate::tcp_endpoint::transmit::{
    max_payload, path_of, resolve_with, send_plain_segment, send_segment, shown,
};
use crate::time::Instant;
use crate::timer::{TimerSlot, TimerTarget};
use crate::wait::{Readiness, WaitQueue};

mod aside;
mod quick;
mod readiness;
mod stamps;

use aside::Rare;
pub(crate) use readiness::readiness_of;
use readiness::readiness_of_events;
pub(super) use stamps::Shown;
use stamps::Span;

/// A connection with its lock, its backlog and those who wait for it.
pub(crate) struct TcpEndpoint {
    pub(crate) flow: Flow,
    pub(crate) waiters: Arc<WaitQueue>,
    port_use: PortUse,
    slot: TimerSlot,
    /// It is in some thread's list of endpoints to finish.
    is_touched: AtomicBool,
    /// Whether the send queue had room for a small write when the lock was last released, so that most small writes need
    /// not ask first. Written under the lock.
    has_room: AtomicBool,
    /// The bits of `aside.rs`: in one byte, of which an idle connection has just one to spare.
    bits: AtomicU8,
    rare: BriefMutex<Option<Box<Rare>>>,
    inner: BriefMutex<Inner>,
}

/// What the lock protects.
pub(crate) struct Inner {
    pub(crate) machine: Connection,
    egress: Option<Egress>,
    /// Shared with the socket.
    options: Arc<SocketOptions>,
    /// What happened since observers were last notified.
    events: Events,
    /// Until it is taken out. Nobody looks before it was entered.
    is_in_table: bool,
}

impl TcpEndpoint {
    /// Wraps a machine. The caller enters it into the table with [`register`](Self::register).
    pub(crate) fn new(
        flow: Flow,
        machine: Connection,
        egress: Option<Egress>,
        options: Arc<SocketOptions>,
        waiters: Arc<WaitQueue>,
        filter: Option<bpf::Program>,
        port_use: PortUse,
    ) -> Arc<Self> {
        let mut inner = Inner { machine, egress, options, events: Events::empty(), is_in_table: true };
        if !inner.options.has_plain_headers() {
            inner.count_headers(&flow);
        }
        let notes_arrivals = inner.options.stamp_arrivals;
        let min_ttl = min_ttl_of(&inner.options, &flow);
        let (bits, rare) = Rare::begin(filter);
        let endpoint = Arc::new(Self {
            flow,
            waiters,
            port_use,
            slot: TimerSlot::default(),
            is_touched: AtomicBool::new(false),
            has_room: AtomicBool::new(inner.machine.send_room() >= SMALL_WRITE),
            bits,
            rare,
            inner: BriefMutex::new(inner),
        });
        if notes_arrivals {
            endpoint.note_arrivals(true);
        }
        if min_ttl > 0 {
            endpoint.note_min_ttl(min_ttl);
        }
        endpoint
    }

    /// Enters the connection into the table; false if there is one with that flow.
    pub(crate) fn register(self: &Arc<Self>, core: &Core) -> bool {
        // Before a segment finds it, whose answer may end the connection and the use of the port with it.
        core.tcp_ports.add_user(self.flow.local_port, self.port_use);
        let is_new = core.tcp.insert(&core.secrets, self);
        if !is_new {
            core.tcp_ports.remove_user(self.flow.local_port, self.port_use);
        }
        is_new
    }

    /// Whether a socket cannot have its port and address.
    pub(crate) fn excludes(&self, port: u16, binding: &Binding) -> bool {
        self.flow.local_port == port
            && binding.takes(self.flow.local_addr)
            && !binding.may_join(self.port_use)
    }

    /// The way out of a connection that could not be entered; `None` if there are other references to it.
    pub(crate) fn into_egress(self: Arc<Self>) -> Option<Egress> {
        Arc::into_inner(self)?.inner.into_inner().egress
    }

    /// Takes a segment, at once or into the backlog. Never waits.
    #[inline]
    pub(super) fn on_segment(self: &Arc<Self>, core: &Arc<Core>, segment: SegmentIn, outbox: &mut Outbox) {
        match self.inner.try_lock() {
            Some(mut inner) => {
                self.process(core, &mut inner, segment, outbox);
                self.release_or_touch(core, inner, outbox);
            }
            None => {
                self.push_backlog(core, segment);
                // Whoever finishes looks at the backlog, however late this thread has come.
                self.touch(outbox);
            }
        }
    }

    /// Puts the endpoint on the thread's list for [`finish`](Self::finish).
    pub(crate) fn touch(self: &Arc<Self>, outbox: &mut Outbox) {
        if !self.is_touched.swap(true, Ordering::AcqRel) {
            outbox.touched().push(Arc::clone(self));
        }
    }

    /// The lowest TTL or hop limit that segments may arrive with.
    #[cold]
    pub(super) fn min_ttl(&self) -> u8 {
        self.inspect(|inner| min_ttl_of(&inner.options, &self.flow))
    }

    #[inline]
    fn process(
        self: &Arc<Self>,
        core: &Arc<Core>,
        inner: &mut Inner,
        segment: SegmentIn,
        outbox: &mut Outbox,
    ) {
        let is_syn_in_time_wait = segment.repr.flags.contains(netstack_wire::tcp::TcpFlags::SYN)
            && inner.machine.state() == State::TimeWait;
        let copy = is_syn_in_time_wait.then(|| segment.clone());
        let granted = granted_cookie(&segment);
        let span = self.has_stamps().then(|| Span {
            // A SYN is a number of its own.
            start: segment.repr.seq
                + (segment.sequence_len() - segment.payload.len_u32())
                    .min(u32::from(segment.repr.flags.contains(netstack_wire::tcp::TcpFlags::SYN))),
            len: segment.payload.len_u32(),
        });
        let outcome = inner.machine.on_segment(outbox.now(core), segment);
        if let Some((cookie, mss)) = granted.filter(|_| outcome.events.contains(Events::CONNECTED)) {
            core.fast_open.store(self.flow.remote_addr, cookie, mss);
        }
        inner.events |= outcome.events;
        if let Some(span) = span {
            self.stamp_arrival(inner, span, outbox.now(core));
        }
        match outcome.verdict {
            Verdict::Accepted => {}
            Verdict::Dropped(reason) => core.counters.count_tcp_drop(reason),
            Verdict::Reincarnate { isn_above } => {
                self.deregister(core, inner);
                if let Some(copy) = copy {
                    input::to_listener(core, &self.flow, copy, Some(isn_above), outbox);
                }
            }
        }
    }

    /// Does what the inputs since the last call have caused: drains the backlog, sends, arms the timer, and notifies.
    pub(crate) fn finish(self: &Arc<Self>, core: &Arc<Core>, outbox: &mut Outbox) {
        // Acquire: whoever found it set has put a segment into the backlog before, which `release` must see.
        self.is_touched.swap(false, Ordering::AcqRel);
        self.with(core, outbox, |_| ());
    }

    /// Runs an operation of the user on the machine, and everything that follows from it.
    ///
    /// A segment may come between the last look at the backlog and the unlock. Its thread saw the lock taken, and finishes
    /// the endpoint itself at the end of its batch.
    #[inline]
    pub(crate) fn with<T>(
        self: &Arc<Self>,
        core: &Arc<Core>,
        outbox: &mut Outbox,
        operation: impl FnOnce(&mut Inner) -> T,
    ) -> T {
        let mut inner = self.inner.lock();
        let result = operation(&mut inner);
        self.release(core, inner, outbox);
        result
    }

    /// Looks at the machine without changing it.
    pub(crate) fn inspect<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        look(&self.inner.lock())
    }

    fn release(self: &Arc<Self>, core: &Arc<Core>, mut inner: BriefGuard<'_, Inner>, outbox: &mut Outbox) {
        while self.has_backlog() {
            self.drain_backlog(core, &mut inner, outbox);
        }
        let concluded = self.conclude(core, &mut inner, outbox);
        if inner.machine.state() == State::Closed {
            self.deregister(core, &mut inner);
        }
        drop(inner);
        self.follow_up(core, concluded);
    }

    /// Sends what the machine has, and tells what is left to do once the lock is released.
    #[inline]
    fn conclude(&self, core: &Arc<Core>, inner: &mut Inner, outbox: &mut Outbox) -> Concluded {
        if inner.machine.has_output() {
            self.transmit(core, inner, outbox);
        }
        let events = std::mem::take(&mut inner.events);
        if events.contains(Events::ACKED) {
            confirm_neighbour(inner, outbox.now(core));
        }
        self.note_room(&inner.machine);
        Concluded { deadline: inner.machine.next_deadline(), events }
    }

    /// Does what is done without the lock.
    #[inline]
    fn follow_up(self: &Arc<Self>, core: &Core, Concluded { deadline, events }: Concluded) {
        core.timers.arm(self, deadline);
        if events.intersects(WAKING) && !self.waiters.is_empty() {
            // Readiness is looked at under the lock.
            self.waiters.notify_synchronised(readiness_of_events(events));
        }
    }

    #[cold]
    #[inline(never)]
    fn drain_backlog(self: &Arc<Self>, core: &Arc<Core>, inner: &mut Inner, outbox: &mut Outbox) {
        for segment in self.take_backlog() {
            self.process(core, inner, segment, outbox);
        }
    }

    /// How many timeouts there were since the last answer, where somebody wants to know.
    fn timeouts(&self, inner: &Inner) -> u32 {
        if self.flow.remote_addr.is_ipv4() { 0 } else { inner.machine.timeouts() }
    }

    fn transmit(&self, core: &Arc<Core>, inner: &mut Inner, outbox: &mut Outbox) {
        let now = outbox.now(core);
        let label = self.label();
        let has_stamps = self.has_stamps();
        let Inner { machine, egress: way, options, events, .. } = inner;
        if let Some(egress) = way.as_mut().filter(|egress| egress.is_current(core))
            && let Some(plain) = machine.poll_plain(now)
        {
            if send_plain_segment(core, &self.flow, egress, (&*options, label), plain, outbox).is_err() {
                core.counters.ip_out_discards.increment();
            }
            if !machine.has_output() {
                return;
            }
        }
        let egress = way;
        // Pacing and congestion windows bound this in the machine; the link bounds it by dropping.
        let limit = egress.as_ref().map_or(0, |egress| max_payload(egress, &self.flow));
        while let Some(transmit) = machine.poll_transmit(now, limit) {
            if egress.as_ref().is_none_or(|egress| !egress.is_current(core)) {
                *egress = resolve_with(core, &self.flow, options).ok();
            }
            let Some(egress) = egress else {
                core.counters.ip_out_no_routes.increment();
                continue;
            };
            if has_stamps {
                let show = || shown(core, &self.flow, egress, options, &transmit);
                *events |= self.stamp_departure(core, &transmit, show);
            }
            match send_segment(core, &self.flow, egress, options, label, transmit, outbox) {
                Ok(()) => {}
                // As if the segment had been lost; the machine's timers and ICMP decide what it means.
                Err(_) => core.counters.ip_out_discards.increment(),
            }
            if !machine.has_output() {
                break;
            }
        }
    }

    /// Takes the connection out of the table: segments for its flow then concern nobody, or a listener.
    fn deregister(self: &Arc<Self>, core: &Core, inner: &mut Inner) {
        if std::mem::take(&mut inner.is_in_table) {
            core.tcp.remove(&core.secrets, self);
            core.tcp_ports.remove_user(self.flow.local_port, self.port_use);
            core.timers.disarm(&self.slot);
        }
    }

    /// What can be done now.
    pub(crate) fn readiness(&self) -> Readiness {
        let ready = readiness_of(self.inner.lock().machine.readiness());
        if self.has_sent_stamps() { ready | Readiness::ERR } else { ready }
    }

    /// The socket's options changed.
    pub(crate) fn set_socket_options(&self, options: Arc<SocketOptions>) {
        let mut inner = self.inner.lock();
        let old = std::mem::replace(&mut inner.options, options);
        if !old.has_plain_headers() || !inner.options.has_plain_headers() {
            inner.count_headers(&self.flow);
        }
        // As Linux's sk_dst_reset, where it can matter.
        let is_other = |way: &Egress| {
            let (old, new) = (&old, &inner.options);
            let is_of_class = (old.tos, old.traffic_class) == (new.tos, new.traffic_class);
            old.mark != new.mark || way.is_particular() && !is_of_class
        };
        let way = if inner.egress.as_ref().is_some_and(is_other) { inner.egress.take() } else { None };
        let notes_arrivals = inner.options.stamp_arrivals;
        self.note_min_ttl(min_ttl_of(&inner.options, &self.flow));
        drop(inner);
        if notes_arrivals != old.stamp_arrivals {
            self.note_arrivals(notes_arrivals);
        }
        // They may be the last reference, which is dropped after the lock.
        drop((old, way));
    }

    /// The socket's options.
    pub(crate) fn socket_options(&self) -> Arc<SocketOptions> {
        Arc::clone(&self.inner.lock().options)
    }
}

/// What the use of a machine leads to once its lock is released.
#[derive(Debug, Clone, Copy)]
struct Concluded {
    deadline: Option<Instant>,
    events: Events,
}

impl Inner {
    /// Puts a changed machine in the place of the one that was.
    pub(crate) fn repair<T>(
        &mut self,
        flow: &Flow,
        now: Instant,
        core: &Core,
        config: &Arc<tcp::Config>,
        change: impl FnOnce(&mut tcp::Snapshot) -> T,
    ) -> Option<T> {
        if self.egress.is_none() {
            self.egress = resolve_with(core, flow, &self.options).ok();
        }
        let path = path_of(self.egress.as_ref()?);
        let mut snapshot = self.machine.snapshot(now)?;
        let result = change(&mut snapshot);
        let options = *self.machine.options();
        self.machine = Connection::restore(now, config, options, flow, path, &snapshot);
        Some(result)
    }

    /// Tells the machine how long the IP headers are that the socket's options ask for.
    #[cold]
    fn count_headers(&mut self, flow: &Flow) {
        let header_overhead = self.options.header_overhead(flow.remote_addr);
        self.machine.set_header_overhead(header_overhead);
        if self.options.extensions.as_ref().is_some_and(|extensions| extensions.first_hop().is_some()) {
            // The way may be another one.
            self.egress = None;
        }
    }

    /// Notes what an operation on the machine has caused, for [`TcpEndpoint::with`] to act on.
    pub(crate) fn note(&mut self, outcome: tcp::Outcome) {
        self.events |= outcome.events;
    }
}

impl Keyed for TcpEndpoint {
    fn flow(&self) -> &Flow {
        &self.flow
    }
}

impl TimerTarget for TcpEndpoint {
    fn slot(&self) -> &TimerSlot {
        &self.slot
    }

    fn on_timer(self: Arc<Self>, core: &Arc<Core>, now: Instant, outbox: &mut Outbox) {
        self.with(core, outbox, |inner| {
            let is_due = inner.machine.next_deadline().is_some_and(|deadline| deadline <= now);
            if is_due {
                let before = self.timeouts(inner);
                let outcome = inner.machine.on_timer(now);
                inner.note(outcome);
                if self.timeouts(inner) > before {
                    let mut label = self.label();
                    label.rethink(core);
                    self.set_label(label);
                }
            }
        });
    }
}

impl std::fmt::Debug for TcpEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpEndpoint").field("flow", &self.flow).finish_non_exhaustive()
    }
}

/// The lowest TTL or hop limit that segments of a flow may arrive with.
pub(super) fn min_ttl_of(options: &SocketOptions, flow: &Flow) -> u8 {
    if flow.remote_addr.is_ipv4() { options.min_ttl } else { options.min_hop_limit }
}

/// RFC 4861 section 7.3.1: an acknowledgment of new data is "forward progress".
#[inline]
fn confirm_neighbour(inner: &Inner, now: Instant) {
    let neighbour = inner.egress.as_ref().and_then(Egress::known_neighbour);
    if let Some(neighbour) = neighbour.filter(|neighbour| neighbour.wants_confirmation()) {
        cold_path();
        neighbour.confirm(now);
    }
}

/// The Fast Open cookie that a SYN-ACK grants, and the MSS in it (RFC 9293 section 3.7.1 if there is none).
fn granted_cookie(segment: &SegmentIn) -> Option<(FastOpenCookie, u16)> {
    let options = &segment.repr.options;
    let cookie = options.fast_open.filter(|cookie| !cookie.is_request())?;
    Some((cookie, options.mss.unwrap_or(536)))
}

/// Writes up to this many bytes need not know the room exactly.
pub(crate) const SMALL_WRITE: usize = 128;
const SMALL_WRITE_U32: u32 = SMALL_WRITE as u32;

/// The events that mean something to observers.
const WAKING: Events = Events::TRANSMIT.union(Events::ACKED).complement();
