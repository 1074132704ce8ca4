//! The endpoint of one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crate::sync::{Mutex, MutexGuard};
use netstack_wire::tcp::FastOpenCookie;

use crate::bpf;
use crate::flow_table::Keyed;
use crate::ip::Egress;
use crate::options::SocketOptions;
use crate::outbox::Outbox;
use crate::port_table::PortUse;
use crate::stack::Core;
use crate::tcp::{self, Connection, Events, Flow, SegmentIn, State, Verdict};
use crate::tcp_endpoint::input;
use crate::tcp_endpoint::transmit::{max_payload, resolve_marked, send_segment};
use crate::time::Instant;
use crate::timer::{TimerSlot, TimerTarget};
use crate::wait::{Readiness, WaitQueue};

/// A connection with its lock, its backlog and those who wait for it.
pub(crate) struct TcpEndpoint {
    pub(crate) flow: Flow,
    pub(crate) waiters: Arc<WaitQueue>,
    /// What the user wants of what arrives (`SO_ATTACH_FILTER`).
    pub(crate) filter: bpf::Slot,
    port_use: PortUse,
    slot: TimerSlot,
    /// It is in some thread's list of endpoints to finish.
    is_touched: AtomicBool,
    has_backlog: AtomicBool,
    /// Segments that arrived while somebody else held `inner`; allocated by the first of them.
    backlog: Mutex<Option<Box<Backlog>>>,
    inner: Mutex<Inner>,
}

/// What the lock protects.
pub(crate) struct Inner {
    pub(crate) machine: Connection,
    egress: Option<Egress>,
    /// Shared with the socket.
    options: Arc<SocketOptions>,
    /// What happened since observers were last notified.
    events: Events,
    is_in_table: bool,
}

/// The memory of a backlog that is in use.
#[derive(Default)]
struct Backlog {
    segments: Vec<SegmentIn>,
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
        let inner = Inner { machine, egress, options, events: Events::empty(), is_in_table: false };
        Arc::new(Self {
            flow,
            waiters,
            filter: bpf::Slot::new(filter),
            port_use,
            slot: TimerSlot::default(),
            is_touched: AtomicBool::new(false),
            has_backlog: AtomicBool::new(false),
            backlog: Mutex::default(),
            inner: Mutex::new(inner),
        })
    }

    /// Enters the connection into the table; false if there is one with that flow.
    pub(crate) fn register(self: &Arc<Self>, core: &Core) -> bool {
        // Under the lock, so that a segment that finds it at once does not also see it unregistered.
        let mut inner = self.inner.lock();
        if !core.tcp.insert(&core.secrets, self) {
            return false;
        }
        inner.is_in_table = true;
        core.tcp_ports.add_user(self.flow.local_port, self.port_use);
        true
    }

    /// Takes a segment, at once or into the backlog. Never waits.
    #[inline]
    pub(super) fn on_segment(self: &Arc<Self>, core: &Arc<Core>, segment: SegmentIn, outbox: &mut Outbox) {
        match self.inner.try_lock() {
            Some(mut inner) => self.process(core, &mut inner, segment, outbox),
            None => self.push_backlog(core, segment),
        }
        self.touch(outbox);
    }

    /// Puts the endpoint on the thread's list for [`finish`](Self::finish).
    pub(crate) fn touch(self: &Arc<Self>, outbox: &mut Outbox) {
        if !self.is_touched.swap(true, Ordering::AcqRel) {
            outbox.touched().push(Arc::clone(self));
        }
    }

    fn push_backlog(&self, core: &Core, segment: SegmentIn) {
        let mut guard = self.backlog.lock();
        let Backlog { segments } = &mut **guard.get_or_insert_default();
        if segments.len() >= MAX_BACKLOG {
            core.counters.tcp_backlog_drops.increment();
            return;
        }
        segments.push(segment);
        self.has_backlog.store(true, Ordering::Release);
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
        self.is_touched.store(false, Ordering::Release);
        self.with(core, outbox, |_| ());
    }

    /// Runs an operation of the user on the machine, and everything that follows from it.
    pub(crate) fn with<T>(
        self: &Arc<Self>,
        core: &Arc<Core>,
        outbox: &mut Outbox,
        operation: impl FnOnce(&mut Inner) -> T,
    ) -> T {
        let mut inner = self.inner.lock();
        let result = operation(&mut inner);
        self.release(core, inner, outbox);
        // A segment may have come between the last look at the backlog and the unlock; its thread saw the lock taken
        // and left it to us. The fence pairs with the lock operations on its side.
        loop {
            fence(Ordering::SeqCst);
            if !self.has_backlog.load(Ordering::Acquire) {
                return result;
            }
            // Whoever holds the lock now will look after us.
            let Some(inner) = self.inner.try_lock() else { return result };
            self.release(core, inner, outbox);
        }
    }

    /// Looks at the machine without changing it.
    pub(crate) fn inspect<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        look(&self.inner.lock())
    }

    fn release(self: &Arc<Self>, core: &Arc<Core>, mut inner: MutexGuard<'_, Inner>, outbox: &mut Outbox) {
        while self.has_backlog.load(Ordering::Acquire) {
            let backlog = {
                let mut backlog = self.backlog.lock();
                self.has_backlog.store(false, Ordering::Release);
                backlog.take()
            };
            for segment in backlog.into_iter().flat_map(|backlog| backlog.segments) {
                self.process(core, &mut inner, segment, outbox);
            }
        }
        self.transmit(core, &mut inner, outbox);
        if inner.machine.state() == State::Closed {
            self.deregister(core, &mut inner);
        }
        let events = std::mem::take(&mut inner.events);
        if events.contains(Events::ACKED) {
            confirm_neighbour(&inner, outbox.now(core));
        }
        let deadline = inner.machine.next_deadline();
        drop(inner);
        core.timers.arm(self, deadline);
        if events.intersects(WAKING) {
            self.waiters.notify(readiness_of_events(events));
        }
    }

    fn transmit(&self, core: &Arc<Core>, inner: &mut Inner, outbox: &mut Outbox) {
        let now = outbox.now(core);
        let Inner { machine, egress, options, .. } = inner;
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
            match send_segment(core, &self.flow, egress, options, transmit, outbox) {
                Ok(()) => {}
                // As if the segment had been lost; the machine's timers and ICMP decide what it means.
                Err(_) => core.counters.ip_out_discards.increment(),
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
                let outcome = inner.machine.on_timer(now);
                inner.note(outcome);
            }
        });
    }
}

impl std::fmt::Debug for TcpEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpEndpoint").field("flow", &self.flow).finish_non_exhaustive()
    }
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

/// The events that mean something to observers.
const WAKING: Events = Events::TRANSMIT.union(Events::ACKED).complement();

/// Segments that wait for the application to let go of the lock: more than any window in super-segments.
const MAX_BACKLOG: usize = 1024;
