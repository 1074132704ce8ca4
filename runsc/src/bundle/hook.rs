//! Hooks: programs of the host that run at points of a container's life.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use oci_spec::runtime::Hook;
use sentry_hostio::pidfd::PidFd;
use thiserror::Error;

/// Why a hook failed.
#[derive(Debug, Error)]
pub(crate) enum HookError {
    /// It could not be started or fed.
    #[error("{kind} hook {path}: {source}")]
    Io {
        /// Its place in config.json.
        kind: &'static str,
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{kind} hook {path}: {status}")]
    Status {
        /// Its place in config.json.
        kind: &'static str,
        /// The program.
        path: PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// It took longer than it may.
    #[error("{kind} hook {path}: timed out after {seconds} s")]
    TimedOut {
        /// Its place in config.json.
        kind: &'static str,
        /// The program.
        path: PathBuf,
        /// Its limit.
        seconds: u64,
    },
}

/// Runs `hooks` in order, each with `state` on its standard input; ends with the first that fails.
pub(crate) fn run_hooks(kind: &'static str, hooks: Option<&Vec<Hook>>, state: &str) -> Result<(), HookError> {
    hooks.into_iter().flatten().try_for_each(|hook| run(kind, hook, state))
}

fn run(kind: &'static str, hook: &Hook, state: &str) -> Result<(), HookError> {
    let path = hook.path().clone();
    let io = |source| HookError::Io { kind, path: path.clone(), source };
    let mut command = Command::new(&path);
    if let Some([name, args @ ..]) = hook.args().as_deref() {
        command.arg0(name).args(args);
    }
    command.env_clear().stdin(Stdio::piped());
    for variable in hook.env().iter().flatten() {
        if let Some((name, value)) = variable.split_once('=') {
            command.env(name, value);
        }
    }
    let mut child = command.spawn().map_err(io)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook that does not care for the state closes its end.
        match stdin.write_all(state.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(io(error)),
            _ => {}
        }
    }
    if let Some(seconds) = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).filter(|s| *s > 0) {
        let pid = i32::try_from(child.id()).unwrap_or(-1);
        let pidfd = PidFd::open(pid).map_err(io)?;
        let limit = Duration::from_secs(seconds);
        let limit = nix::poll::PollTimeout::try_from(limit).unwrap_or(nix::poll::PollTimeout::MAX);
        if !pidfd.wait_ended(limit).map_err(io)? {
            child.kill().map_err(io)?;
            child.wait().map_err(io)?;
            return Err(HookError::TimedOut { kind, path, seconds });
        }
    }
    let status = child.wait().map_err(io)?;
    if !status.success() {
        return Err(HookError::Status { kind, path, status });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(json: &str) -> Vec<Hook> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_hook_gets_the_state_its_arguments_and_only_its_environment() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let script = format!("(cat; echo \" $0 $1 $A $HOME\") > {}", out.display());
        let hooks = hooks(&format!(
            r#"[{{"path":"/bin/sh","args":["sh","-c",{},"name","one"],"env":["A=b","PATH=/usr/bin:/bin"]}}]"#,
            serde_json::to_string(&script).unwrap()
        ));
        run_hooks("prestart", Some(&hooks), "{}").unwrap();
        assert_eq!(std::fs::read_to_string(out).unwrap(), "{} name one b \n");
    }

    #[test]
    fn failures_and_time_outs_name_the_hook() {
        let failing = hooks(r#"[{"path":"/bin/false"}]"#);
        let error = run_hooks("prestart", Some(&failing), "{}").unwrap_err();
        assert!(error.to_string().starts_with("prestart hook /bin/false: exit status"), "{error}");
        let slow = hooks(r#"[{"path":"/bin/sleep","args":["sleep","60"],"timeout":1}]"#);
        let error = run_hooks("poststop", Some(&slow), "{}").unwrap_err();
        assert!(error.to_string().ends_with("timed out after 1 s"), "{error}");
    }
}
