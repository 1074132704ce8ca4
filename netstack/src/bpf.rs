//! Classic BPF: small programs that decide about packets (the "BSD packet filter" of McCanne and Jacobson, with Linux's
//! ancillary loads).
//!
//! A [`Program`] is checked once, by the rules of Linux, and then runs without being able to fail, to loop, or to read
//! anything but the packet. It answers how many bytes of the packet its user wants: zero drops it. Sockets take programs
//! with `set_filter`, groups of sockets that share a port with `set_group_filter`.
//!
//! ```
//! use netstack::bpf::{Instruction, Program};
//!
//! // tcpdump -dd 'len > 20'
//! let code = [
//!     Instruction { code: 0x80, jt: 0, jf: 0, k: 0 },
//!     Instruction { code: 0x25, jt: 0, jf: 1, k: 20 },
//!     Instruction { code: 0x06, jt: 0, jf: 0, k: 262_144 },
//!     Instruction { code: 0x06, jt: 0, jf: 0, k: 0 },
//! ];
//! let program = Program::new(&code).unwrap();
//! assert_eq!(program.run_on_bytes(&[0; 20]), 0);
//! assert_eq!(program.run_on_bytes(&[0; 21]), 262_144);
//! ```

mod check;
mod op;
mod run;
mod slot;
mod subject;

use std::sync::Arc;

use op::Op;
pub(crate) use slot::{Slot, admits, subject_of};
pub(crate) use subject::Subject;

/// One instruction as programs are written (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip if the comparison holds.
    pub jt: u8,
    /// How many otherwise.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// A checked program. Clones share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program(Arc<Checked>);

#[derive(Debug, PartialEq, Eq)]
struct Checked {
    source: Box<[Instruction]>,
    ops: Box<[Op]>,
}

/// Why a program was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// It has no instruction, or more than [`MAX_INSTRUCTIONS`].
    #[error("a program of {0} instructions")]
    Length(usize),
    /// An instruction does not exist, or not with its operand.
    #[error("instruction {0} is not one")]
    Instruction(usize),
    /// A jump leads out of the program.
    #[error("instruction {0} jumps out of the program")]
    Jump(usize),
    /// A word of the scratch memory is read that not every way to there has written.
    #[error("instruction {0} reads memory that may be unwritten")]
    Unwritten(usize),
    /// The last instruction does not return.
    #[error("the program does not end")]
    NoReturn,
}

impl Program {
    /// Checks a program.
    pub fn new(source: &[Instruction]) -> Result<Self, ProgramError> {
        let ops = check::check(source)?;
        Ok(Self(Arc::new(Checked { source: source.into(), ops: ops.into() })))
    }

    /// The program as it was written.
    pub fn instructions(&self) -> &[Instruction] {
        &self.0.source
    }

    /// Runs over bytes about which nothing else is known: how many of them are wanted.
    pub fn run_on_bytes(&self, bytes: &[u8]) -> u32 {
        let packet = crate::packet::Packet::from_frame(bytes::Bytes::copy_from_slice(bytes));
        self.run(&Subject::new(&packet, 0))
    }

    /// Runs over a structure of 32-bit words in the byte order of the machine, such as the `struct seccomp_data` of a
    /// system call: its answer, 0 if it reads anything but whole words of the structure.
    pub fn run_on_words(&self, words: &[u32]) -> u32 {
        run::run(&self.0.ops, &run::Words(words))
    }

    /// Runs over a packet: how many of its bytes are wanted.
    pub(crate) fn run(&self, subject: &Subject<'_>) -> u32 {
        run::run(&self.0.ops, subject)
    }
}

/// Linux's `BPF_MAXINSNS`.
pub const MAX_INSTRUCTIONS: usize = 4096;
/// The words of the scratch memory (`BPF_MEMWORDS`).
const MEMORY_WORDS: usize = 16;

#[cfg(test)]
#[path = "bpf/tests.rs"]
mod tests;
