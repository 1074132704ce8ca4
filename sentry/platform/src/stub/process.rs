//! A stub process: one guest address space.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::PlatformError;
use crate::host;
use crate::stub::layout::{Layout, PAGE, SLOTS};
use crate::stub::syscall_thread::{Command, SyscallThread};
use crate::stub::template::{die_with_the_sentry, flags};
use crate::stub::text;

/// One stub. Killed and reaped on drop.
pub(crate) struct StubProcess {
    layout: Layout,
    thread: SyscallThread,
    pid: i32,
    pidfd: OwnedFd,
    is_killed: AtomicBool,
}

impl StubProcess {
    pub(super) fn new(layout: Layout, thread: SyscallThread, pid: i32, pidfd: OwnedFd) -> Self {
        Self { layout, thread, pid, pidfd, is_killed: AtomicBool::new(false) }
    }

    /// Unmaps the control pages of every other stub, which the guest must not reach.
    pub(super) fn shed(&self, command: u64, reply: u64) -> Result<(), PlatformError> {
        let mut commands = vec![die_with_the_sentry()];
        for (first, own) in [(self.layout.command(0), command), (self.layout.reply(0), reply)] {
            let end = first + SLOTS as u64 * PAGE;
            for (from, to) in [(first, own), (own + PAGE, end)] {
                if to > from {
                    commands.push(Command::new(libc::SYS_munmap, &[from, to - from]));
                }
            }
        }
        self.perform(&commands, "munmap")
    }

    /// The process id on the host.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// The addresses of its parts.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// The address of a bare `syscall` instruction.
    pub(crate) fn syscall_instruction(&self) -> u64 {
        self.layout.text() + text::syscall_offset()
    }

    /// Performs host calls in the stub; the first that fails is the error, those behind it are done all the same.
    pub(crate) fn perform(&self, commands: &[Command], call: &'static str) -> Result<(), PlatformError> {
        let mut failed = None;
        let ran = self.thread.run(
            commands,
            || self.is_alive(),
            |_, result| {
                if (-4095..0).contains(&result) && failed.is_none() {
                    failed = Some(result);
                }
            },
        );
        ran.map_err(|_| PlatformError::Dead)?;
        match failed.and_then(|f| i32::try_from(-f).ok()) {
            Some(code) => Err(PlatformError::Host { call, source: io::Error::from_raw_os_error(code) }),
            None => Ok(()),
        }
    }

    /// Starts a thread that pauses until it is taken over; returns its host thread id.
    pub(crate) fn spawn_thread(&self) -> Result<i32, PlatformError> {
        let thread = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM;
        let mut clone = Command::new(libc::SYS_clone, &[flags(thread)]);
        clone.child = [self.layout.text() + text::thread_offset(), 0, 0];
        let mut tid = 0;
        let ran = self.thread.run(&[clone], || self.is_alive(), |_, result| tid = result);
        ran.map_err(|_| PlatformError::Dead)?;
        match i32::try_from(tid) {
            Ok(tid) if tid > 0 => Ok(tid),
            Ok(error) => {
                Err(PlatformError::Host { call: "clone", source: io::Error::from_raw_os_error(-error) })
            }
            Err(_) => Err(PlatformError::Dead),
        }
    }

    /// False once the process has ended or was told to.
    pub(crate) fn is_alive(&self) -> bool {
        !self.is_killed.load(Ordering::Relaxed) && !host::has_exited(&self.pidfd)
    }

    /// Ends the process with all its threads.
    pub(crate) fn kill(&self) {
        self.is_killed.store(true, Ordering::Relaxed);
        host::kill(&self.pidfd);
    }
}

impl Drop for StubProcess {
    fn drop(&mut self) {
        self.kill();
        host::reap(&self.pidfd);
    }
}
