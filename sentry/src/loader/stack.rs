//! The initial stack: arguments, environment, auxiliary vector (System V ABI, 3.4.1).

use sentry_abi::elf::at;

use crate::errno::Errno;
use crate::mm::{MapRequest, MemoryManager, PAGE_SIZE, Placement, ProcessImage, Prot, UserAddr, VmaFlags};

/// What goes onto the stack.
pub(crate) struct StackContents<'a> {
    pub(crate) argv: &'a [Vec<u8>],
    pub(crate) envp: &'a [Vec<u8>],
    /// `AT_EXECFN`.
    pub(crate) path: &'a [u8],
    /// Tags and values without those that point into the stack.
    pub(crate) auxv: Vec<(u64, u64)>,
    pub(crate) random: [u8; 16],
    /// The most bytes of strings and pointers (`execve(2)`, "Limits on size of arguments and environment").
    pub(crate) limit: u64,
}

/// The size of a fresh stack area; it grows on demand.
const INITIAL_SIZE: u64 = 132 << 10;
/// `MAX_ARG_STRLEN`: the longest string.
const MAX_STRING: usize = 32 * PAGE_SIZE as usize;

/// A stack that was written.
pub(crate) struct Stack {
    pub(crate) pointer: u64,
    pub(crate) image: ProcessImage,
}

/// Maps a stack that ends at `top` and fills it.
///
/// # Errors
/// `E2BIG`, `ENOMEM`.
pub(crate) fn build(
    mm: &MemoryManager,
    top: u64,
    executable: bool,
    contents: &StackContents<'_>,
) -> Result<Stack, Errno> {
    let strings = contents.argv.iter().chain(contents.envp);
    let string_bytes: usize = strings.clone().map(|s| s.len() + 1).sum();
    if strings.clone().any(|s| s.len() >= MAX_STRING) {
        return Err(Errno::E2BIG);
    }
    let pointers = (contents.argv.len() + contents.envp.len() + 3) * 8;
    let needed = (string_bytes + pointers) as u64;
    if needed > contents.limit {
        return Err(Errno::E2BIG);
    }
    let size = INITIAL_SIZE.max((needed + 8 * PAGE_SIZE).next_multiple_of(PAGE_SIZE));
    let mut prot = Prot::READ | Prot::WRITE;
    prot.set(Prot::EXEC, executable);
    mm.map(&MapRequest {
        flags: VmaFlags::GROWS_DOWN | VmaFlags::STACK,
        ..MapRequest::anonymous(Placement::FixedNoReplace(top - size), size, prot)
    })?;

    let mut writer = Writer { bytes: Vec::with_capacity(string_bytes + 256) };
    // From the top: a null word, the path, environment, arguments, platform string, random bytes. The block is laid out
    // upwards here and placed so that it ends at the top.
    let random = writer.push(&contents.random);
    let platform = writer.push(b"x86_64\0");
    let argv: Vec<usize> = contents.argv.iter().map(|s| writer.push_string(s)).collect();
    let argv_end = writer.bytes.len();
    let envp: Vec<usize> = contents.envp.iter().map(|s| writer.push_string(s)).collect();
    let env_end = writer.bytes.len();
    let path = writer.push_string(contents.path);
    writer.push(&[0; 8]);
    let base = (top - writer.bytes.len() as u64) & !15;
    mm.write_bytes(UserAddr(base), &writer.bytes)?;
    let address = |at: usize| base + at as u64;

    let mut auxv = contents.auxv.clone();
    auxv.extend([
        (at::RANDOM, address(random)),
        (at::PLATFORM, address(platform)),
        (at::EXECFN, address(path)),
        (at::NULL, 0),
    ]);
    let mut words: Vec<u64> = vec![argv.len() as u64];
    words.extend(argv.iter().map(|a| address(*a)));
    words.push(0);
    words.extend(envp.iter().map(|e| address(*e)));
    words.push(0);
    words.extend(auxv.iter().flat_map(|(tag, value)| [*tag, *value]));
    let pointer = (base - words.len() as u64 * 8) & !15;
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    mm.write_bytes(UserAddr(pointer), &bytes)?;

    let first_string = address(argv.first().copied().unwrap_or(argv_end));
    let auxv = auxv.iter().flat_map(|(t, v)| [t.to_le_bytes(), v.to_le_bytes()].concat()).collect();
    let image = ProcessImage {
        args: first_string..address(argv_end),
        env: address(argv_end)..address(env_end),
        auxv,
        code: 0..0,
        stack_start: pointer,
    };
    Ok(Stack { pointer, image })
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn push(&mut self, data: &[u8]) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(data);
        at
    }

    fn push_string(&mut self, text: &[u8]) -> usize {
        let at = self.push(text);
        self.bytes.push(0);
        at
    }
}
