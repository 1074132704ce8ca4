//! What a thread has decided under locks and does after releasing them: packets to send and packets that come back.
//!
//! Each entry into the stack (a batch of frames, a socket call, the timers) has one outbox. Everything that happens
//! meanwhile puts its packets there; [`Outbox::flush`] sends them in batches per NIC and carries packets for our own
//! addresses through the receive path, whose answers go to the same outbox, until nothing is left. So a round trip over
//! loopback runs to completion on the thread that started it, with no lock held and no recursion.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::filter;
use crate::hint::likely;
use crate::interface::Interface;
use crate::ip;
use crate::link::LinkError;
use crate::nic::NicId;
use crate::packet::{AddressedTo, Packet};
use crate::socket::udp::{Run, release_run};
use crate::stack::Core;
use crate::stats::NicCounters;
use crate::tcp_endpoint::{Held, TcpEndpoint, release_held};
use crate::time::Instant;

/// Packets on their way out of a thread. Dropping it drops what was not flushed.
#[derive(Default)]
pub(crate) struct Outbox {
    /// The time, once somebody asked.
    now: Option<Instant>,
    /// Present once there was something.
    pending: Option<Box<Pending>>,
}

/// What is pending. A thread uses the same memory for one outbox after the other.
#[derive(Default)]
struct Pending {
    /// The only packet for a link so far: most calls send one. Empty while there are batches.
    alone: Option<Alone>,
    /// The NICs that have more than that to send; almost always one.
    batches: SmallVec<[Batch; 1]>,
    /// An empty list for the next batch.
    spare: Vec<Packet>,
    looped: VecDeque<Looped>,
    touched: Vec<Arc<TcpEndpoint>>,
    /// An empty list, to collect more while the others are finished.
    spare_touched: Vec<Arc<TcpEndpoint>>,
    held: Option<Held>,
    run: Run,
    /// The last frame of a batch is being looked at.
    is_last: bool,
    /// The next unused one of the thread.
    next: Option<Box<Self>>,
}

/// A packet for a NIC.
struct Alone {
    interface: Arc<Interface>,
    packet: Packet,
}

/// Packets for one NIC.
struct Batch {
    interface: Arc<Interface>,
    packets: Vec<Packet>,
}

/// A packet for ourselves.
pub(crate) struct Looped {
    pub(crate) nic: NicId,
    pub(crate) packet: Packet,
    pub(crate) by: LoopedBy,
}

/// Who sent a packet to ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoopedBy {
    /// Our own network layer, which knows what it does.
    Network,
    /// A packet socket: the packet is looked at as one from a link.
    PacketSocket,
}

impl Outbox {
    #[inline]
    fn pending(&mut self) -> &mut Pending {
        self.pending.get_or_insert_with(|| {
            let unused = UNUSED.try_with(|unused| {
                let mut first = unused.take()?;
                unused.set(first.next.take());
                Some(first)
            });
            unused.ok().flatten().unwrap_or_default()
        })
    }

    /// The time at which the thread came into the stack, or first asked: one look at the clock serves all that follows.
    #[inline]
    pub(crate) fn now(&mut self, core: &Core) -> Instant {
        *self.now.get_or_insert_with(|| core.clock.now())
    }

    /// Puts in a complete packet for a link.
    #[inline]
    pub(crate) fn send(&mut self, interface: &Arc<Interface>, packet: Packet) {
        let pending = self.pending();
        if pending.alone.is_none() && pending.batches.is_empty() {
            pending.alone = Some(Alone { interface: Arc::clone(interface), packet });
        } else {
            pending.batch(interface, packet);
        }
    }

    /// The same for a packet that no rule and no packet socket wants to see. A link that is a queue takes it at once: with
    /// the locks held under which it was made, but without a reference to the NIC for the time until they are released.
    #[inline]
    pub(crate) fn send_unseen(&mut self, interface: &Arc<Interface>, packet: Packet) {
        if self.is_direct(interface) {
            return transmit_one(interface, packet);
        }
        self.send(interface, packet);
    }

