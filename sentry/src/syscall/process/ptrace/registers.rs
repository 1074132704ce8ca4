//! The registers of a traced thread.

use sentry_abi::ptrace::{USER_DEBUG_REGISTERS, USER_LEN, UserRegs, regset};
use sentry_platform::{FpuState, Regs, vector_features};
use zerocopy::IntoBytes;

use crate::errno::{Errno, SysResult};
use crate::mm::{IoVec, UserAddr};
use crate::syscall::process::ptrace::Traced;
use crate::task::trace::Stop;

/// Flags that a tracer can change (`FLAG_MASK`): CF PF AF ZF SF TF DF OF NT RF AC. NT, which does nothing in 64-bit
/// mode but trap, stays clear.
const CHANGEABLE_FLAGS: u64 = 0x5_0dd5;
/// Selectors of 64-bit user code.
const USER_CS: u64 = 0x33;
const USER_SS: u64 = 0x2b;
/// Where user addresses end.
const TASK_SIZE_MAX: u64 = (1 << 47) - 4096;
/// Where the kernel tells of the components in an XSAVE area.
const XSTATE_FEATURES: std::ops::Range<usize> = 464..472;

const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;
const ARCH_GET_FS: u64 = 0x1003;
const ARCH_GET_GS: u64 = 0x1004;

