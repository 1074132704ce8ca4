//! From the command line to the exit code.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::{Cli, Global};
use crate::{command, failure, log};

/// Does what the command line says, and reports what fails on standard error and in the logs.
pub fn run() -> ExitCode {
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // A closed standard output is the reader's decision.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let message = first_line(&error.to_string());
            log_of_bad_command_line();
            log::error(&message);
            eprintln!("runsc: {message}");
            return ExitCode::from(failure::RUNTIME_FAILURE);
        }
    };
    let taken = cli.command.take_descriptors();
    open_logs(&cli.global, cli.command.name());
    match taken.map_err(anyhow::Error::from).and_then(|()| command::run(cli)) {
        Ok(code) => code,
        Err(error) => {
            let message = failure::message(&error);
            log::error(&message);
            eprintln!("runsc: {message}");
            ExitCode::from(failure::exit_code(&error))
        }
    }
}

/// Opens the engine's log although the flags could not be parsed: engines show its last line, and nothing else.
fn log_of_bad_command_line() {
    let args: Vec<String> = std::env::args().collect();
    let value = |flag: &str| {
        let found = args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1)).cloned();
        found.or_else(|| args.iter().find_map(|arg| arg.strip_prefix(&format!("{flag}=")).map(str::to_owned)))
    };
    let format = match value("--log-format").as_deref() {
        Some("json") => log::Format::Json,
        _ => log::Format::Text,
    };
    log::open(value("--log").as_deref().map(Path::new), format, None);
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
