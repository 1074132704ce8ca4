//! The ELF image of the vDSO (`vdso(7)`): a shared object of one page.
//!
//! Its symbols have the version `LINUX_2.6`, as Linux's have: programs look them up with it, and Go's runtime reads the
//! version definitions without asking whether there are any.

use sentry_abi::elf::{EM_X86_64, ET_DYN, Ehdr, PF_R, PF_X, PT_LOAD, Phdr};
use sentry_platform::vdso::{PARAMETERS_BEFORE, VdsoCode};
use zerocopy::IntoBytes;

use crate::mm::PAGE_SIZE;

/// Where the code is in the image page.
const TEXT_AT: usize = PARAMETERS_BEFORE - PAGE_SIZE as usize;
const SONAME: &str = "linux-vdso.so.1";
const VERSION: &str = "LINUX_2.6";
/// The index of [`VERSION`] among the version definitions; 1 is the object itself.
const VERSION_INDEX: u16 = 2;
const PT_DYNAMIC: u32 = 2;
const HEADERS: u64 = 64 + 2 * 56;
/// `sizeof(Elf64_Sym)`.
const SYMBOL_LEN: u64 = 24;

/// Tags of the dynamic section (elf(5)).
mod tag {
    pub(super) const NULL: u64 = 0;
    pub(super) const HASH: u64 = 4;
    pub(super) const STRTAB: u64 = 5;
    pub(super) const SYMTAB: u64 = 6;
    pub(super) const STRSZ: u64 = 10;
    pub(super) const SYMENT: u64 = 11;
    pub(super) const SONAME: u64 = 14;
    pub(super) const VERSYM: u64 = 0x6fff_fff0;
    pub(super) const VERDEF: u64 = 0x6fff_fffc;
    pub(super) const VERDEFNUM: u64 = 0x6fff_fffd;
}

/// The tables that the dynamic section points to.
struct Tables {
    symbols: Vec<u8>,
    hash: Vec<u32>,
    /// For each symbol the index of its version.
    versions: Vec<u16>,
    definitions: Vec<u8>,
    strings: Vec<u8>,
    soname: u32,
}

impl Tables {
    fn new(code: &VdsoCode) -> Self {
        let mut strings = b"\0".to_vec();
        let mut add = |text: &str| {
            let at = strings.len() as u32;
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            at
        };
        let soname = add(SONAME);
        let mut definitions = Vec::new();
        definitions.extend_from_slice(&definition(SONAME, soname, 1));
        definitions.extend_from_slice(&definition(VERSION, add(VERSION), VERSION_INDEX));
        let mut symbols = vec![0; SYMBOL_LEN as usize];
        let mut versions = vec![0];
        // One bucket: the chain visits every symbol.
        let count = code.symbols.len() as u32 + 1;
        let mut hash: Vec<u32> = vec![1, count, 1, 0];
        for (n, (name, at)) in code.symbols.iter().enumerate() {
            symbols.extend_from_slice(&symbol(add(name), (TEXT_AT + at) as u64, 16));
            versions.push(VERSION_INDEX);
            let next = n as u32 + 2;
            hash.push(if next < count { next } else { 0 });
        }
        Self { symbols, hash, versions, definitions, strings, soname }
    }
}

/// `Elf64_Sym`.
fn symbol(name: u32, value: u64, size: u64) -> [u8; SYMBOL_LEN as usize] {
    const GLOBAL_FUNC: u8 = 1 << 4 | 2;
    let mut bytes = [0; SYMBOL_LEN as usize];
    bytes[0..4].copy_from_slice(&name.to_le_bytes());
    bytes[4] = GLOBAL_FUNC;
    // Any defined section: the image has no section headers.
    bytes[6..8].copy_from_slice(&1_u16.to_le_bytes());
    bytes[8..16].copy_from_slice(&value.to_le_bytes());
    bytes[16..24].copy_from_slice(&size.to_le_bytes());
    bytes
}

/// `Elf64_Verdef` with its `Elf64_Verdaux`; `name` is where `text` is among the strings.
fn definition(text: &str, name: u32, index: u16) -> [u8; 28] {
    const CURRENT: u16 = 1;
    const VER_FLG_BASE: u16 = 1;
    const VERDEF_LEN: u32 = 20;
    let is_object = index == 1;
    let flags = if is_object { VER_FLG_BASE } else { 0 };
    // The definition of the object itself is the first of two.
    let next = if is_object { VERDEF_LEN + 8 } else { 0 };
    let mut bytes = [0; 28];
    for (at, half) in [(0, CURRENT), (2, flags), (4, index), (6, 1)] {
        bytes[at..at + 2].copy_from_slice(&half.to_le_bytes());
    }
    for (at, word) in [(8, elf_hash(text)), (12, VERDEF_LEN), (16, next), (20, name)] {
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// The hash of names (System V ABI, "Hash Table").
fn elf_hash(name: &str) -> u32 {
    name.bytes().fold(0, |hash, byte| {
        let hash = (hash << 4_u32) + u32::from(byte);
        let high = hash & 0xf000_0000;
        (hash ^ (high >> 24)) & !high
    })
}

/// An ELF shared object of one page: headers, symbols, hash table, versions, dynamic section, strings, code.
pub(super) fn build_image(code: &VdsoCode) -> Vec<u8> {
    let Tables { symbols, hash, versions, definitions, strings, soname } = Tables::new(code);
    let symtab_at = HEADERS;
    let hash_at = symtab_at + symbols.len() as u64;
    let versym_at = hash_at + hash.len() as u64 * 4;
    let verdef_at = (versym_at + versions.len() as u64 * 2).next_multiple_of(8);
    let dynamic_at = (verdef_at + definitions.len() as u64).next_multiple_of(8);
    let dynamic = |strtab_at| {
        [
            [tag::HASH, hash_at],
            [tag::STRTAB, strtab_at],
            [tag::SYMTAB, symtab_at],
            [tag::STRSZ, strings.len() as u64],
            [tag::SYMENT, SYMBOL_LEN],
            [tag::SONAME, u64::from(soname)],
            [tag::VERSYM, versym_at],
            [tag::VERDEF, verdef_at],
            [tag::VERDEFNUM, 2],
            [tag::NULL, 0],
        ]
    };
    let dynamic_len = dynamic(0).as_bytes().len() as u64;
    let strtab_at = dynamic_at + dynamic_len;
    let phdrs = [
        segment(PT_LOAD, PF_R | PF_X, 0, PAGE_SIZE, PAGE_SIZE),
        segment(PT_DYNAMIC, PF_R, dynamic_at, dynamic_len, 8),
    ];
    let mut image = vec![0; PAGE_SIZE as usize];
    let mut put =
        |at: u64, bytes: &[u8]| image[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    put(0, header().as_bytes());
    put(64, phdrs.as_bytes());
    put(symtab_at, &symbols);
    put(hash_at, hash.as_bytes());
    put(versym_at, versions.as_bytes());
    put(verdef_at, &definitions);
    put(dynamic_at, dynamic(strtab_at).as_bytes());
    put(strtab_at, &strings);
    put(TEXT_AT as u64, code.text);
    image
}

fn header() -> Ehdr {
    Ehdr {
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
    }
}

fn segment(kind: u32, flags: u32, at: u64, len: u64, align: u64) -> Phdr {
    Phdr { kind, flags, offset: at, vaddr: at, paddr: at, filesz: len, memsz: len, align }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::Elf;
    use sentry_platform::vdso::vdso_code;

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

    #[test]
    fn names_hash_as_the_c_library_expects() {
        assert_eq!(elf_hash(VERSION), 0x03ae_75f6);
    }
}
