//! Repository chores: `cargo xtask test|check|bench|golden|packages`.
#![forbid(unsafe_code)]

mod bench;
mod check;
mod golden;
mod packages;
mod run;
mod test;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Repository chores")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what the tests need, build the runtime and run every test.
    Test(test::Options),
    /// Formatting, lints, documentation and the rules of the house that a machine can check.
    Check,
    /// Measure the sandbox against native execution in one interleaved run.
    Bench(bench::Options),
    /// Goodput, retransmissions and fairness in simulated networks, and whether they are still as committed.
    Golden(golden::Options),
    /// Install the Debian packages that the tests use (needs root).
    Packages,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().chore {
        Chore::Test(options) => test::run(&options),
        Chore::Check => check::run(),
        Chore::Bench(options) => bench::run(&options),
        Chore::Golden(options) => golden::run(&options),
        Chore::Packages => packages::install(),
    }
}
