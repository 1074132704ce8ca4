//! The code that runs in stubs, position-independent, copied into a sealed memory file.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

// Register use of the system call thread: r12 command page, r13 reply page, r14d last sequence number served,
// r15d commands left, rbx current command, rbp current result. It has no stack: nothing it depends on can be written
// by the guest whose memory it shares.
//
// A command is ten 64-bit words: number, six arguments, and for clone(2) where the child goes on and its command and
// reply pages. Those three are in registers before the call, because the page may be reused before the child runs.
std::arch::global_asm!(
    r#"
    .pushsection .rodata.sentry_stub, "a", @progbits
    .balign 16
    .globl sentry_stub_start, sentry_stub_thread, sentry_stub_syscall, sentry_stub_end
    .hidden sentry_stub_start, sentry_stub_thread, sentry_stub_syscall, sentry_stub_end
sentry_stub_start:
1:  mov eax, dword ptr [r12]
    cmp eax, r14d
    jne 2f
    mov edx, r14d
    mov eax, 202                    /* futex(command page, FUTEX_WAIT, seq, no timeout) */
    mov rdi, r12
    xor esi, esi
    xor r10d, r10d
    syscall
    jmp 1b
2:  mov r14d, eax
    mov r15d, dword ptr [r12 + 4]
    lea rbx, [r12 + 64]
    lea rbp, [r13 + 64]
3:  test r15d, r15d
    jz 5f
    mov rax, qword ptr [rbx]
    mov rdi, qword ptr [rbx + 8]
    mov rsi, qword ptr [rbx + 16]
    mov rdx, qword ptr [rbx + 24]
    mov r10, qword ptr [rbx + 32]
    mov r8, qword ptr [rbx + 40]
    mov r9, qword ptr [rbx + 48]
    cmp rax, 56                     /* clone */
    je 6f
    syscall
4:  mov qword ptr [rbp], rax
    add rbx, 80
    add rbp, 8
    dec r15d
    jmp 3b
5:  mov dword ptr [r13], r14d
    mov eax, 202                    /* futex(reply page, FUTEX_WAKE, 1) */
    mov rdi, r13
    mov esi, 1
    mov edx, 1
    syscall
    jmp 1b
6:  mov r9, qword ptr [rbx + 56]
    movq xmm0, qword ptr [rbx + 64]
    movq xmm1, qword ptr [rbx + 72]
    syscall
    test rax, rax
    jnz 4b
    movq r12, xmm0
    movq r13, xmm1
    xor r14d, r14d
    jmp r9
    .balign 16
sentry_stub_thread:                 /* a guest thread until it is taken over */
    mov eax, 34                     /* pause */
    syscall
    jmp sentry_stub_thread
    .balign 16
sentry_stub_syscall:
    syscall
    hlt
sentry_stub_end:
    .popsection
"#
);

unsafe extern "C" {
    static sentry_stub_start: u8;
    static sentry_stub_thread: u8;
    static sentry_stub_syscall: u8;
    static sentry_stub_end: u8;
}

fn offset_of(symbol: *const u8) -> u64 {
    symbol.addr() as u64 - (&raw const sentry_stub_start).addr() as u64
}

/// Offset of the code that a new guest thread runs until it is taken over.
pub(super) fn thread_offset() -> u64 {
    offset_of(&raw const sentry_stub_thread)
}

/// Offset of a bare `syscall` instruction.
pub(super) fn syscall_offset() -> u64 {
    offset_of(&raw const sentry_stub_syscall)
}

/// The text in a sealed memory file, for mapping into the template.
pub(super) fn file() -> io::Result<OwnedFd> {
    let len = offset_of(&raw const sentry_stub_end) as usize;
    // SAFETY: a NUL-terminated name and valid flags.
    let fd =
        unsafe { libc::memfd_create(c"stub-text".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the text between the two symbols is `len` initialised bytes.
    let written = unsafe { libc::write(fd.as_raw_fd(), (&raw const sentry_stub_start).cast(), len) };
    if usize::try_from(written) != Ok(len) {
        return Err(io::Error::last_os_error());
    }
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: no memory is passed.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}
