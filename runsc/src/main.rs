#![forbid(unsafe_code)]
//! An OCI runtime that runs containers on the sentry.

mod bundle;
mod cgroup;
mod cli;
mod command;
mod compat;
mod container;
mod failure;
mod foreground;
mod log;
mod network;
mod sandbox;
mod state;
mod sweep;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::{Cli, Global};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // A closed standard output is the reader's decision.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("runsc: {}", first_line(&error.to_string()));
            return ExitCode::from(failure::RUNTIME_FAILURE);
        }
    };
    open_logs(&cli.global, cli.command.name());
    match command::run(cli) {
        Ok(code) => code,
        Err(error) => {
            let message = failure::message(&error);
            log::error(&message);
            eprintln!("runsc: {message}");
            ExitCode::from(failure::exit_code(&error))
        }
    }
}

/// The parser's messages go on with usage and tips.
fn first_line(message: &str) -> String {
    let mut lines = message.lines();
    let first = lines.next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    // "the following required arguments were not provided:" is followed by their names.
    match first.strip_suffix(':') {
        Some(first) => format!("{first}: {}", lines.next().unwrap_or_default().trim()),
        None => first.to_owned(),
    }
}

fn open_logs(global: &Global, command: &str) {
    let debug = global.debug_log.as_deref().filter(|_| global.debug || global.strace);
    let debug = debug.map(|pattern| log::debug_log_path(pattern, command));
    log::open(global.log.as_deref(), global.log_format, debug.as_deref());
    log::debug(&format!("{:?}", std::env::args().collect::<Vec<_>>()));
}
