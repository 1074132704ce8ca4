//! What a connection has besides its machine, and most never: segments that wait for the lock, a program of the user's, a
//! flow label of its own. Whether there is any of it, one byte tells without a lock.

use std::sync::atomic::{AtomicU8, Ordering};

use super::TcpEndpoint;
use super::stamps::Stamps;
use crate::bpf;
use crate::ip::flow_label::ConnectionLabel;
use crate::stack::Core;
use crate::sync::BriefMutex;
use crate::tcp::SegmentIn;

/// What few connections have, and those not for long; allocated by the first thing in it.
#[derive(Default)]
pub(super) struct Rare {
    /// Segments that arrived while somebody else held `inner`.
    backlog: Vec<SegmentIn>,
    /// What the user wants of what arrives (`SO_ATTACH_FILTER`).
    filter: Option<bpf::Program>,
    /// The flow label, if it is not that of the flow.
    label: ConnectionLabel,
    /// Times of bytes.
    stamps: Option<Box<Stamps>>,
}

impl Rare {
    /// Begins with the program of a listener, if it has one.
    pub(super) fn begin(filter: Option<bpf::Program>) -> (AtomicU8, BriefMutex<Option<Box<Self>>>) {
        let bits = if filter.is_some() { HAS_FILTER } else { 0 };
        let rare = filter.map(|filter| Box::new(Self { filter: Some(filter), ..Self::default() }));
        (AtomicU8::new(bits), BriefMutex::new(rare))
    }
}

impl TcpEndpoint {
    #[inline]
    pub(super) fn has_backlog(&self) -> bool {
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

    pub(super) fn push_backlog(&self, core: &Core, segment: SegmentIn) {
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
    pub(super) fn label(&self) -> ConnectionLabel {
        if self.bits.load(Ordering::Relaxed) & HAS_LABEL == 0 {
            return ConnectionLabel::OfFlow;
        }
        self.rare_label()
    }

    #[cold]
    #[inline(never)]
    fn rare_label(&self) -> ConnectionLabel {
        self.rare.lock().as_ref().map_or(ConnectionLabel::OfFlow, |rare| rare.label)
    }

    /// Sets what says which flow label segments get.
    pub(crate) fn set_label(&self, label: ConnectionLabel) {
        self.rare.lock().get_or_insert_default().label = label;
        // Relaxed: a segment that another thread sends at this moment may have either.
        self.bits.fetch_or(HAS_LABEL, Ordering::Relaxed);
    }

    /// Whether times are noted.
    #[inline]
    pub(super) fn has_stamps(&self) -> bool {
        // Relaxed: a segment on its way while this changes may be noted or not.
        self.bits.load(Ordering::Relaxed) & HAS_STAMPS != 0
    }

    /// Whether something wants each segment that arrives to go the general way.
    #[inline]
    pub(super) fn is_general(&self) -> bool {
        self.bits.load(Ordering::Acquire) & (HAS_BACKLOG | HAS_STAMPS | HAS_FILTER | HAS_MIN_TTL) != 0
    }

    /// Whether something looks at the packets that arrive, of which the short ways know the segments only.
    #[inline]
    pub(crate) fn looks_at_packets(&self) -> bool {
        // Relaxed: a segment on its way while this changes may meet either.
        self.bits.load(Ordering::Relaxed) & (HAS_FILTER | HAS_MIN_TTL) != 0
    }

    /// Notes whether packets may arrive with any TTL.
    pub(super) fn note_min_ttl(&self, min_ttl: u8) {
        match min_ttl {
            0 => self.bits.fetch_and(!HAS_MIN_TTL, Ordering::Relaxed),
            _ => self.bits.fetch_or(HAS_MIN_TTL, Ordering::Relaxed),
        };
    }

    /// Whether something wants each segment that is sent to go the general way.
    #[inline]
    pub(super) fn has_aside(&self) -> bool {
        self.bits.load(Ordering::Acquire) & (HAS_BACKLOG | HAS_STAMPS) != 0
    }

    /// Looks at the times, or changes them.
    pub(super) fn with_stamps<T>(&self, look: impl FnOnce(&mut Stamps) -> T) -> T {
        let mut rare = self.rare.lock();
        let stamps = rare.get_or_insert_default().stamps.get_or_insert_default();
        let result = look(stamps);
        match stamps.is_empty() {
            false => self.bits.fetch_or(HAS_STAMPS, Ordering::Relaxed),
            true => self.bits.fetch_and(!HAS_STAMPS, Ordering::Relaxed),
        };
        result
    }

    /// Takes the segments that wait.
    pub(super) fn take_backlog(&self) -> Vec<SegmentIn> {
        let mut rare = self.rare.lock();
        self.bits.fetch_and(!HAS_BACKLOG, Ordering::Release);
        let backlog = rare.as_mut().map(|rare| std::mem::take(&mut rare.backlog));
        let is_empty = |rare: &Rare| {
            rare.filter.is_none() && rare.label == ConnectionLabel::OfFlow && rare.stamps.is_none()
        };
        if rare.as_ref().is_some_and(|rare| is_empty(rare)) {
            *rare = None;
        }
        backlog.unwrap_or_default()
    }
}

/// Segments wait in the backlog. Set with `rare` locked.
const HAS_BACKLOG: u8 = 1;

/// There is a program that sees what arrives first.
const HAS_FILTER: u8 = 2;

/// The connection has no socket any more.
const IS_LEFT: u8 = 4;

/// Its flow label is not that of the flow.
const HAS_LABEL: u8 = 8;

/// Times of bytes are noted.
const HAS_STAMPS: u8 = 16;

/// Packets that have come from too far away are discarded.
const HAS_MIN_TTL: u8 = 32;

/// Segments that wait for the application to let go of the lock: more than any window in super-segments.
const MAX_BACKLOG: usize = 1024;
