//! The template: what every stub process is forked from.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use crate::PlatformError;
use crate::host;
use crate::stub::INTERRUPT_SIGNAL;
use crate::stub::command_page::Command;
use crate::stub::control::{Control, Window};
use crate::stub::filter;
use crate::stub::layout::{COMMANDS, Layout, READ_ONLY, SCRATCH};
use crate::stub::process::StubProcess;
use crate::stub::text::{self, Entry};

/// Pages of a stub in the control file: command page, reply page, results.
const SLOT_LEN: u64 = 3 * 4096;

/// Who deals with the signals of guest threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signals {
    /// The handler in the stub text.
    ToHandler,
    /// A tracer. Without one - a thread on its way out - an interrupt is ignored and anything else is fatal.
    ToTracer,
}

/// A process that only forks. It holds the stub's area and nothing else, so a fork of it costs microseconds.
pub(crate) struct Template {
    layout: Layout,
    control: Arc<Control>,
    process: StubProcess,
    /// What the stubs' text is mapped from; kept so that its number is not reused while the template starts.
    _text: OwnedFd,
}

impl Template {
    /// Forks the template from the calling process.
    ///
    /// A stub dies with the thread that the template was forked from. If that is not the process's main thread, a
    /// thread is started for it that never ends.
    ///
    /// # Errors
    /// When the host refuses a call.
    pub(crate) fn spawn(signals: Signals) -> io::Result<Self> {
        // SAFETY: no arguments.
        let (pid, tid) = unsafe { (libc::getpid(), libc::gettid()) };
        if pid == tid {
            return Self::spawn_here(signals);
        }
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new().name("stub-parent".to_owned()).spawn(move || {
            let spawned = Self::spawn_here(signals);
            if sender.send(spawned).is_ok() {
                host::park_forever();
            }
        })?;
        receiver.recv().map_err(io::Error::other)?
    }

    fn spawn_here(signals: Signals) -> io::Result<Self> {
        let layout = Layout::reserve()?;
        let spawned = Self::spawn_in(layout, signals);
        layout.release();
        spawned
    }

    fn spawn_in(layout: Layout, signals: Signals) -> io::Result<Self> {
        let control = Control::new()?;
        let text = text::file(layout, control.raw_fd())?;
        let slot = control.window(SLOT_LEN).ok_or_else(|| io::Error::other("no control page"))?;
        let program = filter::stub(text::range(layout), control.raw_fd());
        let mut start = Start {
            layout,
            signals,
            text_fd: text.as_raw_fd(),
            control_fd: control.raw_fd(),
            slot_offset: slot.file_offset(),
            handler: text::address(layout, Entry::Handler),
            entry: text::address(layout, Entry::Template),
            program: libc::sock_fprog {
                len: u16::try_from(program.len()).map_err(io::Error::other)?,
                filter: program.as_ptr().cast_mut(),
            },
            others: layout.others(),
            // SAFETY: no arguments.
            sentry: unsafe { libc::getpid() },
            pid: 0,
        };
        fork_template(&mut start)?;
        let process = StubProcess::new(layout, slot, start.pid);
        let started = process.run(&[Command::positive(libc::SYS_getppid, &[])]);
        if let Err(error) = started {
            return Err(match process.exit_status() {
                Some(step) => io::Error::other(format!("the stub template failed at step {step}")),
                None => io::Error::other(error),
            });
        }
        Ok(Self { layout, control, process, _text: text })
    }

    /// The control file.
    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Forks a stub.
    ///
    /// # Errors
    /// When the host refuses another process.
    pub(crate) fn fork(&self) -> Result<StubProcess, PlatformError> {
        let full =
            || PlatformError::Host { call: "fork", source: io::Error::from_raw_os_error(libc::ENOMEM) };
        let slot = self.control.window(SLOT_LEN).ok_or_else(full)?;
        StubProcess::prepare_slot(&slot);
        // The child has no signal to send at its end: it must not disturb whoever waits for other children.
        let flags = libc::CLONE_PARENT | libc::CLONE_FILES;
        let entry = text::address(self.layout, Entry::Process);
        let clone =
            Command::positive(libc::SYS_clone, &[host::flags(flags), 0, 0, 0, entry, slot.file_offset()]);
        let pid = self.process.run_one(clone).map_err(|e| e.into_platform("clone"))?;
        let pid = i32::try_from(pid).map_err(|_| PlatformError::Dead)?;
        Ok(StubProcess::new(self.layout, slot, pid))
    }
}

