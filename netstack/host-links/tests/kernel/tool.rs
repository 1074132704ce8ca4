//! Programs in the kernel's namespace.

use std::time::Duration;

use integration_tests::{Finished, Running};

use crate::common::Net;

/// Returns from the test, counted, where a namespace or one of the programs is missing.
#[macro_export]
macro_rules! require_tools {
    ($($program:literal),+) => {
        $crate::require_net!();
        integration_tests::require!($(integration_tests::Need::Program($program)),+);
    };
}

/// The programs here are done within seconds.
const LIMIT: Duration = Duration::from_secs(90);

impl Net {
    /// Runs a command line (split at blanks) where the kernel is.
    #[track_caller]
    pub(crate) fn run(&self, line: &str) -> Finished {
        self.run_with(line, Vec::new())
    }

    /// The same, with something on its standard input.
    #[track_caller]
    pub(crate) fn run_with(&self, line: &str, input: Vec<u8>) -> Finished {
        Running::start_with_input(&mut self.tool(line), input).finish(LIMIT)
    }

    /// Starts a command line and leaves it running.
    #[track_caller]
    pub(crate) fn start(&self, line: &str) -> Running {
        Running::start(&mut self.tool(line))
    }

    fn tool(&self, line: &str) -> std::process::Command {
        let mut words = line.split(' ');
        let mut command = self.kernel.command(words.next().expect("a program"));
        command.args(words);
        command
    }
}
