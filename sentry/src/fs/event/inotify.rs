//! Watching files (`inotify(7)`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sentry_abi::fs::InotifyEvent;
use zerocopy::IntoBytes;

use crate::errno::{Errno, SysResult};
use crate::io::IoDst;
use crate::mm::UserAddr;
use crate::task::CurrentTask;
use crate::vfs::anon::AnonKind;
use crate::vfs::notify::{Event, WatchId, WatchSink};
use crate::vfs::{File, FileOps, Inode, OpenFlags};
use crate::wait::{Observer, Readiness, WaitId, WaitQueue};

/// `/proc/sys/fs/inotify/max_queued_events`.
const MAX_QUEUED: usize = 16384;
/// `/proc/sys/fs/inotify/max_user_watches`, for each instance.
const MAX_WATCHES: usize = 65536;
const FIONREAD: u32 = 0x541b;

/// An inotify instance.
pub struct Inotify(Arc<Instance>);

struct Instance {
    me: Weak<Self>,
    state: Mutex<State>,
    queue: WaitQueue,
}

#[derive(Default)]
struct State {
    watches: BTreeMap<WatchId, Watch>,
    next: i32,
    events: VecDeque<Queued>,
    bytes: usize,
}

struct Watch {
    inode: Arc<Inode>,
    mask: Event,
    once: bool,
}

#[derive(PartialEq, Eq)]
struct Queued {
    watch: i32,
    event: Event,
    cookie: u32,
    /// With its NUL and padding, as it is read.
    name: Vec<u8>,
}

/// How a watch is added to an inode that has one (`inotify_add_watch(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddMode {
    /// The new mask replaces the old one.
    Replace,
    /// The masks are joined (`IN_MASK_ADD`).
    Join,
    /// It is an error (`IN_MASK_CREATE`).
    Create,
}

/// Makes an inotify instance.
#[must_use]
pub fn create(flags: OpenFlags) -> Arc<File> {
    let instance = Arc::new_cyclic(|me| Instance {
        me: me.clone(),
        state: Mutex::default(),
        queue: WaitQueue::default(),
    });
    let flags = flags & OpenFlags::NONBLOCK;
    File::anonymous(Box::new(Inotify(instance)), flags, AnonKind::Other("inotify"))
}

impl Inotify {
    /// Watches `inode` for `mask`.
    ///
    /// # Errors
    /// `EEXIST` by `mode`, `ENOSPC` for too many watches.
    pub fn add(&self, inode: &Arc<Inode>, mask: Event, mode: AddMode, once: bool) -> Result<WatchId, Errno> {
        let mut state = self.0.state.lock();
        let known = state.watches.iter().find(|(_, w)| Arc::ptr_eq(&w.inode, inode)).map(|(id, _)| *id);
        let (id, mask) = match known {
            Some(_) if mode == AddMode::Create => return Err(Errno::EEXIST),
            Some(id) => {
                let old = state.watches.get(&id).map_or(Event::empty(), |w| w.mask);
                (id, if mode == AddMode::Join { old | mask } else { mask })
            }
            None => {
                if state.watches.len() >= MAX_WATCHES {
                    return Err(Errno::ENOSPC);
                }
                state.next += 1;
                (WatchId(state.next), mask)
            }
        };
        state.watches.insert(id, Watch { inode: inode.clone(), mask, once });
        drop(state);
        let sink: Arc<dyn WatchSink> = self.0.clone();
        inode.shared().watches.add(id, &sink, mask);
        Ok(id)
    }

    /// Ends a watch.
    ///
    /// # Errors
    /// `EINVAL` for an unknown watch.
    pub fn remove(&self, id: WatchId) -> Result<(), Errno> {
        let watch = self.0.state.lock().watches.remove(&id).ok_or(Errno::EINVAL)?;
        self.0.forget(id, &watch.inode);
        self.0.push(Queued { watch: id.0, event: Event::IGNORED, cookie: 0, name: Vec::new() });
        Ok(())
    }
}

