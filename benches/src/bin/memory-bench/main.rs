//! Two stacks in one process, in memory, on one thread: our stack against smoltcp.
//!
//! ```text
//! memory-bench                 # rates, taken in turns, with the ratio
//! memory-bench instructions    # instructions per operation, counted by valgrind --tool=callgrind
//! memory-bench record FILE     # those of ours into the table of a file; or --check FILE
//! ```
//! Time is virtual for both, so a figure holds what the stacks themselves cost. Both hand a frame over in the buffer in which the
//! sender's stack has made it. Where ours has it in pieces (headers and references to the data), they are copied into a buffer
//! of the receiver, as by a device, except where super-segments pass as they are.
#![forbid(unsafe_code)]

mod cli;
mod instructions;
mod ours;
mod peer;
mod rates;
mod record;
mod scenario;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    let cli = cli::Cli::parse();
    match &cli.command {
        Some(cli::Command::Instructions) => instructions::run(&cli),
        Some(cli::Command::Record { check: false, file }) => record::write(file),
        Some(cli::Command::Record { check: true, file }) => record::check(file, &cli.scenarios()),
        Some(cli::Command::Work { stack, scenario, count }) => {
            scenario.open(*stack).run(*count);
            Ok(())
        }
        None => rates::run(&cli),
    }
}
