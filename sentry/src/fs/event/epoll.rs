//! Waiting for many files (`epoll(7)`).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sentry_abi::fs::EpollEvent;

use crate::errno::Errno;
use crate::vfs::anon::AnonKind;
use crate::vfs::{Fd, File, FileOps, FileType, FileWatcher, OpenFlags};
use crate::wait::{Observer, Readiness, WaitId, WaitQueue};

const EPOLLRDNORM: u32 = 0x40;
const EPOLLWRNORM: u32 = 0x100;
const EPOLLEXCLUSIVE: u32 = 1 << 28;
const EPOLLONESHOT: u32 = 1 << 30;
const EPOLLET: u32 = 1 << 31;
/// What `EPOLLEXCLUSIVE` can be combined with (`epoll_ctl(2)`).
const EXCLUSIVE_OK: u32 = EPOLLEXCLUSIVE | EPOLLET | 0x1 | 0x4 | 0x8 | 0x10 | (1 << 29);
/// How deep epoll files can watch epoll files (`epoll_ctl(2)`, `ELOOP`).
const MAX_DEPTH: usize = 5;

/// An epoll instance.
pub struct Epoll(Arc<Instance>);

struct Instance {
    items: Mutex<HashMap<Key, Arc<Item>>>,
    ready: Mutex<VecDeque<Arc<Item>>>,
    queue: WaitQueue,
}

/// What is watched is an open file under a descriptor number (`epoll(7)`, questions and answers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    fd: Fd,
    file: usize,
}

/// A watched file.
struct Item {
    key: Key,
    file: Weak<File>,
    instance: Weak<Instance>,
    interest: Mutex<Interest>,
    /// It is in the instance's ready list.
    is_listed: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Interest {
    events: u32,
    data: u64,
    registration: Option<WaitId>,
    /// Nothing is reported until the next `EPOLL_CTL_MOD` (`EPOLLONESHOT`).
    is_spent: bool,
}

/// Makes an epoll instance.
#[must_use]
pub fn create() -> Arc<File> {
    let instance = Instance { items: Mutex::default(), ready: Mutex::default(), queue: WaitQueue::default() };
    File::anonymous(Box::new(Epoll(Arc::new(instance))), OpenFlags::RDWR, AnonKind::Other("[eventpoll]"))
}

impl Epoll {
    /// Where waiters of the instance sleep.
    #[must_use]
    pub fn queue(&self) -> &WaitQueue {
        &self.0.queue
    }

    /// Watches `file` (`EPOLL_CTL_ADD`).
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn add(&self, fd: Fd, file: &Arc<File>, event: EpollEvent) -> Result<(), Errno> {
        let events = event.events;
        if matches!(file.inode().kind(), FileType::Regular | FileType::Directory) && file.ops().is_seekable()
        {
            return Err(Errno::EPERM);
        }
        if events & EPOLLEXCLUSIVE != 0 && (events & !EXCLUSIVE_OK != 0 || file.downcast::<Self>().is_some())
        {
            return Err(Errno::EINVAL);
        }
        if let Some(inner) = file.downcast::<Self>()
            && (inner.reaches(&self.0, MAX_DEPTH) || inner.depth(MAX_DEPTH) >= MAX_DEPTH)
        {
            return Err(Errno::ELOOP);
        }
        let key = Key { fd, file: Arc::as_ptr(file).addr() };
        let interest = Interest { events, data: event.data, registration: None, is_spent: false };
        let item = Arc::new(Item {
            key,
            file: Arc::downgrade(file),
            instance: Arc::downgrade(&self.0),
            interest: Mutex::new(interest),
            is_listed: AtomicBool::new(false),
        });
        {
            let mut items = self.0.items.lock();
            if items.contains_key(&key) {
                return Err(Errno::EEXIST);
            }
            items.insert(key, item.clone());
        }
        let turns = if events & EPOLLEXCLUSIVE == 0 { None } else { file.ops().turns() };
        let registration = match turns {
            Some(queue) => Some(queue.register_in_turn(readiness_of(events), item.clone())),
            None => file.ops().register(readiness_of(events), item.clone()),
        };
        let Some(id) = registration else {
            // Readiness that never changes cannot be watched.
            self.0.items.lock().remove(&key);
            return Err(Errno::EPERM);
        };
        item.interest.lock().registration = Some(id);
        let watcher: Weak<Item> = Arc::downgrade(&item);
        file.watch_close(watcher);
        item.check(file);
        Ok(())
    }

