//! Who watches an inode (`inotify(7)`), and telling them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::vfs::{Dentry, Inode};

bitflags::bitflags! {
    /// Events and flags of `inotify(7)`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[allow(missing_docs, reason = "the names are those of inotify(7)")]
    pub struct Event: u32 {
        const ACCESS = 0x1;
        const MODIFY = 0x2;
        const ATTRIB = 0x4;
        const CLOSE_WRITE = 0x8;
        const CLOSE_NOWRITE = 0x10;
        const OPEN = 0x20;
        const MOVED_FROM = 0x40;
        const MOVED_TO = 0x80;
        const CREATE = 0x100;
        const DELETE = 0x200;
        const DELETE_SELF = 0x400;
        const MOVE_SELF = 0x800;
        const UNMOUNT = 0x2000;
        const Q_OVERFLOW = 0x4000;
        const IGNORED = 0x8000;
        const ISDIR = 0x4000_0000;
        /// A name became another one of the same directory. Not one of inotify(7), whose watchers hear of both names.
        const RENAMED_WITHIN = 0x10_0000;
    }
}

/// Receives the events of the inodes that it watches (an inotify instance, or who asked for signals by `F_NOTIFY`).
pub trait WatchSink: Send + Sync {
    /// `event` happened to the watched inode (`name` is `None`) or to a name in it. Must not block.
    fn event(&self, watch: WatchId, event: Event, cookie: u32, name: Option<&[u8]>);

    /// The inode is gone; the watch ends.
    fn gone(&self, watch: WatchId);
}

/// Names a watch within its sink (`wd`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(pub i32);

/// The watches on one inode.
#[derive(Default)]
pub(crate) struct Watches {
    count: AtomicU32,
    list: Mutex<Vec<Registration>>,
}

/// A watch: its name in its sink, the sink, the events asked for.
type Registration = (WatchId, Weak<dyn WatchSink>, Event);

impl Watches {
    /// Adds a watch or replaces the mask of the one that `sink` has.
    pub(crate) fn add(&self, id: WatchId, sink: &Arc<dyn WatchSink>, mask: Event) {
        let mut list = self.list.lock();
        let weak = Arc::downgrade(sink);
        list.retain(|(i, s, _)| s.strong_count() > 0 && !(*i == id && s.ptr_eq(&weak)));
        list.push((id, weak, mask));
        self.count.store(u32::try_from(list.len()).unwrap_or(u32::MAX), Ordering::SeqCst);
    }

    /// Ends a watch.
    pub(crate) fn remove(&self, id: WatchId, sink: &Weak<dyn WatchSink>) {
        let mut list = self.list.lock();
        list.retain(|(i, s, _)| s.strong_count() > 0 && !(*i == id && s.ptr_eq(sink)));
        self.count.store(u32::try_from(list.len()).unwrap_or(u32::MAX), Ordering::SeqCst);
    }

    fn interested(&self, event: Event) -> Vec<(WatchId, Arc<dyn WatchSink>)> {
        let list = self.list.lock();
        let wanted = list.iter().filter(|(_, _, mask)| mask.intersects(event.difference(Event::ISDIR)));
        wanted.filter_map(|(id, sink, _)| Some((*id, sink.upgrade()?))).collect()
    }

    fn tell(&self, event: Event, cookie: u32, name: Option<&[u8]>) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for (id, sink) in self.interested(event) {
            sink.event(id, event, cookie, name);
        }
    }
}

/// Tells the watchers of `inode` itself.
pub fn notify_inode(inode: &Inode, event: Event) {
    if let Some(shared) = inode.shared_if_used() {
        shared.watches.tell(event, 0, None);
    }
}

/// Tells the watchers of the directory `dir` about a name in it.
pub fn notify_child(dir: &Inode, event: Event, name: &[u8], cookie: u32) {
    if let Some(shared) = dir.shared_if_used() {
        shared.watches.tell(event, cookie, Some(name));
    }
}

/// Tells the watchers of a file and those of its directory.
pub fn notify_dentry(dentry: &Dentry, event: Event) {
    notify_inode(dentry.inode(), event);
    let Some(parent) = dentry.parent() else { return };
    if parent.inode().shared_if_used().is_some() {
        let isdir = if dentry.inode().is_dir() { Event::ISDIR } else { Event::empty() };
        notify_child(parent.inode(), event | isdir, &dentry.name(), 0);
    }
}

/// Tells the watchers about a rename.
pub(crate) fn notify_rename(
    old_dir: &Inode,
    old_name: &[u8],
    new_dir: &Inode,
    new_name: &[u8],
    moved: &Inode,
) {
    let watched = [old_dir, new_dir, moved].iter().any(|i| i.shared_if_used().is_some());
    if !watched {
        return;
    }
    let cookie = NEXT_COOKIE.fetch_add(1, Ordering::Relaxed);
    let isdir = if moved.is_dir() { Event::ISDIR } else { Event::empty() };
    if std::ptr::eq(old_dir, new_dir) {
        notify_child(old_dir, Event::RENAMED_WITHIN | isdir, old_name, 0);
    }
    notify_child(old_dir, Event::MOVED_FROM | isdir, old_name, cookie);
    notify_child(new_dir, Event::MOVED_TO | isdir, new_name, cookie);
    notify_inode(moved, Event::MOVE_SELF);
}

/// Tells the watchers of an inode that lost its last name, and ends their watches.
pub(crate) fn notify_deleted(inode: &Inode) {
    let Some(shared) = inode.shared_if_used() else { return };
    shared.watches.tell(Event::DELETE_SELF, 0, None);
    let all: Vec<_> = std::mem::take(&mut *shared.watches.list.lock());
    shared.watches.count.store(0, Ordering::SeqCst);
    for (id, sink, _) in all {
        if let Some(sink) = sink.upgrade() {
            sink.gone(id);
        }
    }
}

/// Joins the two events of a rename.
static NEXT_COOKIE: AtomicU32 = AtomicU32::new(1);
