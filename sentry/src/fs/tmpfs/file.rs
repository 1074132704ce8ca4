//! Regular files in memory: contents, and open ones.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use crate::errno::Errno;
use crate::fs::tmpfs::memfd::Seals;
use crate::fs::tmpfs::pages::{Bytes, Pages, Piece};
use crate::fs::tmpfs::{TmpfsInode, TmpfsShared};
use crate::io::{self, Direct, IoDst, IoSrc};
use crate::mm::PAGE_SIZE;
use crate::vfs::{
    Allocate, Backing, File, FileOps, Inode, Mappable, MappedRange, MappingOwner, OpenFlags, Seek,
};

/// The contents of a regular file.
pub(super) struct RegularFile {
    state: RwLock<State>,
    /// How many mappings may show the pages to guests. While there are any, pages stay where they are.
    mapped: AtomicUsize,
    /// Address spaces to tell when the file shrinks.
    owners: Mutex<Vec<Weak<dyn MappingOwner>>>,
}

struct State {
    pages: Pages,
    size: u64,
    seals: Seals,
}

/// The largest file (Linux's `MAX_LFS_FILESIZE` on x86-64).
const MAX_SIZE: u64 = i64::MAX as u64;
/// What is not in the memory file is copied through a buffer of this size, so that no lock is held over a fault.
const BOUNCE: usize = 64 * 1024;

impl RegularFile {
    pub(super) fn new(shared: Arc<TmpfsShared>) -> Arc<Self> {
        let state = State { pages: Pages::new(shared), size: 0, seals: Seals::SEAL };
        Arc::new(Self { state: RwLock::new(state), mapped: AtomicUsize::new(0), owners: Mutex::default() })
    }

    /// Size in bytes and stored pages.
    pub(super) fn usage(&self) -> (u64, u64) {
        let state = self.state.read();
        (state.size, state.pages.count())
    }

    pub(super) fn seals(&self) -> Seals {
        self.state.read().seals
    }

    /// Replaces the seals by what `change` makes of them, atomically.
    pub(super) fn update_seals<E>(
        &self,
        change: impl FnOnce(Seals, bool) -> Result<Seals, E>,
    ) -> Result<(), E> {
        let mut state = self.state.write();
        let is_mapped = self.mapped.load(Ordering::Relaxed) > 0;
        state.seals = change(state.seals, is_mapped)?;
        Ok(())
    }

    /// Sets the size; true when it changed.
    pub(super) fn truncate(&self, size: u64) -> Result<bool, Errno> {
        if size > MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        let mut state = self.state.write();
        let old = state.size;
        if (size < old && state.seals.contains(Seals::SHRINK))
            || (size > old && state.seals.contains(Seals::GROW))
        {
            return Err(Errno::EPERM);
        }
        if size < old {
            self.clear(&mut state, size, old);
        }
        state.size = size;
        drop(state);
        if size < old {
            self.tell_owners(size.next_multiple_of(PAGE_SIZE));
        }
        Ok(size != old)
    }

    /// Takes the pages from `from` on away from everyone who mapped them (`SIGBUS` from now on). Pages stay allocated
    /// while there are mappings, so that a guest that is told late sees zeros and nobody else's data.
    fn tell_owners(&self, from: u64) {
        let owners = self.owners.lock().clone();
        for owner in owners.iter().filter_map(Weak::upgrade) {
            owner.forget_pages(self.id(), from);
        }
    }

    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Makes `[from, to)` read as zeros, freeing whole pages unless they may be mapped.
    fn clear(&self, state: &mut State, from: u64, to: u64) {
        if self.mapped.load(Ordering::SeqCst) > 0 {
            state.pages.zero(from, to - from);
            return;
        }
        let first_whole = from.div_ceil(PAGE_SIZE);
        // Up to the end of the file the last page counts as whole.
        let last_whole =
            if to >= state.size { to.div_ceil(PAGE_SIZE).max(first_whole) } else { to / PAGE_SIZE };
        if first_whole > last_whole {
            state.pages.zero(from, to - from);
            return;
        }
        state.pages.zero(from, first_whole * PAGE_SIZE - from);
        if last_whole * PAGE_SIZE < to {
            state.pages.zero(last_whole * PAGE_SIZE, to - last_whole * PAGE_SIZE);
        }
        // Extents may reach beyond the size: at the end of the file everything goes.
        let end = if to >= state.size { u64::MAX / PAGE_SIZE } else { last_whole };
        state.pages.remove(first_whole, end);
    }

