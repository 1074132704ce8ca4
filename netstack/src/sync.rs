//! Locks: those of parking_lot. In unit tests they tell who took which, so that a test can prove what two flows share.

#[cfg(not(test))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

#[cfg(test)]
pub(crate) use parking_lot::{Condvar, MutexGuard};
#[cfg(test)]
pub(crate) use trace::{Mutex, RwLock};

#[cfg(test)]
mod trace;
