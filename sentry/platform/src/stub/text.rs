//! The code that runs in stubs: position-independent, copied into a sealed memory file, mapped read-only.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::host;
use crate::stub::layout::{Layout, READ_ONLY};
use crate::stub::{command_page as command, filter, hand_over as word, read_only};

// System call thread ("service"): r12 command page, r14d last sequence number served, r15d number of commands,
// ebx index of the current one, rbp its address, r13d its call number. It has no stack: nothing it depends on can be
// written by the guest whose memory it shares. Its verdict reaches the sentry by pwrite(2) from read-only memory into
// a page that the guest can only read, so that a guest cannot claim that pages were unmapped which were not.
//
// A clone child goes on at r8 (the call ignores it without CLONE_SETTLS) and finds its argument in r9; it must not read
// the command again, which may be gone by then.
//
// Guest threads: rbx is the thread area, found by rounding the signal stack's address down. The signal handler leaves
// the guest's registers where the kernel saved them, in the frame on that stack, which the sentry can see.
std::arch::global_asm!(
    r#"
    .pushsection .rodata.sentry_stub, "a", @progbits
    .balign 16
    .globl sentry_stub_start, sentry_stub_template, sentry_stub_process, sentry_stub_thread
    .globl sentry_stub_call, sentry_stub_call_exit, sentry_stub_trapped
    .hidden sentry_stub_call, sentry_stub_call_exit, sentry_stub_trapped
    .globl sentry_stub_traced_thread, sentry_stub_parked, sentry_stub_exit, sentry_stub_handler, sentry_stub_end
    .hidden sentry_stub_start, sentry_stub_template, sentry_stub_process, sentry_stub_thread
    .hidden sentry_stub_traced_thread, sentry_stub_parked, sentry_stub_exit, sentry_stub_handler, sentry_stub_end
sentry_stub_start:

    /* The template's first steps: drop the sentry's memory. rdi, rsi: range below; rbp, rbx: range above. */
sentry_stub_template:
    mov eax, {MUNMAP}
    syscall
    test rax, rax
    jnz .Lsentry_die
    mov rdi, rbp
    mov rsi, rbx
    mov eax, {MUNMAP}
    syscall
    test rax, rax
    jnz .Lsentry_die
    xor r14d, r14d

.Lsentry_service:
    lea r12, [rip + sentry_stub_start + {COMMANDS}]
.Lsentry_next_batch:
    mov eax, dword ptr [r12 + {CMD_SEQ}]
    cmp eax, r14d
    jne .Lsentry_batch
    mov edx, r14d
    mov eax, {FUTEX}
    lea rdi, [r12 + {CMD_SEQ}]
    xor esi, esi                    /* FUTEX_WAIT */
    xor r10d, r10d
    syscall
    jmp .Lsentry_next_batch
.Lsentry_batch:
    mov r14d, eax
    mov r15d, dword ptr [r12 + {CMD_COUNT}]
    xor ebx, ebx
.Lsentry_next_command:
    cmp ebx, r15d
    jae .Lsentry_batch_done
    mov eax, ebx
    shl eax, 6
    lea rbp, [r12 + rax + {CMD_LIST}]
    mov r13d, dword ptr [rbp]
    mov rdi, qword ptr [rbp + 8]
    mov rsi, qword ptr [rbp + 16]
    mov rdx, qword ptr [rbp + 24]
    mov r10, qword ptr [rbp + 32]
    mov r8, qword ptr [rbp + 40]
    mov r9, qword ptr [rbp + 48]
    mov eax, r13d
    syscall
    test rax, rax
    jnz 21f
    cmp r13d, {CLONE}
    jne 21f
    jmp r8                          /* the child */
21:  lea rdx, [r12 + {SCRATCH_FROM_COMMANDS}]
    mov qword ptr [rdx + rbx * 8], rax
    cmp dword ptr [rbp + 4], {RULE_EXACT}
    jne 22f
    cmp rax, qword ptr [rbp + 56]
    jne .Lsentry_failed
    jmp 23f
22:  test rax, rax
    js .Lsentry_failed
23:  inc ebx
    jmp .Lsentry_next_command
.Lsentry_failed:
    lea rsi, [rip + sentry_stub_start + {READ_ONLY} + {RO_NUMBERS}]
    lea rsi, [rsi + rbx * 4 + 4]
    mov eax, {PWRITE64}
    mov edi, dword ptr [rip + sentry_stub_start + {READ_ONLY} + {RO_CONTROL_FD}]
    mov edx, 4
    mov r10, qword ptr [r12 + {CMD_REPLY_OFFSET}]
    add r10, {REPLY_STATUS}
    syscall
.Lsentry_batch_done:
    mov eax, {PWRITE64}
    mov edi, dword ptr [rip + sentry_stub_start + {READ_ONLY} + {RO_CONTROL_FD}]
    lea rsi, [r12 + {CMD_SEQ}]
    mov edx, 4
    mov r10, qword ptr [r12 + {CMD_REPLY_OFFSET}]
    syscall
    mfence
    cmp dword ptr [r12 + {CMD_WAITS}], 0
    je .Lsentry_next_batch
    mov eax, {FUTEX}
    lea rdi, [r12 + 4096]           /* the reply page's first word */
    mov esi, 1                      /* FUTEX_WAKE */
    mov edx, 1
    syscall
    jmp .Lsentry_next_batch

    /* A new stub: its own pages instead of the template's. r9: offset of its pages in the control file. */
    .balign 16
sentry_stub_process:
    mov eax, {MMAP}
    lea rdi, [rip + sentry_stub_start + {COMMANDS}]
    mov esi, 8192
    mov edx, 1                      /* PROT_READ */
    mov r10d, 0x11                  /* MAP_SHARED | MAP_FIXED */
    mov r8d, dword ptr [rip + sentry_stub_start + {READ_ONLY} + {RO_CONTROL_FD}]
    syscall
    cmp rax, rdi
    jne .Lsentry_die
    mov eax, {MMAP}
    add rdi, 8192
    mov esi, 4096
    mov edx, 3                      /* PROT_READ | PROT_WRITE */
    add r9, 8192
    syscall
    cmp rax, rdi
    jne .Lsentry_die
    mov eax, {PRCTL}
    mov edi, 1                      /* PR_SET_PDEATHSIG */
    mov esi, 9                      /* SIGKILL */
    syscall
    mov eax, {GETPPID}
    syscall                         /* the sentry may have died before that took effect */
    cmp eax, dword ptr [rip + sentry_stub_start + {READ_ONLY} + {RO_SENTRY_PID}]
    jne .Lsentry_die
    xor r14d, r14d
    jmp .Lsentry_service
.Lsentry_die:
    mov edi, 1
    mov eax, {EXIT_GROUP}
    syscall
    hlt

    /* A guest thread that a tracer takes over while it is parked. */
    .balign 16
sentry_stub_traced_thread:
    mov eax, {SECCOMP}
    mov edi, 1                      /* SECCOMP_SET_MODE_FILTER */
    mov esi, 4                      /* SECCOMP_FILTER_FLAG_SPEC_ALLOW */
    lea rdx, [rip + sentry_stub_start + {READ_ONLY} + {RO_FILTER}]
    syscall
    test rax, rax
    jnz .Lsentry_die
21:  mov eax, {FUTEX}
    lea rdi, [rip + sentry_stub_start + {READ_ONLY} + {RO_ZERO}]
    xor esi, esi                    /* FUTEX_WAIT, for ever: the word is constant */
    xor edx, edx
    xor r10d, r10d
    syscall
sentry_stub_parked:
    jmp 21b
    .balign 16
sentry_stub_exit:
    xor edi, edi
    mov eax, {EXIT}
    syscall
    hlt

    /* A guest thread. r12: command page, which describes its signal stack. */
    .balign 16
sentry_stub_thread:
    mov eax, {SIGALTSTACK}
    lea rdi, [r12 + {CMD_SIGNAL_STACK}]
    xor esi, esi
    syscall
    test rax, rax
    jnz .Lsentry_die
    mov eax, {SECCOMP}
    mov edi, 1
    mov esi, 4
    lea rdx, [rip + sentry_stub_start + {READ_ONLY} + {RO_FILTER}]
    syscall
    test rax, rax
    jnz .Lsentry_die
    mov eax, -1                     /* trapped: the first frame, in which the sentry puts the guest's registers */
    syscall
    hlt

    /* SIGSYS, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGURG; edi: signal, rdx: ucontext. All signals are blocked. */
    .balign 16
sentry_stub_handler:
    mov rbx, rsp
    and rbx, -{THREAD_LEN}
    cmp edi, {INTERRUPT_SIGNAL}
    jne 21f
    mov rax, qword ptr [rdx + {UCONTEXT_RIP}]
    lea rcx, [rip + .Lsentry_hand_over]
    cmp rax, rcx
    jb 21f
    lea rcx, [rip + sentry_stub_call_exit]
    cmp rax, rcx
    jae 21f
    mov dword ptr [rbx + {W_INTERRUPTED}], 1
    mov rsp, rdx
    jmp .Lsentry_sigreturn
21: mov dword ptr [rbx + {W_KIND}], edi
    mov qword ptr [rbx + {W_FRAME}], rdx
    rdfsbase rax
    mov qword ptr [rbx + {W_FS_BASE}], rax
    rdgsbase rax
    mov qword ptr [rbx + {W_GS_BASE}], rax
    lea r15, [rip + 22f]
    jmp .Lsentry_hand_over
22: cmp dword ptr [rbx + {W_COMMAND}], {COMMAND_EXIT}
    je sentry_stub_exit
    mov rax, qword ptr [rbx + {W_FS_BASE}]
    wrfsbase rax
    mov rax, qword ptr [rbx + {W_GS_BASE}]
    wrgsbase rax
    mov rsp, qword ptr [rbx + {W_FRAME}]
.Lsentry_sigreturn:
    mov eax, {RT_SIGRETURN}
    syscall
    hlt

    /* Gives the thread area to the sentry and waits for it to come back. rbx: thread area, r15: return address;
       clobbers all others but r8 to r11 and rsp. */
    .balign 16
.Lsentry_hand_over:
    rdtscp
    mov r12d, ecx
    and r12d, 0xfff                 /* the kernel keeps the processor's number there */
    mov dword ptr [rbx + {W_STUB_CPU}], r12d
    mov eax, {STATE_REQUEST}
    xchg dword ptr [rbx + {W_STATE}], eax   /* a full barrier: the sentry sleeps only if it saw no request */
    cmp dword ptr [rbx + {W_SENTRY_WAITS}], 0
    je 21f
    mov eax, {FUTEX}
    lea rdi, [rbx + {W_STATE}]
    mov esi, 1                      /* FUTEX_WAKE */
    mov edx, 1
    syscall
    jmp 24f                          /* it sleeps, so it has to get a processor first: make room */
21: cmp r12d, dword ptr [rbx + {W_SENTRY_CPU}]
    jne 24f
    cmp dword ptr [rbx + {W_KIND}], {SIGSEGV}
    je 24f                           /* a fault takes a while, and others that do its work need the processor */
    mov ebp, 3
22:  mov eax, {SCHED_YIELD}
    syscall
    cmp dword ptr [rbx + {W_STATE}], {STATE_RESPONSE}
    je 27f
    dec ebp
    jnz 22b
    jmp 25f
24:  mov r14d, dword ptr [rbx + {W_SPIN_BUDGET}]
    test r14d, r14d
    jz 25f
    cmp r12d, dword ptr [rbx + {W_SENTRY_CPU}]
    je 25f
    rdtsc
    shl rdx, 32
    lea r13, [rdx + rax]
26:  pause
    cmp dword ptr [rbx + {W_STATE}], {STATE_RESPONSE}
    je 27f
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, r13
    cmp rax, r14
    jb 26b
25:  mov eax, 1
    xchg dword ptr [rbx + {W_STUB_WAITS}], eax
28:  cmp dword ptr [rbx + {W_STATE}], {STATE_RESPONSE}
    je 29f
    mov eax, {FUTEX}
    lea rdi, [rbx + {W_STATE}]
    xor esi, esi                    /* FUTEX_WAIT while it is a request */
    mov edx, {STATE_REQUEST}
    xor r10d, r10d
    syscall
    jmp 28b
29:  mov dword ptr [rbx + {W_STUB_WAITS}], 0
27:  mov dword ptr [rbx + {W_STATE}], {STATE_RUN}
    jmp r15

    /* A rewritten call. eax: number, rcx: where it returns to, gs: thread area. Up to the exit, an interrupt is only
       noted: the sentry is about to see the thread stop, or has, or the check before the exit finds it. */
    .balign 16
sentry_stub_call:
    rdgsbase r11
    mov qword ptr [r11 + {W_RAX}], rax
    mov qword ptr [r11 + {W_RBX}], rbx
    mov qword ptr [r11 + {W_RDI}], rdi
    mov qword ptr [r11 + {W_RSI}], rsi
    mov qword ptr [r11 + {W_RDX}], rdx
    mov qword ptr [r11 + {W_RBP}], rbp
    mov qword ptr [r11 + {W_RSP}], rsp
    mov qword ptr [r11 + {W_R8}], r8
    mov qword ptr [r11 + {W_R9}], r9
    mov qword ptr [r11 + {W_R10}], r10
    mov qword ptr [r11 + {W_R12}], r12
    mov qword ptr [r11 + {W_R13}], r13
    mov qword ptr [r11 + {W_R14}], r14
    mov qword ptr [r11 + {W_R15}], r15
    mov qword ptr [r11 + {W_RIP}], rcx
    seto al                         /* the status flags without a stack; the others do not change */
    lahf
    mov dword ptr [r11 + {W_FLAGS}], eax
    mov rbx, r11
    rdfsbase rax
    mov qword ptr [rbx + {W_FS_BASE}], rax
    mov dword ptr [rbx + {W_KIND}], {KIND_CALL}
    lea r15, [rip + 21f]
    jmp .Lsentry_hand_over
21: mov r11, rbx
    mov rbx, qword ptr [r11 + {W_RBX}]
    mov rdi, qword ptr [r11 + {W_RDI}]
    mov rsi, qword ptr [r11 + {W_RSI}]
    mov rdx, qword ptr [r11 + {W_RDX}]
    mov rbp, qword ptr [r11 + {W_RBP}]
    mov r8, qword ptr [r11 + {W_R8}]
    mov r9, qword ptr [r11 + {W_R9}]
    mov r10, qword ptr [r11 + {W_R10}]
    mov r12, qword ptr [r11 + {W_R12}]
    mov r13, qword ptr [r11 + {W_R13}]
    mov r14, qword ptr [r11 + {W_R14}]
    mov r15, qword ptr [r11 + {W_R15}]
    mov rcx, qword ptr [r11 + {W_RIP}]
    cmp dword ptr [r11 + {W_COMMAND}], {COMMAND_RESUME}
    jne .Lsentry_trap
    cmp dword ptr [r11 + {W_INTERRUPTED}], 0
    jne .Lsentry_trap
sentry_stub_call_exit:              /* the sentry knows the registers that the guest is to have from here on */
    mov eax, dword ptr [r11 + {W_FLAGS}]
    add al, 127
    sahf
    mov rax, qword ptr [r11 + {W_RAX}]
    jmp rcx
.Lsentry_trap:
    mov eax, -1                     /* gives the sentry a frame, with the vector state */
    syscall
sentry_stub_trapped:
    hlt

sentry_stub_end:
    .popsection
"#,
    MUNMAP = const libc::SYS_munmap,
    MMAP = const libc::SYS_mmap,
    FUTEX = const libc::SYS_futex,
    CLONE = const libc::SYS_clone,
    PWRITE64 = const libc::SYS_pwrite64,
    PRCTL = const libc::SYS_prctl,
    GETPPID = const libc::SYS_getppid,
    EXIT = const libc::SYS_exit,
    EXIT_GROUP = const libc::SYS_exit_group,
    SECCOMP = const libc::SYS_seccomp,
    SIGALTSTACK = const libc::SYS_sigaltstack,
    RT_SIGRETURN = const libc::SYS_rt_sigreturn,
    SIGSEGV = const libc::SIGSEGV,
    SCHED_YIELD = const libc::SYS_sched_yield,
    COMMANDS = const crate::stub::layout::COMMANDS,
    SCRATCH_FROM_COMMANDS = const crate::stub::layout::SCRATCH - crate::stub::layout::COMMANDS,
    READ_ONLY = const READ_ONLY,
    THREAD_LEN = const crate::stub::layout::THREAD_LEN,
    CMD_SEQ = const command::SEQUENCE,
    CMD_COUNT = const command::COUNT,
    CMD_WAITS = const command::SENTRY_WAITS,
    CMD_REPLY_OFFSET = const command::REPLY_OFFSET,
    CMD_SIGNAL_STACK = const command::SIGNAL_STACK,
    CMD_LIST = const command::LIST,
    REPLY_STATUS = const command::REPLY_STATUS,
    RULE_EXACT = const command::RULE_EXACT,
    RO_CONTROL_FD = const read_only::CONTROL_FD,
    RO_SENTRY_PID = const read_only::SENTRY_PID,
    RO_ZERO = const read_only::ZERO,
    RO_NUMBERS = const read_only::NUMBERS,
    RO_FILTER = const read_only::FILTER,
    W_STATE = const word::STATE,
    W_KIND = const word::KIND,
    W_FRAME = const word::FRAME,
    W_FS_BASE = const word::FS_BASE,
    W_GS_BASE = const word::GS_BASE,
    W_RAX = const word::RAX,
    W_RBX = const word::RBX,
    W_RDI = const word::RDI,
    W_RSI = const word::RSI,
    W_RDX = const word::RDX,
    W_RBP = const word::RBP,
    W_RSP = const word::RSP,
    W_R8 = const word::R8,
    W_R9 = const word::R9,
    W_R10 = const word::R10,
    W_R12 = const word::R12,
    W_R13 = const word::R13,
    W_R14 = const word::R14,
    W_R15 = const word::R15,
    W_RIP = const word::RIP,
    W_FLAGS = const word::FLAGS,
    W_INTERRUPTED = const word::INTERRUPTED,
    W_SENTRY_WAITS = const word::SENTRY_WAITS,
    W_SENTRY_CPU = const word::SENTRY_CPU,
    W_SPIN_BUDGET = const word::SPIN_BUDGET,
    W_COMMAND = const word::COMMAND,
    W_STUB_WAITS = const word::STUB_WAITS,
    W_STUB_CPU = const word::STUB_CPU,
    STATE_RUN = const word::STATE_RUN,
    STATE_REQUEST = const word::STATE_REQUEST,
    STATE_RESPONSE = const word::STATE_RESPONSE,
    KIND_CALL = const word::KIND_CALL,
    COMMAND_RESUME = const word::COMMAND_RESUME,
    INTERRUPT_SIGNAL = const crate::stub::INTERRUPT_SIGNAL,
    UCONTEXT_RIP = const word::UCONTEXT_RIP,
    COMMAND_EXIT = const word::COMMAND_EXIT,
);

