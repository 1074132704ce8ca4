//! Signal frames of x86-64: what a handler finds on its stack, and `rt_sigreturn(2)`.
//!
//! Layout as `struct rt_sigframe` of the kernel: return address, `ucontext_t`, `siginfo_t`, and above them the XSAVE
//! area that `uc_mcontext.fpregs` points to.

use sentry_abi::signal::{SigAction, SigInfo, SigSet, Signal, StackT, sa};
use sentry_platform::{FpuState, Regs};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::task::CurrentTask;

/// `struct sigcontext`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SigContext {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    eflags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    err: u64,
    trapno: u64,
    oldmask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
}

/// `struct ucontext` with the kernel's 8-byte signal set.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UContext {
    flags: u64,
    link: u64,
    stack: StackT,
    mcontext: SigContext,
    sigmask: SigSet,
}

/// `struct rt_sigframe`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Frame {
    return_to: u64,
    context: UContext,
    info: SigInfo,
}

const FRAME_SIZE: u64 = size_of::<Frame>() as u64;

/// The area below the stack pointer that leaf functions use (System V ABI, 3.2.2).
const RED_ZONE: u64 = 128;
/// Selectors of 64-bit user code.
const USER_CS: u16 = 0x33;
const USER_SS: u16 = 0x2b;
/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const UC_FLAGS: u64 = 1 | 2 | 4;
/// Flags that a handler starts without: direction, single step, resume.
const HANDLER_CLEARS: u64 = 0x400 | 0x100 | 0x1_0000;
/// Flags that `rt_sigreturn` takes from the frame (`FIX_EFLAGS`): AC OF DF TF SF ZF AF PF CF RF.
const RESTORED_FLAGS: u64 = 0x4_0000 | 0x800 | 0x400 | 0x100 | 0x80 | 0x40 | 0x10 | 4 | 1 | 0x1_0000;

/// Where the kernel's software bytes are in the legacy region of the XSAVE area.
const SW_RESERVED: usize = 464;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// Where XSTATE_BV is.
const XSTATE_BV: usize = 512;
/// The largest XSAVE area that is read back: more than any processor has without AMX.
const MAX_XSAVE: usize = 16 << 10;

impl CurrentTask {
    /// Puts a frame on the stack and makes the guest go on in the handler.
    ///
    /// # Errors
    /// `EFAULT` when the stack cannot take it, or without `SA_RESTORER`, which x86-64 needs.
    pub(crate) fn push_signal_frame(
        &mut self,
        signal: Signal,
        info: &SigInfo,
        action: &SigAction,
        return_mask: SigSet,
    ) -> Result<(), Errno> {
        if action.flags & sa::RESTORER == 0 {
            return Err(Errno::EFAULT);
        }
        let alt = self.signals.lock().alt_stack;
        let mut sp = self.regs.rsp.wrapping_sub(RED_ZONE);
        let is_on_alt = alt.contains(self.regs.rsp);
        let uses_alt = action.flags & sa::ONSTACK != 0 && !is_on_alt && alt.flags & StackT::DISABLE == 0;
        if uses_alt {
            sp = alt.sp.wrapping_add(alt.size);
        }
        let fpu = self.context.fpu();
        let xsave = fpu.as_bytes();
        let fp_at = sp.wrapping_sub(xsave.len() as u64 + 4) & !63;
        // As after a call instruction: the stack is aligned before the return address was pushed.
        let frame_at = (fp_at.wrapping_sub(FRAME_SIZE) & !15).wrapping_sub(8);
        // A frame that leaves the alternate stack would run over whatever is below it.
        if (uses_alt || is_on_alt) && !alt.contains(frame_at) {
            return Err(Errno::EFAULT);
        }
        self.write_fpu_area(fp_at, xsave)?;
        let fault = self.last_fault.take();
        let mut mcontext = save_registers(&self.regs);
        mcontext.fpstate = fp_at;
        mcontext.oldmask = return_mask.0;
        if let Some(fault) = fault {
            mcontext.err = fault.error_code;
            mcontext.trapno = fault.trapno;
            mcontext.cr2 = fault.addr;
        }
        let on_stack = if is_on_alt { StackT::ONSTACK } else { 0 };
        let stack = StackT::new(alt.sp, alt.flags | on_stack, alt.size);
        let context = UContext { flags: UC_FLAGS, link: 0, stack, mcontext, sigmask: return_mask };
        let frame = Frame { return_to: action.restorer, context, info: *info };
        self.mm.write_obj(UserAddr(frame_at), &frame)?;
        if alt.flags & StackT::AUTODISARM != 0 {
            self.signals.lock().alt_stack = StackT::DISABLED;
        }
        let context_at = frame_at.wrapping_add(8);
        let regs = &mut self.regs;
        regs.rdi = u64::from(signal.number().unsigned_abs());
        regs.rsi = context_at.wrapping_add(size_of::<UContext>() as u64);
        regs.rdx = context_at;
        regs.rax = 0;
        regs.rip = action.handler;
        regs.rsp = frame_at;
        regs.rflags &= !HANDLER_CLEARS;
        Ok(())
    }

