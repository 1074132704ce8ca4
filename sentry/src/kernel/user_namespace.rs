//! User namespaces (`user_namespaces(7)`).
//!
//! Everything in the sentry keeps users and groups as ids of the first namespace, [`Uid`] and [`Gid`]; calls translate at
//! the edge. Maps are written once and read without a lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::kernel::id_map::{Extent, IdMap};
use crate::kernel::namespace::{self, NamespaceKind};
use crate::task::{Capabilities, Credentials, Gid, Uid};

/// What ids without an equivalent are shown as (`/proc/sys/kernel/overflowuid`).
pub const OVERFLOW_ID: u32 = 65534;
/// How deep namespaces nest (`user_namespaces(7)`: "a limit of 32").
const MAX_LEVEL: u32 = 32;
/// Linux's number of the first one.
const FIRST_NUMBER: u64 = 4_026_531_837;
/// How many namespaces of a kind a user may have in one, at first (half of `threads-max`).
const USUAL_MAXIMUM: u64 = 31_500;

/// A user namespace. The first one has no parent and maps each id to itself.
pub struct UserNamespace {
    number: u64,
    parent: Option<Parent>,
    level: u32,
    uid_map: OnceLock<IdMap>,
    gid_map: OnceLock<IdMap>,
    projid_map: OnceLock<IdMap>,
    may_set_groups: AtomicBool,
    /// Orders writes of the maps and of `setgroups`.
    writing: Mutex<()>,
    counts: Mutex<HashMap<(NamespaceKind, Uid), u64>>,
    maxima: [AtomicU64; NamespaceKind::ALL.len()],
}

/// What a namespace has from who made it.
struct Parent {
    namespace: Arc<UserNamespace>,
    owner: Uid,
    could_set_file_capabilities: bool,
    _count: NamespaceCount,
}

/// Which ids a map is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdKind {
    /// `uid_map`.
    User,
    /// `gid_map`.
    Group,
    /// `projid_map`.
    Project,
}

impl UserNamespace {
    /// The namespace that everything starts in. It holds no state that sandboxes could share but counts.
    #[must_use]
    pub fn initial() -> Arc<Self> {
        static INITIAL: LazyLock<Arc<UserNamespace>> =
            LazyLock::new(|| Arc::new(UserNamespace::with(FIRST_NUMBER, None, true)));
        INITIAL.clone()
    }

    fn with(number: u64, parent: Option<Parent>, may_set_groups: bool) -> Self {
        Self {
            number,
            level: parent.as_ref().map_or(0, |parent| parent.namespace.level + 1),
            parent,
            uid_map: OnceLock::new(),
            gid_map: OnceLock::new(),
            projid_map: OnceLock::new(),
            may_set_groups: AtomicBool::new(may_set_groups),
            writing: Mutex::new(()),
            counts: Mutex::default(),
            maxima: std::array::from_fn(|_| AtomicU64::new(USUAL_MAXIMUM)),
        }
    }

    /// A namespace below that of `maker`, and its credentials in it. The caller has checked that its root directory is
    /// that of its mounts.
    ///
    /// # Errors
    /// `ENOSPC` for one too deep or too many, `EPERM` where the maker's ids are not mapped.
    pub(crate) fn create(maker: &Credentials) -> Result<Credentials, Errno> {
        let above = &maker.user_ns;
        if above.level > MAX_LEVEL {
            return Err(Errno::ENOSPC);
        }
        let count = NamespaceCount::new(above, maker.euid, NamespaceKind::User)?;
        if above.uid_of(maker.euid).is_none() || above.gid_of(maker.egid).is_none() {
            return Err(Errno::EPERM);
        }
        let parent = Parent {
            namespace: above.clone(),
            owner: maker.euid,
            could_set_file_capabilities: maker.effective.contains(Capabilities::SETFCAP),
            _count: count,
        };
        let namespace = Self::with(namespace::new_number(), Some(parent), above.may_set_groups());
        Ok(maker.entered(Arc::new(namespace)))
    }

    /// Names it in `/proc/PID/ns/user`.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// True for the first one.
    #[must_use]
    pub fn is_initial(&self) -> bool {
        self.parent.is_none()
    }