impl Traced<'_> {
    pub(super) fn get_regs(&self, data: u64) -> SysResult {
        let regs = self.with_stop(|stop| shown(&stop.regs))?;
        self.tracer.mm().write_obj(UserAddr(data), &regs)?;
        Ok(0)
    }

    pub(super) fn set_regs(&self, data: u64) -> SysResult {
        let regs: UserRegs = self.tracer.mm().read_obj(UserAddr(data))?;
        self.with_stop(|stop| store(&mut stop.regs, &regs))??;
        Ok(0)
    }

    /// `PTRACE_PEEKUSER`: a word of `struct user`, in which only the registers mean something.
    pub(super) fn peek_user(&self, addr: u64, data: u64) -> SysResult {
        check_user(addr)?;
        if let Some(number) = debug_register(addr) {
            let value = self.target.trace().lock().debug.get(number);
            self.tracer.mm().write_obj(UserAddr(data), &value)?;
            return Ok(0);
        }
        let regs = self.with_stop(|stop| shown(&stop.regs))?;
        let at = usize::try_from(addr).unwrap_or(usize::MAX);
        let word = regs.as_bytes().get(at..at.saturating_add(8)).unwrap_or(&[0; 8]);
        self.tracer.mm().write_bytes(UserAddr(data), word)?;
        Ok(0)
    }

    pub(super) fn poke_user(&self, addr: u64, data: u64) -> SysResult {
        check_user(addr)?;
        let at = usize::try_from(addr).unwrap_or(usize::MAX);
        if at < size_of::<UserRegs>() {
            self.with_stop(|stop| {
                let mut regs = shown(&stop.regs);
                regs.as_mut_bytes()[at..at + 8].copy_from_slice(&data.to_ne_bytes());
                store(&mut stop.regs, &regs)
            })??;
            return Ok(0);
        }
        let number = debug_register(addr).ok_or(Errno::EIO)?;
        self.target.trace().lock().debug.set(number, data)?;
        Ok(0)
    }

    pub(super) fn get_fp_regs(&mut self, data: u64) -> SysResult {
        let fpu = self.fpu()?;
        self.tracer.mm().write_bytes(UserAddr(data), &fpu.as_bytes()[..FpuState::LEGACY_LEN])?;
        Ok(0)
    }

    pub(super) fn set_fp_regs(&mut self, data: u64) -> SysResult {
        let mut legacy = [0; FpuState::LEGACY_LEN];
        self.tracer.mm().read_bytes(UserAddr(data), &mut legacy)?;
        self.set_legacy(&legacy)
    }

    pub(super) fn get_register_set(&mut self, kind: u64, data: u64) -> SysResult {
        let bytes = match kind {
            regset::NT_PRSTATUS => self.with_stop(|stop| shown(&stop.regs).as_bytes().to_vec())?,
            regset::NT_PRFPREG => self.fpu()?.as_bytes()[..FpuState::LEGACY_LEN].to_vec(),
            regset::NT_X86_XSTATE => {
                let mut bytes = self.fpu()?.as_bytes().to_vec();
                bytes[XSTATE_FEATURES].copy_from_slice(&vector_features().to_le_bytes());
                bytes
            }
            _ => return Err(Errno::EINVAL.into()),
        };
        let vec = self.vector(data)?;
        let len = usize::try_from(vec.len).unwrap_or(usize::MAX).min(bytes.len());
        self.tracer.mm().write_bytes(vec.base, &bytes[..len])?;
        self.set_vector_len(data, len)
    }

    pub(super) fn set_register_set(&mut self, kind: u64, data: u64) -> SysResult {
        let vec = self.vector(data)?;
        let given = usize::try_from(vec.len).unwrap_or(usize::MAX);
        let len = match kind {
            regset::NT_PRSTATUS => {
                let mut regs = self.with_stop(|stop| shown(&stop.regs))?;
                let len = given.min(size_of::<UserRegs>());
                self.tracer.mm().read_bytes(vec.base, &mut regs.as_mut_bytes()[..len])?;
                self.with_stop(|stop| store(&mut stop.regs, &regs))??;
                len
            }
            regset::NT_PRFPREG => {
                let mut legacy = [0; FpuState::LEGACY_LEN];
                legacy.copy_from_slice(&self.fpu()?.as_bytes()[..FpuState::LEGACY_LEN]);
                let len = given.min(legacy.len());
                self.tracer.mm().read_bytes(vec.base, &mut legacy[..len])?;
                self.set_legacy(&legacy)?;
                len
            }
            regset::NT_X86_XSTATE => {
                let mut bytes = self.fpu()?.as_bytes().to_vec();
                // The kernel takes the whole state or nothing.
                if given < bytes.len() {
                    return Err(Errno::EFAULT.into());
                }
                self.tracer.mm().read_bytes(vec.base, &mut bytes)?;
                bytes[XSTATE_FEATURES].fill(0);
                let len = bytes.len();
                self.set_fpu(bytes)?;
                len
            }
            _ => return Err(Errno::EINVAL.into()),
        };
        self.set_vector_len(data, len)
    }

    /// `PTRACE_ARCH_PRCTL`: what `arch_prctl(2)` does to the caller.
    pub(super) fn arch_prctl(&self, addr: u64, code: u64) -> SysResult {
        let value = match code {
            ARCH_SET_FS | ARCH_SET_GS if addr >= TASK_SIZE_MAX => return Err(Errno::EPERM.into()),
            ARCH_SET_FS => {
                self.with_stop(|stop| stop.regs.fs_base = addr)?;
                return Ok(0);
            }
            ARCH_SET_GS => {
                self.with_stop(|stop| stop.regs.gs_base = addr)?;
                return Ok(0);
            }
            ARCH_GET_FS => self.with_stop(|stop| stop.regs.fs_base)?,
            ARCH_GET_GS => self.with_stop(|stop| stop.regs.gs_base)?,
            _ => return Err(Errno::EINVAL.into()),
        };
        self.tracer.mm().write_obj(UserAddr(addr), &value)?;
        Ok(0)
    }

    fn vector(&self, data: u64) -> Result<IoVec, Errno> {
        let [base, len]: [u64; 2] = self.tracer.mm().read_obj(UserAddr(data))?;
        Ok(IoVec { base: UserAddr(base), len })
    }

    fn set_vector_len(&self, data: u64, len: usize) -> SysResult {
        self.tracer.mm().write_obj(UserAddr(data.wrapping_add(8)), &(len as u64))?;
        Ok(0)
    }

    /// The vector state. Only the thread itself can get it from the platform.
    fn fpu(&self) -> Result<FpuState, Errno> {
        let mut state = self.target.trace().lock();
        loop {
            let stop = state.stop.as_mut().filter(|stop| stop.resume.is_none()).ok_or(Errno::ESRCH)?;
            if let Some(fpu) = &stop.fpu {
                return Ok(fpu.clone());
            }
            stop.is_fpu_wanted = true;
            self.target.waiter().wake();
            self.target.trace().wait_for_answer(&mut state);
        }
    }

    fn set_legacy(&self, legacy: &[u8]) -> SysResult {
        let mut bytes = self.fpu()?.as_bytes().to_vec();
        bytes[..FpuState::LEGACY_LEN].copy_from_slice(legacy);
        // x87 and SSE are in use as stored.
        bytes[FpuState::LEGACY_LEN] |= 3;
        self.set_fpu(bytes)
    }

    fn set_fpu(&self, bytes: Vec<u8>) -> SysResult {
        let fpu = FpuState::new(bytes).ok_or(Errno::EINVAL)?;
        self.with_stop(|stop: &mut Stop| {
            stop.fpu = Some(fpu);
            stop.is_fpu_changed = true;
        })?;
        Ok(0)
    }
}