    fn read(&self, dst: &mut dyn IoDst, pos: &mut u64) -> Result<usize, Errno> {
        let start = *pos;
        // What lies behind the end needs no memory, not even good one.
        let left = self.state.read().size.saturating_sub(start);
        // The lock of an address space comes before that of a file: faults on mappings take them in this order.
        let direct = io::move_directly(
            dst.remaining().min(usize::try_from(left).unwrap_or(usize::MAX)),
            |len, fill| dst.put_direct(len, fill),
            |done, memory, pieces| {
                io::move_each(pieces, |by, to| {
                    let (state, from) = (self.state.read(), start + (done + by) as u64);
                    let n = state.size.saturating_sub(from).min(to.len);
                    state.pages.read_to(memory, to.offset, from, n)
                })
            },
        )?;
        let (Direct::Moved(mut done) | Direct::NeedsBuffer(mut done)) = direct;
        *pos += done as u64;
        if let Direct::NeedsBuffer(_) = direct {
            match self.read_through_buffer(dst, pos) {
                Ok(n) => done += n,
                Err(_) if done > 0 => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// As `read`, for what is no memory of the sandbox: a mapped host file, a buffer of the sentry.
    fn read_through_buffer(&self, dst: &mut dyn IoDst, pos: &mut u64) -> Result<usize, Errno> {
        let mut bounce = Vec::new();
        let mut done = 0;
        while dst.remaining() > 0 {
            {
                let state = self.state.read();
                let left = state.size.saturating_sub(*pos);
                let want = BOUNCE.min(dst.remaining()).min(usize::try_from(left).unwrap_or(usize::MAX));
                if want == 0 {
                    break;
                }
                bounce.resize(want, 0);
                state.pages.read(*pos, &mut bounce)?;
            }
            match dst.put(&bounce) {
                Ok(n) => {
                    *pos += n as u64;
                    done += n;
                    if n < bounce.len() {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write(&self, src: &mut dyn IoSrc, pos: &mut u64, appends: bool) -> Result<usize, Errno> {
        let direct = io::move_directly(
            src.remaining(),
            |len, drain| src.take_direct(len, drain),
            |_, memory, pieces| {
                io::move_each(pieces, |_, from| {
                    self.write_piece(Bytes::InMemory(memory, from.offset, from.len), pos, appends)
                })
            },
        )?;
        match direct {
            Direct::Moved(done) => Ok(done),
            Direct::NeedsBuffer(done) => match self.write_through_buffer(src, pos, appends) {
                Err(_) if done > 0 => Ok(done),
                result => result.map(|n| done + n),
            },
        }
    }

    /// As `write`, likewise.
    fn write_through_buffer(
        &self,
        src: &mut dyn IoSrc,
        pos: &mut u64,
        appends: bool,
    ) -> Result<usize, Errno> {
        let mut bounce = Vec::new();
        let mut done = 0;
        while src.remaining() > 0 {
            bounce.resize(BOUNCE.min(src.remaining()), 0);
            let n = match src.take(&mut bounce) {
                Ok(n) => n,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            };
            let whole = n == bounce.len();
            match self.write_piece(Bytes::Here(&bounce[..n]), pos, appends) {
                Ok(stored) => {
                    done += stored;
                    if stored < n {
                        src.untake(n - stored);
                        break;
                    }
                }
                Err(_) if done > 0 => {
                    src.untake(n);
                    break;
                }
                Err(e) => return Err(e),
            }
            if !whole {
                break;
            }
        }
        Ok(done)
    }

    fn write_piece(&self, data: Bytes<'_>, pos: &mut u64, appends: bool) -> Result<usize, Errno> {
        let mut state = self.state.write();
        if state.seals.intersects(Seals::WRITE | Seals::FUTURE_WRITE) {
            return Err(Errno::EPERM);
        }
        if appends {
            *pos = state.size;
        }
        let mut room = MAX_SIZE.saturating_sub(*pos);
        if room == 0 {
            return Err(Errno::EFBIG);
        }
        if state.seals.contains(Seals::GROW) {
            room = state.size.saturating_sub(*pos);
            if room == 0 {
                return Err(Errno::EPERM);
            }
        }
        let n = state.pages.write(*pos, data.first(room))?;
        *pos += n as u64;
        state.size = state.size.max(*pos);
        Ok(n)
    }

    fn allocate(&self, mode: Allocate, offset: u64, len: u64) -> Result<(), Errno> {
        let end = offset.checked_add(len).filter(|e| *e <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        let mut state = self.state.write();
        let grows = end > state.size && matches!(mode, Allocate::Extend | Allocate::Zero);
        if grows && state.seals.contains(Seals::GROW) {
            return Err(Errno::EPERM);
        }
        match mode {
            Allocate::PunchHole | Allocate::Zero | Allocate::ZeroKeepSize => {
                if state.seals.intersects(Seals::WRITE | Seals::FUTURE_WRITE) {
                    return Err(Errno::EPERM);
                }
                let stop = end.min(state.size);
                if offset < stop {
                    self.clear(&mut state, offset, stop);
                }
                if mode != Allocate::PunchHole {
                    state.pages.ensure(offset, len)?;
                }
            }
            Allocate::Extend | Allocate::KeepSize => state.pages.ensure(offset, len)?,
        }
        if grows {
            state.size = end;
        }
        Ok(())
    }

    fn seek(&self, pos: u64, to: Seek) -> Result<u64, Errno> {
        let state = self.state.read();
        let (base, by) = match to {
            Seek::Set(at) => (0, at),
            Seek::Current(by) => (pos, by),
            Seek::End(by) => (state.size, by),
            Seek::Data(at) | Seek::Hole(at) => {
                let at = u64::try_from(at).map_err(|_| Errno::ENXIO)?;
                return seek_sparse(&state, at, matches!(to, Seek::Data(_)));
            }
        };
        let base = i64::try_from(base).map_err(|_| Errno::EINVAL)?;
        base.checked_add(by).and_then(|n| u64::try_from(n).ok()).ok_or(Errno::EINVAL)
    }
}

fn seek_sparse(state: &State, mut at: u64, wants_data: bool) -> Result<u64, Errno> {
    if at >= state.size {
        return Err(Errno::ENXIO);
    }
    while at < state.size {
        match (state.pages.piece(at, state.size - at), wants_data) {
            (Piece::Data(..), true) | (Piece::Hole(_), false) => return Ok(at),
            (Piece::Data(_, n) | Piece::Hole(n), _) => at += n,
        }
    }
    if wants_data { Err(Errno::ENXIO) } else { Ok(state.size) }
}

/// An open regular file.
pub(super) struct TmpfsFile {
    inode: Arc<Inode>,
}

impl TmpfsFile {
    pub(super) fn new(inode: Arc<Inode>) -> Self {
        Self { inode }
    }

    fn node(&self) -> Result<&TmpfsInode, Errno> {
        self.inode.downcast().ok_or(Errno::EIO)
    }

    fn regular(&self) -> Result<&Arc<RegularFile>, Errno> {
        self.node()?.regular().ok_or(Errno::EIO)
    }
}

impl FileOps for TmpfsFile {
    fn read(&self, file: &File, dst: &mut dyn IoDst, pos: &mut u64) -> Result<usize, Errno> {
        let n = self.regular()?.read(dst, pos)?;
        if n > 0 && !file.flags().contains(OpenFlags::NOATIME) {
            self.node()?.touch_accessed();
        }
        Ok(n)
    }

    fn write(&self, file: &File, src: &mut dyn IoSrc, pos: &mut u64) -> Result<usize, Errno> {
        let appends = file.flags().contains(OpenFlags::APPEND);
        self.node()?.drop_caps();
        let n = self.regular()?.write(src, pos, appends)?;
        if n > 0 {
            self.node()?.touch_modified();
        }
        Ok(n)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, pos: u64, to: Seek) -> Result<u64, Errno> {
        self.regular()?.seek(pos, to)
    }

    fn mappable(&self, _: &File) -> Result<Arc<dyn Mappable>, Errno> {
        Ok(Arc::new(TmpfsMapping::new(self.regular()?.clone(), Some(self.inode.clone()))))
    }

    fn sync(&self, _: &File) -> Result<(), Errno> {
        Ok(())
    }

    fn truncate(&self, _: &File, size: u64) -> Result<(), Errno> {
        self.node()?.drop_caps();
        if self.regular()?.truncate(size)? {
            self.node()?.touch_modified();
        }
        Ok(())
    }

    fn allocate(&self, _: &File, mode: Allocate, offset: u64, len: u64) -> Result<(), Errno> {
        self.node()?.drop_caps();
        self.regular()?.allocate(mode, offset, len)?;
        self.node()?.touch_modified();
        Ok(())
    }
}

/// A regular file as guests map it.
struct TmpfsMapping {
    file: Arc<RegularFile>,
    /// Keeps the inode, and with it the pages, while the mapping lives.
    _inode: Option<Arc<Inode>>,
}

impl TmpfsMapping {
    fn new(file: Arc<RegularFile>, inode: Option<Arc<Inode>>) -> Self {
        file.mapped.fetch_add(1, Ordering::SeqCst);
        Self { file, _inode: inode }
    }
}

impl Drop for TmpfsMapping {
    fn drop(&mut self) {
        self.file.mapped.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Mappable for TmpfsMapping {
    fn translate(&self, offset: u64, len: u64, _write: bool) -> Result<MappedRange, Errno> {
        let mut state = self.file.state.write();
        let end = state.size.next_multiple_of(PAGE_SIZE);
        if offset >= end {
            return Err(Errno::ENXIO);
        }
        let len = len.min(end - offset);
        // Reads allocate too: a page that a guest sees must stay the page that later writes go to.
        let first = match state.pages.piece(offset, len) {
            Piece::Data(..) => len,
            Piece::Hole(n) => n.min(FAULT_AROUND),
        };
        state.pages.ensure(offset, first)?;
        match state.pages.piece(offset, len) {
            Piece::Data(at, n) => Ok(MappedRange { backing: Backing::Memory(at), len: n }),
            Piece::Hole(_) => Err(Errno::ENOMEM),
        }
    }

    fn size(&self) -> u64 {
        self.file.state.read().size
    }

    fn watch_shrinking(&self, owner: Weak<dyn MappingOwner>) {
        let mut owners = self.file.owners.lock();
        owners.retain(|o| o.strong_count() > 0);
        if !owners.iter().any(|o| Weak::ptr_eq(o, &owner)) {
            owners.push(owner);
        }
    }

    fn shrinking_id(&self) -> Option<usize> {
        Some(self.file.id())
    }
}

/// How much of a hole one fault fills.
const FAULT_AROUND: u64 = 16 * PAGE_SIZE;
