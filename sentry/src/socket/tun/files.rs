//! The files that are attached to a device.

use std::sync::Arc;

use super::queue::Queue;
use crate::errno::Errno;

/// Those that get packets, and those that do not at the moment (`IFF_DETACH_QUEUE`).
#[derive(Default)]
pub(super) struct Files {
    reading: Vec<Arc<Queue>>,
    resting: Vec<Arc<Queue>>,
}

impl Files {
    pub(super) fn reading(&self) -> &[Arc<Queue>] {
        &self.reading
    }

    pub(super) fn resting(&self) -> &[Arc<Queue>] {
        &self.resting
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Queue>> {
        self.reading.iter().chain(&self.resting)
    }

    pub(super) fn len(&self) -> usize {
        self.reading.len() + self.resting.len()
    }

    /// Adds one that gets packets (`tun_attach`).
    ///
    /// # Errors
    /// `EBUSY` for a second one where there can be one only, `E2BIG` for one too many.
    pub(super) fn add(&mut self, file: &Arc<Queue>, can_be_several: bool) -> Result<(), Errno> {
        if !can_be_several && !self.reading.is_empty() {
            return Err(Errno::EBUSY);
        }
        if self.len() == MAX_FILES {
            return Err(Errno::E2BIG);
        }
        self.reading.push(file.clone());
        Ok(())
    }

    pub(super) fn remove(&mut self, file: &Arc<Queue>) {
        for list in [&mut self.reading, &mut self.resting] {
            list.retain(|other| !Arc::ptr_eq(other, file));
        }
    }

    /// Moves one from those that get packets to the others, or back.
    ///
    /// # Errors
    /// `EINVAL` if it is there already.
    pub(super) fn set_resting(&mut self, file: &Arc<Queue>, rests: bool) -> Result<(), Errno> {
        let Self { reading, resting } = self;
        let (from, to) = if rests { (reading, resting) } else { (resting, reading) };
        let at = position(from, file).ok_or(Errno::EINVAL)?;
        to.push(from.remove(at));
        Ok(())
    }

    pub(super) fn is_resting(&self, file: &Arc<Queue>) -> bool {
        position(&self.resting, file).is_some()
    }

    /// Its place among those that get packets.
    pub(super) fn number_of(&self, file: &Arc<Queue>) -> Option<usize> {
        position(&self.reading, file)
    }
}

fn position(files: &[Arc<Queue>], file: &Arc<Queue>) -> Option<usize> {
    files.iter().position(|other| Arc::ptr_eq(other, file))
}

/// `MAX_TAP_QUEUES`.
pub(super) const MAX_FILES: usize = 256;
