//! The endpoint of one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::sync::{BriefGuard, BriefMutex};
use netstack_wire::tcp::{FastOpenCookie, TcpRepr};

use crate::bpf;
use crate::flow_table::Keyed;
use crate::ip::flow_label::ConnectionLabel;
use crate::ip::{Arrival, Egress, Rx, count};
use crate::options::SocketOptions;
use crate::outbox::{Outbox, transmit_one};
use crate::packet::Packet;
use crate::port_users::PortUse;
use crate::stack::Core;
use crate::tcp::{self, Connection, Events, Flow, Payload, PlainSegment, SegmentIn, State, Verdict};
use crate::tcp_endpoint::input;
use crate::tcp_endpoint::transmit::{
    frame_of_few, max_payload, resolve_marked, send_plain_segment, send_segment,
};
use crate::time::Instant;
use crate::timer::{TimerSlot, TimerTarget};
use crate::wait::{Readiness, WaitQueue};

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
    /// The bits of [`HAS_BACKLOG`] and those after it: in one byte, of which an idle connection has just one to spare.
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

/// What few connections have, and those not for long; allocated by the first thing in it.
#[derive(Default)]
struct Rare {
    /// Segments that arrived while somebody else held `inner`.
    backlog: Vec<SegmentIn>,
    /// What the user wants of what arrives (`SO_ATTACH_FILTER`).
    filter: Option<bpf::Program>,
    /// The flow label, if it is not that of the flow.
    label: ConnectionLabel,
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
        let inner = Inner { machine, egress, options, events: Events::empty(), is_in_table: true };
        let bits = AtomicU8::new(if filter.is_some() { HAS_FILTER } else { 0 });
        let rare = filter.map(|filter| Box::new(Rare { filter: Some(filter), ..Rare::default() }));
        Arc::new(Self {
            flow,
            waiters,
            port_use,
            slot: TimerSlot::default(),
            is_touched: AtomicBool::new(false),
            has_room: AtomicBool::new(inner.machine.send_room() >= SMALL_WRITE),
            bits,
            rare: BriefMutex::new(rare),
            inner: BriefMutex::new(inner),
        })
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

    /// Takes a plain segment if the connection expects it and nobody else is busy with it. Otherwise nothing has happened.
    #[inline]
    pub(super) fn on_plain(self: &Arc<Self>, rx: &mut Rx<'_>, segment: &PlainSegment<'_>) -> bool {
        let Some(mut inner) = self.inner.try_lock() else { return false };
        let Some(events) = inner.machine.on_plain(rx.now, segment) else { return false };
        inner.events |= events;
        if let Some(egress) = &mut inner.egress {
            egress.note_way_in(rx.interface, rx.generation);
        }
        self.release_or_touch(rx.core, inner, rx.outbox);
        true
    }

    /// The same for a segment that came alone, if the connection knows the way that it came. The caller holds the lock of
    /// the table, so this does nothing that needs it, and leaves what may need more to the caller, which is rare.
    #[inline]
    pub(super) fn on_single(
        self: &Arc<Self>,
        core: &Arc<Core>,
        arrival: &Arrival,
        segment: &PlainSegment<'_>,
        outbox: &mut Outbox,
    ) -> Option<Option<Aftermath>> {
        let mut inner = self.inner.try_lock()?;
        let Inner { machine, egress, events, .. } = &mut *inner;
        let interface = &egress.as_ref().filter(|egress| egress.is_way_in(core, arrival.nic))?.interface;
        if !arrival.is_for(interface) || self.has_backlog() {
            return None;
        }
        *events |= machine.on_plain(outbox.now(core), segment)?;
        count(core, interface, arrival.len);
        core.counters.tcp_in_segs.increment();
        let concluded = self.conclude(core, &mut inner, outbox);
        drop(inner);
        let Concluded { deadline, events } = concluded;
        let must_arm = deadline.is_some_and(|deadline| !self.slot.covers(deadline));
        let must_notify = events.intersects(WAKING) && !self.waiters.is_empty();
        let has_ended = events.contains(Events::CLOSED);
        let must_act = must_arm || must_notify || has_ended;
        Some(must_act.then(|| Aftermath { endpoint: Arc::clone(self), concluded }))
    }

