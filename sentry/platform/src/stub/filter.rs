//! The seccomp programs of stubs.
//!
//! Every stub runs under filter A, installed in the template; guest threads add filter B before their first guest
//! instruction. Both let calls through only from the stub text: a guest call traps wherever it is made. Matching the
//! instruction pointer routes calls, it does not make them trustworthy: a guest can jump into the text, so what B lets
//! through must be harmless with any arguments. What A lets through in addition is executed by the system call thread
//! alone, and by a guest thread before B.

use crate::host;

use libc::sock_filter;

/// Offsets in `struct seccomp_data` (seccomp(2)).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const IP_LOW: u32 = 8;
const IP_HIGH: u32 = 12;
const ARG0_LOW: u32 = 16;
const ARG1_LOW: u32 = 24;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// The program for a whole stub. `control_fd` is the only file that `pwrite64` may write.
pub(crate) fn stub(text: std::ops::Range<u64>, control_fd: i32) -> Vec<sock_filter> {
    let mut program = Program::from_text(text);
    // The most frequent first: the program runs for each call of each thread.
    for number in [
        libc::SYS_sched_yield,
        libc::SYS_futex,
        libc::SYS_rt_sigreturn,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_clone,
        libc::SYS_seccomp,
        libc::SYS_sigaltstack,
        libc::SYS_membarrier,
        libc::SYS_clock_gettime,
        libc::SYS_prctl,
        libc::SYS_getppid,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ] {
        program.allow(number);
    }
    program.allow_if(libc::SYS_pwrite64, ARG0_LOW, &[control_fd.cast_unsigned()]);
    program.finish()
}

/// The program that guest threads add: nothing that touches anything but the caller.
pub(crate) fn guest_thread(text: std::ops::Range<u64>) -> Vec<sock_filter> {
    let mut program = Program::from_text(text);
    program.allow(libc::SYS_sched_yield);
    program.allow(libc::SYS_rt_sigreturn);
    program.allow(libc::SYS_exit);
    let operations = [libc::FUTEX_WAIT.cast_unsigned(), libc::FUTEX_WAKE.cast_unsigned()];
    program.allow_if(libc::SYS_futex, ARG1_LOW, &operations);
    program.finish()
}

struct Program(Vec<sock_filter>);

impl Program {
    /// Traps all calls but those of 64-bit code in `text`, whose bounds share their upper half.
    fn from_text(text: std::ops::Range<u64>) -> Self {
        let (high, low) = (upper(text.start), lower(text.start));
        debug_assert_eq!(high, upper(text.end));
        let mut program = Self(Vec::new());
        program.load(ARCH);
        program.trap_unless(libc::BPF_JEQ, AUDIT_ARCH_X86_64);
        program.load(IP_HIGH);
        program.trap_unless(libc::BPF_JEQ, high);
        program.load(IP_LOW);
        program.trap_unless(libc::BPF_JGE, low);
        // The pointer is that behind the instruction, so the end counts as inside.
        program.push(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 0, 1, lower(text.end));
        program.ret(libc::SECCOMP_RET_TRAP);
        program.load(NUMBER);
        program
    }

    fn allow(&mut self, number: libc::c_long) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call(number));
        self.ret(libc::SECCOMP_RET_ALLOW);
    }

    /// Allows a call if the word at `argument` is one of `values`, else traps it.
    fn allow_if(&mut self, number: libc::c_long, argument: u32, values: &[u32]) {
        let body = u8::try_from(2 * values.len() + 2).unwrap_or(u8::MAX);
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, body, call(number));
        self.load(argument);
        for value in values {
            self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, *value);
            self.ret(libc::SECCOMP_RET_ALLOW);
        }
        self.ret(libc::SECCOMP_RET_TRAP);
    }

    fn finish(mut self) -> Vec<sock_filter> {
        self.ret(libc::SECCOMP_RET_TRAP);
        self.0
    }

    fn load(&mut self, offset: u32) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    }

    fn trap_unless(&mut self, condition: u32, value: u32) {
        self.push(libc::BPF_JMP | condition | libc::BPF_K, 1, 0, value);
        self.ret(libc::SECCOMP_RET_TRAP);
    }

    fn ret(&mut self, action: u32) {
        self.push(libc::BPF_RET | libc::BPF_K, 0, 0, action);
    }

    fn push(&mut self, code: u32, jt: u8, jf: u8, k: u32) {
        // Operation codes are at most 0xff.
        self.0.push(sock_filter { code: code as u16, jt, jf, k });
    }
}

fn call(number: libc::c_long) -> u32 {
    // Call numbers are small.
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn lower(value: u64) -> u32 {
    host::halves(value).0
}

fn upper(value: u64) -> u32 {
    host::halves(value).1
}
