//! Rewriting call sites that compare the result: `syscall; cmp rax, -4096`, however the number got into `eax`.
//!
//! ```text
//! 0f 05 48 3d i0 i1 i2 i3   ->   ff 24 e5 a0 a1 06 00 90      jmp [0x0006_a1a0]; nop
//! ```
//! The entry of the table compares before it goes back. What makes this safe without knowing where threads are is e5, a
//! scale for an index that is not there, which the jump ignores: a thread that comes to the old place of `cmp` executes
//! `in eax, a0`, which only the kernel may, and gets SIGSEGV. The sentry then compares for it. That happens to whoever
//! was in a call when its site was rewritten, returns there from a signal handler, or begins there as a fork's child.
//! The sentry therefore shows and accepts the registers of an ordinary call throughout.

use crate::regs::Regs;

/// The length of a site: `syscall` and `cmp rax, imm32`.
pub(super) const LEN: u64 = CALL_LEN + COMPARE_LEN;
/// The length of `syscall`.
pub(super) const CALL_LEN: u64 = 2;
const COMPARE_LEN: u64 = 6;
/// The first byte of `in eax, imm8`, which is also a SIB byte that means an absolute address.
pub(super) const PRIVILEGED: u8 = 0xe5;

/// The status flags that a comparison sets, in `rflags`.
const CARRY: u64 = 1;
const PARITY: u64 = 1 << 2;
const ADJUST: u64 = 1 << 4;
const ZERO: u64 = 1 << 6;
const SIGN: u64 = 1 << 7;
const OVERFLOW: u64 = 1 << 11;

/// What the site compares with, if it can be rewritten. `bytes` are those of the site with one before it.
pub(super) fn operand_of(bytes: &[u8; 1 + LEN as usize]) -> Option<i32> {
    let [last, 0x0f, 0x05, 0x48, 0x3d, i0, i1, i2, i3] = *bytes else { return None };
    // A prefix does nothing to `syscall` but might to the jump.
    let is_prefix =
        matches!(last, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    (!is_prefix).then_some(i32::from_le_bytes([i0, i1, i2, i3]))
}

/// The jump through `address`.
pub(super) fn jump(address: u32) -> [u8; LEN as usize] {
    let [a0, a1, a2, a3] = address.to_le_bytes();
    [0xff, 0x24, PRIVILEGED, a0, a1, a2, a3, 0x90]
}

/// What the site was before.
pub(super) fn original(with: i32) -> [u8; LEN as usize] {
    let [i0, i1, i2, i3] = with.to_le_bytes();
    [0x0f, 0x05, 0x48, 0x3d, i0, i1, i2, i3]
}

/// Does what `cmp rax, imm32` does (Intel SDM, volume 2, CMP).
pub(super) fn compare(regs: &mut Regs, with: i32) {
    let (a, b) = (regs.rax, i64::from(with).cast_unsigned());
    let difference = a.wrapping_sub(b);
    let mut flags = 0;
    let mut set = |flag: u64, on: bool| flags |= if on { flag } else { 0 };
    set(CARRY, a < b);
    set(PARITY, (difference & 0xff).count_ones().is_multiple_of(2));
    set(ADJUST, (a ^ b ^ difference) & 0x10 != 0);
    set(ZERO, difference == 0);
    set(SIGN, difference >> 63 != 0);
    set(OVERFLOW, ((a ^ b) & (a ^ difference)) >> 63 != 0);
    regs.rflags = regs.rflags & !(CARRY | PARITY | ADJUST | ZERO | SIGN | OVERFLOW) | flags;
    regs.rip = regs.rip.wrapping_add(COMPARE_LEN);
}

#[cfg(test)]
#[path = "compare_site_tests.rs"]
mod tests;
