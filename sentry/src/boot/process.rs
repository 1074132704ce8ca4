//! From the configuration of a process to a running one.

use std::sync::Arc;

use netstack::bpf::Instruction;

use crate::boot::{CapabilitySets, ControlError, FilterConfig, FilterInstruction, ProcessConfig, UserConfig};
use crate::errno::Errno;
use crate::fs::{host, tty};
use crate::kernel::{ContainerId, Kernel, Namespaces};
use crate::task::seccomp::{Filter, Logging};
use crate::task::{Capabilities, Credentials, Gid, Limit, Limits, ProcessArgs, Resource, Task, Uid};
use crate::vfs::walk::{Last, Resolve, WalkRoot, walk};
use crate::vfs::{Caller, FdFlags, FdTableUser, File, FsContext};

/// Where execvp(3) looks when the environment has no PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// What a new process shares with the others of its container.
pub(super) struct Surroundings {
    pub(super) kernel: Arc<Kernel>,
    /// Root and mounts; the working directory is the process's own.
    pub(super) fs: Arc<FsContext>,
    pub(super) namespaces: Arc<Namespaces>,
    pub(super) container: ContainerId,
}

/// Starts a process with `files` as its descriptors 0, 1, 2, ...
pub(super) fn start(
    surroundings: &Surroundings,
    config: &ProcessConfig,
    files: Vec<Arc<File>>,
) -> Result<Arc<Task>, ControlError> {
    let Surroundings { kernel, fs, namespaces, container } = surroundings;
    let fs = fs.fork();
    let creds = credentials(&config.user, &config.capabilities, config.no_new_privileges);
    fs.set_umask(config.user.umask);
    enter_directory(&fs, &creds, &config.cwd)?;
    let files = place_terminals(&fs, &creds, files);
    let terminal =
        files.iter().take(3).find(|file| host::is_terminal(file)).filter(|_| config.has_terminal).cloned();
    let table = FdTableUser::new();
    for file in files {
        // Cannot fail: the table is empty and the limit far.
        let _ = table.install(file, FdFlags::empty(), 0, u64::MAX);
    }
    let limits = limits(config);
    let filter = config.filter.as_ref().map(filter).transpose()?;
    let args = |path: Vec<u8>| ProcessArgs {
        path,
        argv: config.args.iter().map(|arg| arg.clone().into_bytes()).collect(),
        envp: config.env.iter().map(|variable| variable.clone().into_bytes()).collect(),
        creds: creds.clone(),
        limits,
        files: table.share(),
        fs: fs.clone(),
        namespaces: namespaces.clone(),
        container: *container,
    };
    find_and_start(config, |path| {
        kernel.create_prepared(args(path), |task| {
            if let Some(terminal) = &terminal {
                host::adopt_terminal(terminal, task);
            }
            task.thread_group().set_oom_score_adj(config.oom_score_adj, config.oom_score_adj);
            if let Some(filter) = &filter {
                task.start_with_filter(filter.clone());
            }
            if config.is_ordinary {
                task.thread_group().set_ordinary();
            }
        })
    })
}

/// Gives the terminals among `files` their places in `/dev/pts`, where the guest has one: what ttyname(3) finds.
fn place_terminals(fs: &FsContext, creds: &Credentials, files: Vec<Arc<File>>) -> Vec<Arc<File>> {
    let from = WalkRoot { namespace: fs.namespace(), root: fs.root(), start: fs.root() };
    let walked = walk(&Caller::kernel(creds), &from, b"/dev/pts", Last::Follow, Resolve::empty());
    let Ok(devpts) = walked.and_then(crate::vfs::Walked::existing) else { return files };
    host::place_terminals(files, |terminal| tty::adopt(&devpts, terminal, creds.uid))
}

/// Looks the program up as execvp(3) does and starts the first that can be.
fn find_and_start(
    config: &ProcessConfig,
    mut start: impl FnMut(Vec<u8>) -> Result<Arc<Task>, Errno>,
) -> Result<Arc<Task>, ControlError> {
    let program = config.args.first().map(String::as_str).unwrap_or_default();
    if program.contains('/') || program.is_empty() {
        return start(program.as_bytes().to_vec()).map_err(|errno| exec_error(program, errno));
    }
    let path = config.env.iter().find_map(|variable| variable.strip_prefix("PATH="));
    let mut denied = false;
    for directory in path.unwrap_or(DEFAULT_PATH).split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        match start(format!("{directory}/{program}").into_bytes()) {
            Ok(task) => return Ok(task),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            // execvp(3) goes on, and says so when nothing else was found.
            Err(Errno::EACCES) => denied = true,
            Err(errno) => return Err(exec_error(program, errno)),
        }
    }
    if denied {
        return Err(exec_error(program, Errno::EACCES));
    }
    let reason = "executable file not found in $PATH".to_owned();
    Err(ControlError::ProgramNotFound { program: program.to_owned(), reason })
}

