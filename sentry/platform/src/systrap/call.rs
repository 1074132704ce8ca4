//! A guest stopped at a rewritten call: its registers are in the thread area, without a signal frame.

use std::sync::atomic::Ordering;

use crate::regs::Regs;
use crate::stub::control::Window;
use crate::stub::hand_over as word;

/// The status flags: overflow, and those that `lahf` has, in their places in `rflags`.
const OVERFLOW: u64 = 1 << 11;
const LAHF: u64 = 0xd5;
/// What user code always has set: interrupts enabled, and bit 1.
const ALWAYS: u64 = 0x202;

/// Copies the guest's registers out, as at a system call.
pub(super) fn load(area: &Window, regs: &mut Regs) {
    let get = |at: u64| area.u64(at).load(Ordering::Relaxed);
    let flags = u64::from(area.u32(word::FLAGS).load(Ordering::Relaxed));
    let overflow = if flags & 1 != 0 { OVERFLOW } else { 0 };
    let rflags = ALWAYS | overflow | flags >> 8 & LAHF;
    // The kernel's way into a call takes 32 bits of the number.
    let number = get(word::RAX) & 0xffff_ffff;
    let rip = get(word::RIP);
    *regs = Regs {
        rax: number,
        orig_rax: number,
        rcx: rip,
        r11: rflags,
        rflags,
        fs_base: get(word::FS_BASE),
        gs_base: 0,
        rbx: get(word::RBX),
        rdi: get(word::RDI),
        rsi: get(word::RSI),
        rdx: get(word::RDX),
        rbp: get(word::RBP),
        rsp: get(word::RSP),
        r8: get(word::R8),
        r9: get(word::R9),
        r10: get(word::R10),
        r12: get(word::R12),
        r13: get(word::R13),
        r14: get(word::R14),
        r15: get(word::R15),
        rip,
    };
}

/// Whether `after` differs from the registers at the call by its result only, so that the guest can go on without a
/// frame. `rcx` and `r11` are lost in a call anyway.
pub(super) fn is_plain_return(at_call: &Regs, after: &Regs) -> bool {
    let Regs { rax, rcx, r11, orig_rax, .. } = *after;
    Regs { rax, rcx, r11, orig_rax, ..*at_call } == *after
}

/// Stores the result of the call.
pub(super) fn store_result(area: &Window, regs: &Regs) {
    area.u64(word::RAX).store(regs.rax, Ordering::Relaxed);
}
