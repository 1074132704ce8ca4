//! `runsc ps`: the processes of a container.

use std::process::ExitCode;

use anyhow::{Result, bail};
use sentry::boot::{ProcessInfo, Reply, Request};
use serde_json::json;

use crate::cli::{Format, Global, Ps};
use crate::container;
use crate::sandbox::Client;
use crate::state::rfc3339;

pub(super) fn run(global: &Global, args: &Ps) -> Result<ExitCode> {
    let entry = container::store(global).open(&args.id)?;
    if !entry.record.status.is_alive() {
        bail!("container {:?} is {}", args.id, entry.record.status);
    }
    let processes = match Client::connect(&entry.address())?.call(Request::Processes)? {
        Reply::Processes(processes) => processes,
        other => bail!("unexpected reply of the sandbox: {other:?}"),
    };
    match args.format {
        // Engines look the pids up on the host, where all of the container is one process.
        Format::Json => println!("{}", json!([entry.record.pid()])),
        Format::Table => print_table(&processes),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_table(processes: &[ProcessInfo]) {
    println!("{:<8} {:>6} {:>6} {:>4} {:<21} {:>8} CMD", "UID", "PID", "PPID", "THR", "START", "TIME");
    for process in processes {
        let ProcessInfo { uid, pid, ppid, threads, start_secs, cpu_ms, command } = process;
        let start = rfc3339(*start_secs);
        let secs = cpu_ms / 1000;
        let time = format!("{:02}:{:02}:{:02}", secs / 3600, secs / 60 % 60, secs % 60);
        println!("{uid:<8} {pid:>6} {ppid:>6} {threads:>4} {start:<21} {time:>8} {command}");
    }
}
