//! `runsc events`: what a container uses, once or at intervals.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use sentry::boot::{Reply, Request, Stats};
use serde_json::json;

use crate::cgroup::Cgroup;
use crate::cli::{Events, Global};
use crate::container;
use crate::sandbox::{Client, ClientError};

pub(super) fn run(global: &Global, args: &Events) -> Result<ExitCode> {
    let entry = container::store(global).open(&args.id)?;
    if !entry.record.status.is_alive() {
        bail!("container {:?} is {}", args.id, entry.record.status);
    }
    let client = Client::connect(&entry.address())?;
    let cgroup = entry.record.host.cgroup.clone();
    drop(entry);
    loop {
        match client.call(Request::Stats) {
            Ok(Reply::Stats(stats)) => println!("{}", event(&args.id, stats, cgroup.as_ref())),
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
fn event(id: &str, stats: Stats, cgroup: Option<&Cgroup>) -> serde_json::Value {
    let Stats { user_ns, system_ns, memory_bytes, processes } = stats;
    let mut event = json!({
        "type": "stats",
        "id": id,
        "data": {
            "cpu": {
                "usage": { "total": user_ns + system_ns, "kernel": system_ns, "user": user_ns },
                "throttling": {},
            },
            "cpuset": {},
            "memory": { "usage": { "usage": memory_bytes } },
            "pids": { "current": processes },
            "blkio": {},
            "hugetlb": {},
            "intel_rdt": {},
            "network_interfaces": null,
        },
    });
    // Version 2 of control groups, and version 1.
    let files = ["memory.max", "memory.limit_in_bytes"];
    let limit = cgroup.and_then(|cgroup| files.into_iter().find_map(|file| cgroup.number("memory", file)));
    // Where there is no limit, there is none to show.
    if let Some(limit) = limit {
        event["data"]["memory"]["usage"]["limit"] = limit.into();
    }
    event
}
