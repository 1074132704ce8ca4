//! Starting a program in new namespaces with chosen descriptors: one clone3(2), one execveat(2).

use std::ffi::CString;
use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::namespace::Namespaces;
use crate::pidfd::PidFd;

/// A range of ids of a new user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside, in the parent's namespace.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl IdRange {
    fn line(self) -> String {
        let Self { inside, outside, count } = self;
        format!("{inside} {outside} {count}\n")
    }
}

/// User and group ids of a new user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMaps {
    /// User ids.
    pub uids: Vec<IdRange>,
    /// Group ids.
    pub gids: Vec<IdRange>,
}

impl IdMaps {
    /// Id 0 inside is `uid`/`gid` outside, and there is no other id.
    pub fn single(uid: u32, gid: u32) -> Self {
        let range = |outside| IdRange { inside: 0, outside, count: 1 };
        Self { uids: vec![range(uid)], gids: vec![range(gid)] }
    }
}

/// What happens to the program when the thread that started it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// It is killed.
    Bound,
    /// It goes on.
    Detached,
}

/// A program to start.
#[derive(Debug)]
pub struct Spawn {
    /// The program's file.
    pub program: OwnedFd,
    /// Arguments, the name included.
    pub args: Vec<CString>,
    /// Environment, `NAME=VALUE`.
    pub env: Vec<CString>,
    /// What becomes descriptors 0, 1, 2, ... of the program; nothing else stays open in it.
    pub fds: Vec<OwnedFd>,
    /// Namespaces to create.
    pub namespaces: Namespaces,
    /// Ids of the new user namespace; needed when [`Namespaces::USER`] is among the above.
    pub id_maps: Option<IdMaps>,
    /// What happens when the caller ends.
    pub lifetime: Lifetime,
}

/// A started program. Dropping the value neither ends nor reaps it.
#[derive(Debug)]
pub struct Child {
    /// Its pid in the caller's namespace.
    pub pid: i32,
    /// A reference to it.
    pub pidfd: PidFd,
}

/// Everything that the child touches between clone and exec, made before, because a child of a
/// process that may have threads must not allocate.
struct Prepared {
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    /// Descriptors moved above the range of their targets.
    sources: Vec<RawFd>,
    program: RawFd,
    go: RawFd,
    /// The parent's end of `go`.
    go_write: RawFd,
    failure: RawFd,
    becomes_root: bool,
    lifetime: Lifetime,
}

