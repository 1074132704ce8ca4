//! `runsc exec`: another process in a running container.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::Process;
use sentry::boot::{ProcessConfig, ProcessName, Reply, Request};
use sentry_hostio::caps::Capability;
use sentry_hostio::fd_flags::{self, OnExec};
use sentry_hostio::inherited;

use crate::bundle::{self, Bundle, Choices};
use crate::cli::{Exec, Global};
use crate::container;
use crate::foreground::{Foreground, Signals};
use crate::relay;
use crate::sandbox::{self, Client, Console};
use crate::state::{Record, Status};

/// Where a detached `exec` tells the command that started it that the process runs.
const STARTED_VARIABLE: &str = "RUNSC_STARTED_FD";

pub(super) fn run(global: &Global, args: Exec) -> Result<ExitCode> {
    // Once: it may be a pipe.
    let spec = args.process.as_deref().map(bundle::read_process).transpose()?;
    if wants_relay(&args, spec.as_ref())? {
        args.preserve.keep()?;
        return relay::run();
    }
    if args.detach && std::env::var_os(STARTED_VARIABLE).is_none() {
        args.preserve.keep()?;
        return detach(&args);
    }
    let foreground = Foreground::new()?;
    let entry = container::store(global).open(&args.id)?;
    if entry.record.status != Status::Running {
        bail!("container {:?} is {}", args.id, entry.record.status);
    }
    let process = process(&args, spec.as_ref(), &entry.record, Choices::of(global))?;
    let console = match &args.console_socket {
        Some(socket) => Some(Console::Socket(socket.clone())),
        None => relay::console()?.map(Console::Relay),
    };
    let mut stdio = match console.filter(|_| process.has_terminal) {
        Some(console) => sandbox::terminal(&console, None, sandbox::Keys::ToUs)?,
        None => sandbox::own_stdio()?,
    };
    stdio.extend(args.preserve.copies().context("copy preserved descriptors")?);
    let address = entry.address();
    let client = Client::connect(&address)?;
    // Others go on with the container while the process runs.
    drop(entry);
    let fds: Vec<_> = stdio.iter().map(AsFd::as_fd).collect();
    client.send(Request::Exec(Box::new(process)), &fds)?;
    let pid = match client.receive()? {
        Reply::Started { pid } => pid,
        other => bail!("unexpected reply of the sandbox: {other:?}"),
    };
    drop(stdio);
    if let Some(path) = &args.internal_pid_file {
        write_pid(path, &pid.to_string())?;
    }
    report_started()?;
    if !args.detach
        && let Some(path) = &args.pid_file
    {
        write_pid(path, &std::process::id().to_string())?;
    }
    let status = foreground.attend(&client, &mut Signals::To(address), ProcessName::Id(pid))?;
    Ok(super::exit_code(status))
}

/// Whether the user's terminal has to be passed on to one of the process's own.
fn wants_relay(args: &Exec, spec: Option<&Process>) -> Result<bool> {
    let has_terminal = spec.map_or(args.tty, |spec| spec.terminal().unwrap_or(false));
    if args.console_socket.is_some() || !has_terminal {
        return Ok(false);
    }
    if args.detach {
        bail!("a process with a terminal that is not waited for needs --console-socket");
    }
    Ok(relay::is_possible())
}

/// Starts this program again, to stay with the process, and returns when the process runs. Engines watch the pid of
/// that second one, whose exit status is the process's.
fn detach(args: &Exec) -> Result<ExitCode> {
    let (mut started, report) = std::io::pipe()?;
    fd_flags::set_on_exec(&report, OnExec::Keep)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&report).to_string();
    let mut child = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .env(STARTED_VARIABLE, number)
        .spawn()
        .context("start the process that stays")?;
    drop(report);
    let mut byte = [0];
    if started.read(&mut byte)? == 0 {
        // It has said why.
        let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok());
        return Ok(ExitCode::from(code.unwrap_or(crate::failure::RUNTIME_FAILURE)));
    }
    if let Some(path) = &args.pid_file {
        write_pid(path, &child.id().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn report_started() -> Result<()> {
    let number = std::env::var(STARTED_VARIABLE).ok().and_then(|number| number.parse().ok());
    if let Some(number) = number {
        let fd = inherited::take(number).context("report the start")?;
        nix::unistd::write(&fd, b"s")?;
    }
    Ok(())
}

fn write_pid(path: &Path, pid: &str) -> Result<()> {
    fs::write(path, pid).with_context(|| path.display().to_string())
}

fn process(args: &Exec, spec: Option<&Process>, record: &Record, choices: Choices) -> Result<ProcessConfig> {
    // Its filter of system calls holds for all that is run in the container.
    let bundle = match record.bundle.as_os_str().is_empty() {
        true => None,
        false => Some(Bundle::load(&record.bundle)?),
    };
    let seccomp = bundle.as_ref().and_then(Bundle::seccomp);
    if let Some(spec) = spec {
        return Ok(bundle::process_from_spec(spec, seccomp, choices)?);
    }
    if args.command.is_empty() {
        bail!("no command and no --process file");
    }
    // What the flags do not say is as for the container's own process.
    let mut process = match &bundle {
        None => ProcessConfig { cwd: "/".to_owned(), env: default_env(), ..ProcessConfig::default() },
        Some(bundle) => bundle::process_from_spec(&bundle.process, seccomp, choices)?,
    };
    process.args.clone_from(&args.command);
    process.has_terminal = args.tty;
    process.env.extend(args.env.iter().cloned());
    if let Some(cwd) = &args.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = &args.user {
        let (uid, gid) = parse_user(user)?;
        process.user.uid = uid;
        process.user.gid = gid.unwrap_or(process.user.gid);
    }
    process.user.additional_gids.extend(&args.additional_gids);
    process.no_new_privileges |= args.no_new_privs;
    for name in &args.cap {
        let bit = 1 << name.parse::<Capability>()?.number();
        let sets = &mut process.capabilities;
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            *set |= bit;
        }
    }
    Ok(process)
}

fn default_env() -> Vec<String> {
    vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()]
}

fn parse_user(text: &str) -> Result<(u32, Option<u32>)> {
    let parse = |id: &str| id.parse::<u32>().with_context(|| format!("user {text:?}: not UID[:GID]"));
    match text.split_once(':') {
        Some((uid, gid)) => Ok((parse(uid)?, Some(parse(gid)?))),
        None => Ok((parse(text)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers() {
        assert_eq!(parse_user("1").unwrap(), (1, None));
        assert_eq!(parse_user("1:2").unwrap(), (1, Some(2)));
        for text in ["", "root", "1:", "-1", "1:2:3"] {
            assert!(parse_user(text).is_err(), "{text}");
        }
    }
}