impl Instance {
    fn forget(&self, id: WatchId, inode: &Inode) {
        let me: Weak<dyn WatchSink> = self.me.clone();
        inode.shared().watches.remove(id, &me);
    }

    fn push(&self, event: Queued) {
        {
            let mut state = self.state.lock();
            // Two equal events in a row are one (inotify(7)).
            if state.events.back() == Some(&event) {
                return;
            }
            if state.events.len() >= MAX_QUEUED {
                let overflow = Queued { watch: -1, event: Event::Q_OVERFLOW, cookie: 0, name: Vec::new() };
                if state.events.back() != Some(&overflow) {
                    state.bytes += overflow.size();
                    state.events.push_back(overflow);
                }
                return;
            }
            state.bytes += event.size();
            state.events.push_back(event);
        }
        self.queue.notify(Readiness::IN);
    }
}

impl Queued {
    fn size(&self) -> usize {
        size_of::<InotifyEvent>() + self.name.len()
    }
}

impl WatchSink for Instance {
    fn event(&self, watch: WatchId, event: Event, cookie: u32, name: Option<&[u8]>) {
        let mut padded = Vec::new();
        if let Some(name) = name {
            padded.extend_from_slice(name);
            // Events stay aligned: the kernel rounds names up to 16 bytes.
            padded.resize((name.len() + 1).next_multiple_of(size_of::<InotifyEvent>()), 0);
        }
        self.push(Queued { watch: watch.0, event, cookie, name: padded });
        let ended = {
            let mut state = self.state.lock();
            match state.watches.get(&watch) {
                Some(w) if w.once => state.watches.remove(&watch),
                _ => None,
            }
        };
        if let Some(watch_ended) = ended {
            self.forget(watch, &watch_ended.inode);
            self.gone(watch);
        }
    }

    fn gone(&self, watch: WatchId) {
        self.state.lock().watches.remove(&watch);
        self.push(Queued { watch: watch.0, event: Event::IGNORED, cookie: 0, name: Vec::new() });
    }
}

impl FileOps for Inotify {
    fn read(&self, _: &File, dst: &mut dyn IoDst, _: &mut u64) -> Result<usize, Errno> {
        let mut out = Vec::new();
        {
            let mut state = self.0.state.lock();
            let Some(first) = state.events.front() else { return Err(Errno::EAGAIN) };
            if first.size() > dst.remaining() {
                return Err(Errno::EINVAL);
            }
            while let Some(event) = state.events.front() {
                if out.len() + event.size() > dst.remaining() {
                    break;
                }
                let header = InotifyEvent {
                    wd: event.watch,
                    mask: event.event.bits(),
                    cookie: event.cookie,
                    // At most 272.
                    len: u32::try_from(event.name.len()).unwrap_or(0),
                };
                out.extend_from_slice(header.as_bytes());
                out.extend_from_slice(&event.name);
                state.bytes -= event.size();
                state.events.pop_front();
            }
        }
        dst.put(&out)
    }

    fn ioctl(&self, task: &mut CurrentTask, _: &File, request: u32, arg: u64) -> SysResult {
        if request != FIONREAD {
            return Err(Errno::ENOTTY.into());
        }
        let n = i32::try_from(self.0.state.lock().bytes).unwrap_or(i32::MAX);
        task.mm().write_obj(UserAddr(arg), &n)?;
        Ok(0)
    }

    fn readiness(&self, _: &File) -> Readiness {
        if self.0.state.lock().events.is_empty() { Readiness::empty() } else { Readiness::IN }
    }

    fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> Option<WaitId> {
        Some(self.0.queue.register(interest, observer))
    }

    fn unregister(&self, id: WaitId) {
        self.0.queue.unregister(id);
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        let watches = std::mem::take(&mut self.0.state.lock().watches);
        for (id, watch) in watches {
            self.0.forget(id, &watch.inode);
        }
    }
}
