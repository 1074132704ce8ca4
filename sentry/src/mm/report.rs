//! What `/proc/PID` shows of an address space.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::mm::pma::PmaSource;
use crate::mm::vma::{VmaFlags, VmaSource};
use crate::mm::{MemoryManager, Prot, UserAddr};
use crate::vfs::File;

/// One line of `/proc/PID/maps` and its part of `smaps`.
#[derive(Debug, Clone)]
pub struct AreaReport {
    /// The addresses.
    pub range: Range<u64>,
    /// The protection.
    pub prot: Prot,
    /// `s` rather than `p`.
    pub is_shared: bool,
    /// The offset in the file.
    pub offset: u64,
    /// The mapped file.
    pub file: Option<Arc<File>>,
    /// `[heap]`, `[stack]`, `[vdso]` and the like; empty where there is none.
    pub name: Cow<'static, str>,
    /// Bytes that have pages.
    pub resident: u64,
    /// Bytes whose pages belong to this process alone.
    pub anonymous: u64,
    /// Bytes locked.
    pub locked: u64,
}

/// Sizes in bytes, for `/proc/PID/statm` and `status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// `VmSize`.
    pub size: u64,
    /// `VmRSS`.
    pub resident: u64,
    /// The part of `VmRSS` that is shared or of files.
    pub shared: u64,
    /// `VmData`.
    pub data: u64,
    /// `VmStk`.
    pub stack: u64,
    /// `VmExe` and `VmLib`.
    pub code: u64,
    /// `VmLck`.
    pub locked: u64,
}

impl MemoryManager {
    /// The areas in address order.
    #[must_use]
    pub fn areas(&self) -> Vec<AreaReport> {
        let layout = self.layout.read();
        let mut areas = Vec::with_capacity(layout.vmas.len());
        for (range, vma) in layout.vmas.iter() {
            let (mut resident, mut anonymous) = (0, 0);
            for (r, pma) in layout.pmas.overlapping(range.clone()) {
                let len = r.end.min(range.end) - r.start.max(range.start);
                resident += len;
                anonymous += if matches!(pma.source, PmaSource::Frames(_)) { len } else { 0 };
            }
            let (offset, file, mut name) = match &vma.source {
                VmaSource::Anonymous => (0, None, Cow::Borrowed("")),
                VmaSource::Mapped { offset, file, name, .. } => (*offset, file.clone(), name.clone()),
            };
            if vma.flags.contains(VmaFlags::HEAP) {
                name = Cow::Borrowed("[heap]");
            } else if vma.flags.contains(VmaFlags::STACK) {
                name = Cow::Borrowed("[stack]");
            }
            let locked = if vma.flags.contains(VmaFlags::LOCKED) { range.end - range.start } else { 0 };
            let (prot, is_shared) = (vma.prot, vma.is_shared());
            areas.push(AreaReport {
                range,
                prot,
                is_shared,
                offset,
                file,
                name,
                resident,
                anonymous,
                locked,
            });
        }
        areas
    }

    /// Sizes of the address space.
    #[must_use]
    pub fn usage(&self) -> MemoryUsage {
        let mut usage = MemoryUsage::default();
        for area in self.areas() {
            let len = area.range.end - area.range.start;
            usage.size += len;
            usage.resident += area.resident;
            usage.shared += area.resident - area.anonymous;
            usage.locked += area.locked;
            if area.name == "[stack]" {
                usage.stack += len;
            } else if area.prot.contains(Prot::EXEC) {
                usage.code += len;
            } else if area.prot.contains(Prot::WRITE) && !area.is_shared {
                usage.data += len;
            }
        }
        usage
    }

    /// Reads a range of guest memory for `/proc`, as far as it is readable.
    fn read_range(&self, range: &Range<u64>) -> Vec<u8> {
        let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
        let mut bytes = vec![0; len];
        let n = self.read_some(UserAddr(range.start), &mut bytes).unwrap_or(0);
        bytes.truncate(n);
        bytes
    }

    /// `/proc/PID/cmdline`: the arguments, each with its NUL.
    #[must_use]
    pub fn command_line(&self) -> Vec<u8> {
        let range = self.layout.read().process.args.clone();
        self.read_range(&range)
    }

    /// `/proc/PID/environ`: the environment, each entry with its NUL.
    #[must_use]
    pub fn environment(&self) -> Vec<u8> {
        let range = self.layout.read().process.env.clone();
        self.read_range(&range)
    }

    /// `/proc/PID/auxv`.
    #[must_use]
    pub fn auxv(&self) -> Vec<u8> {
        self.layout.read().process.auxv.clone()
    }

    /// Start and end of code, and the start of the stack, for `/proc/PID/stat`.
    #[must_use]
    pub fn code_and_stack(&self) -> (Range<u64>, u64) {
        let layout = self.layout.read();
        (layout.process.code.clone(), layout.process.stack_start)
    }
}
