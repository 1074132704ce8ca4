//! Reading ELF headers (`elf(5)`). Files are hostile: everything is checked before it is used.

use std::sync::Arc;

use sentry_abi::elf::{
    EM_X86_64, ET_DYN, ET_EXEC, Ehdr, PF_X, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_PHDR, Phdr,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::errno::Errno;
use crate::io::SliceDst;
use crate::mm::PAGE_SIZE;
use crate::vfs::File;

/// Whether a program has fixed addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElfKind {
    /// `ET_EXEC`.
    Fixed,
    /// `ET_DYN`.
    Relocatable,
}

/// The parts of an ELF file that loading needs.
#[derive(Debug, Clone)]
pub struct Elf {
    /// Whether addresses are fixed.
    pub kind: ElfKind,
    /// The entry point, before relocation.
    pub entry: u64,
    /// The `PT_LOAD` segments in ascending order of addresses; at least one.
    pub segments: Vec<Phdr>,
    /// Where the program headers are in memory, before relocation.
    pub phdr_addr: u64,
    /// How many program headers there are.
    pub phnum: u64,
    /// The path of the interpreter.
    pub interpreter: Option<Vec<u8>>,
    /// The program wants an executable stack.
    pub has_executable_stack: bool,
}

/// The most program headers: Linux accepts one page... of 64 KiB (`ELF_MIN_ALIGN` limit in `load_elf_phdrs`).
const MAX_PHDRS: u16 = 128;
/// The longest interpreter path with its NUL (`PATH_MAX`).
const MAX_INTERPRETER: u64 = 4096;

impl Elf {
    /// Reads the headers of `file`, whose first bytes are `head`.
    ///
    /// # Errors
    /// `ENOEXEC` for what is no x86-64 program; `EIO` and the like from reading.
    pub fn read(file: &Arc<File>, head: &[u8]) -> Result<Self, Errno> {
        Self::parse(head, |offset, buf| read_exact(file, offset, buf))
    }

    /// As [`Elf::read`], with any source of bytes.
    ///
    /// # Errors
    /// As [`Elf::read`].
    pub fn parse(
        head: &[u8],
        mut read_at: impl FnMut(u64, &mut [u8]) -> Result<(), Errno>,
    ) -> Result<Self, Errno> {
        let (header, _) = Ehdr::read_from_prefix(head).map_err(|_| Errno::ENOEXEC)?;
        let kind = check_header(&header)?;
        let mut phdrs = vec![Phdr::new_zeroed(); usize::from(header.phnum)];
        read_at(header.phoff, phdrs.as_mut_slice().as_mut_bytes())?;
        let mut elf = Self {
            kind,
            entry: header.entry,
            segments: Vec::new(),
            phdr_addr: 0,
            phnum: u64::from(header.phnum),
            interpreter: None,
            has_executable_stack: false,
        };
        for phdr in &phdrs {
            match phdr.kind {
                PT_LOAD if phdr.memsz > 0 => elf.segments.push(*phdr),
                PT_INTERP if elf.interpreter.is_none() => {
                    elf.interpreter = Some(read_interpreter(phdr, &mut read_at)?);
                }
                PT_PHDR => elf.phdr_addr = phdr.vaddr,
                PT_GNU_STACK => elf.has_executable_stack = phdr.flags & PF_X != 0,
                _ => {}
            }
        }
        check_segments(&elf.segments)?;
        if elf.phdr_addr == 0 {
            elf.phdr_addr = find_phdrs(&elf.segments, header.phoff).unwrap_or(0);
        }
        Ok(elf)
    }

    /// The pages from the first to the last segment, before relocation.
    #[must_use]
    pub fn span(&self) -> std::ops::Range<u64> {
        // Checked when parsed: not empty, ascending, without overflow.
        let start = self.segments.first().map_or(0, |s| s.vaddr & !(PAGE_SIZE - 1));
        let end = self.segments.last().map_or(0, |s| s.vaddr + s.memsz);
        start..end.next_multiple_of(PAGE_SIZE)
    }
}

fn check_header(header: &Ehdr) -> Result<ElfKind, Errno> {
    // Magic, 64-bit, little-endian, version 1.
    let is_elf64 = header.ident[..7] == *b"\x7fELF\x02\x01\x01";
    let is_ours = header.machine == EM_X86_64 && usize::from(header.phentsize) == size_of::<Phdr>();
    if !is_elf64 || !is_ours || header.phnum == 0 || header.phnum > MAX_PHDRS {
        return Err(Errno::ENOEXEC);
    }
    match header.kind {
        ET_EXEC => Ok(ElfKind::Fixed),
        ET_DYN => Ok(ElfKind::Relocatable),
        _ => Err(Errno::ENOEXEC),
    }
}

