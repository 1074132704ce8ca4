//! Which calls a filter allows whatever their arguments, so that it need not run for them.

use netstack::bpf::Instruction;
use sentry_abi::seccomp::{AUDIT_ARCH_X86_64, DATA_ARCH, DATA_NR, ret};

/// Numbers that are looked at; the others are decided by running the filter.
const NUMBERS: u32 = 512;

/// A set of call numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AllowedCalls([u64; (NUMBERS / 64) as usize]);

impl AllowedCalls {
    /// What a checked program allows, of what those before it do.
    pub(super) fn of(program: &[Instruction], before: Option<&Self>) -> Self {
        let mut set = [0; (NUMBERS / 64) as usize];
        for number in 0..NUMBERS {
            let may = before.is_none_or(|before| before.contains(number.into()));
            if may && is_always_allowed(program, number) {
                set[(number / 64) as usize] |= 1 << (number % 64);
            }
        }
        Self(set)
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        let word = usize::try_from(number / 64).ok().and_then(|n| self.0.get(n));
        word.is_some_and(|word| word & 1 << (number % 64) != 0)
    }
}

/// Follows the program as far as it looks at nothing but number and architecture (`seccomp_is_const_allow`).
fn is_always_allowed(program: &[Instruction], number: u32) -> bool {
    let mut a = 0;
    let mut at = 0;
    while let Some(&Instruction { code, jt, jf, k }) = program.get(at) {
        at += 1;
        let holds = match code {
            // Load a word.
            0x20 => {
                a = match k {
                    DATA_NR => number,
                    DATA_ARCH => AUDIT_ARCH_X86_64,
                    _ => return false,
                };
                continue;
            }
            // A & constant.
            0x54 => {
                a &= k;
                continue;
            }
            // Jump; the distance was checked.
            0x05 => {
                at = at.saturating_add(usize::try_from(k).unwrap_or(usize::MAX));
                continue;
            }
            0x06 => return k == ret::ALLOW,
            0x15 => a == k,
            0x25 => a > k,
            0x35 => a >= k,
            0x45 => a & k != 0,
            _ => return false,
        };
        at += usize::from(if holds { jt } else { jf });
    }
    false
}
