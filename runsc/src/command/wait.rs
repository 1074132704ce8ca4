//! `runsc wait`: the exit status of a container, when it has one.

use std::process::ExitCode;

use anyhow::{Result, bail};
use sentry::boot::ExitStatus;
use serde_json::json;

use crate::cli::{Global, Id};
use crate::container;
use crate::sandbox::{Client, exit_status};
use crate::state::{Entry, Status};

pub(super) fn run(global: &Global, args: &Id) -> Result<ExitCode> {
    let entry = container::store(global).open(&args.id)?;
    let dir = entry.dir().to_owned();
    let status = match await_end(entry) {
        Ok(status) => status,
        // The sandbox may have ended before it, or while it could be asked.
        Err(error) => exit_status::read(&dir).ok_or(error)?,
    };
    println!("{}", json!({ "id": args.id, "exitStatus": status.shell_code() }));
    Ok(ExitCode::SUCCESS)
}

fn await_end(entry: Entry) -> Result<ExitStatus> {
    let record = &entry.record;
    if record.status == Status::Stopped {
        bail!("container {:?} was killed, and nothing is known of its process", record.id);
    }
    if !record.status.is_alive() {
        bail!("container {:?} is {}", record.id, record.status);
    }
    if record.init_pid.is_none() {
        bail!("container {:?} was not started", record.id);
    }
    let client = Client::connect(&entry.address())?;
    // Others go on with the container while we wait.
    drop(entry);
    container::wait(&client)
}