unsafe extern "C" {
    static sentry_stub_start: u8;
    static sentry_stub_template: u8;
    static sentry_stub_process: u8;
    static sentry_stub_thread: u8;
    static sentry_stub_traced_thread: u8;
    static sentry_stub_parked: u8;
    static sentry_stub_exit: u8;
    static sentry_stub_handler: u8;
    static sentry_stub_call: u8;
    static sentry_stub_call_exit: u8;
    static sentry_stub_trapped: u8;
    static sentry_stub_end: u8;
}

/// Entry points of the stub text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The template drops the sentry's memory and serves commands.
    Template,
    /// A child of the template becomes a stub.
    Process,
    /// A guest thread sets itself up and traps.
    Thread,
    /// A guest thread parks itself for a tracer.
    TracedThread,
    /// Where a parked thread is.
    Parked,
    /// `exit(0)` of the calling thread.
    Exit,
    /// The signal handler.
    Handler,
    /// Where rewritten call sites go.
    Call,
    /// From here to [`Entry::Trapped`], a rewritten call is on its way back into the guest.
    CallExit,
    /// Behind the call that turns a rewritten one into a signal.
    Trapped,
}

/// The address of an entry point in stubs.
pub(crate) fn address(layout: Layout, entry: Entry) -> u64 {
    let symbol = match entry {
        Entry::Template => &raw const sentry_stub_template,
        Entry::Process => &raw const sentry_stub_process,
        Entry::Thread => &raw const sentry_stub_thread,
        Entry::TracedThread => &raw const sentry_stub_traced_thread,
        Entry::Parked => &raw const sentry_stub_parked,
        Entry::Exit => &raw const sentry_stub_exit,
        Entry::Handler => &raw const sentry_stub_handler,
        Entry::Call => &raw const sentry_stub_call,
        Entry::CallExit => &raw const sentry_stub_call_exit,
        Entry::Trapped => &raw const sentry_stub_trapped,
    };
    layout.text() + offset_of(symbol)
}

