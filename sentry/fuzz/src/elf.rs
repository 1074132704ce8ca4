//! The headers of programs.

use sentry::errno::Errno;
use sentry::loader::Elf;

/// Reads a program's headers; `data` is the whole file.
pub fn elf(data: &[u8]) {
    let head = &data[..data.len().min(HEAD_LEN)];
    let read = |offset: u64, out: &mut [u8]| {
        let start = usize::try_from(offset).map_err(|_| Errno::EINVAL)?;
        let end = start.checked_add(out.len()).ok_or(Errno::EINVAL)?;
        out.copy_from_slice(data.get(start..end).ok_or(Errno::ENOEXEC)?);
        Ok(())
    };
    let Ok(elf) = Elf::parse(head, read) else { return };
    let span = elf.span();
    assert!(span.start < span.end && span.end <= 1 << 47, "{span:x?}");
    let mut last = 0;
    for segment in &elf.segments {
        let (start, end) = (segment.vaddr, segment.vaddr + segment.memsz);
        assert!(last <= start && span.start <= start && end <= span.end, "{elf:?}");
        assert!(segment.filesz <= segment.memsz, "{elf:?}");
        last = end;
    }
    if let Some(interpreter) = &elf.interpreter {
        assert!(!interpreter.contains(&0) && interpreter.len() < 4096, "{elf:?}");
    }
}

/// How much of a file the loader has read when it looks at its kind (`BINPRM_BUF_SIZE`).
const HEAD_LEN: usize = 256;
