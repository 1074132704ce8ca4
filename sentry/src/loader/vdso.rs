//! The vDSO: an ELF image with a page of clock parameters in front of it (`vdso(7)`).

use std::sync::Arc;

use sentry_abi::elf::{EM_X86_64, ET_DYN, Ehdr, PF_R, PF_X, PT_LOAD, Phdr};
use sentry_platform::MemoryFile;
use sentry_platform::vdso::{PARAMETERS_BEFORE, VdsoCode, vdso_code};
use zerocopy::IntoBytes;

use crate::errno::Errno;
use crate::mm::{Frames, MapFile, MapRequest, MemoryManager, PAGE_SIZE, Placement, Prot};
use crate::vfs::{Backing, Mappable, MappedRange};

/// The parameter page and the image, shared by all processes.
#[derive(Debug)]
pub struct Vdso {
    pages: Arc<Pages>,
}

/// Two pages of the memory file.
#[derive(Debug)]
struct Pages {
    frames: Arc<Frames>,
    at: u64,
}

const SIZE: u64 = 2 * PAGE_SIZE;

/// Where the code is in the image page.
const TEXT_AT: usize = PARAMETERS_BEFORE - PAGE_SIZE as usize;

/// The clock parameters, in the layout that the code reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// The counter at the base.
    pub(crate) counter: u64,
    /// Nanoseconds per tick, shifted left by 32.
    pub(crate) multiplier: u64,
    /// `CLOCK_MONOTONIC`, `CLOCK_REALTIME`, `CLOCK_BOOTTIME` at the base in nanoseconds.
    pub(crate) base_ns: [u64; 3],
}

impl Vdso {
    /// Makes the pages; the clocks are not usable before their parameters are published.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(frames: &Arc<Frames>) -> Result<Self, Errno> {
        let at = frames.allocate(SIZE)?;
        let pages = Arc::new(Pages { frames: frames.clone(), at });
        let image = build_image(&vdso_code());
        pages.file().write(at + PAGE_SIZE, &image).map_err(|_| Errno::ENOMEM)?;
        Ok(Self { pages })
    }

    /// Maps the pages and returns the address of the image.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn map(&self, mm: &MemoryManager) -> Result<Option<u64>, Errno> {
        let mappable: Arc<dyn Mappable> = self.pages.clone();
        let request = |placement, offset, prot, name| MapRequest {
            max_prot: prot,
            source: Some(MapFile { mappable: mappable.clone(), offset, file: None, name }),
            ..MapRequest::anonymous(placement, PAGE_SIZE, prot)
        };
        let hole = mm.map(&MapRequest::anonymous(Placement::Hint(0), SIZE, Prot::empty()))?;
        mm.map(&request(Placement::Fixed(hole), 0, Prot::READ, "[vvar]".into()))?;
        let image = hole + PAGE_SIZE;
        mm.map(&request(Placement::Fixed(image), PAGE_SIZE, Prot::READ | Prot::EXEC, "[vdso]".into()))?;
        Ok(Some(image))
    }

    /// Publishes parameters; `None` makes the code fall back to system calls.
    pub(crate) fn publish(&self, parameters: Option<&Parameters>) {
        let (file, at) = (self.pages.file(), self.pages.at);
        // The pages are inside the memory file, so none of this fails. An odd sequence makes readers wait.
        let sequence = file.load_u32(at).unwrap_or(0);
        let _ = file.swap_u32(at, sequence.wrapping_add(1));
        let _ = file.swap_u32(at + 4, u32::from(parameters.is_some()));
        if let Some(Parameters { counter, multiplier, base_ns }) = parameters {
            let words = [*counter, *multiplier, base_ns[0], base_ns[1], base_ns[2]];
            let _ = file.write(at + 8, words.as_bytes());
        }
        let _ = file.swap_u32(at, sequence.wrapping_add(2));
    }
}

impl Pages {
    fn file(&self) -> &MemoryFile {
        self.frames.memory_file()
    }
}

impl Mappable for Pages {
    fn translate(&self, offset: u64, _len: u64, _write: bool) -> Result<MappedRange, Errno> {
        if offset >= SIZE {
            return Err(Errno::ENXIO);
        }
        Ok(MappedRange { backing: Backing::Memory(self.at + offset), len: SIZE - offset })
    }

    fn size(&self) -> u64 {
        SIZE
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.frames.release(self.at, SIZE);
    }
}