    /// Whether the next such packet may go to the link at once, with [`transmit_one`].
    #[inline]
    pub(crate) fn is_direct(&self, interface: &Interface) -> bool {
        let has_sent_all = |pending: &Pending| pending.alone.is_none() && pending.batches.is_empty();
        interface.is_queue && self.pending.as_deref().is_none_or(has_sent_all) && !is_corked()
    }

    /// Puts in an IP packet for one of our own addresses, seen as arriving on `nic`.
    pub(crate) fn loop_back(&mut self, nic: NicId, packet: Packet) {
        self.pending().looped.push_back(Looped { nic, packet, by: LoopedBy::Network });
    }

    /// Puts in the IP packet of a frame that somebody wrote to the loopback NIC.
    pub(crate) fn loop_back_frame(&mut self, nic: NicId, packet: Packet) {
        self.pending().looped.push_back(Looped { nic, packet, by: LoopedBy::PacketSocket });
    }

    /// Connections that got segments and still have to answer and to wake their users.
    #[inline]
    pub(crate) fn touched(&mut self) -> &mut Vec<Arc<TcpEndpoint>> {
        &mut self.pending().touched
    }

    /// The last frame of a batch is looked at from here on.
    #[inline]
    pub(crate) fn begin_last(&mut self) {
        self.pending().is_last = true;
    }

    /// All frames of the batch have been looked at.
    #[inline]
    pub(crate) fn end_batch(&mut self) {
        self.pending().is_last = false;
    }

    /// Whether what is caused now comes after everything else of the batch, so that nothing is gained by waiting.
    #[inline]
    pub(crate) fn is_batch_over(&mut self) -> bool {
        let pending = self.pending();
        pending.is_last && pending.touched.is_empty() && pending.held.is_none() && pending.run.is_empty()
    }

    /// The last segment of the batch, which the next one may join.
    #[inline]
    pub(crate) fn held(&mut self) -> &mut Option<Held> {
        &mut self.pending().held
    }

    /// The last datagrams of the batch, which the next ones may join.
    #[inline]
    pub(crate) fn run(&mut self) -> &mut Run {
        &mut self.pending().run
    }

    /// Does all that is pending. No lock may be held.
    #[inline]
    pub(crate) fn flush(&mut self, core: &Arc<Core>) {
        // A read of what is there already causes nothing.
        if self.pending.as_ref().is_some_and(|pending| !pending.is_empty()) {
            self.work_off(core);
        }
    }

    /// The same after `packet`, which is sent to a link first. Alone it does not wait for anything.
    #[inline]
    pub(crate) fn flush_after(&mut self, core: &Arc<Core>, interface: &Arc<Interface>, packet: Packet) {
        let is_alone = self.pending.as_ref().is_none_or(|pending| pending.is_empty());
        if is_alone && !is_corked() && core.packet_sockets.is_empty() {
            return transmit_one(interface, packet);
        }
        let pending = self.pending();
        pending.gather();
        match pending.batches.iter_mut().find(|batch| Arc::ptr_eq(&batch.interface, interface)) {
            Some(batch) => batch.packets.insert(0, packet),
            None => pending.batch(interface, packet),
        }
        self.flush(core);
    }

    fn work_off(&mut self, core: &Arc<Core>) {
        if self.pending().has_work() {
            self.settle(core);
        }
        let pending = self.pending();
        if !core.filter.is_any_active() && core.packet_sockets.is_empty() && !is_corked() {
            if let Some(Alone { interface, packet }) = pending.alone.take() {
                return transmit_one(&interface, packet);
            }
        } else {
            pending.gather();
        }
        let Pending { batches, spare, .. } = pending;
        while let Some(mut batch) = batches.pop() {
            if core.filter.is_any_active() {
                let Batch { interface, packets } = &mut batch;
                packets.retain(|packet| filter::passes_link_control(core, interface, packet));
            }
            if !core.packet_sockets.is_empty() {
                tap(core, &batch.interface, &batch.packets);
            }
            let Some(Batch { interface, mut packets }) = hold_back(batch) else { continue };
            transmit(&interface, &mut packets);
            packets.clear();
            if packets.capacity() <= MAX_KEPT {
                *spare = packets;
            }
        }
    }