impl Spawn {
    /// Starts the program and returns when execve(2) has succeeded.
    ///
    /// # Errors
    /// The errors of clone3(2), of writing the id maps and of execveat(2); then no child is left.
    pub fn start(self) -> io::Result<Child> {
        let (go_read, go_write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let (failure_read, failure_write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let lowest_free =
            RawFd::try_from(self.fds.len()).map_err(|_| io::Error::from_raw_os_error(libc::EMFILE))?;
        let moved = Moved::above(lowest_free, &self.fds, [&self.program, &go_read, &failure_write])?;
        let [program, go, failure] = moved.own;
        let prepared = Prepared {
            argv: pointers(&self.args),
            envp: pointers(&self.env),
            sources: moved.fds.iter().map(AsRawFd::as_raw_fd).collect(),
            program: program.as_raw_fd(),
            go: go.as_raw_fd(),
            go_write: go_write.as_raw_fd(),
            failure: failure.as_raw_fd(),
            becomes_root: self.id_maps.is_some(),
            lifetime: self.lifetime,
        };
        let child = clone3(self.namespaces, &prepared)?;
        drop((go_read, failure_write, go, failure));
        let outcome = self
            .write_maps(child.pid)
            .and_then(|()| nix::unistd::write(&go_write, b"g").map_err(io::Error::from))
            .and_then(|_| exec_outcome(failure_read));
        if let Err(error) = outcome {
            // Already gone when exec itself failed.
            let _ = child.pidfd.signal(Some(nix::sys::signal::SIGKILL));
            let _ = child.pidfd.reap();
            return Err(error);
        }
        Ok(child)
    }

    fn write_maps(&self, pid: i32) -> io::Result<()> {
        let Some(maps) = &self.id_maps else {
            return Ok(());
        };
        let lines = |ranges: &[IdRange]| ranges.iter().map(|range| range.line()).collect::<String>();
        fs::write(format!("/proc/{pid}/uid_map"), lines(&maps.uids))?;
        let gid_map = format!("/proc/{pid}/gid_map");
        let gids = lines(&maps.gids);
        match fs::write(&gid_map, &gids) {
            // user_namespaces(7): without CAP_SETGID in the parent namespace, a gid map can be
            // written only after setgroups(2) was denied.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
                fs::write(&gid_map, &gids)
            }
            outcome => outcome,
        }
    }
}

/// Copies of descriptors with numbers that the targets cannot clash with.
struct Moved {
    fds: Vec<OwnedFd>,
    own: [OwnedFd; 3],
}

impl Moved {
    fn above(lowest: RawFd, fds: &[OwnedFd], own: [&OwnedFd; 3]) -> io::Result<Self> {
        let copy = |fd: BorrowedFd<'_>| -> io::Result<OwnedFd> {
            let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(lowest))?;
            // SAFETY: fcntl just returned this descriptor to us alone.
            Ok(unsafe { OwnedFd::from_raw_fd(number) })
        };
        let [a, b, c] = own;
        Ok(Self {
            fds: fds.iter().map(|fd| copy(fd.as_fd())).collect::<io::Result<_>>()?,
            own: [copy(a.as_fd())?, copy(b.as_fd())?, copy(c.as_fd())?],
        })
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Reads what the child said about its exec: nothing on success, an errno on failure.
fn exec_outcome(failure: OwnedFd) -> io::Result<()> {
    let mut code = [0u8; 4];
    loop {
        match nix::unistd::read(&failure, &mut code) {
            Ok(4) => return Err(io::Error::from_raw_os_error(i32::from_ne_bytes(code))),
            Ok(_) => return Ok(()),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn clone3(namespaces: Namespaces, prepared: &Prepared) -> io::Result<Child> {
    let mut pidfd: RawFd = -1;
    // SAFETY: an all-zero clone_args is a valid value.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    // The namespace bits are positive.
    args.flags = u64::try_from(namespaces.bits() | libc::CLONE_PIDFD).unwrap_or(0);
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = u64::try_from(libc::SIGCHLD).unwrap_or(0);
    // SAFETY: without CLONE_VM and a stack this is fork(2): the child goes on with a copy of this
    // stack and memory, and runs only `child`, which makes raw system calls and does not return.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) };
    if pid == 0 {
        child(prepared);
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: CLONE_PIDFD stored a descriptor that is ours alone.
    let pidfd = PidFd::from_owned(unsafe { OwnedFd::from_raw_fd(pidfd) });
    Ok(Child { pid: i32::try_from(pid).unwrap_or(-1), pidfd })
}

/// The child's way from clone to exec. No allocation, no locks, no unwinding.
fn child(prepared: &Prepared) -> ! {
    let Err(errno) = become_program(prepared);
    let code = errno.to_ne_bytes();
    // SAFETY: write reads from a live buffer; _exit does not return.
    unsafe {
        libc::write(prepared.failure, code.as_ptr().cast(), code.len());
        libc::_exit(127);
    }
}

fn become_program(prepared: &Prepared) -> Result<std::convert::Infallible, i32> {
    // SAFETY (of all the calls below): integers, or pointers to memory that was made before the
    // clone and lives until exec.
    // With a copy of the parent's end here, a parent that is killed would leave us waiting for ever.
    // SAFETY: see above.
    check(unsafe { libc::syscall(libc::SYS_close, prepared.go_write) })?;
    let mut byte = 0u8;
    // SAFETY: see above.
    let read = unsafe { libc::read(prepared.go, (&raw mut byte).cast(), 1) };
    if read != 1 {
        // The parent failed before it could let us go.
        return Err(libc::ECANCELED);
    }
    if prepared.becomes_root {
        // The caller's supplementary groups must not come along; where setgroups is denied the
        // caller is unprivileged and the groups are its own.
        // SAFETY: see above; a count of 0 makes the kernel ignore the pointer.
        unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) };
        // SAFETY: see above.
        check(unsafe { libc::syscall(libc::SYS_setresgid, 0, 0, 0) })?;
        // SAFETY: see above.
        check(unsafe { libc::syscall(libc::SYS_setresuid, 0, 0, 0) })?;
    }
    if prepared.lifetime == Lifetime::Bound {
        // SAFETY: see above.
        check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        // The parent keeps its end until we have called execve(2), unless it died before the signal was asked for.
        let mut parent = libc::pollfd { fd: prepared.go, events: 0, revents: 0 };
        // SAFETY: one live pollfd.
        check(unsafe { libc::syscall(libc::SYS_poll, &raw mut parent, 1, 0) })?;
        if parent.revents & libc::POLLHUP != 0 {
            return Err(libc::ECANCELED);
        }
    }
    for (target, source) in (0i32..).zip(&prepared.sources) {
        // The sources are all above the targets, so that no dup2 closes one still needed.
        // SAFETY: see above.
        check(unsafe { libc::syscall(libc::SYS_dup2, *source, target) })?;
    }
    // Whatever else the caller has open, close-on-exec or not, stays out.
    // SAFETY: see above.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            prepared.sources.len(),
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })?;
    // SAFETY: an all-zero sigset is the empty mask, the kernel reads 8 bytes of it.
    let empty = 0u64;
    // SAFETY: see above.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const empty,
            std::ptr::null::<u64>(),
            size_of_val(&empty),
        )
    })?;
    // SAFETY: see above; the arrays end with null.
    check(unsafe {
        libc::syscall(
            libc::SYS_execveat,
            prepared.program,
            c"".as_ptr(),
            prepared.argv.as_ptr(),
            prepared.envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    })?;
    Err(libc::EINVAL)
}

fn check(result: libc::c_long) -> Result<(), i32> {
    if result < 0 {
        // SAFETY: __errno_location returns the thread's errno, which libc::syscall set.
        return Err(unsafe { *libc::__errno_location() });
    }
    Ok(())
}

#[cfg(test)]
#[path = "spawn_tests.rs"]
mod tests;
