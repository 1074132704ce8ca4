//! PID namespaces (`pid_namespaces(7)`).
//!
//! The sentry keeps threads, processes, groups and sessions by their ids in the first namespace, [`Tid`]. A namespace below
//! it has numbers of its own for those in it and in namespaces below; calls translate at the edge.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::kernel::{NamespaceBase, NamespaceKind};
use crate::task::{Capabilities, Credentials, Tid};

/// The highest number plus one, and where numbers start again after a wrap: as in the first namespace.
const PID_MAX: i32 = 32768;
const PID_WRAP: i32 = 300;
/// How deep namespaces nest (`MAX_PID_NS_LEVEL`).
const MAX_LEVEL: u32 = 32;

/// A PID namespace. The first one has no parent, and its numbers are the ids themselves.
#[derive(Debug)]
pub struct PidNamespace {
    pub(crate) base: NamespaceBase,
    parent: Option<Arc<Self>>,
    level: u32,
    numbers: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    last: i32,
    /// The process that was made first in it.
    init: Option<Tid>,
    /// Init has ended: nothing is made any more.
    is_closed: bool,
    ids: BTreeMap<i32, Tid>,
    numbers: HashMap<Tid, i32>,
}

impl Numbers {
    /// Gives `number` to `id`, whoever had it.
    fn give(&mut self, number: i32, id: Tid) {
        if let Some(old) = self.ids.insert(number, id) {
            self.numbers.remove(&old);
        }
        self.numbers.insert(id, number);
    }
}

impl PidNamespace {
    /// The namespace that everything starts in.
    #[must_use]
    pub fn initial() -> Arc<Self> {
        static INITIAL: LazyLock<Arc<PidNamespace>> = LazyLock::new(|| {
            let base = NamespaceBase::initial(NamespaceKind::Pid);
            Arc::new(PidNamespace { base, parent: None, level: 0, numbers: Mutex::default() })
        });
        INITIAL.clone()
    }

    /// A namespace below this one that `maker` makes.
    ///
    /// # Errors
    /// `ENOSPC` for one too deep or too many; `EINVAL` where this one is not the maker's to nest in.
    pub(crate) fn create(self: &Arc<Self>, maker: &Credentials) -> Result<Arc<Self>, Errno> {
        if !self.base.owner().holds(&maker.user_ns) {
            return Err(Errno::EINVAL);
        }
        if self.level >= MAX_LEVEL {
            return Err(Errno::ENOSPC);
        }
        let base = NamespaceBase::new(NamespaceKind::Pid, maker)?;
        let (parent, level) = (Some(self.clone()), self.level + 1);
        Ok(Arc::new(Self { base, parent, level, numbers: Mutex::default() }))
    }

    /// True for the first one.
    #[must_use]
    pub fn is_initial(&self) -> bool {
        self.parent.is_none()
    }

    /// The one that it was made in.
    #[must_use]
    pub fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    /// True for itself and what is below it.
    #[must_use]
    pub fn holds(&self, other: &Self) -> bool {
        let mut at = other;
        while at.level > self.level {
            let Some(parent) = at.parent() else { return false };
            at = parent;
        }
        std::ptr::eq(at, self)
    }

    /// The number of a thread, process, group or session; 0 where it is not in this namespace.
    #[must_use]
    pub fn number(&self, id: Tid) -> i32 {
        if self.is_initial() {
            return id.0;
        }
        self.numbers.lock().numbers.get(&id).copied().unwrap_or(0)
    }

    /// What has the number `number` here.
    #[must_use]
    pub fn id(&self, number: i32) -> Option<Tid> {
        if self.is_initial() {
            return Some(Tid(number));
        }
        self.numbers.lock().ids.get(&number).copied()
    }

    /// The numbers of `id` from this namespace's down to that of the one it was made in (`NSpid` of `proc_pid_status(5)`).
    #[must_use]
    pub fn numbers_down_to(&self, own: &Self, id: Tid) -> Vec<i32> {
        let mut all = Vec::new();
        let mut at = Some(own);
        while let Some(namespace) = at.filter(|at| at.level >= self.level) {
            all.push(namespace.number(id));
            at = namespace.parent().map(|parent| &**parent);
        }
        all.reverse();
        all
    }

