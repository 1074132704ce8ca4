//! `cargo xtask bench`: builds the runtime and the measuring program and runs them.

use std::path::PathBuf;

use clap::Args;

use crate::run::{cargo, succeed};

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct Options {
    /// One JSON object a line instead of the table.
    #[arg(long)]
    json: bool,
    /// Another OCI runtime to measure in the same interleaved run.
    #[arg(long, value_name = "PATH")]
    vs: Option<PathBuf>,
    /// Only rows whose name contains this text.
    filter: Option<String>,
}

/// Measures and prints the table.
///
/// # Errors
/// When building or measuring fails.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    succeed(cargo().args(["build", "--release", "--package", "runsc", "--package", "benches"]))?;
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", "benches", "--bin", "sandbox-bench", "--"]);
    if options.json {
        command.arg("--json");
    }
    if let Some(path) = &options.vs {
        command.arg("--vs").arg(path);
    }
    command.args(options.filter.iter());
    succeed(&mut command)
}
