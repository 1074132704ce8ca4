//! The template: what every stub process is forked from.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use crate::PlatformError;
use crate::host;
use crate::stub::layout::{Layout, PAGE, SLOTS, TASK_SIZE};
use crate::stub::process::StubProcess;
use crate::stub::syscall_thread::{Command, ControlFile, SyscallThread};
use crate::stub::text;

/// A process that only forks. It holds the stub's area and nothing else.
pub(crate) struct Template {
    layout: Layout,
    control: Arc<ControlFile>,
    thread: SyscallThread,
    pidfd: OwnedFd,
}

/// What the new process needs before it can take commands, in the order in which the assembly reads it.
#[repr(C)]
struct Start {
    text_address: u64,
    text_fd: u64,
    commands_address: u64,
    control_fd: u64,
    control_len: u64,
    replies_address: u64,
    command_page: u64,
    reply_page: u64,
    pid: u64,
}

impl Template {
    /// Forks the template. Call it before the sentry has threads or much memory: the fork copies page tables.
    ///
    /// # Errors
    /// When the host refuses a call.
    pub(crate) fn spawn() -> io::Result<Self> {
        let layout = Layout::reserve()?;
        let control = ControlFile::new()?;
        let text = text::file()?;
        let slot = control.slot().ok_or_else(|| io::Error::other("no control slot"))?;
        let mut start = Start {
            text_address: layout.text(),
            text_fd: raw(&text),
            commands_address: layout.command(0),
            control_fd: raw(control.fd()),
            control_len: SLOTS as u64 * PAGE,
            replies_address: layout.reply(0),
            command_page: layout.command(slot.index()),
            reply_page: layout.reply(slot.index()),
            pid: 0,
        };
        fork_template(&mut start)?;
        let pid = i32::try_from(start.pid & 0xffff_ffff).map_err(io::Error::other)?;
        let pidfd = host::pidfd_open(pid)?;
        let template = Self { layout, control, thread: SyscallThread::new(slot), pidfd };
        template.shed()?;
        Ok(template)
    }

    /// Leaves the sentry's session (a terminal's signals must not reach stubs) and drops the copy of its memory.
    fn shed(&self) -> io::Result<()> {
        let everything_below = Command::new(libc::SYS_munmap, &[0, self.layout.guest_end()]);
        let mut commands = vec![
            Command::new(libc::SYS_setsid, &[]),
            die_with_the_sentry(),
            Command::new(libc::SYS_set_robust_list, &[0, 24]),
            everything_below,
        ];
        if self.layout.end() < TASK_SIZE {
            commands
                .push(Command::new(libc::SYS_munmap, &[self.layout.end(), TASK_SIZE - self.layout.end()]));
        }
        let mut failed = None;
        let ran = self.thread.run(
            &commands,
            || !host::has_exited(&self.pidfd),
            |nth, result| {
                if result < 0 && failed.is_none() {
                    failed = Some((nth, result));
                }
            },
        );
        match (ran, failed) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some((nth, result))) => {
                Err(io::Error::other(format!("template command {nth}: {result}")))
            }
            (Err(_), _) => Err(io::Error::other("the template died")),
        }
    }

    /// The addresses of stubs.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Forks a stub.
    ///
    /// # Errors
    /// When the host refuses another process or all slots are taken.
    pub(crate) fn fork(&self) -> Result<StubProcess, PlatformError> {
        let no_slot =
            || PlatformError::Host { call: "fork", source: io::Error::from_raw_os_error(libc::EAGAIN) };
        let slot = self.control.slot().ok_or_else(no_slot)?;
        let mut clone =
            Command::new(libc::SYS_clone, &[flags(libc::CLONE_PARENT | libc::CLONE_FILES | libc::SIGCHLD)]);
        let (command, reply) = (self.layout.command(slot.index()), self.layout.reply(slot.index()));
        clone.child = [self.layout.text(), command, reply];
        let mut pid = 0;
        let ran = self.thread.run(&[clone], || !host::has_exited(&self.pidfd), |_, result| pid = result);
        ran.map_err(|_| PlatformError::Dead)?;
        if pid <= 0 {
            let code = i32::try_from(-pid).unwrap_or(libc::EAGAIN);
            return Err(PlatformError::Host { call: "clone", source: io::Error::from_raw_os_error(code) });
        }
        let pid = i32::try_from(pid).map_err(|_| PlatformError::Dead)?;
        let pidfd =
            host::pidfd_open(pid).map_err(|source| PlatformError::Host { call: "pidfd_open", source })?;
        let stub = StubProcess::new(self.layout, SyscallThread::new(slot), pid, pidfd);
        stub.shed(command, reply)?;
        Ok(stub)
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        host::kill(&self.pidfd);
        host::reap(&self.pidfd);
    }
}

/// A stub without its sentry would only hold memory.
pub(super) fn die_with_the_sentry() -> Command {
    Command::new(libc::SYS_prctl, &[flags(libc::PR_SET_PDEATHSIG), flags(libc::SIGKILL)])
}