    /// Changes what is reported of `file` (`EPOLL_CTL_MOD`).
    ///
    /// # Errors
    /// `ENOENT`; `EINVAL` for a change of an exclusive watch.
    pub fn modify(&self, fd: Fd, file: &Arc<File>, event: EpollEvent) -> Result<(), Errno> {
        let item = self.find(fd, file)?;
        {
            let mut interest = item.interest.lock();
            if (interest.events | event.events) & EPOLLEXCLUSIVE != 0 {
                return Err(Errno::EINVAL);
            }
            interest.events = event.events;
            interest.data = event.data;
            interest.is_spent = false;
        }
        // Registered anew for the new events; nothing is lost, as the state is looked at afterwards.
        let new = file.ops().register(readiness_of(event.events), item.clone());
        let old = std::mem::replace(&mut item.interest.lock().registration, new);
        if let Some(old) = old {
            file.ops().unregister(old);
        }
        item.check(file);
        Ok(())
    }

    /// Stops watching `file` (`EPOLL_CTL_DEL`).
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn remove(&self, fd: Fd, file: &Arc<File>) -> Result<(), Errno> {
        let item = self.find(fd, file)?;
        self.0.items.lock().remove(&item.key);
        let registration = item.interest.lock().registration.take();
        if let Some(id) = registration {
            file.ops().unregister(id);
        }
        file.unwatch_close(&item);
        self.0.unlist(&item);
        Ok(())
    }

    fn find(&self, fd: Fd, file: &Arc<File>) -> Result<Arc<Item>, Errno> {
        let key = Key { fd, file: Arc::as_ptr(file).addr() };
        self.0.items.lock().get(&key).cloned().ok_or(Errno::ENOENT)
    }

    /// Up to `max` events that are ready now.
    #[must_use]
    pub fn collect(&self, max: usize) -> Vec<EpollEvent> {
        self.0.collect(max)
    }

    /// Whether something is ready, without taking it.
    #[must_use]
    pub fn readiness_now(&self) -> Readiness {
        if self.0.has_ready() { Readiness::IN } else { Readiness::empty() }
    }

    /// True where this instance watches `target`, directly or through others.
    fn reaches(&self, target: &Arc<Instance>, depth: usize) -> bool {
        if Arc::ptr_eq(&self.0, target) {
            return true;
        }
        depth > 0
            && self.inner().iter().any(|f| f.downcast::<Self>().is_some_and(|e| e.reaches(target, depth - 1)))
    }

    /// How many instances are watched below each other.
    fn depth(&self, limit: usize) -> usize {
        if limit == 0 {
            return 1;
        }
        let below = self.inner();
        1 + below.iter().filter_map(|f| f.downcast::<Self>().map(|e| e.depth(limit - 1))).max().unwrap_or(0)
    }

    /// The epoll files among those watched.
    fn inner(&self) -> Vec<Arc<File>> {
        let items = self.0.items.lock();
        let files = items.values().filter_map(|item| item.file.upgrade());
        files.filter(|f| f.downcast::<Self>().is_some()).collect()
    }
}

impl Instance {
    fn collect(&self, max: usize) -> Vec<EpollEvent> {
        let mut out = Vec::new();
        // Level-triggered items go back to the end, so one round looks at each item once.
        let mut left = self.ready.lock().len();
        while left > 0 && out.len() < max {
            left -= 1;
            let Some(item) = self.ready.lock().pop_front() else { break };
            // Cleared before looking: a change after the look lists it again.
            item.is_listed.store(false, Ordering::SeqCst);
            let Some((events, data, again)) = item.take() else { continue };
            out.push(EpollEvent { events, data });
            if again {
                self.list(&item);
            }
        }
        out
    }

    /// True where something is ready, without taking it.
    fn has_ready(&self) -> bool {
        let listed: Vec<Arc<Item>> = self.ready.lock().iter().cloned().collect();
        listed.iter().any(|item| item.file.upgrade().is_some_and(|file| item.ready_now(&file).is_some()))
    }

