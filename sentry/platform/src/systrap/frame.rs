//! The signal frame that the kernel saved on a guest thread's signal stack: registers and vector state.
//!
//! It lies in memory that the guest can write. Its place is checked, its words are copied once, and what is restored
//! from it was written by the sentry or concerns the guest alone.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use crate::fpu::FpuState;
use crate::host;
use crate::regs::Regs;
use crate::stub::control::Window;
use crate::stub::hand_over as word;
use crate::stub::layout::{SIGNAL_STACK, THREAD_LEN};

// Offsets in the kernel's `struct ucontext` (arch/x86/include/uapi/asm/{ucontext,sigcontext}.h).
const FLAGS: u64 = 0;
const STACK: u64 = 16;
const R8: u64 = 40;
const RFLAGS: u64 = 176;
const SELECTORS: u64 = 184;
const ERROR_CODE: u64 = 192;
const TRAPNO: u64 = 200;
const FPSTATE: u64 = 224;
const SIGNAL_MASK: u64 = 296;
const LEN: u64 = 304;

// The siginfo_t follows.
const SI_CODE: u64 = LEN + 8;
const SI_ADDR: u64 = LEN + 16;
const SI_ARCH: u64 = LEN + 28;
const SIGINFO_LEN: u64 = 128;

/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const FLAGS_VALUE: u64 = 7;
/// `cs` 0x33 and `ss` 0x2b, the 64-bit user segments, in the order cs, gs, fs, ss.
const SELECTORS_VALUE: u64 = 0x33 | 0x2b << 48;

// In the XSAVE area: what the kernel keeps in the bytes that the processor leaves to software (struct _fpx_sw_bytes).
const SOFTWARE: usize = 464;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;

/// A checked place in a thread area.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// Offset of the `ucontext`.
    at: u64,
    /// Offset of the XSAVE area.
    fpstate: u64,
}

/// What stopped the guest, as the kernel told the handler.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cause {
    pub(super) code: i32,
    pub(super) addr: u64,
    pub(super) arch: u32,
    pub(super) trapno: u64,
    pub(super) error_code: u64,
}

impl Frame {
    /// Finds the frame that the stub reported; `None` if it is nowhere a kernel would have put it.
    pub(super) fn locate(area: &Window, area_address: u64) -> Option<Self> {
        let inside = |address: u64, len: u64, align: u64| {
            let at = address.checked_sub(area_address)?;
            let fits = at >= SIGNAL_STACK && at.checked_add(len)? <= THREAD_LEN && at.is_multiple_of(align);
            fits.then_some(at)
        };
        let at = inside(area.u64(word::FRAME).load(Ordering::Relaxed), LEN + SIGINFO_LEN, 8)?;
        let state = area.u64(at + FPSTATE).load(Ordering::Relaxed);
        let fpstate = inside(state, host::word(xsave_len()) + 4, 64)?;
        Some(Self { at, fpstate })
    }

    /// Copies the guest's registers out.
    pub(super) fn load(self, area: &Window, regs: &mut Regs) {
        let get = |n: u64| area.u64(self.at + R8 + 8 * n).load(Ordering::Relaxed);
        *regs = Regs {
            r8: get(0),
            r9: get(1),
            r10: get(2),
            r11: get(3),
            r12: get(4),
            r13: get(5),
            r14: get(6),
            r15: get(7),
            rdi: get(8),
            rsi: get(9),
            rbp: get(10),
            rbx: get(11),
            rdx: get(12),
            rax: get(13),
            rcx: get(14),
            rsp: get(15),
            rip: get(16),
            rflags: get(17),
            orig_rax: u64::MAX,
            fs_base: area.u64(word::FS_BASE).load(Ordering::Relaxed),
            gs_base: area.u64(word::GS_BASE).load(Ordering::Relaxed),
        };
    }

