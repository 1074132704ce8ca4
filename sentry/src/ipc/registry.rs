//! Finding objects by key and by id.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sentry_abi::sysv_ipc::{IPC_CREAT, IPC_EXCL, IPC_PRIVATE};

use crate::errno::Errno;
use crate::ipc::{Access, Permission};
use crate::kernel::UserNamespace;
use crate::task::Credentials;

/// Bits of an id that say where the object is; the others tell those apart that were there one after another.
const INDEX_BITS: u32 = 15;

/// Places that are gone through before the first one is used again.
const MIN_CYCLE: usize = 64;

/// What `shmget(2)` and its kin return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IpcId(pub(crate) i32);

impl IpcId {
    fn new(index: u16, sequence: u16) -> Self {
        // 16 + 15 bits: never negative.
        Self((u32::from(sequence) << INDEX_BITS | u32::from(index)).cast_signed())
    }

    fn index(self) -> u16 {
        // Masked to 15 bits.
        (self.0 & ((1 << INDEX_BITS) - 1)) as u16
    }

    /// How often the place of this object was given away before, cut to 16 bits.
    pub(crate) fn sequence(self) -> u16 {
        // A positive i32 has 16 bits above the index.
        (self.0.cast_unsigned() >> INDEX_BITS) as u16
    }
}

/// What a registry needs to know about its objects.
pub(crate) trait IpcObject: Send + Sync {
    /// Who may use it, now.
    fn permission(&self) -> Permission;
}

/// How an object is asked for (`shmget(2)`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) key: i32,
    /// `IPC_CREAT`, `IPC_EXCL` and a mode.
    pub(crate) flags: i32,
    pub(crate) creds: &'a Credentials,
    /// The user namespace that the objects belong to.
    pub(crate) owner: &'a UserNamespace,
    /// How many objects there may be.
    pub(crate) limit: usize,
}

/// The objects of one kind.
#[derive(Debug)]
pub(crate) struct Registry<T> {
    slots: Mutex<Slots<T>>,
}

#[derive(Debug)]
struct Slots<T> {
    objects: BTreeMap<u16, (IpcId, Arc<T>)>,
    keys: BTreeMap<i32, u16>,
    last: Option<u16>,
    sequence: u16,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        let slots = Slots { objects: BTreeMap::new(), keys: BTreeMap::new(), last: None, sequence: 0 };
        Self { slots: Mutex::new(slots) }
    }
}

impl<T: IpcObject> Registry<T> {
    /// Finds the object of a key or makes one. `check` judges an object that exists; `make` gets the objects that do.
    ///
    /// # Errors
    /// `EEXIST`, `ENOENT`, `EACCES`, `ENOSPC`, and those of `check` and `make`.
    pub(crate) fn get(
        &self,
        request: &Request<'_>,
        check: impl FnOnce(&T) -> Result<(), Errno>,
        make: impl FnOnce(&mut dyn Iterator<Item = &T>, IpcId, Permission) -> Result<Arc<T>, Errno>,
    ) -> Result<IpcId, Errno> {
        let Request { key, flags, creds, owner, limit } = *request;
        let mut slots = self.slots.lock();
        let known = if key == IPC_PRIVATE { None } else { slots.keys.get(&key) };
        if let Some((id, object)) = known.and_then(|index| slots.objects.get(index)) {
            if flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL {
                return Err(Errno::EEXIST);
            }
            check(object)?;
            object.permission().check(Access(flags.cast_unsigned() & 0o777), creds, owner)?;
            return Ok(*id);
        }
        if key != IPC_PRIVATE && flags & IPC_CREAT == 0 {
            return Err(Errno::ENOENT);
        }
        if slots.objects.len() >= limit {
            return Err(Errno::ENOSPC);
        }
        let index = slots.vacant_index().ok_or(Errno::ENOSPC)?;
        let sequence = slots.sequence.wrapping_add(u16::from(slots.last.is_some_and(|last| index <= last)));
        let id = IpcId::new(index, sequence);
        let others = &mut slots.objects.values().map(|(_, object)| &**object);
        let object = make(others, id, Permission::new(key, flags, creds))?;
        slots.sequence = sequence;
        slots.last = Some(index);
        slots.objects.insert(index, (id, object));
        if key != IPC_PRIVATE {
            slots.keys.insert(key, index);
        }
        Ok(id)
    }

    /// # Errors
    /// `EINVAL` where there is none.
    pub(crate) fn by_id(&self, id: IpcId) -> Result<Arc<T>, Errno> {
        if id.0 < 0 {
            return Err(Errno::EINVAL);
        }
        let slots = self.slots.lock();
        match slots.objects.get(&id.index()) {
            Some((found, object)) if *found == id => Ok(object.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The object at a place, as `SHM_STAT` counts them.
    ///
    /// # Errors
    /// `EINVAL`.
    pub(crate) fn by_index(&self, index: i32) -> Result<(IpcId, Arc<T>), Errno> {
        let index = u16::try_from(index).map_err(|_| Errno::EINVAL)?;
        self.slots.lock().objects.get(&index).cloned().ok_or(Errno::EINVAL)
    }

    /// Forgets an object; its key names nothing any more.
    pub(crate) fn remove(&self, id: IpcId) {
        let mut slots = self.slots.lock();
        let index = id.index();
        if slots.objects.get(&index).is_some_and(|(found, _)| *found == id) {
            slots.objects.remove(&index);
            slots.keys.retain(|_, at| *at != index);
        }
    }

    /// Makes an object's key free; its id stays.
    pub(crate) fn forget_key(&self, id: IpcId) {
        let index = id.index();
        self.slots.lock().keys.retain(|_, at| *at != index);
    }

    /// All objects by place.
    pub(crate) fn all(&self) -> Vec<(IpcId, Arc<T>)> {
        self.slots.lock().objects.values().cloned().collect()
    }

    /// The highest place in use, 0 where none is.
    pub(crate) fn highest_index(&self) -> i32 {
        self.slots.lock().objects.keys().next_back().map_or(0, |index| i32::from(*index))
    }
}

impl<T> Slots<T> {
    /// The next place that is free. Places are given out in turn, out of not many more than are in use, as Linux does:
    /// an id that was freed comes back late, and the places stay few.
    fn vacant_index(&self) -> Option<u16> {
        let end = (self.objects.len() * 3 / 2).clamp(MIN_CYCLE, 1 << INDEX_BITS);
        let end = u16::try_from(end).unwrap_or(1 << INDEX_BITS);
        let next = self.last.map_or(0, |last| last + 1);
        let mut places = (next.min(end)..end).chain(0..next.min(end));
        places.find(|place| !self.objects.contains_key(place))
    }
}
