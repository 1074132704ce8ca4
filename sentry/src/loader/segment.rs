//! Mapping the segments of an ELF file.

use std::sync::Arc;

use sentry_abi::elf::{PF_R, PF_W, PF_X, Phdr};

use crate::errno::Errno;
use crate::loader::{Elf, ElfKind};
use crate::mm::{MapFile, MapRequest, MemoryManager, PAGE_SIZE, Placement, Prot, UserAddr, VmaFlags};
use crate::vfs::{File, Mappable};

/// Where an ELF file was mapped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mapped {
    /// Added to each address of the file.
    pub(crate) bias: u64,
    /// The first address behind it.
    pub(crate) end: u64,
}

/// Maps all segments of `elf`. Relocatable ones go to `hint`, or anywhere.
///
/// # Errors
/// `ENOEXEC` where the addresses cannot be used, `ENOMEM`, what mapping the file gives.
pub(crate) fn map(mm: &MemoryManager, file: &Arc<File>, elf: &Elf, hint: u64) -> Result<Mapped, Errno> {
    let span = elf.span();
    let len = span.end - span.start;
    let start = match elf.kind {
        ElfKind::Fixed => {
            // The range is only checked here: the segments below replace it.
            mm.map(&MapRequest::anonymous(Placement::FixedNoReplace(span.start), len, Prot::empty()))?
        }
        ElfKind::Relocatable => mm.map(&MapRequest::anonymous(Placement::Hint(hint), len, Prot::empty()))?,
    };
    let bias = start.wrapping_sub(span.start);
    let mappable =
        file.ops().mappable(file).map_err(|e| if e == Errno::ENODEV { Errno::ENOEXEC } else { e })?;
    for segment in &elf.segments {
        map_segment(mm, file, &mappable, segment, bias)?;
    }
    Ok(Mapped { bias, end: span.end.wrapping_add(bias) })
}

fn prot_of(segment: &Phdr) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, segment.flags & PF_R != 0);
    prot.set(Prot::WRITE, segment.flags & PF_W != 0);
    prot.set(Prot::EXEC, segment.flags & PF_X != 0);
    prot
}

fn map_segment(
    mm: &MemoryManager,
    file: &Arc<File>,
    mappable: &Arc<dyn Mappable>,
    segment: &Phdr,
    bias: u64,
) -> Result<(), Errno> {
    // The sums were checked when the headers were read, and the whole span fits at the bias.
    let start = segment.vaddr.wrapping_add(bias);
    let page = start & !(PAGE_SIZE - 1);
    let file_end = start + segment.filesz;
    let memory_end = (start + segment.memsz).next_multiple_of(PAGE_SIZE);
    let prot = prot_of(segment);
    let mut zero_from = page;
    if segment.filesz > 0 {
        let len = (file_end - page).next_multiple_of(PAGE_SIZE);
        let offset = segment.offset & !(PAGE_SIZE - 1);
        mm.map(&MapRequest {
            placement: Placement::Fixed(page),
            len,
            prot,
            max_prot: Prot::all(),
            flags: VmaFlags::empty(),
            source: Some(MapFile {
                mappable: mappable.clone(),
                offset,
                file: Some(file.clone()),
                name: "".into(),
            }),
        })?;
        zero_from = page + len;
        // The rest of the last page of the file is not part of the segment. Linux clears it only where it can be
        // written, too.
        if segment.memsz > segment.filesz && prot.contains(Prot::WRITE) && file_end < zero_from {
            mm.zero_some(UserAddr(file_end), zero_from - file_end)?;
        }
    }
    if zero_from < memory_end {
        let len = memory_end - zero_from;
        mm.map(&MapRequest::anonymous(Placement::Fixed(zero_from), len, prot))?;
    }
    Ok(())
}
