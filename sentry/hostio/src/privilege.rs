//! Giving up privilege for good: no_new_privs, core dumps, parent-death signal, session.

use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

/// Bars the process and its descendants from gaining privilege through execve(2).
///
/// # Errors
/// The errors of prctl(2).
pub fn set_no_new_privs() -> io::Result<()> {
    Ok(prctl::set_no_new_privs()?)
}

/// Makes the process invisible to ptrace and `/proc` readers of the same uid, and leave no core.
///
/// # Errors
/// The errors of prctl(2) and setrlimit(2).
pub fn forbid_dumps() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

/// Has the kernel kill this process when the thread that created it ends.
///
/// Lost on a change of credentials (PR_SET_PDEATHSIG(2const)), so call it after the last one.
///
/// # Errors
/// The errors of prctl(2).
pub fn die_with_parent() -> io::Result<()> {
    Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// Leaves the caller's session and controlling terminal.
///
/// # Errors
/// `EPERM` for a process group leader.
pub fn new_session() -> io::Result<()> {
    nix::unistd::setsid()?;
    Ok(())
}

/// Raises the limit of open files to its hard maximum: each guest file may need a host descriptor.
///
/// # Errors
/// The errors of getrlimit(2) and setrlimit(2).
pub fn raise_open_files() -> io::Result<()> {
    let (_, hard) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}