/// What the new process needs; it reads its own copy.
struct Start {
    layout: Layout,
    signals: Signals,
    text_fd: i32,
    control_fd: i32,
    slot_offset: u64,
    handler: u64,
    entry: u64,
    program: libc::sock_fprog,
    others: [(u64, u64); 2],
    sentry: i32,
    /// Written by the kernel: the template's process id.
    pid: i32,
}

/// Forks a process that becomes the template; stores its pid in `start`.
///
/// Two steps, because a restartable-sequence area registered by the C library (rseq(2)) would outlive the memory it is
/// in: a child that shares memory has none, and a child forked by that one inherits none.
fn fork_template(start: &mut Start) -> io::Result<()> {
    // SAFETY: an all-zero sigset_t is valid.
    let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
    // SAFETY: `all` is valid for writing.
    unsafe { libc::sigfillset(&raw mut all) };
    // No handler of the sentry may run in the children.
    // SAFETY: valid signal sets.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    // SAFETY: `start` is complete.
    let first = unsafe { two_forks(start) };
    // SAFETY: restores the set saved above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    if first < 0 {
        return Err(io::Error::from_raw_os_error(i32::try_from(-first).unwrap_or(libc::EAGAIN)));
    }
    let first = i32::try_from(first).unwrap_or(0);
    // SAFETY: reaps the first child, which has ended (CLONE_VFORK waited for it).
    unsafe { libc::waitpid(first, ptr::null_mut(), libc::__WALL) };
    if start.pid == 0 {
        return Err(io::Error::other("the stub template could not be forked"));
    }
    Ok(())
}

/// Returns the pid of the first child or a negative errno.
///
/// # Safety
/// `start` describes a reserved layout; all signals are blocked.
unsafe fn two_forks(start: &mut Start) -> i64 {
    let first = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES;
    let second = libc::CLONE_PARENT | libc::CLONE_FILES | libc::CLONE_PARENT_SETTID;
    let result: i64;
    // SAFETY: the first child shares this stack but only makes system calls, and ends before the parent goes on. The
    // second has a copy of all memory, in which it calls a function that does not return.
    unsafe {
        std::arch::asm!(
            "xor esi, esi",
            "xor edx, edx",
            "xor r10d, r10d",
            "xor r8d, r8d",
            "syscall",
            "test rax, rax",
            "jnz 29f",
            "mov eax, {clone}",
            "mov rdi, r14",
            "xor esi, esi",
            "mov rdx, r15",
            "xor r10d, r10d",
            "xor r8d, r8d",
            "syscall",
            "test rax, rax",
            "jz 22f",
            "xor edi, edi",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "22:",
            "mov rdi, r12",
            "and rsp, -16",
            "call {main}",
            "ud2",
            "29:",
            clone = const libc::SYS_clone,
            exit = const libc::SYS_exit,
            main = sym template_main,
            inlateout("rax") libc::SYS_clone => result,
            inlateout("rdi") host::flags(first) => _,
            in("r12") ptr::from_mut(start),
            in("r14") host::flags(second),
            in("r15") &raw mut start.pid,
            lateout("rsi") _, lateout("rdx") _, lateout("r10") _, lateout("r8") _, lateout("r9") _,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// Becomes the template. Runs in a forked copy of the sentry, in which other threads may have held locks: it makes
/// system calls and nothing else.
extern "C" fn template_main(start: &Start) -> ! {
    leave_the_sentry(start);
    set_signals(start);
    map_area(start);
    // SAFETY: the program is valid; after it, only stub text can make calls.
    check(10, unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const start.program,
        )
    });
    let [(below, below_len), (above, above_len)] = start.others;
    // SAFETY: jumps into the stub text just mapped, which unmaps this code and its stack and never comes back.
    unsafe {
        std::arch::asm!(
            "mov rbp, r13",
            "mov rbx, r14",
            "xor esp, esp",
            "jmp r12",
            in("r12") start.entry,
            in("r13") above,
            in("r14") above_len,
            in("rdi") below,
            in("rsi") below_len,
            options(noreturn)
        );
    }
}

/// Keeps nothing of the sentry that a process can drop.
fn leave_the_sentry(start: &Start) {
    // SAFETY: no memory is passed to any of these calls but the valid structures shown.
    unsafe {
        // Signals to the sentry's process group are not meant for stubs. It is not a session of their own, because the
        // scheduler groups by session (autogroup, sched(7)), and a sentry thread can yield to its guest only within
        // its group.
        check(1, libc::setpgid(0, 0).into());
        check(2, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into());
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        check(3, libc::setrlimit(libc::RLIMIT_CORE, &raw const none).into());
        // _LINUX_CAPABILITY_VERSION_3, for the calling process; no capabilities.
        let header: [u32; 2] = [0x2008_0522, 0];
        let data = [0_u32; 6];
        check(4, libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()));
        // The ptrace backend attaches to stubs, which a process that changed its ids may otherwise not.
        check(5, libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0).into());
        check(6, libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0).into());
        if libc::getppid() != start.sentry {
            check(7, -1);
        }
        check(8, libc::syscall(libc::SYS_set_robust_list, 0, 24));
        libc::syscall(libc::SYS_set_tid_address, 0);
    }
}