    /// Does everything that may cause more to be sent.
    fn settle(&mut self, core: &Arc<Core>) {
        loop {
            release_held(core, self);
            release_run(core, self);
            self.finish_touched(core);
            if self.pending().looped.is_empty() {
                break;
            }
            let mut looped = std::mem::take(&mut self.pending().looped);
            ip::input_looped(core, looped.drain(..), self);
            if self.pending().looped.is_empty() {
                // Keeps the allocation for the next round.
                self.pending().looped = looped;
            }
        }
    }

    fn finish_touched(&mut self, core: &Arc<Core>) {
        while !self.pending().touched.is_empty() {
            let pending = self.pending();
            let mut finishing = std::mem::take(&mut pending.spare_touched);
            std::mem::swap(&mut finishing, &mut pending.touched);
            for endpoint in finishing.drain(..) {
                endpoint.finish(core, self);
            }
            if finishing.capacity() <= MAX_KEPT {
                self.pending().spare_touched = finishing;
            }
        }
    }
}

impl Drop for Outbox {
    #[inline]
    fn drop(&mut self) {
        // Most have had nothing to do.
        if let Some(pending) = self.pending.take() {
            give_back(pending);
        }
    }
}

/// Lets the thread's next outbox use the memory.
#[inline(never)]
fn give_back(mut pending: Box<Pending>) {
    pending.is_last = false;
    if !pending.is_empty() {
        // Nobody flushed it: an error on the way.
        pending.clear();
    }
    // Fails while the thread ends.
    let _ = UNUSED.try_with(|unused| {
        pending.next = unused.take();
        unused.set(Some(pending));
    });
}

impl Pending {
    #[inline]
    fn is_empty(&self) -> bool {
        let Self {
            alone,
            batches,
            spare: _,
            looped,
            touched,
            spare_touched: _,
            held,
            run,
            is_last: _,
            next: _,
        } = self;
        let sends = alone.is_some() || !batches.is_empty();
        !sends && looped.is_empty() && touched.is_empty() && held.is_none() && run.is_empty()
    }

    /// Puts a packet into the batch of its NIC.
    fn batch(&mut self, interface: &Arc<Interface>, packet: Packet) {
        self.gather();
        let Self { batches, spare, .. } = self;
        match batches.iter_mut().find(|batch| Arc::ptr_eq(&batch.interface, interface)) {
            Some(batch) => batch.packets.push(packet),
            None => {
                let mut packets = std::mem::take(spare);
                packets.push(packet);
                batches.push(Batch { interface: Arc::clone(interface), packets });
            }
        }
    }

    /// Makes a batch of the only packet, if there is one.
    fn gather(&mut self) {
        if let Some(Alone { interface, packet }) = self.alone.take() {
            let mut packets = std::mem::take(&mut self.spare);
            packets.push(packet);
            self.batches.push(Batch { interface, packets });
        }
    }

    /// Whether there is something besides packets for links.
    #[inline]
    fn has_work(&self) -> bool {
        !(self.looped.is_empty() && self.touched.is_empty() && self.held.is_none() && self.run.is_empty())
    }

    #[cold]
    fn clear(&mut self) {
        self.alone = None;
        self.batches.clear();
        self.looped.clear();
        self.touched.clear();
        self.held = None;
        self.run.clear();
    }
}

thread_local! {
    /// As many as were ever in use at once: links that deliver on the sender's thread nest them.
    static UNUSED: Cell<Option<Box<Pending>>> = const { Cell::new(None) };
}

/// While it exists, the packets that its thread sends wait for each other, so that the links get them together.
///
/// For calls into the stack that are known to be followed by more of them at once.
pub(crate) struct Cork(PhantomData<*const ()>);

/// What waits on a thread with a cork.
#[derive(Default)]
struct Corked {
    corks: usize,
    batches: SmallVec<[Batch; 1]>,
}

impl Cork {
    pub(crate) fn new() -> Self {
        CORKED.with_borrow_mut(|corked| corked.corks += 1);
        Self(PhantomData)
    }
}

