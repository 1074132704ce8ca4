//! Checking a program before it ever runs, as Linux's `bpf_check_classic` does.

use super::op::{self, Op};
use super::{Instruction, MAX_INSTRUCTIONS, ProgramError};

/// Checks a program and decodes it.
pub(super) fn check(source: &[Instruction]) -> Result<Vec<Op>, ProgramError> {
    if source.is_empty() || source.len() > MAX_INSTRUCTIONS {
        return Err(ProgramError::Length(source.len()));
    }
    let decode = |(at, &instruction)| op::decode(instruction).ok_or(ProgramError::Instruction(at));
    let ops = source.iter().enumerate().map(decode).collect::<Result<Vec<_>, _>>()?;
    for (at, op) in ops.iter().enumerate() {
        // Jumps count from the next instruction, and only forward: so every program ends.
        let rest = ops.len() - at - 1;
        let is_inside = match *op {
            Op::Jump(distance) => distance < rest,
            Op::Branch { if_true, if_false, .. } => {
                usize::from(if_true) < rest && usize::from(if_false) < rest
            }
            _ => true,
        };
        if !is_inside {
            return Err(ProgramError::Jump(at));
        }
    }
    if !matches!(ops.last(), Some(Op::Return | Op::ReturnConstant(_))) {
        return Err(ProgramError::NoReturn);
    }
    check_memory(&ops)?;
    Ok(ops)
}

/// Refuses programs that read a word of the scratch memory which some way to there left unwritten
/// (`check_load_and_stores`): they would see what the last program left.
fn check_memory(ops: &[Op]) -> Result<(), ProgramError> {
    // Which words are written on all ways that jump to an instruction, a bit each.
    let mut arriving = vec![u16::MAX; ops.len()];
    let mut written: u16 = 0;
    for (at, op) in ops.iter().enumerate() {
        written &= arriving[at];
        let mut jump = |distance: usize, written: u16| {
            if let Some(there) = arriving.get_mut(at + 1 + distance) {
                *there &= written;
            }
        };
        match *op {
            Op::Store(word) | Op::StoreIndex(word) => written |= 1 << word,
            Op::LoadMemory(word) | Op::IndexMemory(word) if written & (1 << word) == 0 => {
                return Err(ProgramError::Unwritten(at));
            }
            Op::Jump(distance) => {
                jump(distance, written);
                written = u16::MAX;
            }
            Op::Branch { if_true, if_false, .. } => {
                jump(if_true.into(), written);
                jump(if_false.into(), written);
                written = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}