/// The kernel's `struct sigaction` on x86-64.
#[repr(C)]
struct KernelSigaction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// Signals that the stub's handler takes; all others are ignored.
const HANDLED: [i32; 7] =
    [libc::SIGSYS, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, INTERRUPT_SIGNAL];

fn set_signals(start: &Start) {
    const SA_RESTORER: u64 = 0x0400_0000;
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        let flags = host::flags(libc::SA_SIGINFO | libc::SA_ONSTACK) | SA_RESTORER;
        let action = match start.signals {
            // The handler never returns through the restorer; the kernel insists on one.
            Signals::ToHandler if HANDLED.contains(&signal) => {
                KernelSigaction { handler: start.handler, flags, restorer: start.handler, mask: u64::MAX }
            }
            Signals::ToTracer if HANDLED.contains(&signal) && signal != INTERRUPT_SIGNAL => {
                KernelSigaction { handler: host::word(libc::SIG_DFL), flags: 0, restorer: 0, mask: 0 }
            }
            Signals::ToHandler | Signals::ToTracer => {
                KernelSigaction { handler: host::word(libc::SIG_IGN), flags: 0, restorer: 0, mask: 0 }
            }
        };
        // SAFETY: a valid kernel sigaction and the size of its mask. The C library's wrapper refuses signals 32 and 33.
        let set = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, 0, 8) };
        check(20, set);
    }
    let none = 0_u64;
    // SAFETY: a valid mask of eight bytes.
    check(21, unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, 0, 8) });
}

fn map_area(start: &Start) {
    let Start { layout, text_fd, control_fd, slot_offset, .. } = *start;
    let base = layout.text();
    map(30, base, 4096, libc::PROT_READ | libc::PROT_EXEC, text_fd, 0);
    map(31, base + READ_ONLY, 4096, libc::PROT_READ, text_fd, READ_ONLY);
    map(32, base + COMMANDS, 2 * 4096, libc::PROT_READ, control_fd, slot_offset);
    map(33, base + SCRATCH, 4096, libc::PROT_READ | libc::PROT_WRITE, control_fd, slot_offset + 2 * 4096);
    // The gap between the constants and the command page stays reserved without access, at no cost.
}

fn map(step: i32, at: u64, len: u64, prot: i32, fd: i32, offset: u64) {
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    let at = ptr::without_provenance_mut(host::address(at));
    // SAFETY: replaces pages of the area that was reserved for this, to which nothing refers.
    let got = unsafe { libc::mmap(at, host::address(len), prot, flags, fd, offset.cast_signed()) };
    check(step, if got == at { 0 } else { -1 });
}

/// Ends the process with a status that names the step, if it failed.
fn check(step: i32, result: i64) {
    if result < 0 {
        // SAFETY: no memory is involved.
        unsafe { libc::_exit(step) };
    }
}

impl StubProcess {
    /// Tells a stub where to reply, before it exists.
    fn prepare_slot(slot: &Window) {
        use crate::stub::command_page::REPLY_OFFSET;
        let reply = slot.file_offset() + 4096;
        slot.u64(REPLY_OFFSET).store(reply, std::sync::atomic::Ordering::Release);
    }
}
