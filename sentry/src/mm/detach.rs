//! Unmapping an object as a whole (`shmdt(2)`).

use std::any::Any;
use std::sync::Arc;

use crate::mm::MemoryManager;
use crate::mm::vma::VmaSource;
use crate::vfs::Mappable;

impl MemoryManager {
    /// Unmaps all areas of the object of type `T` whose first byte is, or would be, at `addr`, and returns it. Parts may
    /// have been unmapped or moved away before.
    pub fn detach<T: Mappable>(&self, addr: u64) -> Option<Arc<T>> {
        let mut layout = self.layout.write();
        let mut found: Option<Arc<T>> = None;
        let mut ranges = Vec::new();
        for (range, vma) in layout.vmas.overlapping(addr..self.range.end) {
            let VmaSource::Mapped { mappable, offset, .. } = &vma.source else { continue };
            if range.start.checked_sub(addr) != Some(*offset) {
                continue;
            }
            let object: Arc<dyn Any + Send + Sync> = mappable.clone();
            let Ok(object) = object.downcast::<T>() else { continue };
            // Areas are in order of address: the first one says which object it is.
            if Arc::ptr_eq(found.get_or_insert_with(|| object.clone()), &object) {
                ranges.push(range);
            }
        }
        for range in ranges {
            // What cannot be unmapped on the host stays as it is.
            let _ = self.unmap_locked(&mut layout, range);
        }
        found
    }
}
