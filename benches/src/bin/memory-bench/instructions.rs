//! Instructions per operation, which repeat even on a loaded machine.
//!
//! Each scenario runs twice under callgrind, once with double the work; the difference is free of start-up and warm-up.

use std::process::Command;

use anyhow::{Context, bail};
use serde_json::json;

use crate::cli::Cli;
use crate::scenario::{Scenario, StackKind};

pub(crate) fn run(cli: &Cli) -> anyhow::Result<()> {
    for scenario in cli.scenarios() {
        let ours = per_operation(StackKind::Ours, scenario, scenario.work())?;
        let theirs = per_operation(StackKind::Smoltcp, scenario, scenario.work())?;
        let (name, ratio) = (scenario.name(), ours / theirs);
        if cli.json {
            println!("{}", json!({"scenario": name, "ours": ours, "smoltcp": theirs, "ratio": ratio}));
        } else {
            println!("{name:16} ours {ours:8.0}  smoltcp {theirs:8.0}  ratio {ratio:5.2}  instructions");
        }
    }
    Ok(())
}

/// Instructions of one operation, both ends together, as the mean of `work` operations.
pub(crate) fn per_operation(stack: StackKind, scenario: Scenario, work: u64) -> anyhow::Result<f64> {
    let [once, twice] = [work, 2 * work].map(|count| count_instructions(stack, scenario, count));
    // Neither the counts nor the work come near 2^53.
    Ok((twice? - once?) as f64 / work as f64)
}

fn count_instructions(stack: StackKind, scenario: Scenario, count: u64) -> anyhow::Result<i64> {
    let stack = match stack {
        StackKind::Ours => "ours",
        StackKind::Smoltcp => "smoltcp",
    };
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["work", stack, scenario.name(), &count.to_string()])
        .output()
        .context("cannot start valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{stack} {}: {text}", scenario.name());
    }
    let total = text.lines().find_map(|line| line.split_once("Collected :").map(|(_, total)| total.trim()));
    let total = total.context("valgrind has not said how much it collected")?;
    Ok(total.parse()?)
}
