//! The memory of a traced thread.

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::syscall::process::ptrace::Traced;

impl Traced<'_> {
    /// `PTRACE_PEEKDATA`: a word goes to `data`, which the C library turns into the result.
    pub(super) fn peek(&self, addr: u64, data: u64) -> SysResult {
        let memory = self.target.mm().ok_or(Errno::EIO)?;
        let mut word = [0; 8];
        if memory.read_forced(UserAddr(addr), &mut word) < word.len() {
            return Err(Errno::EIO.into());
        }
        self.tracer.mm().write_bytes(UserAddr(data), &word)?;
        Ok(0)
    }

    /// `PTRACE_POKEDATA`.
    pub(super) fn poke(&self, addr: u64, data: u64) -> SysResult {
        let memory = self.target.mm().ok_or(Errno::EIO)?;
        let word = data.to_ne_bytes();
        if memory.write_forced(UserAddr(addr), &word) < word.len() {
            return Err(Errno::EIO.into());
        }
        Ok(0)
    }
}