    fn write_fpu_area(&self, at: u64, xsave: &[u8]) -> Result<(), Errno> {
        let mut area = xsave.to_vec();
        let size = u32::try_from(area.len()).map_err(|_| Errno::EFAULT)?;
        let features = available_features(&area);
        area[SW_RESERVED..SW_RESERVED + 4].copy_from_slice(&MAGIC1.to_le_bytes());
        area[SW_RESERVED + 4..SW_RESERVED + 8].copy_from_slice(&(size + 4).to_le_bytes());
        area[SW_RESERVED + 8..SW_RESERVED + 16].copy_from_slice(&features.to_le_bytes());
        area[SW_RESERVED + 16..SW_RESERVED + 20].copy_from_slice(&size.to_le_bytes());
        area.extend_from_slice(&MAGIC2.to_le_bytes());
        self.mm.write_bytes(UserAddr(at), &area)
    }

    /// `rt_sigreturn(2)`: goes back to what the frame on the stack says.
    ///
    /// # Errors
    /// Never to the guest; a bad frame is `SIGSEGV`.
    pub(crate) fn signal_return(&mut self) -> SysResult {
        // The handler's `ret` has popped the return address.
        let at = UserAddr(self.regs.rsp.wrapping_sub(8));
        if self.try_signal_return(at).is_err() {
            self.fault_on_frame(Signal::SIGILL);
        }
        // What was interrupted is over: no call is made again.
        self.regs.orig_rax = u64::MAX;
        // The dispatcher stores the result in rax: it must be the restored one.
        Ok(self.regs.rax)
    }

    fn try_signal_return(&mut self, at: UserAddr) -> Result<(), Errno> {
        let frame: Frame = self.mm.read_obj(at)?;
        let UContext { flags: _, link: _, stack, mcontext, sigmask } = frame.context;
        if mcontext.fpstate != 0 {
            let state = self.read_fpu_area(mcontext.fpstate)?;
            self.context.set_fpu(&state);
        } else {
            self.context.set_fpu(&FpuState::initial());
        }
        restore_registers(&mut self.regs, &mcontext);
        self.set_signal_mask(sigmask);
        // As `restore_altstack`: errors do not matter.
        let _ = crate::syscall::signal::sigaltstack::set_stack(self, &stack);
        Ok(())
    }

    fn read_fpu_area(&self, at: u64) -> Result<FpuState, Errno> {
        let mut legacy = [0; FpuState::MIN_LEN];
        self.mm.read_bytes(UserAddr(at), &mut legacy[..512])?;
        let word =
            |at: usize| u32::from_le_bytes([legacy[at], legacy[at + 1], legacy[at + 2], legacy[at + 3]]);
        let size = word(SW_RESERVED + 16) as usize;
        let is_extended = word(SW_RESERVED) == MAGIC1
            && (FpuState::MIN_LEN..=MAX_XSAVE).contains(&size)
            && self.mm.read_obj::<u32>(UserAddr(at.wrapping_add(size as u64))) == Ok(MAGIC2);
        let mut area = if is_extended {
            let mut area = vec![0; size];
            self.mm.read_bytes(UserAddr(at), &mut area)?;
            area
        } else {
            // A frame of FXSAVE format: x87 and SSE only.
            legacy[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&3_u64.to_le_bytes());
            legacy.to_vec()
        };
        sanitise(&mut area, self.context_features());
        FpuState::new(area).ok_or(Errno::EFAULT)
    }

    /// The state components that the processor has enabled.
    fn context_features(&self) -> u64 {
        ENABLED_FEATURES
    }
}

/// x87, SSE, AVX, AVX-512 (opmask, ZMM_Hi256, Hi16_ZMM) and PKRU: what an XRSTOR of user state may name.
const ENABLED_FEATURES: u64 = 0b10_1110_0111;

