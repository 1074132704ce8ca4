//! `cargo xtask golden`: the golden tables of the simulated network.

use clap::Args;

use crate::run::{cargo, succeed};

/// Options of `cargo xtask golden`.
#[derive(Args)]
#[group(multiple = false)]
pub(crate) struct Options {
    /// JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// Compare with the committed table and fail if a cell differs by more than a tenth.
    #[arg(long)]
    check: bool,
    /// Replace the committed table.
    #[arg(long)]
    write: bool,
}

/// Measures in virtual time, and prints, compares or writes.
///
/// # Errors
/// When building or comparing fails.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let Options { json, check, write } = options;
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", "netstack-sim", "--bin", "golden", "--"]);
    for (is_set, flag) in [(json, "--json"), (check, "--check"), (write, "--write")] {
        if *is_set {
            command.arg(flag);
        }
    }
    succeed(&mut command)
}
