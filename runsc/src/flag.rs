//! Flags that other runtimes give a meaning which this one does not: refused where they ask for what it cannot do.

use thiserror::Error;

use crate::cli::Global;

/// A flag that cannot be honoured, with what to do instead.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum FlagError {
    /// Files without the gofer.
    #[error("--directfs=true: files always go through the gofer; leave the flag out")]
    DirectFs,
    /// Root that is to be treated as an ordinary user.
    #[error("--rootless=true: start runsc as that user instead of as root")]
    RootlessAsRoot,
    /// An ordinary user who is to be treated as root.
    #[error("--rootless=false: start runsc as root, or leave the flag out")]
    NotRootless,
    /// A system call that does not exist.
    #[error("--strace-syscalls: no system call is called {0:?}; \"runsc help syscalls\" lists them")]
    UnknownSyscall(String),
    /// Which calls to log, and none logged.
    #[error("--strace-syscalls: add --strace to log them")]
    WithoutStrace,
}

/// Checks the flags of every verb.
pub(crate) fn check(global: &Global, is_root: bool) -> Result<(), FlagError> {
    if global.directfs == Some(true) {
        return Err(FlagError::DirectFs);
    }
    match global.rootless {
        Some(true) if is_root => return Err(FlagError::RootlessAsRoot),
        Some(false) if !is_root => return Err(FlagError::NotRootless),
        _ => {}
    }
    let exists = |name: &String| sentry::syscall::table::rows().any(|row| row.name == name);
    if let Some(name) = global.strace_syscalls.iter().find(|name| !exists(name)) {
        return Err(FlagError::UnknownSyscall(name.clone()));
    }
    if !global.strace_syscalls.is_empty() && !global.strace {
        return Err(FlagError::WithoutStrace);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn outcome(flags: &[&str], is_root: bool) -> Result<(), FlagError> {
        let args = ["runsc"].iter().chain(flags).chain(&["list"]);
        check(&Cli::try_parse_from(args).unwrap().global, is_root)
    }

    #[test]
    fn what_cannot_be_done_is_refused_and_the_rest_passes() {
        assert_eq!(outcome(&["--directfs"], true), Err(FlagError::DirectFs));
        assert_eq!(outcome(&["--directfs=false", "--systemd-cgroup", "--rootless=false"], true), Ok(()));
        assert_eq!(outcome(&["--rootless"], true), Err(FlagError::RootlessAsRoot));
        assert_eq!(outcome(&["--rootless"], false), Ok(()));
        assert_eq!(outcome(&["--rootless=false"], false), Err(FlagError::NotRootless));
        let strace = |names: &str| outcome(&["--strace", "--strace-syscalls", names], true);
        assert_eq!(strace("read,openat"), Ok(()));
        assert_eq!(strace("read,frob"), Err(FlagError::UnknownSyscall("frob".into())));
        assert_eq!(outcome(&["--strace-syscalls=read"], true), Err(FlagError::WithoutStrace));
    }

    #[test]
    fn the_last_of_two_flags_counts() {
        let cli = Cli::try_parse_from(["runsc", "--root", "/a", "--root", "/b", "list"]).unwrap();
        assert_eq!(cli.global.root.as_deref(), Some(std::path::Path::new("/b")));
    }
}
