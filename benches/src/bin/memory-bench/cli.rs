//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::scenario::{Scenario, StackKind};

/// Our stack against smoltcp, in memory, on one thread.
#[derive(Debug, Parser)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Only these scenarios.
    #[arg(long, value_enum, global = true)]
    pub(crate) only: Vec<Scenario>,
    /// How often each stack has its turn; the median counts.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Milliseconds of a turn.
    #[arg(long, default_value_t = 300)]
    pub(crate) turn_ms: u64,
    /// One JSON object per row instead of a table.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Cli {
    pub(crate) fn scenarios(&self) -> Vec<Scenario> {
        if self.only.is_empty() { Scenario::ALL.to_vec() } else { self.only.clone() }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Count instructions per operation instead (needs valgrind).
    Instructions,
    /// Count instructions of our stack, and put them into the table of a file.
    Record {
        /// Compare with the table instead: an error if something has grown.
        #[arg(long)]
        check: bool,
        /// The file (docs/instructions.md).
        file: PathBuf,
    },
    /// Do a fixed amount of work: what `instructions` measures, and what to give to a profiler.
    Work {
        /// Whose stacks.
        stack: StackKind,
        /// What to do.
        scenario: Scenario,
        /// How many operations.
        count: u64,
    },
}
