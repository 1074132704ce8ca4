//! The verbs, one file each.

mod attend;
mod boot;
mod create;
mod debug;
mod delete;
mod events;
mod exec;
mod features;
mod gofer;
mod help;
mod kill;
mod list;
mod pause;
mod ps;
mod run;
mod run_do;
mod spec;
mod start;
mod state;
mod unsupported;
mod update;
mod usernet;
mod wait;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Cli, Command};
use crate::flag;

/// Runs the verb; the status is that of the guest's program where the verb waits for one.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    let Cli { global, command } = cli;
    flag::check(&global, nix::unistd::geteuid().is_root())?;
    match command {
        Command::Do(args) => run_do::run(&global, args),
        Command::Run(args) => run::run(&global, &args),
        Command::Create(args) => create::run(&global, &args),
        Command::Start(args) => start::run(&global, &args),
        Command::State(args) => state::run(&global, &args),
        Command::Kill(args) => kill::run(&global, &args),
        Command::Delete(args) => delete::run(&global, &args),
        Command::List(args) => list::run(&global, &args),
        Command::Exec(args) => exec::run(&global, args),
        Command::Ps(args) => ps::run(&global, &args),
        Command::Spec(args) => spec::run(&args),
        Command::Wait(args) => wait::run(&global, &args),
        Command::Events(args) => events::run(&global, &args),
        Command::Update(args) => update::run(&global, &args),
        Command::Checkpoint(_) => unsupported::run("checkpoint"),
        Command::Restore(_) => unsupported::run("restore"),
        Command::Pause(args) => pause::pause(&global, &args),
        Command::Resume(args) => pause::resume(&global, &args),
        Command::Debug(args) => debug::run(&global, &args),
        Command::Features => features::run(),
        Command::Help(args) => help::run(&args),
        Command::Boot => boot::run(),
        Command::Gofer => gofer::run(),
        Command::Usernet => usernet::run(),
        Command::Attend => attend::run(),
    }
}

/// The exit status of a guest's process as ours.
fn exit_code(status: sentry::boot::ExitStatus) -> ExitCode {
    // The shell's codes are below 256.
    ExitCode::from(u8::try_from(status.shell_code()).unwrap_or(u8::MAX))
}
