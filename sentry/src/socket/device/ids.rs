//! The numbers by which a namespace knows others (`ip-netns(8)`, "set NAME NETNSID").

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::socket::NetNamespace;

/// Numbers of other namespaces.
#[derive(Default)]
pub(in crate::socket) struct PeerIds {
    known: Mutex<BTreeMap<i32, Weak<NetNamespace>>>,
}

impl PeerIds {
    /// The number of `namespace`, a new one if it has none.
    pub(in crate::socket) fn of(&self, namespace: &Arc<NetNamespace>) -> i32 {
        let mut known = self.known.lock();
        forget_dead(&mut known);
        find(&known, namespace).unwrap_or_else(|| {
            // There are fewer namespaces than numbers.
            let id = (0..).find(|id| !known.contains_key(id)).unwrap_or(i32::MAX);
            known.insert(id, Arc::downgrade(namespace));
            id
        })
    }

    /// Its number, if it has one.
    pub(in crate::socket) fn get(&self, namespace: &Arc<NetNamespace>) -> Option<i32> {
        find(&self.known.lock(), namespace)
    }

    /// Gives it a number, or the first free one.
    ///
    /// # Errors
    /// `EEXIST` for one that has a number, `ENOSPC` for a number that is taken.
    pub(in crate::socket) fn set(
        &self,
        namespace: &Arc<NetNamespace>,
        id: Option<i32>,
    ) -> Result<i32, Errno> {
        let mut known = self.known.lock();
        forget_dead(&mut known);
        if find(&known, namespace).is_some() {
            return Err(Errno::EEXIST);
        }
        let id = id.or_else(|| (0..).find(|id| !known.contains_key(id))).ok_or(Errno::ENOSPC)?;
        if known.contains_key(&id) {
            return Err(Errno::ENOSPC);
        }
        known.insert(id, Arc::downgrade(namespace));
        Ok(id)
    }

    /// The namespace with that number.
    pub(in crate::socket) fn find(&self, id: i32) -> Option<Arc<NetNamespace>> {
        self.known.lock().get(&id)?.upgrade()
    }

    /// All numbers.
    pub(in crate::socket) fn all(&self) -> Vec<i32> {
        let mut known = self.known.lock();
        forget_dead(&mut known);
        known.keys().copied().collect()
    }
}

fn find(known: &BTreeMap<i32, Weak<NetNamespace>>, namespace: &Arc<NetNamespace>) -> Option<i32> {
    let is_it = |other: &Weak<NetNamespace>| std::ptr::eq(other.as_ptr(), Arc::as_ptr(namespace));
    known.iter().find(|(_, other)| is_it(other)).map(|(id, _)| *id)
}

fn forget_dead(known: &mut BTreeMap<i32, Weak<NetNamespace>>) {
    known.retain(|_, namespace| namespace.strong_count() > 0);
}
