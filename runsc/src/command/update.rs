//! `runsc update`: new limits for a container.

use std::fs;
use std::io::{Read, stdin};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use crate::cli::{Global, Update};
use crate::container;

pub(super) fn run(global: &Global, args: &Update) -> Result<ExitCode> {
    let resources = resources(args)?;
    let entry = container::store(global).open(&args.id)?;
    if !entry.record.status.is_alive() {
        bail!("container {:?} is {}", args.id, entry.record.status);
    }
    let cgroup = entry.record.host.cgroup.as_ref();
    let cgroup = cgroup.with_context(|| format!("container {:?} has no control group", args.id))?;
    cgroup.update(&resources)?;
    Ok(ExitCode::SUCCESS)
}

/// What the file says, or else the flags.
fn resources(args: &Update) -> Result<LinuxResources> {
    let Some(path) = &args.resources else {
        return Ok(serde_json::from_value(from_flags(args))?);
    };
    let mut text = String::new();
    if path.as_os_str() == "-" {
        stdin().read_to_string(&mut text).context("standard input")?;
    } else {
        text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    }
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let field = error.path().to_string();
        anyhow::Error::new(error.into_inner()).context(format!("{}: {field}", path.display()))
    })
}

fn from_flags(args: &Update) -> Value {
    let section = |fields: &[(&str, Option<Value>)]| -> Value {
        fields
            .iter()
            .filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?)))
            .collect::<Map<_, _>>()
            .into()
    };
    let mut resources = json!({
        "memory": section(&[
            ("limit", args.memory.map(|size| size.0.into())),
            ("reservation", args.memory_reservation.map(|size| size.0.into())),
            ("swap", args.memory_swap.map(|size| size.0.into())),
        ]),
        "cpu": section(&[
            ("period", args.cpu_period.map(Value::from)),
            ("quota", args.cpu_quota.map(Value::from)),
            ("shares", args.cpu_share.map(Value::from)),
            ("cpus", args.cpuset_cpus.clone().map(Value::from)),
            ("mems", args.cpuset_mems.clone().map(Value::from)),
        ]),
    });
    if let Some(limit) = args.pids_limit {
        resources["pids"] = json!({ "limit": limit });
    }
    resources
}
