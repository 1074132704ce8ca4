//! Debug registers: breakpoints and watchpoints of the processor (Intel SDM, volume 3, 17.2), as `PTRACE_POKEUSER` sets
//! them.
//!
//! Guests have no such registers: the thread is stepped through its code instead, and after each instruction the places
//! are looked at. Stores are found by the values that they leave; a store of the same value is not. What only reads
//! cannot be found, so that a breakpoint on accesses of any kind is refused.

use sentry_abi::signal::{SigInfo, Signal};

use crate::errno::Errno;
use crate::mm::{MemoryManager, UserAddr};
use crate::task::CurrentTask;

/// The registers of a thread: four addresses, what has been hit, and what is watched for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DebugRegisters {
    addresses: [u64; 4],
    status: u64,
    control: u64,
}

/// Where user addresses end.
const TASK_SIZE_MAX: u64 = (1 << 47) - 4096;
/// `si_code` of a breakpoint of the processor.
const TRAP_HWBKPT: i32 = 4;

impl DebugRegisters {
    /// The value of a register.
    pub(crate) fn get(&self, number: usize) -> u64 {
        match number {
            0..=3 => self.addresses[number],
            6 => self.status,
            7 => self.control,
            _ => 0,
        }
    }

    /// Changes a register.
    ///
    /// # Errors
    /// `EIO` for registers that are none and addresses of the kernel, `EINVAL` for what cannot be watched for.
    pub(crate) fn set(&mut self, number: usize, value: u64) -> Result<(), Errno> {
        match number {
            0..=3 if value < TASK_SIZE_MAX => self.addresses[number] = value,
            6 => self.status = value,
            7 => {
                let changed = Self { control: value, ..*self };
                if (0..4).any(|n| changed.is_enabled(n) && changed.kind(n).is_none()) {
                    return Err(Errno::EINVAL);
                }
                self.control = value;
            }
            _ => return Err(Errno::EIO),
        }
        Ok(())
    }

    fn is_enabled(&self, n: usize) -> bool {
        self.control >> (2 * n) & 3 != 0
    }

    /// What breakpoint `n` is for: a length, or 0 for an instruction.
    fn kind(&self, n: usize) -> Option<usize> {
        let bits = self.control >> (16 + 4 * n);
        match (bits & 3, bits >> 2 & 3) {
            (0, 0) => Some(0),
            (1, 0) => Some(1),
            (1, 1) => Some(2),
            (1, 2) => Some(8),
            (1, 3) => Some(4),
            _ => None,
        }
    }

    /// What to look at while the thread runs, if anything.
    pub(super) fn watch(&self, memory: &MemoryManager) -> Option<Box<Watch>> {
        let enabled = (0..4).filter(|n| self.is_enabled(*n));
        let places: Vec<Place> = enabled
            .filter_map(|number| {
                let len = self.kind(number)?;
                let mut place = Place { number, address: self.addresses[number], len, value: [0; 8] };
                place.read(memory);
                Some(place)
            })
            .collect();
        (!places.is_empty()).then(|| Box::new(Watch(places)))
    }
}

/// What a thread is stepped for.
#[derive(Debug)]
pub(crate) struct Watch(Vec<Place>);

#[derive(Debug)]
struct Place {
    number: usize,
    address: u64,
    /// 0 for an instruction.
    len: usize,
    value: [u8; 8],
}

impl Place {
    /// Reads the value and tells whether it is another one.
    fn read(&mut self, memory: &MemoryManager) -> bool {
        let mut value = [0; 8];
        memory.read_forced(UserAddr(self.address), &mut value[..self.len]);
        std::mem::replace(&mut self.value, value) != value
    }
}

impl CurrentTask {
    /// After an instruction that was stepped over: whether that is to be seen. Breakpoints that were hit are a signal of
    /// their own.
    pub(crate) fn has_stepped(&mut self) -> bool {
        let Some(watch) = &mut self.watch else { return true };
        let (memory, rip) = (&self.mm, self.regs.rip);
        let mut hit = 0;
        for place in &mut watch.0 {
            let is_hit = if place.len == 0 { place.address == rip } else { place.read(memory) };
            hit |= u64::from(is_hit) << place.number;
        }
        if hit == 0 {
            return self.is_stepping;
        }
        /// `BS`: a step, too.
        const STEP: u64 = 0x4000;
        let step = if self.is_stepping { STEP } else { 0 };
        self.trace().lock().debug.status |= hit | step;
        self.force_signal(Signal::SIGTRAP, SigInfo::fault(Signal::SIGTRAP, TRAP_HWBKPT, rip));
        false
    }

    /// What system calls store does not count.
    pub(crate) fn forget_changes(&mut self) {
        if let Some(watch) = &mut self.watch {
            for place in &mut watch.0 {
                place.read(&self.mm);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_take_what_can_be_watched() {
        let mut registers = DebugRegisters::default();
        assert_eq!(registers.set(0, 0x1000), Ok(()));
        assert_eq!(registers.set(0, 1 << 47), Err(Errno::EIO));
        assert_eq!(registers.set(4, 0), Err(Errno::EIO));
        // Breakpoint 0, enabled: writes of four bytes, instructions; not accesses of any kind, not ports.
        for (control, allowed) in [(0xd_0001, true), (0x0_0001, true), (0xf_0001, false), (0x2_0001, false)] {
            let expected = if allowed { Ok(()) } else { Err(Errno::EINVAL) };
            assert_eq!(registers.set(7, control), expected, "{control:#x}");
        }
        // Not enabled: whatever it says.
        assert_eq!(registers.set(7, 0xf_0000), Ok(()));
        assert_eq!((registers.get(0), registers.get(7)), (0x1000, 0xf_0000));
    }
}
