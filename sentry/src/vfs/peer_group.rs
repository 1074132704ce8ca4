//! Peer groups: which mounts hear of each other's mounts (`mount_namespaces(7)`, "Shared subtrees").
//!
//! Plain data under one lock of all mount namespaces of a sandbox. A mount without an entry is private. All mounts of a group
//! have the same master, since only a new peer's state is copied and only leaving a group changes it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};

use crate::vfs::{Mount, MountId};

/// The propagation types of `mount(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// `MS_SHARED`: mounts and unmounts go to and come from the peers.
    Shared,
    /// `MS_SLAVE`: they come from the master group.
    Slave,
    /// `MS_PRIVATE`: neither.
    Private,
    /// `MS_UNBINDABLE`: neither, and it cannot be bound.
    Unbindable,
}

/// Names a group in `/proc/PID/mountinfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u64);

/// How a copy of a mount hears of changes (`clone_mnt` of Linux).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    /// As the original: a peer of what is shared, a slave of the same master.
    Same,
    /// The same, but a slave of what is shared.
    Lesser,
    /// As a slave of the original's group.
    Slave,
}

/// What `mountinfo` shows of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shown {
    /// Its group.
    pub group: Option<GroupId>,
    /// The group that it is a slave of.
    pub master: Option<GroupId>,
    /// It cannot be bound.
    pub is_unbindable: bool,
}

/// A mount that gets what happens at another one.
pub(crate) struct Receiver {
    pub mount: Arc<Mount>,
    pub group: Option<GroupId>,
    pub master: Option<GroupId>,
}

/// All groups of a sandbox.
#[derive(Default)]
pub(crate) struct PeerGroups {
    members: HashMap<MountId, Member>,
    groups: BTreeMap<GroupId, Group>,
}

struct Member {
    mount: Weak<Mount>,
    state: Shown,
}

#[derive(Default)]
struct Group {
    peers: Vec<MountId>,
    /// The slaves, whether shared among themselves or not.
    slaves: Vec<MountId>,
}

impl PeerGroups {
    /// How a mount takes part.
    pub(crate) fn state(&self, mount: MountId) -> Shown {
        self.members.get(&mount).map_or_else(Shown::default, |member| member.state)
    }

    /// True where other mounts may hear of what happens at this one.
    pub(crate) fn is_shared(&self, mount: MountId) -> bool {
        self.state(mount).group.is_some()
    }

    /// Sets the propagation type of a mount.
    pub(crate) fn change(&mut self, mount: &Arc<Mount>, to: Propagation) {
        match to {
            Propagation::Shared => self.share(mount),
            Propagation::Slave => self.leave_group(mount.id()),
            Propagation::Private => self.forget(mount.id()),
            Propagation::Unbindable => {
                self.forget(mount.id());
                let state = Shown { is_unbindable: true, ..Shown::default() };
                self.members.insert(mount.id(), Member { mount: Arc::downgrade(mount), state });
            }
        }
    }

    /// Puts a mount that is in no group into a new one.
    pub(crate) fn share(&mut self, mount: &Arc<Mount>) {
        if self.is_shared(mount.id()) {
            return;
        }
        let group = self.new_group();
        let state = Shown { group: Some(group), master: self.state(mount.id()).master, is_unbindable: false };
        self.groups.entry(group).or_default().peers.push(mount.id());
        self.members.insert(mount.id(), Member { mount: Arc::downgrade(mount), state });
    }

    /// The smallest number that no group has, as Linux's allocator gives them out.
    fn new_group(&self) -> GroupId {
        let mut free = 1;
        for GroupId(taken) in self.groups.keys() {
            if *taken != free {
                break;
            }
            free += 1;
        }
        GroupId(free)
    }