/// A small non-negative constant of libc as an argument.
pub(super) fn flags(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

fn raw(fd: &OwnedFd) -> u64 {
    flags(fd.as_raw_fd())
}

/// Forks a process that maps the stub's area and runs the system call loop; stores its pid in `start`.
///
/// Two steps, because a restartable-sequence area registered by the C library (rseq(2)) would outlive the memory it is
/// in: a child that shares memory has none, and a child forked by that one inherits none.
fn fork_template(start: &mut Start) -> io::Result<()> {
    let none = sigset(libc::sigemptyset);
    let all = sigset(libc::sigfillset);
    // SAFETY: an all-zero sigset_t is valid.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    // No handler of the sentry may run in the children; and the template itself must have no signal blocked.
    // SAFETY: valid signal sets.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    // SAFETY: the assembly touches only registers it declares and the fields of `start`; the vfork-like first child
    // shares this stack but does not write to it, and ends before the parent goes on.
    let result = unsafe { two_forks(start, ptr::from_ref(&none).cast()) };
    // SAFETY: restores the set saved above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EAGAIN)));
    }
    let pid = i32::try_from(result).unwrap_or(0);
    // SAFETY: reaps the first child, which has ended.
    unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) };
    if start.pid == 0 {
        return Err(io::Error::other("the template could not be forked"));
    }
    Ok(())
}

fn sigset(fill: unsafe extern "C" fn(*mut libc::sigset_t) -> i32) -> libc::sigset_t {
    // SAFETY: an all-zero sigset_t is valid.
    let mut set = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid for writing.
    unsafe { fill(&raw mut set) };
    set
}

/// Returns the pid of the first child or a negative errno.
///
/// # Safety
/// `start` has the descriptors and addresses of a fresh layout; `no_signals` is an empty signal set.
unsafe fn two_forks(start: &mut Start, no_signals: *const u64) -> i64 {
    let first = flags(libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD);
    let second = flags(libc::CLONE_PARENT | libc::CLONE_FILES | libc::CLONE_PARENT_SETTID);
    let result: i64;
    // SAFETY: see the caller. In the template every mapping below the reserved area is a private copy, so that the
    // code of this function and `start` stay valid until it jumps into the stub text.
    unsafe {
        std::arch::asm!(
            "mov eax, 56",                  // clone, sharing memory
            "xor esi, esi",
            "xor edx, edx",
            "xor r10d, r10d",
            "xor r8d, r8d",
            "syscall",
            "test rax, rax",
            "jnz 9f",
            "mov eax, 56",                  // clone: the template, a child of the sentry
            "mov rdi, r14",
            "xor esi, esi",
            "lea rdx, [r12 + 64]",          // the pid goes to `start.pid`
            "xor r10d, r10d",
            "xor r8d, r8d",
            "syscall",
            "test rax, rax",
            "jz 2f",
            "xor edi, edi",
            "mov eax, 60",                  // exit
            "syscall",
            "ud2",
            "2:",
            "mov eax, 14",                  // rt_sigprocmask(SIG_SETMASK, none)
            "mov edi, 2",
            "mov rsi, r15",
            "xor edx, edx",
            "mov r10d, 8",
            "syscall",
            "mov eax, 9",                   // mmap the text, read and execute
            "mov rdi, [r12]",
            "mov esi, 4096",
            "mov edx, 5",
            "mov r10d, 0x11",               // MAP_SHARED | MAP_FIXED
            "mov r8, [r12 + 8]",
            "xor r9d, r9d",
            "syscall",
            "cmp rax, [r12]",
            "jne 8f",
            "mov eax, 9",                   // the command pages, read-only
            "mov rdi, [r12 + 16]",
            "mov rsi, [r12 + 32]",
            "mov edx, 1",
            "mov r8, [r12 + 24]",
            "xor r9d, r9d",
            "syscall",
            "cmp rax, [r12 + 16]",
            "jne 8f",
            "mov eax, 9",                   // the reply pages
            "mov rdi, [r12 + 40]",
            "mov rsi, [r12 + 32]",
            "mov edx, 3",
            "mov r9, [r12 + 32]",
            "syscall",
            "cmp rax, [r12 + 40]",
            "jne 8f",
            "mov rax, [r12]",
            "mov r13, [r12 + 56]",
            "mov r12, [r12 + 48]",
            "xor r14d, r14d",
            "jmp rax",
            "8:",
            "mov edi, 1",
            "mov eax, 231",                 // exit_group
            "syscall",
            "ud2",
            "9:",
            inlateout("rax") 0_u64 => result,
            inlateout("rdi") first => _,
            in("r12") start,
            in("r14") second,
            in("r15") no_signals,
            lateout("rsi") _, lateout("rdx") _, lateout("r10") _, lateout("r8") _, lateout("r9") _,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}