    /// Takes any other segment that came alone, whole and with a right checksum, if the connection knows the way that it
    /// came and nobody else is busy with it. Otherwise false, and nothing has happened.
    pub(crate) fn on_alone(
        self: &Arc<Self>,
        core: &Arc<Core>,
        arrival: &Arrival,
        (tos, repr): (u8, TcpRepr),
        payload: impl FnOnce() -> Payload,
        outbox: &mut Outbox,
    ) -> bool {
        let Some(mut inner) = self.inner.try_lock() else { return false };
        let way = inner.egress.as_ref().filter(|egress| egress.is_way_in(core, arrival.nic));
        let Some(interface) = way.map(|egress| &egress.interface).filter(|way| arrival.is_for(way)) else {
            return false;
        };
        count(core, interface, arrival.len);
        core.counters.tcp_in_segs.increment();
        outbox.begin_last();
        self.process(core, &mut inner, input::segment_of(tos, repr, payload()), outbox);
        self.release_or_touch(core, inner, outbox);
        outbox.end_batch();
        true
    }

    /// Finishes at once if nothing else of the batch is to come, otherwise leaves that to the end of the batch.
    #[inline]
    fn release_or_touch(
        self: &Arc<Self>,
        core: &Arc<Core>,
        inner: BriefGuard<'_, Inner>,
        outbox: &mut Outbox,
    ) {
        if outbox.is_batch_over() {
            return self.release(core, inner, outbox);
        }
        drop(inner);
        self.touch(outbox);
    }

    /// Puts the endpoint on the thread's list for [`finish`](Self::finish).
    pub(crate) fn touch(self: &Arc<Self>, outbox: &mut Outbox) {
        if !self.is_touched.swap(true, Ordering::AcqRel) {
            outbox.touched().push(Arc::clone(self));
        }
    }

    #[inline]
    fn has_backlog(&self) -> bool {
        self.bits.load(Ordering::Acquire) & HAS_BACKLOG != 0
    }

    /// The socket has become something else; what it still does here is done on its own.
    pub(crate) fn leave(&self) {
        self.bits.fetch_or(IS_LEFT, Ordering::Release);
    }

    /// Whether the socket has.
    #[inline]
    pub(crate) fn is_left(&self) -> bool {
        self.bits.load(Ordering::Acquire) & IS_LEFT != 0
    }

    fn push_backlog(&self, core: &Core, segment: SegmentIn) {
        let mut rare = self.rare.lock();
        let backlog = &mut rare.get_or_insert_default().backlog;
        if backlog.len() >= MAX_BACKLOG {
            core.counters.tcp_backlog_drops.increment();
            return;
        }
        backlog.push(segment);
        self.bits.fetch_or(HAS_BACKLOG, Ordering::Release);
    }

    /// The program that sees what arrives first.
    #[inline]
    pub(crate) fn filter(&self) -> Option<bpf::Program> {
        // Relaxed: a segment on its way while the program changes may meet either.
        let has_filter = self.bits.load(Ordering::Relaxed) & HAS_FILTER != 0;
        if has_filter { self.rare.lock().as_ref().and_then(|rare| rare.filter.clone()) } else { None }
    }

    /// Replaces the program.
    pub(crate) fn set_filter(&self, program: Option<bpf::Program>) {
        let mut rare = self.rare.lock();
        match program {
            Some(_) => self.bits.fetch_or(HAS_FILTER, Ordering::Relaxed),
            None => self.bits.fetch_and(!HAS_FILTER, Ordering::Relaxed),
        };
        if program.is_some() || rare.is_some() {
            rare.get_or_insert_default().filter = program;
        }
    }

    /// What says which flow label segments get.
    #[inline]
    fn label(&self) -> ConnectionLabel {
        if self.bits.load(Ordering::Relaxed) & HAS_LABEL == 0 {
            return ConnectionLabel::OfFlow;
        }
        self.rare.lock().as_ref().map_or(ConnectionLabel::OfFlow, |rare| rare.label)
    }

    /// The lowest TTL or hop limit that segments may arrive with.
    #[cold]
    pub(super) fn min_ttl(&self) -> u8 {
        self.inspect(|inner| min_ttl_of(&inner.options, &self.flow))
    }

