//! From a file to an address space that is ready to run.

use std::sync::Arc;

use sentry_abi::elf::at;
use sentry_platform::Regs;

use crate::errno::Errno;
use crate::io::SliceDst;
use crate::kernel::Kernel;
use crate::loader::script::{HEAD_SIZE, Shebang};
use crate::loader::stack::StackContents;
use crate::loader::{Elf, ElfKind, segment, stack};
use crate::mm::{MemoryManager, PAGE_SIZE};
use crate::task::{Credentials, Limits, Resource};
use crate::vfs::File;

/// Opens an interpreter by its path.
pub type OpenProgram<'a> = dyn Fn(&[u8]) -> Result<Arc<File>, Errno> + 'a;

/// Finds the credentials that a program file gives, and `AT_SECURE`.
pub type FindCredentials<'a> = dyn Fn(&File) -> Result<(Arc<Credentials>, bool), Errno> + 'a;

/// What to load.
pub struct LoadRequest<'a> {
    /// The program, opened for execution.
    pub file: Arc<File>,
    /// The path that named it: `AT_EXECFN`, and the argument of a script's interpreter.
    pub path: Vec<u8>,
    /// Arguments.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub envp: Vec<Vec<u8>>,
    /// Limits of the process.
    pub limits: Limits,
    /// Where things go.
    pub addresses: Addresses,
    /// Opens interpreters.
    pub open: &'a OpenProgram<'a>,
    /// The credentials that the program gets, once the file that counts is known: the program itself or a script's
    /// interpreter. The second value is `AT_SECURE`.
    pub credentials: &'a FindCredentials<'a>,
}

/// How the addresses of a program are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// At random.
    Random,
    /// The same each time (`ADDR_NO_RANDOMIZE` of `personality(2)`), as debuggers like them.
    Fixed,
}

/// A loaded program.
pub struct Image {
    /// Its memory.
    pub mm: Arc<MemoryManager>,
    /// Registers at its first instruction.
    pub regs: Regs,
    /// The file that was mapped: `/proc/PID/exe`.
    pub exe: Arc<File>,
    /// The name for `PR_GET_NAME`: the last component of the path.
    pub comm: Vec<u8>,
    /// What it runs as.
    pub creds: Arc<Credentials>,
}

/// How many interpreters may start interpreters (`execve(2)`: "a maximum of four recursions").
const MAX_SCRIPTS: usize = 5;
/// Interrupts enabled and the bit that is always set.
const INITIAL_FLAGS: u64 = 0x202;
/// The most that strings may take whatever the stack limit is (`execve(2)`: three quarters of 8 MiB).
const MAX_STRINGS: u64 = 6 << 20;
/// At least this much is allowed whatever the stack limit is.
const MIN_STRINGS: u64 = 128 << 10;

/// Loads a program.
///
/// # Errors
/// As `execve(2)`.
pub fn load(kernel: &Arc<Kernel>, mut request: LoadRequest<'_>) -> Result<Image, Errno> {
    let comm_path = request.path.clone();
    let mut file = request.file.clone();
    let mut scripts = 0;
    let elf = loop {
        let head = read_head(&file)?;
        let Some(line) = Shebang::parse(&head) else { break Elf::read(&file, &head)? };
        scripts += 1;
        if scripts > MAX_SCRIPTS {
            return Err(Errno::ELOOP);
        }
        // The script's own name replaces the first argument, behind the interpreter and its argument.
        let mut argv = vec![line.interpreter.clone()];
        argv.extend(line.argument);
        argv.push(request.path.clone());
        argv.extend(request.argv.into_iter().skip(1));
        request.argv = argv;
        file = (request.open)(&line.interpreter)?;
        request.path = line.interpreter;
    };
    if request.argv.is_empty() {
        // Since Linux 5.18 a program without arguments gets an empty first one.
        request.argv.push(Vec::new());
    }
    let mut image = load_elf(kernel, &request, &file, &elf)?;
    let name = comm_path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    image.comm = name.to_vec();
    Ok(image)
}

fn read_head(file: &Arc<File>) -> Result<Vec<u8>, Errno> {
    let mut head = vec![0; HEAD_SIZE];
    let mut done = 0;
    while done < head.len() {
        match file.read_at(&mut SliceDst::new(&mut head[done..]), done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    head.truncate(done);
    Ok(head)
}

/// Random offsets of one address space, in pages.
struct Randomness {
    stack: u64,
    mmap: u64,
    program: u64,
    brk: u64,
    auxv: [u8; 16],
}

impl Randomness {
    fn new() -> Result<Self, Errno> {
        let mut bytes = [0; 48];
        sentry_hostio::random::fill(&mut bytes).map_err(|_| Errno::EIO)?;
        let word = |at: usize, bits: u32| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word) & ((1 << bits) - 1)
        };
        let mut auxv = [0; 16];
        auxv.copy_from_slice(&bytes[32..]);
        // The widths of x86-64 Linux: STACK_RND_MASK 22 bits, mmap_rnd_bits 28, brk 13 (32 MiB).
        Ok(Self { stack: word(0, 22), mmap: word(8, 28), program: word(16, 28), brk: word(24, 13), auxv })
    }
}

