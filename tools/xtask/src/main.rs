//! Repository chores: `cargo xtask test|check|bench|golden|instructions|api|package|packages`.
#![forbid(unsafe_code)]

mod api;
mod bench;
mod check;
mod golden;
mod instructions;
mod package;
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
    /// What operations of the stack cost in instructions, compared with docs/instructions.md.
    Instructions(instructions::Options),
    /// What the libraries offer, compared with what is recorded in docs/api.
    Api(api::Options),
    /// Pack what is meant for the registry, and look at what is in it.
    Package(package::Options),
    /// Install the Debian packages that the tests use (needs root).
    Packages,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().chore {
        Chore::Test(options) => test::run(&options),
        Chore::Check => check::run(),
        Chore::Bench(options) => bench::run(&options),
        Chore::Golden(options) => golden::run(&options),
        Chore::Instructions(options) => instructions::run(&options),
        Chore::Api(options) => api::run(&options),
        Chore::Package(options) => package::run(&options),
        Chore::Packages => packages::install(),
    }
}