    /// Sets what says which flow label segments get.
    pub(crate) fn set_label(&self, label: ConnectionLabel) {
        self.rare.lock().get_or_insert_default().label = label;
        // Relaxed: a segment that another thread sends at this moment may have either.
        self.bits.fetch_or(HAS_LABEL, Ordering::Relaxed);
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
        let outcome = inner.machine.on_segment(outbox.now(core), segment);
        if let Some((cookie, mss)) = granted.filter(|_| outcome.events.contains(Events::CONNECTED)) {
            core.fast_open.store(self.flow.remote_addr, cookie, mss);
        }
        inner.events |= outcome.events;
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

    /// Sends a few bytes as a segment of their own if they may go at once and nothing else is the matter. Otherwise nothing has
    /// happened, and [`with`](Self::with) is the way.
    #[inline]
    pub(crate) fn send_few(self: &Arc<Self>, core: &Arc<Core>, data: &[u8]) -> bool {
        let mut outbox = Outbox::default();
        let now = outbox.now(core);
        let mut inner = self.inner.lock();
        if !inner.events.is_empty() || self.has_backlog() {
            return false;
        }
        let label = self.label();
        let Inner { machine, egress: Some(egress), options, .. } = &mut *inner else { return false };
        let mut frame = Packet::default();
        let (way, options, turn) = ((&self.flow, &mut *egress), (&**options, label), (&mut *machine, now));
        if !frame_of_few(&mut frame, core, way, options, turn, data, &mut outbox) {
            drop(inner);
            // The way to the neighbour may have been asked for.
            outbox.flush(core);
            return false;
        }
        self.note_room(machine);
        // All others are as they were when the lock was last released.
        let deadline = machine.send_deadline();
        if outbox.is_direct(&egress.interface) {
            transmit_one(&egress.interface, frame);
            drop(inner);
            core.timers.arm(self, deadline);
        } else {
            let interface = Arc::clone(&egress.interface);
            drop(inner);
            core.timers.arm(self, deadline);
            outbox.flush_after(core, &interface, frame);
        }
        true
    }

    /// Tells those who are about to write a little whether there is room for it.
    #[inline]
    fn note_room(&self, machine: &Connection) {
        let has_room = machine.has_send_room(SMALL_WRITE_U32);
        if has_room != self.has_room() {
            self.has_room.store(has_room, Ordering::Relaxed);
        }
    }

    /// Moves all that was received into `buf` if it fits there and no more than `max` are wanted. `None` if there is
    /// nothing, or more.
    pub(crate) fn receive_few(
        self: &Arc<Self>,
        core: &Arc<Core>,
        max: usize,
        buf: &mut [u8],
    ) -> Option<usize> {
        let mut inner = self.inner.lock();
        let queued = inner.machine.receive_queued();
        if queued == 0 || queued > max.min(buf.len()) {
            return None;
        }
        let received = inner.machine.recv(core.clock.now(), &mut buf[..queued]).ok()?;
        if inner.machine.has_output() || self.has_backlog() {
            let mut outbox = Outbox::default();
            self.release(core, inner, &mut outbox);
            outbox.flush(core);
        }
        Some(received)
    }

    /// Whether a small write fits, without the lock: false may be old, and true as old as any answer under the lock.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.has_room.load(Ordering::Relaxed)
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
    fn drain_backlog(self: &Arc<Self>, core: &Arc<Core>, inner: &mut Inner, outbox: &mut Outbox) {
        let backlog = {
            let mut rare = self.rare.lock();
            self.bits.fetch_and(!HAS_BACKLOG, Ordering::Release);
            let backlog = rare.as_mut().map(|rare| std::mem::take(&mut rare.backlog));
            let is_empty = |rare: &Rare| rare.filter.is_none() && rare.label == ConnectionLabel::OfFlow;
            if rare.as_ref().is_some_and(|rare| is_empty(rare)) {
                *rare = None;
            }
            backlog.unwrap_or_default()
        };
        for segment in backlog {
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
        let Inner { machine, egress: way, options, .. } = inner;
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
                *egress = resolve_marked(core, &self.flow, options.mark).ok();
            }
            let Some(egress) = egress else {
                core.counters.ip_out_no_routes.increment();
                continue;
            };
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
        readiness_of(self.inner.lock().machine.readiness())
    }

    /// The socket's options changed.
    pub(crate) fn set_socket_options(&self, options: Arc<SocketOptions>) {
        // The old ones may be the last reference; they are dropped after the lock.
        let _old = std::mem::replace(&mut self.inner.lock().options, options);
    }
}

/// What the use of a machine leads to once its lock is released.
#[derive(Debug, Clone, Copy)]
struct Concluded {
    deadline: Option<Instant>,
    events: Events,
}

/// The same, where another lock has to be released first.
pub(super) struct Aftermath {
    endpoint: Arc<TcpEndpoint>,
    concluded: Concluded,
}

impl Aftermath {
    /// Does it.
    pub(super) fn perform(self, core: &Core) {
        if self.concluded.events.contains(Events::CLOSED) {
            let mut inner = self.endpoint.inner.lock();
            if inner.machine.state() == State::Closed {
                self.endpoint.deregister(core, &mut inner);
            }
        }
        self.endpoint.follow_up(core, self.concluded);
    }
}

impl Inner {
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
fn confirm_neighbour(inner: &Inner, now: Instant) {
    let neighbour = inner.egress.as_ref().and_then(Egress::known_neighbour);
    if let Some(neighbour) = neighbour.filter(|neighbour| neighbour.wants_confirmation()) {
        neighbour.confirm(now);
    }
}

/// The Fast Open cookie that a SYN-ACK grants, and the MSS in it (RFC 9293 section 3.7.1 if there is none).
fn granted_cookie(segment: &SegmentIn) -> Option<(FastOpenCookie, u16)> {
    let options = &segment.repr.options;
    let cookie = options.fast_open.filter(|cookie| !cookie.is_request())?;
    Some((cookie, options.mss.unwrap_or(536)))
}

/// The machine's readiness in the terms of the wait queues.
pub(crate) fn readiness_of(ready: tcp::Readiness) -> Readiness {
    let mut result = Readiness::empty();
    for (theirs, ours) in [
        (tcp::Readiness::READABLE, Readiness::IN),
        (tcp::Readiness::WRITABLE, Readiness::OUT),
        (tcp::Readiness::READ_CLOSED, Readiness::RDHUP),
        (tcp::Readiness::HANGUP, Readiness::HUP),
        (tcp::Readiness::ERROR, Readiness::ERR),
        (tcp::Readiness::PRIORITY, Readiness::PRI),
    ] {
        result.set(ours, ready.contains(theirs));
    }
    result
}

fn readiness_of_events(events: Events) -> Readiness {
    let mut result = Readiness::empty();
    for (event, ready) in [
        (Events::READABLE, Readiness::IN),
        (Events::WRITABLE, Readiness::OUT),
        (Events::CONNECTED, Readiness::OUT),
        (Events::READ_CLOSED, Readiness::IN.union(Readiness::RDHUP)),
        (Events::ERROR, Readiness::ERR.union(Readiness::IN).union(Readiness::OUT).union(Readiness::HUP)),
        (Events::URGENT, Readiness::PRI),
        (Events::CLOSED, Readiness::HUP.union(Readiness::IN).union(Readiness::OUT)),
        (Events::TIME_WAIT, Readiness::HUP.union(Readiness::IN)),
    ] {
        if events.contains(event) {
            result |= ready;
        }
    }
    result
}

/// Writes up to this many bytes need not know the room exactly.
pub(crate) const SMALL_WRITE: usize = 128;
const SMALL_WRITE_U32: u32 = SMALL_WRITE as u32;

/// Segments wait in the backlog. Set with `rare` locked.
const HAS_BACKLOG: u8 = 1;
/// There is a program that sees what arrives first.
const HAS_FILTER: u8 = 2;
/// The connection has no socket any more.
const IS_LEFT: u8 = 4;
/// Its flow label is not that of the flow.
const HAS_LABEL: u8 = 8;

/// The events that mean something to observers.
const WAKING: Events = Events::TRANSMIT.union(Events::ACKED).complement();

/// Segments that wait for the application to let go of the lock: more than any window in super-segments.
const MAX_BACKLOG: usize = 1024;
