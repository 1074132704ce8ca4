//! `runsc help`: the command line, or a topic.

use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory;

use crate::cli::{Cli, Help, Topic};
use crate::compat;

pub(super) fn run(args: &Help) -> Result<ExitCode> {
    match args.topic {
        None => Cli::command().print_help()?,
        Some(Topic::Platforms) => {
            println!("systrap  guest threads trap by seccomp; hot call sites are rewritten");
            println!("ptrace   guest threads trap by ptrace; slow, for comparison and debugging");
        }
        Some(Topic::Syscalls) => print!("{}", compat::page(args.format)),
    }
    Ok(ExitCode::SUCCESS)
}
