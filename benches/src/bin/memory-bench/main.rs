//! Two stacks in one process, in memory, on one thread: our stack against smoltcp.
//!
//! ```text
//! memory-bench                 # rates, taken in turns, with the ratio
//! memory-bench instructions    # instructions per operation, counted by valgrind --tool=callgrind
//! ```
//! Time is virtual for both, so a figure holds what the stacks themselves cost. A frame crosses the wire by one copy into
//! a buffer of the receiver, as from a device, except where super-segments pass as they are.
#![forbid(unsafe_code)]

mod cli;
mod instructions;
mod ours;
mod peer;
mod rates;
mod scenario;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    let cli = cli::Cli::parse();
    match &cli.command {
        Some(cli::Command::Instructions) => instructions::run(&cli),
        Some(cli::Command::Work { stack, scenario, count }) => {
            scenario.open(*stack).run(*count);
            Ok(())
        }
        None => rates::run(&cli),
    }
}
