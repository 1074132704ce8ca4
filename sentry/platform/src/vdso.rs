//! Code of the vDSO: it reads the processor's time-stamp counter and a page of parameters that the sentry keeps up to
//! date, and makes the system call where it cannot.
//!
//! The code is position-independent; the parameters are in the page [`PARAMETERS_BEFORE`] bytes before its start.

use std::arch::{global_asm, x86_64};

/// How far before the code the parameter page starts.
pub const PARAMETERS_BEFORE: usize = 0x1800;

/// The functions and their offsets in the code.
#[derive(Debug, Clone, Copy)]
pub struct VdsoCode {
    /// The bytes.
    pub text: &'static [u8],
    /// Names as `vdso(7)` has them.
    pub symbols: [(&'static str, usize); 4],
}

// Parameters: u32 sequence (odd while they change), u32 usable, then u64: counter at the base, multiplier (nanoseconds
// per tick, shifted left by 32), base of CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME in nanoseconds.
global_asm!(
    ".pushsection .rodata.sentry_vdso,\"a\",@progbits",
    ".balign 64",
    ".globl sentry_vdso_start",
    "sentry_vdso_start:",
    // rax = nanoseconds since the base plus the u64 at [r8 + r9]; ZF set when the parameters cannot be used.
    "2:",
    "lea r8, [rip + sentry_vdso_start - {before}]",
    "3:",
    "mov r10d, dword ptr [r8]",
    "test r10d, 1",
    "jnz 4f",
    "cmp dword ptr [r8 + 4], 0",
    "je 5f",
    "lfence",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "sub rax, qword ptr [r8 + 8]",
    // The counter of another core may lag behind the base by a few ticks.
    "jnc 6f",
    "xor eax, eax",
    "6:",
    "mul qword ptr [r8 + 16]",
    "shrd rax, rdx, 32",
    "add rax, qword ptr [r8 + r9]",
    "cmp r10d, dword ptr [r8]",
    "jne 3b",
    "test r8, r8",
    "ret",
    "4:",
    "pause",
    "jmp 3b",
    "5:",
    "ret",
    ".balign 16",
    "sentry_vdso_clock_gettime:",
    "cmp edi, 7",
    "ja 7f",
    "mov r9d, 24",
    // CLOCK_MONOTONIC, _RAW, _COARSE.
    "mov ecx, 0x52",
    "bt ecx, edi",
    "jc 8f",
    "mov r9d, 32",
    // CLOCK_REALTIME, _COARSE.
    "mov ecx, 0x21",
    "bt ecx, edi",
    "jc 8f",
    "mov r9d, 40",
    "cmp edi, 7",
    "jne 7f",
    "8:",
    "call 2b",
    "jz 7f",
    "xor edx, edx",
    "mov ecx, 1000000000",
    "div rcx",
    "mov qword ptr [rsi], rax",
    "mov qword ptr [rsi + 8], rdx",
    "xor eax, eax",
    "ret",
    "7:",
    "mov eax, 228",
    "syscall",
    "ret",
    ".balign 16",
    "sentry_vdso_gettimeofday:",
    "test rdi, rdi",
    "jz 9f",
    "mov r9d, 32",
    "call 2b",
    "jz 9f",
    "xor edx, edx",
    "mov ecx, 1000000000",
    "div rcx",
    "mov qword ptr [rdi], rax",
    "mov rax, rdx",
    "xor edx, edx",
    "mov ecx, 1000",
    "div rcx",
    "mov qword ptr [rdi + 8], rax",
    "test rsi, rsi",
    "jz 10f",
    "mov qword ptr [rsi], 0",
    "10:",
    "xor eax, eax",
    "ret",
    "9:",
    "mov eax, 96",
    "syscall",
    "ret",
    ".balign 16",
    "sentry_vdso_time:",
    "mov r9d, 32",
    "call 2b",
    "jz 12f",
    "xor edx, edx",
    "mov ecx, 1000000000",
    "div rcx",
    "test rdi, rdi",
    "jz 13f",
    "mov qword ptr [rdi], rax",
    "13:",
    "ret",
    "12:",
    "mov eax, 201",
    "syscall",
    "ret",
    ".balign 16",
    "sentry_vdso_getcpu:",
    "mov eax, 309",
    "syscall",
    "ret",
    ".globl sentry_vdso_offsets",
    ".balign 8",
    "sentry_vdso_end:",
    "sentry_vdso_offsets:",
    ".quad sentry_vdso_end - sentry_vdso_start",
    ".quad sentry_vdso_clock_gettime - sentry_vdso_start",
    ".quad sentry_vdso_gettimeofday - sentry_vdso_start",
    ".quad sentry_vdso_time - sentry_vdso_start",
    ".quad sentry_vdso_getcpu - sentry_vdso_start",
    ".popsection",
    before = const PARAMETERS_BEFORE,
);

unsafe extern "C" {
    static sentry_vdso_start: [u8; 0];
    static sentry_vdso_offsets: [u64; 5];
}

/// The code of the vDSO.
#[must_use]
pub fn vdso_code() -> VdsoCode {
    // SAFETY: the assembler fills five constant quads at this symbol.
    let [len, clock_gettime, gettimeofday, time, getcpu] = unsafe { sentry_vdso_offsets };
    // SAFETY: the code starts at the symbol and `len` bytes of constant data follow, as the assembler measured them.
    let text = unsafe { std::slice::from_raw_parts((&raw const sentry_vdso_start).cast(), len as usize) };
    VdsoCode {
        text,
        symbols: [
            ("__vdso_clock_gettime", clock_gettime as usize),
            ("__vdso_gettimeofday", gettimeofday as usize),
            ("__vdso_time", time as usize),
            ("__vdso_getcpu", getcpu as usize),
        ],
    }
}

/// The processor's time-stamp counter.
#[must_use]
pub fn time_stamp_counter() -> u64 {
    // SAFETY: RDTSC has no operands in memory and every x86-64 processor has it.
    unsafe { x86_64::_rdtsc() }
}

/// True where the counter runs at one rate in all power states (CPUID 0x80000007, EDX bit 8).
#[must_use]
#[allow(unused_unsafe, reason = "__cpuid is safe in newer compilers")]
pub fn has_invariant_counter() -> bool {
    // SAFETY: CPUID exists on every x86-64 processor.
    unsafe {
        x86_64::__cpuid(0x8000_0000).eax >= 0x8000_0007 && x86_64::__cpuid(0x8000_0007).edx & 0x100 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_fits_its_place_and_has_its_entries_inside() {
        let code = vdso_code();
        assert!(code.text.len() < 0x800);
        assert!(code.symbols.iter().all(|(_, at)| *at > 0 && *at < code.text.len()));
        // Each entry that only makes the system call starts with mov eax, imm32.
        assert_eq!(code.text[code.symbols[3].1..][..5], [0xb8, 0x35, 0x01, 0, 0]);
    }
}