fn exec_error(program: &str, errno: Errno) -> ControlError {
    let (program, reason) = (program.to_owned(), describe(errno));
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => ControlError::ProgramNotFound { program, reason },
        _ => ControlError::ProgramNotRunnable { program, reason },
    }
}

/// The errno in the words of strerror(3).
fn describe(errno: Errno) -> String {
    nix::errno::Errno::from_raw(errno.code().into()).desc().to_owned()
}

fn enter_directory(fs: &FsContext, creds: &Credentials, cwd: &str) -> Result<(), ControlError> {
    let failed = |errno: Errno| ControlError::SetUp {
        step: format!("change to working directory {cwd:?}"),
        reason: describe(errno),
    };
    let from = WalkRoot { namespace: fs.namespace(), root: fs.root(), start: fs.root() };
    let walked = walk(&Caller::kernel(creds), &from, cwd.as_bytes(), Last::Follow, Resolve::empty());
    let place = walked.and_then(crate::vfs::Walked::existing).map_err(failed)?;
    if !place.inode().is_dir() {
        return Err(failed(Errno::ENOTDIR));
    }
    fs.set_cwd(place);
    Ok(())
}

/// The credentials after the execve(2) that Linux would do: root gets its bounding set, everyone else what is ambient
/// (capabilities(7), "Transformation of capabilities during execve()").
fn credentials(user: &UserConfig, sets: &CapabilitySets, no_new_privs: bool) -> Arc<Credentials> {
    let set = Capabilities::from_bits_truncate;
    let groups: Vec<Gid> = user.additional_gids.iter().copied().map(Gid).collect();
    let bounding = set(sets.bounding);
    let gained = if user.uid == 0 { set(sets.bounding) } else { set(sets.ambient) };
    let mut creds = Credentials::clone(&Credentials::new(Uid(user.uid), Gid(user.gid), &groups, gained));
    creds.bounding = bounding;
    creds.inheritable = set(sets.inheritable);
    creds.ambient = set(sets.ambient);
    creds.no_new_privs = no_new_privs;
    Arc::new(creds)
}

fn filter(config: &FilterConfig) -> Result<Arc<Filter>, ControlError> {
    let FilterConfig { instructions, is_logged } = config;
    let decode = |&FilterInstruction { code, jt, jf, k }: &FilterInstruction| Instruction { code, jt, jf, k };
    let source: Vec<_> = instructions.iter().map(decode).collect();
    let logging = if *is_logged { Logging::On } else { Logging::Off };
    Filter::new(&source, logging, None).map_err(|error| ControlError::SetUp {
        step: "install the filter of system calls".to_owned(),
        reason: error.to_string(),
    })
}

fn limits(config: &ProcessConfig) -> Limits {
    let mut limits = Limits::default();
    for limit in &config.limits {
        // The numbers come from getrlimit(2)'s own list.
        if let Ok(resource) = Resource::from_number(limit.resource) {
            limits.set(resource, Limit { soft: limit.soft, hard: limit.hard });
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(program: &str, path: &str, outcome: impl Fn(&str) -> Errno) -> (Vec<String>, ControlError) {
        let config = ProcessConfig {
            args: vec![program.to_owned()],
            env: vec![format!("PATH={path}")],
            ..ProcessConfig::default()
        };
        let mut tried = Vec::new();
        let error = find_and_start(&config, |path| {
            let path = String::from_utf8(path).unwrap();
            let errno = outcome(&path);
            tried.push(path);
            Err(errno)
        });
        (tried, error.unwrap_err())
    }

    #[test]
    fn a_name_is_looked_up_in_every_directory() {
        let (tried, error) = attempts("ls", "/a::/b", |_| Errno::ENOENT);
        assert_eq!(tried, ["/a/ls", "./ls", "/b/ls"]);
        assert_eq!(error.exit_code(), 127);
    }

    #[test]
    fn what_cannot_be_run_is_told_from_what_is_not_there() {
        let outcome = |path: &str| if path == "/a/ls" { Errno::EACCES } else { Errno::ENOENT };
        let (_, error) = attempts("ls", "/a:/b", outcome);
        assert_eq!(error.exit_code(), 126);
        let (tried, error) = attempts("/x/ls", "/a", |_| Errno::ENOEXEC);
        assert_eq!((tried, error.exit_code()), (vec!["/x/ls".to_owned()], 126));
    }

    #[test]
    fn root_gets_its_bounding_set_and_others_what_is_ambient() {
        let sets =
            CapabilitySets { bounding: 0b111, effective: 0b1, permitted: 0b1, inheritable: 0, ambient: 0b10 };
        let root = credentials(&UserConfig::default(), &sets, false);
        assert_eq!(root.effective.bits(), 0b111);
        let other = credentials(&UserConfig { uid: 5, ..UserConfig::default() }, &sets, true);
        assert_eq!(other.effective.bits(), 0b10);
        assert!(other.no_new_privs);
    }
}
