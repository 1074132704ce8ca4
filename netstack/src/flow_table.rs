//! The table of connections: sharded, so that flows on different threads seldom meet, and hashed with a secret, so that
//! nobody outside can make them collide.

use std::sync::Arc;

use crate::sync::BriefMutex;
use hashbrown::HashTable;

use crate::secret::Secrets;
use crate::tcp::Flow;

/// Something that is found by its flow.
pub(crate) trait Keyed {
    fn flow(&self) -> &Flow;
}

/// A table of objects by flow. An entry is one pointer; the flow is in the object.
pub(crate) struct FlowTable<T> {
    shards: Box<[BriefMutex<HashTable<Arc<T>>>]>,
}

impl<T: Keyed> FlowTable<T> {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| BriefMutex::default()).collect() }
    }

    pub(crate) fn get(&self, secrets: &Secrets, flow: &Flow) -> Option<Arc<T>> {
        self.get_hashed(secrets.hash_flow(flow), flow)
    }

    /// The same of a flow whose hash is known.
    pub(crate) fn get_hashed(&self, hash: u64, flow: &Flow) -> Option<Arc<T>> {
        self.shard(hash).lock().find(hash, |entry| entry.flow() == flow).cloned()
    }

    /// Looks at an object of a flow whose hash is known where it is, without a reference of its own. The table is locked
    /// meanwhile: `look` neither enters or removes objects nor waits for anybody who does.
    #[inline]
    pub(crate) fn look<R>(
        &self,
        hash: u64,
        flow: &Flow,
        look: impl FnOnce(&Arc<T>) -> Option<R>,
    ) -> Option<R> {
        let shard = self.shard(hash).lock();
        look(shard.find(hash, |entry| entry.flow() == flow)?)
    }

    pub(crate) fn contains(&self, secrets: &Secrets, flow: &Flow) -> bool {
        let hash = secrets.hash_flow(flow);
        self.shard(hash).lock().find(hash, |entry| entry.flow() == flow).is_some()
    }

    /// Whether any object is such a one. Looks at all of them, shard by shard.
    pub(crate) fn any(&self, is_one: impl Fn(&T) -> bool) -> bool {
        self.shards.iter().any(|shard| shard.lock().iter().any(|object| is_one(object)))
    }

    /// Inserts an object unless there is one with its flow.
    pub(crate) fn insert(&self, secrets: &Secrets, object: &Arc<T>) -> bool {
        let hash = secrets.hash_flow(object.flow());
        let mut shard = self.shard(hash).lock();
        if shard.find(hash, |entry| entry.flow() == object.flow()).is_some() {
            return false;
        }
        shard.insert_unique(hash, Arc::clone(object), |entry| secrets.hash_flow(entry.flow()));
        true
    }

    /// Removes this very object.
    pub(crate) fn remove(&self, secrets: &Secrets, object: &Arc<T>) {
        let hash = secrets.hash_flow(object.flow());
        let removed = {
            let mut shard = self.shard(hash).lock();
            let found = shard.find_entry(hash, |entry| Arc::ptr_eq(entry, object));
            found.ok().map(|entry| entry.remove().0)
        };
        // The last reference may be the table's; its drop runs outside of the lock.
        drop(removed);
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// All objects at one moment, shard by shard.
    pub(crate) fn snapshot(&self) -> Vec<Arc<T>> {
        self.shards.iter().flat_map(|shard| shard.lock().iter().cloned().collect::<Vec<_>>()).collect()
    }

    fn shard(&self, hash: u64) -> &BriefMutex<HashTable<Arc<T>>> {
        // The table inside uses the low and the topmost bits; these are neither. Below SHARDS.
        &self.shards[(hash >> 40) as usize % SHARDS]
    }
}

/// Enough that two busy threads rarely want the same one.
const SHARDS: usize = 64;