/// The addresses of the text in stubs.
pub(crate) fn range(layout: Layout) -> std::ops::Range<u64> {
    layout.text()..layout.text() + offset_of(&raw const sentry_stub_end)
}

/// Text and constants in a sealed memory file of two pages.
pub(crate) fn file(layout: Layout, control_fd: i32) -> io::Result<OwnedFd> {
    let len = host::address(offset_of(&raw const sentry_stub_end));
    // SAFETY: the text between the two symbols is `len` initialised bytes that nobody writes.
    let text = unsafe { std::slice::from_raw_parts(&raw const sentry_stub_start, len) };
    let mut image = vec![0xf4; 2 * 4096]; // hlt
    if len > host::address(READ_ONLY) {
        return Err(io::Error::other("the stub text exceeds its page"));
    }
    image[..len].copy_from_slice(text);
    let constants = read_only::page(layout, control_fd, &filter::guest_thread(range(layout)));
    image[host::address(READ_ONLY)..].copy_from_slice(&constants);
    let fd = host::memfd(c"stub-text", 2 * 4096, libc::MFD_ALLOW_SEALING)?;
    // SAFETY: the image is valid for its length.
    let written = unsafe { libc::write(fd.as_raw_fd(), image.as_ptr().cast(), image.len()) };
    if usize::try_from(written) != Ok(image.len()) {
        return Err(io::Error::last_os_error());
    }
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: no memory is passed.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}

fn offset_of(symbol: *const u8) -> u64 {
    host::word(symbol.addr() - (&raw const sentry_stub_start).addr())
}
