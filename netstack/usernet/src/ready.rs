//! Flows that the stack has news for: filled by observers while frames are delivered, worked off afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use netstack::wait::{Observer, Readiness};
use parking_lot::Mutex;

use crate::slab::Key;

/// The list. Shared with observers only: one thread uses it.
#[derive(Debug, Default)]
pub(crate) struct ReadyList {
    keys: Mutex<Vec<Arc<Mark>>>,
}

/// A flow's place in the list.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) key: Key,
    is_listed: AtomicBool,
    list: Arc<ReadyList>,
}

impl Mark {
    pub(crate) fn new(key: Key, list: &Arc<ReadyList>) -> Arc<Self> {
        Arc::new(Self { key, is_listed: AtomicBool::new(false), list: Arc::clone(list) })
    }

    /// Puts the flow on the list, once.
    pub(crate) fn set(self: &Arc<Self>) {
        if !self.is_listed.swap(true, Ordering::AcqRel) {
            self.list.keys.lock().push(Arc::clone(self));
        }
    }
}

/// Observes a socket for a flow.
pub(crate) struct Watch(pub(crate) Arc<Mark>);

impl Observer for Watch {
    fn notify(&self, _ready: Readiness) {
        self.0.set();
    }
}

impl ReadyList {
    /// Moves what is listed to `out`. A flow that is set from now on is listed again.
    pub(crate) fn take(&self, out: &mut Vec<Key>) {
        let marks = std::mem::take(&mut *self.keys.lock());
        out.extend(marks.iter().map(|mark| {
            mark.is_listed.store(false, Ordering::Release);
            mark.key
        }));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.lock().is_empty()
    }
}
