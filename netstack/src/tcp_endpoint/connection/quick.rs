//! The ways without detours: a segment that the machine expects, a few bytes to send or to read. Each does under one lock what
//! the general way does in several steps, or nothing at all.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use netstack_wire::tcp::TcpRepr;

use super::{Concluded, Inner, SMALL_WRITE_U32, TcpEndpoint, WAKING};
use crate::hint::{cold_path, likely, unlikely};
use crate::ip::{Arrival, Rx, count};
use crate::outbox::{Outbox, transmit_one};
use crate::packet::Packet;
use crate::stack::Core;
use crate::sync::BriefGuard;
use crate::tcp::{Connection, Events, Payload, PlainSegment, State};
use crate::tcp_endpoint::input;
use crate::tcp_endpoint::transmit::frame_of_few;

impl TcpEndpoint {
    /// Takes a plain segment if the connection expects it and nobody else is busy with it. Otherwise nothing has happened.
    #[inline]
    pub(in super::super) fn on_plain(self: &Arc<Self>, rx: &mut Rx<'_>, segment: &PlainSegment<'_>) -> bool {
        if unlikely(self.is_general()) {
            return false;
        }
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
    pub(in super::super) fn on_single(
        self: &Arc<Self>,
        core: &Arc<Core>,
        arrival: &Arrival,
        segment: &PlainSegment<'_>,
        outbox: &mut Outbox,
    ) -> Option<Option<Aftermath>> {
        let Some(mut inner) = self.inner.try_lock() else {
            cold_path();
            return None;
        };
        let Inner { machine, egress: Some(egress), events, .. } = &mut *inner else {
            cold_path();
            return None;
        };
        if !likely(egress.is_way_in(core, arrival.nic)) || unlikely(self.is_general()) {
            return None;
        }
        let interface = &egress.interface;
        if !arrival.is_for(interface) {
            return None;
        }
        let Some(news) = machine.on_plain(outbox.now(core), segment) else {
            cold_path();
            return None;
        };
        *events |= news;
        count(core, interface, arrival.len);
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
        if unlikely(self.looks_at_packets()) {
            return false;
        }
        let Some(mut inner) = self.inner.try_lock() else { return false };
        let way = inner.egress.as_ref().filter(|egress| egress.is_way_in(core, arrival.nic));
        let Some(interface) = way.map(|egress| &egress.interface).filter(|way| arrival.is_for(way)) else {
            return false;
        };
        count(core, interface, arrival.len);
        outbox.begin_last();
        self.process(core, &mut inner, input::segment_of(tos, repr, payload()), outbox);
        self.release_or_touch(core, inner, outbox);
        outbox.end_batch();
        true
    }

    /// Finishes at once if nothing else of the batch is to come, otherwise leaves that to the end of the batch.
    #[inline]
    pub(super) fn release_or_touch(
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

    /// Sends a few bytes as a segment of their own if they may go at once and nothing else is the matter. Otherwise nothing has
    /// happened, and [`with`](Self::with) is the way.
    #[inline]
    pub(crate) fn send_few(self: &Arc<Self>, core: &Arc<Core>, data: &[u8]) -> bool {
        let mut outbox = Outbox::default();
        let now = outbox.now(core);
        let mut inner = self.inner.lock();
        if unlikely(!inner.events.is_empty()) || unlikely(self.has_aside()) {
            return false;
        }
        let label = self.label();
        let Inner { machine, egress: Some(egress), options, .. } = &mut *inner else {
            cold_path();
            return false;
        };
        let mut frame = Packet::default();
        let (way, options, turn) = ((&self.flow, &mut *egress), (&**options, label), (&mut *machine, now));
        if !frame_of_few(&mut frame, core, way, options, turn, data, &mut outbox) {
            cold_path();
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
    pub(super) fn note_room(&self, machine: &Connection) {
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
        if unlikely(inner.machine.has_output()) || unlikely(self.has_backlog()) {
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
}

/// The same, where another lock has to be released first.
pub(in super::super) struct Aftermath {
    endpoint: Arc<TcpEndpoint>,
    concluded: Concluded,
}

impl Aftermath {
    /// Does it.
    pub(in super::super) fn perform(self, core: &Core) {
        if self.concluded.events.contains(Events::CLOSED) {
            let mut inner = self.endpoint.inner.lock();
            if inner.machine.state() == State::Closed {
                self.endpoint.deregister(core, &mut inner);
            }
        }
        self.endpoint.follow_up(core, self.concluded);
    }
}
