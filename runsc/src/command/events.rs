//! `runsc events`: what a container uses, once or at intervals.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use sentry::boot::{Reply, Request, Stats};
use serde_json::json;

use crate::cli::{Events, Global};
use crate::container;
use crate::sandbox::{Client, ClientError};

pub(super) fn run(global: &Global, args: &Events) -> Result<ExitCode> {
    let entry = container::store(global).open(&args.id)?;
    if !entry.record.status.is_alive() {
        bail!("container {:?} is {}", args.id, entry.record.status);
    }
    let client = Client::connect(entry.dir())?;
    drop(entry);
    loop {
        match client.call(&Request::Stats) {
            Ok(Reply::Stats(stats)) => println!("{}", event(&args.id, stats)),
            Ok(other) => bail!("unexpected reply of the sandbox: {other:?}"),
            // The container ended, which is how the series ends.
            Err(ClientError::Died) if !args.stats => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(error.into()),
        }
        if args.stats {
            return Ok(ExitCode::SUCCESS);
        }
        thread::sleep(Duration::from_secs(args.interval.max(1)));
    }
}

/// The form is runc's, which engines parse.
fn event(id: &str, stats: Stats) -> serde_json::Value {
    let Stats { cpu_ns, memory_bytes, processes } = stats;
    json!({
        "type": "stats",
        "id": id,
        "data": {
            "cpu": { "usage": { "total": cpu_ns, "kernel": 0, "user": cpu_ns } },
            "memory": { "usage": { "usage": memory_bytes } },
            "pids": { "current": processes },
        },
    })
}