    /// How many are above it.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.level
    }

    /// The one that it was made in.
    #[must_use]
    pub fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref().map(|parent| &parent.namespace)
    }

    /// Who made it.
    #[must_use]
    pub fn owner(&self) -> Uid {
        self.parent.as_ref().map_or(Uid::ROOT, |parent| parent.owner)
    }

    /// True for itself and what is below it.
    #[must_use]
    pub fn holds(&self, other: &Self) -> bool {
        let mut at = other;
        while at.level > self.level {
            let Some(parent) = at.parent() else { return false };
            at = parent;
        }
        at == self
    }

    /// The user that is `id` here (Linux's `make_kuid`).
    #[must_use]
    pub fn uid(&self, id: u32) -> Option<Uid> {
        self.down(IdKind::User, id).map(Uid)
    }

    /// The group that is `id` here.
    #[must_use]
    pub fn gid(&self, id: u32) -> Option<Gid> {
        self.down(IdKind::Group, id).map(Gid)
    }

    /// What `uid` is here, where it is anything (`from_kuid`).
    #[must_use]
    pub fn uid_of(&self, uid: Uid) -> Option<u32> {
        self.up(IdKind::User, uid.0)
    }

    /// What `gid` is here, where it is anything.
    #[must_use]
    pub fn gid_of(&self, gid: Gid) -> Option<u32> {
        self.up(IdKind::Group, gid.0)
    }

    /// What `uid` is shown as here: 65534 where it is nothing (`from_kuid_munged`).
    #[must_use]
    pub fn show_uid(&self, uid: Uid) -> u32 {
        self.uid_of(uid).unwrap_or(OVERFLOW_ID)
    }

    /// What `gid` is shown as here.
    #[must_use]
    pub fn show_gid(&self, gid: Gid) -> u32 {
        self.gid_of(gid).unwrap_or(OVERFLOW_ID)
    }

    /// Whether `setgroups(2)` may be used (`/proc/PID/setgroups`).
    pub(crate) fn may_set_groups(&self) -> bool {
        self.may_set_groups.load(Ordering::Acquire)
    }

    /// Whether groups can be set at all: allowed, and there is a map.
    pub(crate) fn has_settable_groups(&self) -> bool {
        self.may_set_groups() && (self.is_initial() || self.gid_map.get().is_some())
    }

    /// Whether its maker could give capabilities to files.
    pub(crate) fn maker_could_set_file_capabilities(&self) -> bool {
        self.parent.as_ref().is_none_or(|parent| parent.could_set_file_capabilities)
    }

    /// Writes `setgroups`.
    ///
    /// # Errors
    /// `EPERM` where it was denied before and shall be allowed, or shall be denied with a map of groups in use.
    pub(crate) fn set_may_set_groups(&self, may: bool) -> Result<(), Errno> {
        let _writing = self.writing.lock();
        let is_refused = if may {
            !self.may_set_groups()
        } else {
            self.may_set_groups() && (self.is_initial() || self.gid_map.get().is_some())
        };
        if is_refused {
            return Err(Errno::EPERM);
        }
        self.may_set_groups.store(may, Ordering::Release);
        Ok(())
    }

    /// Writes a map, once. `text` was written by `writer` through a file that was opened with `opener`: what takes a
    /// privilege takes it of both, so that neither does by the other what he may not.
    ///
    /// # Errors
    /// `EPERM` for a second time, or what the writer may not map; `EINVAL` for what is no map.
    pub(crate) fn write_map(
        &self,
        kind: IdKind,
        text: &[u8],
        opener: &Credentials,
        writer: &Credentials,
    ) -> Result<(), Errno> {
        let Some(parent) = self.parent() else { return Err(Errno::EPERM) };
        if *opener.user_ns != *self && opener.user_ns != *parent {
            return Err(Errno::EPERM);
        }
        let _writing = self.writing.lock();
        let slot = self.map(kind);
        if slot.get().is_some() {
            return Err(Errno::EPERM);
        }
        if kind != IdKind::Project && !opener.has_in(self, Capabilities::SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        let map = IdMap::parse(text).ok_or(Errno::EINVAL)?;
        if !self.may_map(kind, &map, opener, writer) {
            return Err(Errno::EPERM);
        }
        let global = map.with_lower(|id, count| parent.down_range(kind, id, count)).ok_or(Errno::EPERM)?;
        // Under the lock, and empty as seen above.
        let _ = slot.set(global);
        Ok(())
    }

    /// Whether nobody gets by the map what he could not have without (`new_idmap_permitted`).
    fn may_map(&self, kind: IdKind, map: &IdMap, opener: &Credentials, writer: &Credentials) -> bool {
        let Some(parent) = self.parent() else { return false };
        let capability = match kind {
            IdKind::User => Capabilities::SETUID,
            IdKind::Group => Capabilities::SETGID,
            // "Allow anyone to set a mapping that doesn't require privilege".
            IdKind::Project => return true,
        };
        // Who becomes root of the parent by the map could give files capabilities that count there.
        if kind == IdKind::User && map.extents().iter().any(|extent| extent.lower == 0) {
            let may = if *opener.user_ns == *self {
                self.maker_could_set_file_capabilities()
            } else {
                opener.has_in(parent, Capabilities::SETFCAP)
            };
            if !may {
                return false;
            }
        }
        if let [Extent { lower, count: 1, .. }] = map.extents()
            && self.owner() == opener.euid
        {
            let is_own = match kind {
                IdKind::User => parent.uid(*lower) == Some(opener.euid),
                _ => !self.may_set_groups() && parent.gid(*lower) == Some(opener.egid),
            };
            if is_own {
                return true;
            }
        }
        writer.has_in(parent, capability) && opener.has_in(parent, capability)
    }

    /// The lines of a map with the ids outside as `reader` sees them (`user_namespaces(7)`).
    pub(crate) fn show_map(&self, kind: IdKind, reader: &Self) -> Vec<Extent> {
        let whole = [Extent { first: 0, lower: 0, count: u32::MAX }];
        let extents = if self.is_initial() {
            &whole[..]
        } else {
            self.map(kind).get().map_or(&[][..], |map| map.extents())
        };
        // Who is inside sees the ids of the parent.
        let outside = self.parent().map_or(reader, |parent| if reader == self { parent } else { reader });
        let shown = |e: &Extent| Extent { lower: outside.up(kind, e.lower).unwrap_or(u32::MAX), ..*e };
        extents.iter().map(shown).collect()
    }

    /// Most namespaces of a kind that one user may have below this one.
    pub(crate) fn maximum(&self, kind: NamespaceKind) -> &AtomicU64 {
        &self.maxima[kind as usize]
    }

    fn map(&self, kind: IdKind) -> &OnceLock<IdMap> {
        match kind {
            IdKind::User => &self.uid_map,
            IdKind::Group => &self.gid_map,
            IdKind::Project => &self.projid_map,
        }
    }

    fn down(&self, kind: IdKind, id: u32) -> Option<u32> {
        self.down_range(kind, id, 1)
    }

    fn down_range(&self, kind: IdKind, id: u32, count: u32) -> Option<u32> {
        if self.is_initial() {
            // The last id means "none".
            return id.checked_add(count).map(|_| id);
        }
        self.map(kind).get()?.down(id, count)
    }

    fn up(&self, kind: IdKind, id: u32) -> Option<u32> {
        if self.is_initial() {
            return Some(id);
        }
        self.map(kind).get()?.up(id)
    }
}