fn check_user(addr: u64) -> Result<(), Errno> {
    if addr.is_multiple_of(8) && addr < USER_LEN { Ok(()) } else { Err(Errno::EIO) }
}

/// The number of the debug register at an offset of `struct user`.
fn debug_register(addr: u64) -> Option<usize> {
    usize::try_from(addr.checked_sub(USER_DEBUG_REGISTERS)? / 8).ok()
}

fn shown(regs: &Regs) -> UserRegs {
    let Regs { r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, .. } = *regs;
    let Regs { orig_rax, rip, rflags, rsp, fs_base, gs_base, .. } = *regs;
    UserRegs {
        r15,
        r14,
        r13,
        r12,
        rbp,
        rbx,
        r11,
        r10,
        r9,
        r8,
        rax,
        rcx,
        rdx,
        rsi,
        rdi,
        orig_rax,
        rip,
        cs: USER_CS,
        eflags: rflags,
        rsp,
        ss: USER_SS,
        fs_base,
        gs_base,
        ..UserRegs::default()
    }
}

fn store(to: &mut Regs, from: &UserRegs) -> Result<(), Errno> {
    if from.fs_base >= TASK_SIZE_MAX || from.gs_base >= TASK_SIZE_MAX {
        return Err(Errno::EIO);
    }
    let UserRegs { r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, .. } = *from;
    let UserRegs { orig_rax, rip, eflags, rsp, fs_base, gs_base, .. } = *from;
    let rflags = to.rflags & !CHANGEABLE_FLAGS | eflags & CHANGEABLE_FLAGS;
    *to = Regs {
        r15,
        r14,
        r13,
        r12,
        rbp,
        rbx,
        r11,
        r10,
        r9,
        r8,
        rax,
        rcx,
        rdx,
        rsi,
        rdi,
        orig_rax,
        rip,
        rflags,
        rsp,
        fs_base,
        gs_base,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use zerocopy::FromBytes;

    use super::*;

    #[test]
    fn tracer_cannot_set_privileged_flags_or_kernel_addresses() {
        let mut regs = Regs { rflags: 0x202, ..Regs::default() };
        let given = UserRegs { eflags: u64::MAX, orig_rax: 7, r15: 15, ..UserRegs::default() };
        store(&mut regs, &given).unwrap();
        // IOPL (0x3000), NT (0x4000) and VM (0x20000) stay clear, interrupts on.
        assert_eq!(regs.rflags & 0x2_7202, 0x202);
        assert_eq!((regs.orig_rax, regs.r15), (7, 15));
        assert_eq!(store(&mut regs, &UserRegs { fs_base: 1 << 47, ..given }), Err(Errno::EIO));
        assert_eq!(shown(&regs).cs, 0x33);
        // The offsets that PTRACE_PEEKUSER is used with.
        let bytes = UserRegs { rip: 0x1234, ..UserRegs::default() };
        assert_eq!(u64::read_from_bytes(&bytes.as_bytes()[128..136]), Ok(0x1234));
        assert_eq!(size_of::<UserRegs>(), 216);
    }
}
