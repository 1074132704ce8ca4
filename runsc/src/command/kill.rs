//! `runsc kill`: a signal for a container.

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use sentry::boot::{ProcessName, Reply, Request, SignalTarget};

use crate::cli::{Global, Kill};
use crate::container;
use crate::sandbox::{Client, ClientError};
use crate::state::{ProcessRef, Record, Status};

pub(super) fn run(global: &Global, args: &Kill) -> Result<ExitCode> {
    let signal = parse_signal(&args.signal)?;
    let entry = container::store(global).open(&args.id)?;
    match entry.record.status {
        Status::Running | Status::Paused => {}
        // What engines do to get rid of a container that was never started.
        Status::Created if signal == libc::SIGKILL || signal == libc::SIGTERM => {
            if let Some(sandbox) = entry.record.sandbox.and_then(ProcessRef::open) {
                sandbox.signal(Some(Signal::SIGKILL))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        // runc is silent with --all for a container that is gone, and engines rely on it.
        Status::Stopped if args.all => return Ok(ExitCode::SUCCESS),
        status => bail!("container {:?} is {status}: it cannot be signalled", args.id),
    }
    let target = match (args.all, args.pid) {
        (true, _) => SignalTarget::All,
        (false, Some(pid)) => SignalTarget::Process(ProcessName::Id(pid)),
        (false, None) => SignalTarget::Process(ProcessName::First),
    };
    let reply =
        Client::connect(&entry.address()).and_then(|client| client.call(Request::Signal { target, signal }));
    match reply {
        Ok(Reply::Signalled { .. }) => Ok(ExitCode::SUCCESS),
        Ok(other) => bail!("unexpected reply of the sandbox: {other:?}"),
        Err(ClientError::Connect(_) | ClientError::Died) if has_ended(&entry.record)? => match args.all {
            // As if we had come later.
            true => Ok(ExitCode::SUCCESS),
            false => bail!("container {:?} is {}: it cannot be signalled", args.id, Status::Stopped),
        },
        Err(error) => Err(error.into()),
    }
}

/// Tells whether the sandbox is gone, which it is soon after it has stopped answering.
fn has_ended(record: &Record) -> Result<bool> {
    match record.sandbox.and_then(ProcessRef::open) {
        Some(process) => Ok(process.wait_ended(END_TIMEOUT_MS.into())?),
        None => Ok(true),
    }
}

/// More than the last steps of a sandbox take on a busy host.
const END_TIMEOUT_MS: u16 = 3000;

/// A signal by number, or by name with or without `SIG`.
fn parse_signal(text: &str) -> Result<i32> {
    if let Ok(number) = text.parse::<i32>() {
        if (1..=64).contains(&number) {
            return Ok(number);
        }
        bail!("unknown signal {text:?}");
    }
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    match Signal::from_str(&name) {
        Ok(signal) => Ok(signal as i32),
        Err(_) => bail!("unknown signal {text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in [("KILL", 9), ("SIGTERM", 15), ("sigusr1", 10), ("2", 2), ("64", 64)] {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "65", "-1", "SIGNOPE"] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
    }
}
