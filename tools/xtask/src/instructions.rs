//! `cargo xtask instructions`: what operations of the stack cost, counted and recorded per version.

use clap::Args;

use crate::run::{cargo, succeed};

/// Options of `cargo xtask instructions`.
#[derive(Args)]
pub(crate) struct Options {
    /// Replace this version's rows, or add them.
    #[arg(long)]
    write: bool,
}

/// Counts with valgrind, and compares with the table or writes it, for the profile of releases and that of tests.
///
/// # Errors
/// When building or counting fails, or a count has grown.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    for profile in [&["--release"][..], &[]] {
        let mut command = cargo();
        command.args(["run", "--quiet", "--package", "benches", "--bin", "memory-bench"]).args(profile);
        command.args(["--", "record"]);
        if !options.write {
            command.arg("--check");
        }
        succeed(command.arg("docs/instructions.md"))?;
    }
    Ok(())
}
