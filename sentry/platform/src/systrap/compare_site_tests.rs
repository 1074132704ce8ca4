//! The emulated comparison against the processor's, and what is recognised.

use super::*;

/// What the processor makes of `cmp a, b`.
fn flags_of(a: u64, b: u64) -> u64 {
    let flags: u64;
    // SAFETY: compares two registers and reads the flags; the pushed word is popped again.
    unsafe {
        std::arch::asm!("cmp {a}, {b}", "pushfq", "pop {flags}", a = in(reg) a, b = in(reg) b, flags = out(reg) flags);
    }
    flags & 0x8d5
}

#[test]
fn flags_are_those_of_the_processor() {
    let interesting =
        [0, 1, 2, 15, 16, 0x7f, 0x80, 0xff, 0x1000, u64::from(u32::MAX), i64::MAX as u64, 1 << 63];
    let results = interesting.into_iter().chain((0..5000).map(|n: u64| n.wrapping_neg()));
    for rax in results {
        for with in [-4096, -4095, -1, 0, 1, 0x1010, i32::MIN, i32::MAX] {
            let mut regs = Regs { rax, rip: 0x1000, rflags: 0x202 | 0x8d5, ..Regs::default() };
            compare(&mut regs, with);
            assert_eq!(regs.rflags, 0x202 | flags_of(rax, i64::from(with) as u64), "{rax:#x} {with}");
            assert_eq!((regs.rip, regs.rax), (0x1006, rax));
        }
    }
}

#[test]
fn calls_with_a_comparison_are_taken_unless_prefixed() {
    let mut site = [0xc0, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff];
    assert_eq!(operand_of(&site), Some(-4095));
    site[5] = 0;
    assert_eq!(operand_of(&site), Some(-4096));
    for prefix in [0x66, 0x48, 0xf3, 0x2e] {
        assert_eq!(operand_of(&[&[prefix], &site[1..]].concat().try_into().unwrap()), None);
    }
    // cmp eax, imm32, which has no prefix.
    assert_eq!(operand_of(&[0xc0, 0x0f, 0x05, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x90]), None);
}