/// Segments must ascend, not overlap, not wrap, and agree with the file modulo pages.
fn check_segments(segments: &[Phdr]) -> Result<(), Errno> {
    let mut last = 0;
    for s in segments {
        let end = s.vaddr.checked_add(s.memsz).filter(|e| *e < 1 << 47).ok_or(Errno::ENOEXEC)?;
        let in_file = s.offset.checked_add(s.filesz).is_some_and(|e| e < 1 << 62);
        let agrees = s.vaddr % PAGE_SIZE == s.offset % PAGE_SIZE;
        if s.filesz > s.memsz || !in_file || !agrees || s.vaddr < last {
            return Err(Errno::ENOEXEC);
        }
        last = end;
    }
    if segments.is_empty() { Err(Errno::ENOEXEC) } else { Ok(()) }
}

fn find_phdrs(segments: &[Phdr], phoff: u64) -> Option<u64> {
    let holder = segments.iter().find(|s| s.offset <= phoff && phoff < s.offset + s.filesz)?;
    holder.vaddr.checked_add(phoff - holder.offset)
}

fn read_interpreter(
    phdr: &Phdr,
    read_at: &mut impl FnMut(u64, &mut [u8]) -> Result<(), Errno>,
) -> Result<Vec<u8>, Errno> {
    if !(2..=MAX_INTERPRETER).contains(&phdr.filesz) {
        return Err(Errno::ENOEXEC);
    }
    // At most 4096, so the conversion is exact.
    let mut path = vec![0; phdr.filesz as usize];
    read_at(phdr.offset, &mut path)?;
    if path.pop() != Some(0) {
        return Err(Errno::ENOEXEC);
    }
    let end = path.iter().position(|b| *b == 0).unwrap_or(path.len());
    path.truncate(end);
    Ok(path)
}

/// Fills `buf` from `file`; a file that is too short is no program.
fn read_exact(file: &Arc<File>, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
    let mut done = 0;
    while done < buf.len() {
        let at = offset.checked_add(done as u64).ok_or(Errno::ENOEXEC)?;
        match file.read_at(&mut SliceDst::new(&mut buf[done..]), at)? {
            0 => return Err(Errno::ENOEXEC),
            n => done += n,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(bytes: &[u8]) -> Result<Elf, Errno> {
        Elf::parse(bytes, |offset, buf| {
            let start = usize::try_from(offset).map_err(|_| Errno::ENOEXEC)?;
            let end = start.checked_add(buf.len()).ok_or(Errno::ENOEXEC)?;
            buf.copy_from_slice(bytes.get(start..end).ok_or(Errno::ENOEXEC)?);
            Ok(())
        })
    }

    fn program(segments: &[Phdr]) -> Vec<u8> {
        let header = Ehdr {
            ident: *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
            kind: ET_DYN,
            machine: EM_X86_64,
            version: 1,
            entry: 0x1000,
            phoff: 64,
            shoff: 0,
            flags: 0,
            ehsize: 64,
            phentsize: 56,
            phnum: segments.len() as u16,
            shentsize: 0,
            shnum: 0,
            shstrndx: 0,
        };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(segments.as_bytes());
        bytes
    }

    fn load(vaddr: u64, filesz: u64, memsz: u64) -> Phdr {
        Phdr {
            kind: PT_LOAD,
            flags: 5,
            offset: vaddr % PAGE_SIZE,
            vaddr,
            paddr: vaddr,
            filesz,
            memsz,
            align: 4096,
        }
    }

    #[test]
    fn a_plain_program_is_read() {
        let elf = parse(&program(&[load(0, 0x200, 0x200), load(0x2000, 0, 0x123)])).unwrap();
        assert_eq!(elf.kind, ElfKind::Relocatable);
        assert_eq!(elf.span(), 0..0x3000);
        assert_eq!(elf.phdr_addr, 64);
    }

    #[test]
    fn malformed_files_are_refused() {
        let good = program(&[load(0, 0x200, 0x200)]);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            parse(&bytes).err()
        };
        let rows = [
            ("magic", with(0, 0)),
            ("class", with(4, 1)),
            ("byte order", with(5, 2)),
            ("machine", with(18, 3)),
            ("type", with(16, 1)),
            ("header size", with(54, 32)),
            ("no headers", with(56, 0)),
            ("headers beyond the end", with(56, 9)),
            ("short", parse(&good[..40]).err()),
            ("overlap", parse(&program(&[load(0x1000, 1, 0x2000), load(0x2000, 1, 1)])).err()),
            ("more in file than in memory", parse(&program(&[load(0, 2, 1)])).err()),
            ("wraps", parse(&program(&[load(u64::MAX - 4095, 0, 8192)])).err()),
            ("no segment", parse(&program(&[Phdr { kind: 4, ..load(0, 1, 1) }])).err()),
        ];
        for (what, error) in rows {
            assert_eq!(error, Some(Errno::ENOEXEC), "{what}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic(noise in proptest::collection::vec(any::<u8>(), 0..400), at in 16usize..120) {
            let mut bytes = program(&[load(0, 0x200, 0x200), load(0x2000, 0, 0x123)]);
            for (i, b) in noise.iter().enumerate() {
                if let Some(slot) = bytes.get_mut(at + i) {
                    *slot = *b;
                }
            }
            if let Ok(elf) = parse(&bytes) {
                prop_assert!(elf.span().start < elf.span().end);
            }
        }
    }
}
