//! Signals about what happens in a directory (`fcntl(2)`, `F_NOTIFY`), the older sibling of `inotify(7)`.
//!
//! What was asked for belongs to a directory's description and to the descriptor table by which it was asked, and ends when that table
//! closes any descriptor for the description.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::vfs::notify::{Event, WatchId, WatchSink};
use crate::vfs::{Fd, FdTableId, Inode, SignalDriven};

bitflags::bitflags! {
    /// What to tell (`DN_*`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[allow(missing_docs, reason = "the names are those of fcntl(2)")]
    pub struct DirEvents: u32 {
        const ACCESS = 0x1;
        const MODIFY = 0x2;
        const CREATE = 0x4;
        const DELETE = 0x8;
        const RENAME = 0x10;
        const ATTRIB = 0x20;
        /// More than once.
        const MULTISHOT = 0x8000_0000;
    }
}

impl DirEvents {
    /// As watches know them.
    fn watched(self) -> Event {
        let pairs = [
            (Self::ACCESS, Event::ACCESS),
            (Self::MODIFY, Event::MODIFY),
            (Self::CREATE, Event::CREATE | Event::MOVED_TO),
            (Self::DELETE, Event::DELETE | Event::MOVED_FROM),
            (Self::RENAME, Event::RENAMED_WITHIN),
            (Self::ATTRIB, Event::ATTRIB),
        ];
        let wanted = pairs.into_iter().filter(|(asked, _)| self.contains(*asked));
        wanted.fold(Event::empty(), |all, (_, event)| all | event)
    }
}

/// The requests of one description, at most one for each table.
#[derive(Debug, Default)]
pub(super) struct DirRequests(Mutex<Vec<Arc<Request>>>);

struct Request {
    me: Weak<Self>,
    signals: Weak<SignalDriven>,
    inode: Arc<Inode>,
    table: FdTableId,
    /// `None` once it has ended.
    wanted: Mutex<Option<(DirEvents, Fd)>>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("table", &self.table)
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}

impl DirRequests {
    /// Asks for `events`, too; signals name `fd` from now on.
    pub(super) fn add(
        &self,
        signals: &Arc<SignalDriven>,
        inode: &Arc<Inode>,
        table: FdTableId,
        fd: Fd,
        events: DirEvents,
    ) {
        let mut requests = self.0.lock();
        requests.retain(|request| request.wanted.lock().is_some());
        let known = requests.iter().find(|request| request.table == table);
        let request = known.cloned().unwrap_or_else(|| {
            let request = Arc::new_cyclic(|me: &Weak<Request>| Request {
                me: me.clone(),
                signals: Arc::downgrade(signals),
                inode: Arc::clone(inode),
                table,
                wanted: Mutex::new(Some((DirEvents::empty(), fd))),
            });
            requests.push(Arc::clone(&request));
            request
        });
        let all = {
            let mut wanted = request.wanted.lock();
            let all = wanted.map_or(events, |(before, _)| before | events);
            *wanted = Some((all, fd));
            all
        };
        let sink: Arc<dyn WatchSink> = request.clone();
        inode.shared().watches.add(ONLY, &sink, all.watched());
    }

    /// Ends what was asked for by way of `table`.
    pub(super) fn end(&self, table: FdTableId) {
        let ended: Vec<_> = self.0.lock().extract_if(.., |request| request.table == table).collect();
        for request in ended {
            *request.wanted.lock() = None;
            request.forget_if_ended();
        }
    }
}

impl Request {
    /// Under the lock, so that one that is asked for anew meanwhile stays.
    fn forget_if_ended(&self) {
        let wanted = self.wanted.lock();
        if wanted.is_none() {
            let me: Weak<dyn WatchSink> = self.me.clone();
            self.inode.shared().watches.remove(ONLY, &me);
        }
    }
}

impl WatchSink for Request {
    fn event(&self, _: WatchId, _: Event, _: u32, _: Option<&[u8]>) {
        let (fd, is_last) = {
            let mut wanted = self.wanted.lock();
            // One that ended meanwhile.
            let Some((events, fd)) = *wanted else { return };
            let is_last = !events.contains(DirEvents::MULTISHOT);
            if is_last {
                *wanted = None;
            }
            (fd, is_last)
        };
        if is_last {
            self.forget_if_ended();
        }
        if let Some(signals) = self.signals.upgrade() {
            signals.tell_of_directory(fd);
        }
    }

    fn gone(&self, _: WatchId) {
        *self.wanted.lock() = None;
    }
}

/// A request watches one inode.
const ONLY: WatchId = WatchId(0);
