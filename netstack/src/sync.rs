//! Locks: those of parking_lot, and one for the path of a segment. In unit tests they tell who took which, so that a test can
//! prove what two flows share.

#[cfg(not(test))]
pub(crate) use parking_lot::{Condvar, Mutex, RwLock};

#[cfg(test)]
pub(crate) use parking_lot::Condvar;
#[cfg(test)]
pub(crate) use trace::{Mutex, RwLock};

mod brief;
#[cfg(test)]
mod trace;

pub(crate) use brief::{BriefGuard, BriefMutex};
