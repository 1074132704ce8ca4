//! `runsc wait`: the exit status of a container, when it has one.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::cli::{Global, Id};
use crate::container;
use crate::sandbox::Client;

pub(super) fn run(global: &Global, args: &Id) -> Result<ExitCode> {
    let entry = container::store(global).open(&args.id)?;
    if !entry.record.status.is_alive() {
        bail!("container {:?} is {}", args.id, entry.record.status);
    }
    let pid = entry.record.init_pid.context("the container was not started")?;
    let client = Client::connect(entry.dir())?;
    // Others go on with the container while we wait.
    drop(entry);
    let status = container::wait(&client, pid)?;
    println!("{}", json!({ "id": args.id, "exitStatus": status.shell_code() }));
    Ok(ExitCode::SUCCESS)
}