impl Drop for Cork {
    fn drop(&mut self) {
        let batches = CORKED.with_borrow_mut(|corked| {
            corked.corks -= 1;
            if corked.corks == 0 { std::mem::take(&mut corked.batches) } else { SmallVec::new() }
        });
        for mut batch in batches {
            transmit(&batch.interface, &mut batch.packets);
        }
    }
}

/// Whether the thread has a cork.
#[inline]
fn is_corked() -> bool {
    // Fails while the thread ends.
    CORKED.try_with(|corked| corked.borrow().corks > 0).unwrap_or(false)
}

/// Keeps a batch if there is a cork, otherwise gives back what is to be sent now.
fn hold_back(batch: Batch) -> Option<Batch> {
    if !is_corked() {
        return Some(batch);
    }
    CORKED.with_borrow_mut(|corked| {
        let Batch { interface, mut packets } = batch;
        let found = corked.batches.iter().position(|held| Arc::ptr_eq(&held.interface, &interface));
        let Some(index) = found else {
            corked.batches.push(Batch { interface, packets });
            return None;
        };
        let held = &mut corked.batches[index];
        held.packets.append(&mut packets);
        (held.packets.len() >= MAX_CORKED).then(|| corked.batches.swap_remove(index))
    })
}

thread_local! {
    static CORKED: RefCell<Corked> = RefCell::default();
}

/// Packets that a cork holds back at most, so that those that are sent first are not late.
const MAX_CORKED: usize = 64;

/// Lists with room for more than this, some 100 KiB, are not kept.
const MAX_KEPT: usize = 1024;

/// The lengths of a batch.
type Sizes = SmallVec<[usize; 64]>;

/// Shows the packet sockets what goes to a link.
#[cold]
fn tap(core: &Arc<Core>, interface: &Interface, packets: &[Packet]) {
    let now = core.clock.now();
    for packet in packets {
        core.packet_sockets.deliver(interface, packet, AddressedTo::Outgoing, now, &core.secrets, None);
    }
}

/// Gives a packet to a link, and counts.
#[inline]
pub(crate) fn transmit_one(interface: &Interface, packet: Packet) {
    let len = packet.len() as u64;
    let sent = if likely(interface.is_up()) { interface.link.send(packet) } else { Err(LinkError::Down) };
    match sent {
        Ok(()) => {
            let counters = interface.counters.lane();
            counters.add(|it| &it.tx_packets, 1);
            counters.add(|it| &it.tx_bytes, len);
        }
        Err(error) => count_drop(&interface.counters, error),
    }
}

#[cold]
#[inline(never)]
fn count_drop(counters: &NicCounters, error: LinkError) {
    match error {
        LinkError::Full => counters.tx_dropped_full.increment(),
        LinkError::TooLarge => counters.tx_dropped_too_large.increment(),
        LinkError::Down | LinkError::Gone => counters.tx_dropped_down.increment(),
    }
}

/// Gives packets to a link, and counts.
pub(crate) fn transmit(interface: &Interface, packets: &mut [Packet]) {
    // Found once: each use would look for the thread's own.
    let counters: &NicCounters = &interface.counters;
    let mut rest = packets;
    while !rest.is_empty() {
        if !interface.is_up() {
            counters.tx_dropped_down.add(rest.len() as u64);
            return;
        }
        // The link may take the packets out of the slice, so they are measured before.
        let sizes: Sizes =
            if rest.len() == 1 { Sizes::new() } else { rest.iter().map(Packet::len).collect() };
        let first = rest[0].len();
        let dropped = match interface.link.send_batch(rest) {
            Ok(0) | Err(LinkError::Full) => {
                counters.tx_dropped_full.add(rest.len() as u64);
                return;
            }
            Ok(taken) => {
                let taken = taken.min(rest.len());
                counters.tx_packets.add(taken as u64);
                let bytes = if sizes.is_empty() { first } else { sizes[..taken].iter().sum() };
                counters.tx_bytes.add(bytes as u64);
                taken
            }
            Err(LinkError::TooLarge) => {
                counters.tx_dropped_too_large.increment();
                1
            }
            Err(LinkError::Down | LinkError::Gone) => {
                counters.tx_dropped_down.add(rest.len() as u64);
                return;
            }
        };
        rest = &mut rest[dropped..];
    }
}