/// The components that the area has room for. The kernel writes its enabled user features here.
fn available_features(area: &[u8]) -> u64 {
    // Bytes 464.. of a host frame have the host's answer already where the backend copied one.
    let mut word = [0; 8];
    word.copy_from_slice(&area[SW_RESERVED + 8..SW_RESERVED + 16]);
    let known = u64::from_le_bytes(word);
    if known == 0 { ENABLED_FEATURES } else { known & ENABLED_FEATURES }
}

/// Makes an area that the guest wrote acceptable to XRSTOR: no reserved bits of MXCSR and the header.
fn sanitise(area: &mut [u8], features: u64) {
    let mut word = [0; 8];
    word.copy_from_slice(&area[XSTATE_BV..XSTATE_BV + 8]);
    let used = u64::from_le_bytes(word) & features;
    area[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&used.to_le_bytes());
    area[XSTATE_BV + 8..XSTATE_BV + 64].fill(0);
    // MXCSR: the upper half is reserved (Intel SDM, volume 1, 10.2.3).
    area[26] = 0;
    area[27] = 0;
}

fn save_registers(regs: &Regs) -> SigContext {
    SigContext {
        r8: regs.r8,
        r9: regs.r9,
        r10: regs.r10,
        r11: regs.r11,
        r12: regs.r12,
        r13: regs.r13,
        r14: regs.r14,
        r15: regs.r15,
        rdi: regs.rdi,
        rsi: regs.rsi,
        rbp: regs.rbp,
        rbx: regs.rbx,
        rdx: regs.rdx,
        rax: regs.rax,
        rcx: regs.rcx,
        rsp: regs.rsp,
        rip: regs.rip,
        eflags: regs.rflags,
        cs: USER_CS,
        ss: USER_SS,
        ..SigContext::default()
    }
}

fn restore_registers(regs: &mut Regs, from: &SigContext) {
    regs.r8 = from.r8;
    regs.r9 = from.r9;
    regs.r10 = from.r10;
    regs.r11 = from.r11;
    regs.r12 = from.r12;
    regs.r13 = from.r13;
    regs.r14 = from.r14;
    regs.r15 = from.r15;
    regs.rdi = from.rdi;
    regs.rsi = from.rsi;
    regs.rbp = from.rbp;
    regs.rbx = from.rbx;
    regs.rdx = from.rdx;
    regs.rax = from.rax;
    regs.rcx = from.rcx;
    regs.rsp = from.rsp;
    regs.rip = from.rip;
    regs.rflags = (regs.rflags & !RESTORED_FLAGS) | (from.eflags & RESTORED_FLAGS);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets of the kernel's structures on x86-64 (`asm/sigframe.h`, `asm/sigcontext.h`).
    #[test]
    fn frame_has_the_layout_of_the_kernel() {
        assert_eq!(size_of::<SigContext>(), 256);
        assert_eq!(size_of::<UContext>(), 304);
        assert_eq!(size_of::<SigInfo>(), 128);
        assert_eq!(size_of::<Frame>(), 440);
        assert_eq!(std::mem::offset_of!(UContext, mcontext), 40);
        assert_eq!(std::mem::offset_of!(UContext, sigmask), 296);
        assert_eq!(std::mem::offset_of!(SigContext, rip), 128);
        assert_eq!(std::mem::offset_of!(SigContext, fpstate), 184);
    }

    #[test]
    fn registers_survive_the_frame() {
        let mut regs = Regs { r8: 8, r15: 15, rax: 1, rcx: 2, rip: 3, rsp: 4, rdi: 5, ..Regs::default() };
        regs.rflags = 0x246;
        let saved = save_registers(&regs);
        let mut back = Regs { rflags: 0x202, ..Regs::default() };
        restore_registers(&mut back, &saved);
        assert_eq!(back, regs);
    }

    #[test]
    fn guest_cannot_set_privileged_flags_or_reserved_fpu_bits() {
        let mut regs = Regs { rflags: 0x202, ..Regs::default() };
        let from = SigContext { eflags: u64::MAX, ..SigContext::default() };
        restore_registers(&mut regs, &from);
        // IOPL (0x3000), NT (0x4000) and VM (0x20000) stay clear.
        assert_eq!(regs.rflags & 0x2_7000, 0);
        let mut area = vec![0xff; 832];
        sanitise(&mut area, 7);
        assert_eq!(&area[XSTATE_BV..XSTATE_BV + 16], &[7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&area[24..28], &[0xff, 0xff, 0, 0]);
    }
}