fn load_elf(
    kernel: &Arc<Kernel>,
    request: &LoadRequest<'_>,
    file: &Arc<File>,
    elf: &Elf,
) -> Result<Image, Errno> {
    let mm = MemoryManager::new(&**kernel.platform(), kernel.frames())?;
    let random = match request.addresses {
        Addresses::Random => Randomness::new()?,
        Addresses::Fixed => Randomness { stack: 0, mmap: 0, program: 0, brk: 0, ..Randomness::new()? },
    };
    let stack_soft = request.limits.get(Resource::Stack).soft;
    mm.set_limits(stack_soft, request.limits.get(Resource::As).soft, request.limits.get(Resource::Data).soft);
    let top = mm.range.end - PAGE_SIZE - random.stack * PAGE_SIZE;
    // As mmap_base(): room for the stack between 128 MiB and five sixths of the address space.
    let span = mm.range.end - mm.range.start;
    let stack_room = stack_soft.clamp(128 << 20, span / 6 * 5).saturating_add(256 * PAGE_SIZE);
    let mmap_top = (top - stack_room.min(top / 2) - random.mmap * PAGE_SIZE) & !(PAGE_SIZE - 1);
    mm.layout.write().mmap_top = mmap_top;

    // ELF_ET_DYN_BASE: position-independent programs start at two thirds, interpreters below the other mappings.
    let base = (mm.range.end / 3 * 2 + random.program * PAGE_SIZE) & !(PAGE_SIZE - 1);
    let hint = if elf.interpreter.is_some() { base } else { 0 };
    let program = segment::map(&mm, file, elf, hint)?;
    let entry = elf.entry.wrapping_add(program.bias);
    let (start, interpreter_base) = match &elf.interpreter {
        None => (entry, 0),
        Some(path) => load_interpreter(&mm, request, path)?,
    };
    let brk = (program.end + random.brk * PAGE_SIZE).next_multiple_of(PAGE_SIZE);
    let brk = if elf.kind == ElfKind::Relocatable && elf.interpreter.is_none() {
        // A static position-independent program sits among the mappings: its heap goes elsewhere, as on Linux.
        base
    } else {
        brk
    };
    let vdso = kernel.vdso.map(&mm)?;

    let (creds, is_secure) = (request.credentials)(file)?;
    let mut auxv = vec![
        (at::HWCAP, kernel.hwcap()),
        (at::PAGESZ, PAGE_SIZE),
        (at::CLKTCK, 100),
        (at::PHDR, elf.phdr_addr.wrapping_add(program.bias)),
        (at::PHENT, 56),
        (at::PHNUM, elf.phnum),
        (at::BASE, interpreter_base),
        (at::FLAGS, 0),
        (at::ENTRY, entry),
        (at::UID, u64::from(creds.user_ns.show_uid(creds.uid))),
        (at::EUID, u64::from(creds.user_ns.show_uid(creds.euid))),
        (at::GID, u64::from(creds.user_ns.show_gid(creds.gid))),
        (at::EGID, u64::from(creds.user_ns.show_gid(creds.egid))),
        (at::SECURE, u64::from(is_secure)),
        (at::MINSIGSTKSZ, MIN_SIGNAL_STACK),
    ];
    auxv.extend(vdso.map(|at| (at::SYSINFO_EHDR, at)));
    let contents = StackContents {
        argv: &request.argv,
        envp: &request.envp,
        path: &request.path,
        auxv,
        random: random.auxv,
        limit: (stack_soft / 4).clamp(MIN_STRINGS, MAX_STRINGS),
    };
    let stack = stack::build(&mm, top, elf.has_executable_stack, &contents)?;
    {
        let mut layout = mm.layout.write();
        layout.brk = brk..brk;
        layout.process = stack.image;
        let span = elf.span();
        layout.process.code = span.start.wrapping_add(program.bias)..program.end;
    }
    mm.map_program()?;
    let regs = Regs { rip: start, rsp: stack.pointer, rflags: INITIAL_FLAGS, ..Regs::default() };
    Ok(Image { mm, regs, exe: file.clone(), comm: Vec::new(), creds })
}

/// What a signal frame needs on this class of processors, AVX-512 included (`AT_MINSIGSTKSZ`).
const MIN_SIGNAL_STACK: u64 = 3632;

fn load_interpreter(mm: &MemoryManager, request: &LoadRequest<'_>, path: &[u8]) -> Result<(u64, u64), Errno> {
    let file = (request.open)(path)?;
    let head = read_head(&file)?;
    // execve(2): ELIBBAD, "an ELF interpreter was not in a recognized format".
    let elf = Elf::read(&file, &head).map_err(|e| if e == Errno::ENOEXEC { Errno::ELIBBAD } else { e })?;
    let mapped = segment::map(mm, &file, &elf, 0)?;
    Ok((elf.entry.wrapping_add(mapped.bias), mapped.bias))
}