    /// The process that was made first.
    #[must_use]
    pub fn init(&self) -> Option<Tid> {
        if self.is_initial() { Some(Tid(1)) } else { self.numbers.lock().init }
    }

    /// The last number that was given (`/proc/sys/kernel/ns_last_pid`); of the first namespace the tree knows it.
    #[must_use]
    pub fn last(&self) -> i32 {
        self.numbers.lock().last
    }

    /// Has the next number be the one behind `last`, if that is free.
    pub(crate) fn set_last(&self, last: i32) {
        self.numbers.lock().last = last;
    }

    /// Whether `creds` may choose numbers here, and set the last one (`checkpoint_restore_ns_capable`).
    pub(crate) fn lets_choose(&self, creds: &Credentials) -> bool {
        let owner = self.base.owner();
        creds.has_in(owner, Capabilities::CHECKPOINT_RESTORE) || creds.has_in(owner, Capabilities::SYS_ADMIN)
    }

    /// Checks the numbers that something new is to have, in this namespace first and then in those above (`alloc_pid`).
    ///
    /// # Errors
    /// `EINVAL` for what are no numbers, too many, or not 1 for the first process; `EPERM`; `EEXIST`.
    pub(crate) fn check_chosen(
        &self,
        chosen: &[i32],
        creds: &Credentials,
        is_used: &impl Fn(Tid) -> bool,
    ) -> Result<(), Errno> {
        if chosen.len() > self.level as usize + 1 {
            return Err(Errno::EINVAL);
        }
        let mut at = Some(self);
        for number in chosen {
            let namespace = at.ok_or(Errno::EINVAL)?;
            let has_init = namespace.init().is_some_and(is_used);
            if !(1..PID_MAX).contains(number) || *number != 1 && !has_init {
                return Err(Errno::EINVAL);
            }
            if !namespace.lets_choose(creds) {
                return Err(Errno::EPERM);
            }
            if namespace.id(*number).is_some_and(is_used) {
                return Err(Errno::EEXIST);
            }
            at = namespace.parent().map(|parent| &**parent);
        }
        Ok(())
    }

    /// How many namespaces it is in.
    pub(crate) fn level(&self) -> usize {
        self.level as usize
    }

    /// Admits nothing any more: init has ended.
    pub(crate) fn close(&self) {
        self.numbers.lock().is_closed = true;
    }

    /// Gives `id` a number in this namespace and in all above it: the ones of `chosen`, which were checked, as far as those go, and
    /// then the next. `is_used` says which ids are.
    ///
    /// # Errors
    /// `ENOMEM` once init has ended, `EAGAIN` without a free number.
    pub(crate) fn admit(&self, id: Tid, chosen: &[i32], is_used: &impl Fn(Tid) -> bool) -> Result<(), Errno> {
        let Some(parent) = self.parent() else { return Ok(()) };
        parent.admit(id, chosen.get(1..).unwrap_or_default(), is_used)?;
        let mut numbers = self.numbers.lock();
        if numbers.is_closed {
            return Err(Errno::ENOMEM);
        }
        if numbers.init.is_none_or(|init| !is_used(init)) {
            // The first, or the first after one that could not be started.
            numbers.last = 0;
            numbers.init = Some(id);
        }
        if let Some(number) = chosen.first() {
            numbers.give(*number, id);
            return Ok(());
        }
        for _ in 0..PID_MAX {
            numbers.last = if numbers.last + 1 >= PID_MAX { PID_WRAP } else { numbers.last + 1 };
            let number = numbers.last;
            match numbers.ids.get(&number).copied() {
                Some(old) if is_used(old) => {}
                _ => {
                    numbers.give(number, id);
                    return Ok(());
                }
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Forgets the numbers of an id that is about to be used again.
    pub(crate) fn forget(&self, id: Tid) {
        let Some(parent) = self.parent() else { return };
        parent.forget(id);
        let mut numbers = self.numbers.lock();
        if let Some(number) = numbers.numbers.remove(&id)
            && numbers.ids.get(&number) == Some(&id)
        {
            numbers.ids.remove(&number);
        }
    }
}

impl PartialEq for PidNamespace {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for PidNamespace {}
