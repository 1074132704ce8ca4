//! A part of a mount tree that is copied or attached as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use crate::vfs::peer_group::{PeerGroups, Relation};
use crate::vfs::{Dentry, Mount, MountId, VfsPath};

/// Mounts and how they stand on each other, parents first.
#[derive(Clone)]
pub(super) struct Branch {
    top: Arc<Mount>,
    /// What a copy's first mount shows.
    root: Arc<Dentry>,
    twigs: Vec<Twig>,
}

#[derive(Clone)]
struct Twig {
    mount: Arc<Mount>,
    /// The one that it stands on: the index of another twig, or the top.
    above: Option<usize>,
    dentry: Arc<Dentry>,
}

impl Branch {
    /// A mount with nothing on it.
    pub(super) fn new(top: Arc<Mount>) -> Self {
        Self { root: top.root().clone(), top, twigs: Vec::new() }
    }

    /// The part of `tree` (a mount and what is below it, parents first) that is at or below `root` in its first mount, without
    /// what `takes` refuses and what stands on that.
    pub(super) fn of(tree: &[Arc<Mount>], root: &Arc<Dentry>, takes: impl Fn(&Mount) -> bool) -> Self {
        let mut twigs: Vec<Twig> = Vec::new();
        let mut index_of: HashMap<MountId, usize> = HashMap::new();
        for mount in &tree[1..] {
            let Some(place) = mount.mount_point() else { continue };
            let above = if Arc::ptr_eq(&place.mount, &tree[0]) {
                if !root.is_ancestor_of(&place.dentry) {
                    continue;
                }
                None
            } else {
                match index_of.get(&place.mount.id()) {
                    Some(above) => Some(*above),
                    None => continue,
                }
            };
            if takes(mount) {
                index_of.insert(mount.id(), twigs.len());
                twigs.push(Twig { mount: mount.clone(), above, dentry: place.dentry });
            }
        }
        Self { top: tree[0].clone(), root: root.clone(), twigs }
    }

    /// The mount that all others stand on.
    pub(super) fn top(&self) -> &Arc<Mount> {
        &self.top
    }

    /// How many mounts there are.
    pub(super) fn len(&self) -> usize {
        1 + self.twigs.len()
    }

    fn mounts(&self) -> impl Iterator<Item = &Arc<Mount>> {
        std::iter::once(&self.top).chain(self.twigs.iter().map(|twig| &twig.mount))
    }

    /// A copy whose mounts have `relation` to these.
    pub(super) fn copy(&self, peers: &mut PeerGroups, relation: Relation) -> Self {
        let mut copy = |mount: &Arc<Mount>, root: &Arc<Dentry>| {
            let copy = mount.copy(root.clone());
            peers.copy(mount, &copy, relation);
            copy
        };
        let top = copy(&self.top, &self.root);
        let twigs = self.twigs.iter();
        let twigs = twigs.map(|twig| Twig { mount: copy(&twig.mount, twig.mount.root()), ..twig.clone() });
        Self { top, root: self.root.clone(), twigs: twigs.collect() }
    }

    /// Makes all mounts shared.
    pub(super) fn share(&self, peers: &mut PeerGroups) {
        self.mounts().for_each(|mount| peers.share(mount));
    }

    /// Makes all mounts private, for they are given up.
    pub(super) fn forget(&self, peers: &mut PeerGroups) {
        self.mounts().for_each(|mount| peers.forget(mount.id()));
    }

    /// Keeps the mounts together and as they are, for they come to where others have less to say.
    pub(super) fn lock(&self) {
        self.top.lock(false);
        self.twigs.iter().for_each(|twig| twig.mount.lock(true));
    }

    /// The mounts with their places, where the top comes to `place`.
    pub(super) fn places(&self, place: &VfsPath) -> Vec<(Arc<Mount>, VfsPath)> {
        let twigs = self.twigs.iter().map(|twig| {
            let above = twig.above.map_or(&self.top, |index| &self.twigs[index].mount);
            (twig.mount.clone(), VfsPath::new(above.clone(), twig.dentry.clone()))
        });
        std::iter::once((self.top.clone(), place.clone())).chain(twigs).collect()
    }
}