    /// A mount is no peer any more, but a slave of those who were; where there are none, its master and its slaves have each
    /// other (`do_make_slave`).
    fn leave_group(&mut self, mount: MountId) {
        let Some(member) = self.members.get_mut(&mount) else { return };
        let Some(left) = member.state.group.take() else { return };
        let old_master = member.state.master;
        let Some(group) = self.groups.get_mut(&left) else { return };
        group.peers.retain(|peer| *peer != mount);
        if !group.peers.is_empty() {
            group.slaves.push(mount);
            self.set_master(mount, Some(left));
            if let Some(old) = old_master.and_then(|old| self.groups.get_mut(&old)) {
                old.slaves.retain(|slave| *slave != mount);
            }
        } else if let Some(gone) = self.groups.remove(&left) {
            for slave in &gone.slaves {
                self.set_master(*slave, old_master);
            }
            if let Some(master) = old_master.and_then(|old| self.groups.get_mut(&old)) {
                master.slaves.extend(gone.slaves);
            }
        }
    }

    fn set_master(&mut self, slave: MountId, master: Option<GroupId>) {
        if let Some(member) = self.members.get_mut(&slave) {
            member.state.master = master;
        }
    }

    /// Makes a mount private; also when it is taken from its place.
    pub(crate) fn forget(&mut self, mount: MountId) {
        self.leave_group(mount);
        let Some(gone) = self.members.remove(&mount) else { return };
        if let Some(master) = gone.state.master.and_then(|master| self.groups.get_mut(&master)) {
            master.slaves.retain(|slave| *slave != mount);
        }
    }

    /// Gives `copy`, which is private, its place beside `original`.
    pub(crate) fn copy(&mut self, original: &Mount, copy: &Arc<Mount>, relation: Relation) {
        let state = self.state(original.id());
        let becomes_slave =
            relation == Relation::Slave || (relation == Relation::Lesser && state.group.is_some());
        let new = if becomes_slave {
            Shown { group: None, master: state.group, is_unbindable: false }
        } else {
            state
        };
        if new == Shown::default() {
            return;
        }
        if let Some(group) = new.group.and_then(|group| self.groups.get_mut(&group)) {
            group.peers.push(copy.id());
        }
        if let Some(master) = new.master.and_then(|master| self.groups.get_mut(&master)) {
            master.slaves.push(copy.id());
        }
        self.members.insert(copy.id(), Member { mount: Arc::downgrade(copy), state: new });
    }

    /// Who gets what happens at `mount`, masters before their slaves; it is among them. Empty where it is not shared.
    pub(crate) fn receivers(&self, mount: MountId) -> Vec<Receiver> {
        let mut found = Vec::new();
        let mut next: VecDeque<GroupId> = self.state(mount).group.into_iter().collect();
        let mut seen: HashSet<GroupId> = next.iter().copied().collect();
        while let Some(group) = next.pop_front().and_then(|id| self.groups.get(&id)) {
            found.extend(group.peers.iter().filter_map(|peer| self.receiver(*peer)));
            for slave in &group.slaves {
                match self.state(*slave).group {
                    Some(group) if seen.insert(group) => next.push_back(group),
                    Some(_) => {}
                    None => found.extend(self.receiver(*slave)),
                }
            }
        }
        found
    }

    fn receiver(&self, mount: MountId) -> Option<Receiver> {
        let member = self.members.get(&mount)?;
        let Shown { group, master, is_unbindable: _ } = member.state;
        Some(Receiver { mount: member.mount.upgrade()?, group, master })
    }

    /// The group that `group` is a slave of.
    pub(crate) fn master_of(&self, group: GroupId) -> Option<GroupId> {
        let peer = self.groups.get(&group)?.peers.first()?;
        self.state(*peer).master
    }

    /// The groups above `mount`, the nearest first, with their mounts.
    pub(crate) fn masters(&self, mount: MountId) -> Vec<(GroupId, Vec<Arc<Mount>>)> {
        let mut found = Vec::new();
        let mut next = self.state(mount).master;
        while let Some(id) = next
            && let Some(group) = self.groups.get(&id)
        {
            let peers = group.peers.iter();
            found.push((id, peers.filter_map(|peer| self.members.get(peer)?.mount.upgrade()).collect()));
            next = self.master_of(id);
        }
        found
    }
}

impl std::fmt::Debug for PeerGroups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerGroups").field("groups", &self.groups.len()).finish_non_exhaustive()
    }
}
