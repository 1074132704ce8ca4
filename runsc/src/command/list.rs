//! `runsc list`: the containers of a state directory.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Format, Global, List};
use crate::container;
use crate::state::{Record, rfc3339};

pub(super) fn run(global: &Global, args: &List) -> Result<ExitCode> {
    let records = container::store(global).list()?;
    if args.quiet {
        for record in &records {
            println!("{}", record.id);
        }
        return Ok(ExitCode::SUCCESS);
    }
    match args.format {
        Format::Json => println!("{}", serde_json::Value::from_iter(records.iter().map(json))),
        Format::Table => {
            println!("{:<24} {:>8} {:<8} {:<21} {:<8} BUNDLE", "ID", "PID", "STATUS", "CREATED", "OWNER");
            for record in &records {
                let Record { id, status, bundle, .. } = record;
                let created = rfc3339(record.created_secs);
                let (pid, owner, bundle) = (record.pid(), owner(record), bundle.display());
                println!("{id:<24} {pid:>8} {status:<8} {created:<21} {owner:<8} {bundle}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The fields and their names are runc's, which scripts read.
fn json(record: &Record) -> serde_json::Value {
    let mut value = container::oci_state(record);
    value["rootfs"] = record.rootfs.display().to_string().into();
    value["created"] = rfc3339(record.created_secs).into();
    value["owner"] = owner(record).into();
    value
}

fn owner(record: &Record) -> String {
    let uid = nix::unistd::Uid::from_raw(record.owner_uid);
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    user.map_or_else(|| format!("#{uid}"), |user| user.name)
}
