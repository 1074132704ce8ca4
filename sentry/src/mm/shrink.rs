//! Mapped files that shrink: their lost pages are taken away (`SIGBUS`, mmap(2)).

use std::ops::Range;
use std::sync::Arc;

use crate::mm::MemoryManager;
use crate::mm::vma::VmaSource;
use crate::vfs::{Mappable, MappingOwner};

impl MappingOwner for MemoryManager {
    fn forget_pages(&self, id: usize, from: u64) {
        let mut layout = self.layout.write();
        let mut lost: Vec<Range<u64>> = Vec::new();
        for (range, vma) in layout.vmas.iter() {
            let VmaSource::Mapped { mappable, offset, .. } = &vma.source else { continue };
            let start = range.start.saturating_add(from.saturating_sub(*offset));
            if start < range.end && mappable.shrinking_id() == Some(id) {
                lost.push(start..range.end);
            }
        }
        for range in lost {
            // The host refuses only when the guest is gone.
            let _ = self.drop_pages(&mut layout, range);
        }
        // A fault that asked the file before it shrank has to ask again.
        layout.touch();
    }
}

impl MemoryManager {
    /// Asks all mapped files to tell of shrinking: the copy of a fork has them without having mapped them.
    pub(super) fn watch_mapped_files(&self) {
        let mapped: Vec<Arc<dyn Mappable>> = {
            let layout = self.layout.read();
            let sources = layout.vmas.iter().filter_map(|(_, vma)| match &vma.source {
                VmaSource::Mapped { mappable, .. } if mappable.shrinking_id().is_some() => {
                    Some(mappable.clone())
                }
                _ => None,
            });
            sources.collect()
        };
        for mappable in mapped {
            self.watch(&*mappable);
        }
    }
}