    fn list(&self, item: &Arc<Item>) {
        if !item.is_listed.swap(true, Ordering::SeqCst) {
            self.ready.lock().push_back(item.clone());
        }
    }

    fn unlist(&self, item: &Arc<Item>) {
        self.ready.lock().retain(|other| !Arc::ptr_eq(other, item));
    }
}

impl Item {
    /// Lists the item where it is ready now.
    fn check(self: &Arc<Self>, file: &Arc<File>) {
        let Some(instance) = self.instance.upgrade() else { return };
        if self.ready_now(file).is_some() {
            instance.list(self);
            instance.queue.notify_next(Readiness::IN);
        }
    }

    /// The events that are ready and asked for.
    fn ready_now(&self, file: &File) -> Option<u32> {
        let interest = *self.interest.lock();
        if interest.is_spent {
            return None;
        }
        let asked = interest.events;
        let ready = file.ops().readiness(file);
        let mut events = ready.bits() & (asked | (Readiness::ERR | Readiness::HUP).bits());
        if ready.contains(Readiness::IN) {
            events |= asked & EPOLLRDNORM;
        }
        if ready.contains(Readiness::OUT) {
            events |= asked & EPOLLWRNORM;
        }
        (events != 0).then_some(events)
    }

    /// The event to report, and whether the item stays listed.
    fn take(&self) -> Option<(u32, u64, bool)> {
        let file = self.file.upgrade()?;
        let events = self.ready_now(&file)?;
        let mut interest = self.interest.lock();
        if interest.events & EPOLLONESHOT != 0 {
            interest.is_spent = true;
        }
        let again = interest.events & (EPOLLET | EPOLLONESHOT) == 0;
        Some((events, interest.data, again))
    }
}

impl Observer for Item {
    fn notify(&self, ready: Readiness) {
        self.notify_in_turn(ready);
    }

    /// False where nobody waits for the instance: then somebody else's is woken (`ep_poll_callback` with `EPOLLEXCLUSIVE`).
    fn notify_in_turn(&self, _: Readiness) -> bool {
        let Some(instance) = self.instance.upgrade() else { return false };
        let me = instance.items.lock().get(&self.key).cloned();
        let Some(me) = me.filter(|item| std::ptr::eq(&raw const **item, self)) else { return false };
        if me.interest.lock().is_spent {
            return false;
        }
        instance.list(&me);
        let has_waiters = !instance.queue.is_empty();
        instance.queue.notify_next(Readiness::IN);
        has_waiters
    }
}

impl FileWatcher for Item {
    fn closed(&self, file: &File) {
        let registration = self.interest.lock().registration.take();
        if let Some(id) = registration {
            file.ops().unregister(id);
        }
        if let Some(instance) = self.instance.upgrade() {
            let gone = instance.items.lock().remove(&self.key);
            if let Some(item) = gone {
                instance.unlist(&item);
            }
        }
    }
}

impl FileOps for Epoll {
    fn readiness(&self, _: &File) -> Readiness {
        self.readiness_now()
    }

    fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> Option<WaitId> {
        Some(self.0.queue.register(interest, observer))
    }

    fn unregister(&self, id: WaitId) {
        self.0.queue.unregister(id);
    }

    fn fdinfo(&self, _: &File) -> String {
        let items = self.0.items.lock();
        let line = |item: &Arc<Item>| {
            let interest = *item.interest.lock();
            format!("tfd: {:8} events: {:8x} data: {:16x}\n", item.key.fd.0, interest.events, interest.data)
        };
        items.values().map(line).collect()
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        let items = std::mem::take(&mut *self.0.items.lock());
        for item in items.into_values() {
            let registration = item.interest.lock().registration.take();
            if let (Some(file), Some(id)) = (item.file.upgrade(), registration) {
                file.ops().unregister(id);
                file.unwatch_close(&item);
            }
        }
    }
}

/// What to register for.
fn readiness_of(events: u32) -> Readiness {
    let mut ready = Readiness::from_bits_truncate(events);
    if events & EPOLLRDNORM != 0 {
        ready |= Readiness::IN;
    }
    if events & EPOLLWRNORM != 0 {
        ready |= Readiness::OUT;
    }
    ready
}

#[cfg(test)]
#[path = "epoll_tests.rs"]
mod tests;