impl PartialEq for UserNamespace {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for UserNamespace {}

impl std::fmt::Debug for UserNamespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserNamespace({})", self.number)
    }
}

/// A namespace that counts against the limits of its maker, and of the makers of the user namespaces it is in
/// (`namespaces(7)`, "The /proc/sys/user directory"), while it exists.
pub(crate) struct NamespaceCount {
    user_ns: Arc<UserNamespace>,
    uid: Uid,
    kind: NamespaceKind,
}

impl NamespaceCount {
    /// # Errors
    /// `ENOSPC` where there are too many.
    pub(crate) fn new(user_ns: &Arc<UserNamespace>, uid: Uid, kind: NamespaceKind) -> Result<Self, Errno> {
        let mut at = Some((&**user_ns, uid));
        while let Some((ns, user)) = at {
            let mut counts = ns.counts.lock();
            let count = counts.entry((kind, user)).or_default();
            if *count >= ns.maximum(kind).load(Ordering::Relaxed) {
                drop(counts);
                discount(user_ns, uid, kind, Some(ns));
                return Err(Errno::ENOSPC);
            }
            *count += 1;
            drop(counts);
            at = ns.parent.as_ref().map(|parent| (&*parent.namespace, parent.owner));
        }
        Ok(Self { user_ns: user_ns.clone(), uid, kind })
    }
}

/// Takes one off each count from `from` up to, without, `until`.
fn discount(from: &UserNamespace, uid: Uid, kind: NamespaceKind, until: Option<&UserNamespace>) {
    let mut at = Some((from, uid));
    while let Some((ns, uid)) = at.filter(|(ns, _)| until.is_none_or(|until| *ns != until)) {
        let mut counts = ns.counts.lock();
        if let Some(count) = counts.get_mut(&(kind, uid)) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&(kind, uid));
            }
        }
        drop(counts);
        at = ns.parent.as_ref().map(|parent| (&*parent.namespace, parent.owner));
    }
}

impl Drop for NamespaceCount {
    fn drop(&mut self) {
        discount(&self.user_ns, self.uid, self.kind, None);
    }
}
