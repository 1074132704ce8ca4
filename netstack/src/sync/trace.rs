//! Locks that note on the thread's record that they were taken, and whether somebody had to wait.

use std::any::type_name;
use std::cell::RefCell;
use std::collections::BTreeMap;

use parking_lot::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

/// As [`parking_lot::Mutex`].
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

/// As [`parking_lot::RwLock`].
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(parking_lot::RwLock<T>);

/// How a lock was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// Together with other readers.
    Shared,
    Exclusive,
}

/// What a piece of work did with locks.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// What was locked, and how, by the address of the lock.
    pub(crate) locks: BTreeMap<usize, (&'static str, Mode)>,
    /// How often another thread was in the way.
    pub(crate) waits: u64,
}

/// Does `work` and tells what this thread did with locks meanwhile.
pub(crate) fn record(work: impl FnOnce()) -> Record {
    RECORD.set(Some(Record::default()));
    work();
    RECORD.take().unwrap_or_default()
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        note(self, type_name::<T>(), Mode::Exclusive);
        self.0.try_lock().unwrap_or_else(|| {
            note_wait();
            self.0.lock()
        })
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        note(self, type_name::<T>(), Mode::Exclusive);
        self.0.try_lock()
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(parking_lot::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        note(self, type_name::<T>(), Mode::Shared);
        self.0.try_read().unwrap_or_else(|| {
            note_wait();
            self.0.read()
        })
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        note(self, type_name::<T>(), Mode::Exclusive);
        self.0.try_write().unwrap_or_else(|| {
            note_wait();
            self.0.write()
        })
    }
}

pub(super) fn note<L>(lock: &L, what: &'static str, mode: Mode) {
    on_record(|record| {
        let entry = record.locks.entry(std::ptr::from_ref(lock).addr()).or_insert((what, mode));
        entry.1 = entry.1.max(mode);
    });
}

pub(super) fn note_wait() {
    on_record(|record| record.waits += 1);
}

fn on_record(change: impl FnOnce(&mut Record)) {
    // Fails while the thread ends.
    let _ = RECORD.try_with(|record| record.borrow_mut().as_mut().map(change));
}

thread_local! {
    static RECORD: RefCell<Option<Record>> = const { RefCell::new(None) };
}

#[path = "trace_tests.rs"]
mod tests;
