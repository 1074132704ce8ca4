//! What is fetched before it is asked for: listings, and the attributes of files beside those that were looked up.
//!
//! Only for trees that nobody else changes. A round trip to the gofer costs more than what it asks the host for, so a
//! directory in which one name after the other is looked up is fetched in batches, which grow while they are used.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::fs::gofer::node::{Node, Prefetched};
use crate::fs::gofer::protocol::{MAX_LOOK, Op, Reply};
use crate::vfs::{DirEntry, Inode};

/// Lookups in a directory, one by one, before the next one fetches a batch.
const SINGLE: u16 = 3;
/// The size of the first batch.
const FIRST_BATCH: u16 = 32;
/// Lookups one by one after a batch of which less than half was used.
const AFTER_WASTE: u16 = 64;
/// What is kept for all directories of a tree, in entries of listings, of some 80 bytes each. Beyond, what was fetched
/// longest ago goes.
const MAX_KEPT: usize = 128 << 10;
/// What an entry with its attributes counts.
const WITH_ATTRIBUTES: usize = 4;
/// Likewise, the directories that are known to keep some.
const MAX_DIRECTORIES: usize = 8 << 10;

/// What a directory keeps.
#[derive(Default)]
pub(super) struct Early {
    listing: Option<Arc<[DirEntry]>>,
    /// Lookups that had to ask since the last batch.
    asked: u16,
    /// When the next batch is fetched, in such lookups.
    patience: Option<u16>,
    batch: u16,
    /// Lookups that a batch has answered since the last one was fetched.
    used: u16,
    /// Entries counted in [`Kept`].
    counted: usize,
}

/// Which directories keep something.
#[derive(Default)]
pub(super) struct Kept(Mutex<(VecDeque<Weak<Node>>, usize)>);

impl Kept {
    fn add(&self, node: &Arc<Node>, count: usize) {
        let mut victims = Vec::new();
        {
            let (queue, total) = &mut *self.0.lock();
            *total += count;
            queue.push_back(Arc::downgrade(node));
            let mut left = *total;
            while (left > MAX_KEPT || queue.len() > MAX_DIRECTORIES)
                && let Some(oldest) = queue.pop_front()
            {
                let Some(oldest) = oldest.upgrade() else { continue };
                left = left.saturating_sub(oldest.early_count());
                victims.push(oldest);
            }
        }
        // Their own locks come without this one.
        victims.iter().for_each(|node| node.forget_early());
    }

    pub(super) fn remove(&self, count: usize) {
        let (_, total) = &mut *self.0.lock();
        *total = total.saturating_sub(count);
    }
}

impl Node {
    /// Finds `name` by fetching it alone or in a batch.
    pub(super) fn fetch(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        let (batch, generation) = {
            let mut state = self.state.lock();
            (state.early.next_batch(), state.generation)
        };
        let Some(batch) = batch else { return self.ask(name) };
        let Ok((Reply::Looked(found), _)) = self.shared.call(Op::Look(self.path(), name.to_vec(), batch))
        else {
            return self.ask(name);
        };
        let count = found.len() * WITH_ATTRIBUTES;
        let mut wanted = None;
        {
            let mut state = self.state.lock();
            // Entries may have come or gone meanwhile.
            let is_true = state.generation == generation;
            for (at, attr) in found {
                if at == name {
                    wanted = Some(attr);
                } else if is_true {
                    state.prefetched.insert(at, Prefetched::Entry(Box::new(attr), Vec::new()));
                }
            }
            state.early.counted += count;
        }
        self.shared.kept.add(self, count);
        wanted.map(|attr| self.child(name, attr)).ok_or(Errno::ENOENT)
    }

    /// The entries, kept until they change.
    pub(super) fn listing(self: &Arc<Self>) -> Result<Arc<[DirEntry]>, Errno> {
        if let Some(listing) = &self.state.lock().early.listing {
            return Ok(listing.clone());
        }
        let generation = self.state.lock().generation;
        let listing: Arc<[DirEntry]> = self.list()?.into();
        if self.shared.is_shared() {
            return Ok(listing);
        }
        {
            let mut state = self.state.lock();
            // An entry may have come or gone meanwhile.
            if state.generation != generation || state.early.listing.is_some() {
                return Ok(listing);
            }
            state.early.listing = Some(listing.clone());
            state.early.counted += listing.len();
        }
        self.shared.kept.add(self, listing.len());
        Ok(listing)
    }

    fn early_count(&self) -> usize {
        self.state.lock().early.counted
    }

    fn forget_early(&self) {
        let counted = {
            let mut state = self.state.lock();
            state.prefetched.clear();
            std::mem::take(&mut state.early).counted
        };
        self.shared.kept.remove(counted);
    }
}

impl Early {
    /// A lookup was answered by what is kept.
    pub(super) fn on_hit(&mut self) {
        self.used = self.used.saturating_add(1);
    }

    /// The listing is no longer true.
    pub(super) fn on_change(&mut self) {
        self.listing = None;
    }

    pub(super) fn counted(&self) -> usize {
        self.counted
    }

    /// A lookup that what is kept does not answer: how many entries to fetch, if not that one alone.
    fn next_batch(&mut self) -> Option<u16> {
        self.asked = self.asked.saturating_add(1);
        if self.asked <= self.patience.unwrap_or(SINGLE) {
            return None;
        }
        self.asked = 0;
        let is_worth_it = self.used >= self.batch / 2;
        self.batch = if is_worth_it { (self.batch * 2).clamp(FIRST_BATCH, MAX_LOOK) } else { 0 };
        self.patience = Some(if is_worth_it { 0 } else { AFTER_WASTE });
        self.used = 0;
        is_worth_it.then_some(self.batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The batches of so many lookups, each of which answers `answered` more.
    fn batches(early: &mut Early, lookups: usize, answered: u16) -> Vec<u16> {
        (0..lookups)
            .filter_map(|_| early.next_batch().inspect(|_| (0..answered).for_each(|_| early.on_hit())))
            .collect()
    }

    #[test]
    fn batches_grow_while_they_are_used() {
        assert_eq!(batches(&mut Early::default(), 7, 200), [32, 64, 128, 256]);
    }

    #[test]
    fn few_lookups_are_made_one_by_one() {
        assert_eq!(batches(&mut Early::default(), SINGLE.into(), 0), [0_u16; 0]);
    }

    #[test]
    fn wasted_batches_become_rare() {
        let batches = batches(&mut Early::default(), 1000, 3);
        assert!((10..20).contains(&batches.len()), "{batches:?}");
    }
}