    /// Puts registers in, to be loaded when the handler returns, together with everything a guest may have bent.
    pub(super) fn store(self, area: &Window, area_address: u64, regs: &Regs) {
        let Regs { r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, .. } = *regs;
        let Regs { orig_rax: _, rip, rflags, fs_base, gs_base, .. } = *regs;
        let put = |at: u64, value: u64| area.u64(self.at + at).store(value, Ordering::Relaxed);
        let general =
            [r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags];
        for (n, value) in (0..).zip(general) {
            put(R8 + 8 * n, value);
        }
        const { assert!(R8 + 8 * 17 == RFLAGS) };
        put(SELECTORS, SELECTORS_VALUE);
        put(FLAGS, FLAGS_VALUE);
        put(STACK, area_address + SIGNAL_STACK);
        put(STACK + 8, 0);
        put(STACK + 16, THREAD_LEN - SIGNAL_STACK);
        put(SIGNAL_MASK, 0);
        put(FPSTATE, area_address + self.fpstate);
        area.u64(word::FRAME).store(area_address + self.at, Ordering::Relaxed);
        area.u64(word::FS_BASE).store(user_address(fs_base), Ordering::Relaxed);
        area.u64(word::GS_BASE).store(user_address(gs_base), Ordering::Relaxed);
    }

    /// What the kernel told the handler.
    pub(super) fn cause(self, area: &Window) -> Cause {
        let long = |at: u64| area.u64(self.at + at).load(Ordering::Relaxed);
        let word = |at: u64| area.u32(self.at + at).load(Ordering::Relaxed);
        Cause {
            code: word(SI_CODE).cast_signed(),
            addr: long(SI_ADDR),
            arch: word(SI_ARCH),
            trapno: long(TRAPNO),
            error_code: long(ERROR_CODE),
        }
    }

    /// Copies the vector state out.
    pub(super) fn fpu(self, area: &Window) -> FpuState {
        let mut bytes = vec![0; xsave_len()];
        area.read(self.fpstate, &mut bytes);
        bytes[SOFTWARE..FpuState::LEGACY_LEN].fill(0);
        FpuState::new(bytes).unwrap_or_else(FpuState::initial)
    }

    /// Replaces the vector state.
    pub(super) fn set_fpu(self, area: &Window, state: &FpuState) {
        let mut bytes = state.padded(xsave_len(), xsave_features());
        let len = u32::try_from(xsave_len()).unwrap_or(0);
        let software = [MAGIC1, len + 4];
        for (n, value) in software.into_iter().enumerate() {
            bytes[SOFTWARE + 4 * n..][..4].copy_from_slice(&value.to_le_bytes());
        }
        bytes[SOFTWARE + 8..][..8].copy_from_slice(&xsave_features().to_le_bytes());
        bytes[SOFTWARE + 16..][..4].copy_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&MAGIC2.to_le_bytes());
        area.write(self.fpstate, &bytes);
    }
}

/// A base that the stub can load without a fault: guests get no others from arch_prctl(2) either.
fn user_address(base: u64) -> u64 {
    if base < 1 << 47 { base } else { 0 }
}

/// The features whose state a signal frame holds: what the host enabled, less AMX, which a process must ask for
/// (`ARCH_REQ_XCOMP_PERM`) and stubs do not.
fn xsave_features() -> u64 {
    static FEATURES: OnceLock<u64> = OnceLock::new();
    const TILE_DATA: u64 = 1 << 18;
    // SAFETY: FSGSBASE, which the backend requires, came long after XSAVE.
    *FEATURES.get_or_init(|| unsafe { xcr0() } & !TILE_DATA)
}

/// The components of the vector state that guests use, as in the processor's control register `XCR0`.
#[must_use]
pub fn vector_features() -> u64 {
    xsave_features()
}

/// The length of the XSAVE area in a signal frame, without the trailing magic number.
fn xsave_len() -> usize {
    static LEN: OnceLock<usize> = OnceLock::new();
    *LEN.get_or_init(|| {
        let components = (2..63).filter(|n| xsave_features() & 1 << n != 0);
        let ends = components.map(|n| {
            // CPUID leaf 0xd, one subleaf per component: size and offset (Intel SDM, volume 1, 13.2).
            let component = std::arch::x86_64::__cpuid_count(0xd, n);
            component.eax + component.ebx
        });
        host::address(u64::from(ends.max().unwrap_or(0))).max(FpuState::MIN_LEN)
    })
}

/// Reads the extended control register 0.
///
/// # Safety
/// The processor must have XSAVE, enabled by the kernel.
#[target_feature(enable = "xsave")]
unsafe fn xcr0() -> u64 {
    // SAFETY: the caller's promise.
    unsafe { std::arch::x86_64::_xgetbv(0) }
}
