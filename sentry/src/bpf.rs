//! Classic BPF programs as guests pass them (`struct sock_fprog`).

use netstack::bpf::{Instruction, MAX_INSTRUCTIONS, Program};

use crate::errno::Errno;
use crate::mm::{MemoryManager, UserAddr};

/// The size of `struct sock_fprog`.
pub(crate) const FPROG_LEN: usize = 16;
/// The size of `struct sock_filter`.
const INSTRUCTION_LEN: usize = 8;

/// Takes a `struct sock_fprog` apart: the number of instructions and where they are.
pub(crate) fn decode_fprog(bytes: &[u8; FPROG_LEN]) -> (usize, UserAddr) {
    // A length, padding, and a pointer.
    let &[a, b, _, _, _, _, _, _, c, d, e, f, g, h, i, j] = bytes;
    let count = usize::from(u16::from_ne_bytes([a, b]));
    (count, UserAddr(u64::from_ne_bytes([c, d, e, f, g, h, i, j])))
}

/// Reads the program that a `struct sock_fprog` names (`copy_bpf_fprog_from_user`).
///
/// # Errors
/// `EFAULT`; `EINVAL` for no program, and for one that could do harm.
pub(crate) fn read_program(mm: &MemoryManager, fprog: &[u8; FPROG_LEN]) -> Result<Program, Errno> {
    let (count, at) = decode_fprog(fprog);
    if at.is_null() || count == 0 || count > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    Program::new(&read_instructions(mm, at, count)?).map_err(|_| Errno::EINVAL)
}

/// Reads `count` instructions.
///
/// # Errors
/// `EFAULT`.
pub(crate) fn read_instructions(
    mm: &MemoryManager,
    at: UserAddr,
    count: usize,
) -> Result<Vec<Instruction>, Errno> {
    let mut source = vec![0; count * INSTRUCTION_LEN];
    mm.read_bytes(at, &mut source)?;
    let decode = |bytes: &[u8]| Instruction {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    Ok(source.chunks_exact(INSTRUCTION_LEN).map(decode).collect())
}