/// `Elf64_Sym`.
fn symbol(name: u32, value: u64, size: u64) -> [u8; 24] {
    const GLOBAL_FUNC: u8 = 1 << 4 | 2;
    let mut bytes = [0; 24];
    bytes[0..4].copy_from_slice(&name.to_le_bytes());
    bytes[4] = GLOBAL_FUNC;
    // Any defined section: the image has no section headers.
    bytes[6..8].copy_from_slice(&1_u16.to_le_bytes());
    bytes[8..16].copy_from_slice(&value.to_le_bytes());
    bytes[16..24].copy_from_slice(&size.to_le_bytes());
    bytes
}

/// An ELF shared object of one page: headers, symbols, hash table, dynamic section, code.
fn build_image(code: &VdsoCode) -> Vec<u8> {
    const SONAME: &str = "linux-vdso.so.1";
    const PT_DYNAMIC: u32 = 2;
    const HEADERS: u64 = 64 + 2 * 56;
    // Tags of the dynamic section (elf(5)).
    let [hash_tag, strtab_tag, symtab_tag, strsz_tag, syment_tag, soname_tag] = [4, 5, 6, 10, 11, 14];

    let mut strings = b"\0".to_vec();
    let mut add = |text: &str| {
        let at = strings.len() as u32;
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at
    };
    let soname = add(SONAME);
    let mut symbols = vec![0; 24];
    // One bucket: the chain visits every symbol.
    let count = code.symbols.len() as u32 + 1;
    let mut hash: Vec<u32> = vec![1, count, 1, 0];
    for (n, (name, at)) in code.symbols.iter().enumerate() {
        let name = add(name);
        symbols.extend_from_slice(&symbol(name, (TEXT_AT + at) as u64, 16));
        let next = n as u32 + 2;
        hash.push(if next < count { next } else { 0 });
    }
    let symtab_at = HEADERS;
    let hash_at = symtab_at + symbols.len() as u64;
    let dynamic_at = (hash_at + hash.len() as u64 * 4).next_multiple_of(8);
    let dynamic_len = 7 * 16;
    let strtab_at = dynamic_at + dynamic_len;
    let dynamic: [u64; 14] = [
        hash_tag,
        hash_at,
        strtab_tag,
        strtab_at,
        symtab_tag,
        symtab_at,
        strsz_tag,
        strings.len() as u64,
        syment_tag,
        24,
        soname_tag,
        u64::from(soname),
        0,
        0,
    ];
    let header = Ehdr {
        ident: *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
        kind: ET_DYN,
        machine: EM_X86_64,
        version: 1,
        entry: 0,
        phoff: 64,
        shoff: 0,
        flags: 0,
        ehsize: 64,
        phentsize: 56,
        phnum: 2,
        shentsize: 0,
        shnum: 0,
        shstrndx: 0,
    };
    let segment = |kind, flags, at: u64, len: u64, align| Phdr {
        kind,
        flags,
        offset: at,
        vaddr: at,
        paddr: at,
        filesz: len,
        memsz: len,
        align,
    };
    let phdrs = [
        segment(PT_LOAD, PF_R | PF_X, 0, PAGE_SIZE, PAGE_SIZE),
        segment(PT_DYNAMIC, PF_R, dynamic_at, dynamic_len, 8),
    ];
    let mut image = vec![0; PAGE_SIZE as usize];
    let mut put =
        |at: u64, bytes: &[u8]| image[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    put(0, header.as_bytes());
    put(64, phdrs.as_bytes());
    put(symtab_at, &symbols);
    put(hash_at, hash.as_bytes());
    put(dynamic_at, dynamic.as_bytes());
    put(strtab_at, &strings);
    put(TEXT_AT as u64, code.text);
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::Elf;

    #[test]
    fn image_is_an_elf_object_whose_parts_do_not_overlap() {
        let code = vdso_code();
        let image = build_image(&code);
        let elf = Elf::parse(&image, |at, buf| {
            let at = at as usize;
            buf.copy_from_slice(&image[at..at + buf.len()]);
            Ok(())
        });
        assert_eq!(elf.unwrap().span(), 0..PAGE_SIZE);
        // The string table is the last of the tables and ends before the code.
        let name = b"__vdso_getcpu\0";
        let at = image.windows(name.len()).position(|w| w == name).unwrap();
        assert!(at + name.len() <= TEXT_AT);
        assert_eq!(&image[TEXT_AT..TEXT_AT + code.text.len()], code.text);
    }
}
