//! `runsc start`: the program of a created container.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Global, Id};
use crate::container;
use crate::sandbox::Client;
use crate::state::Event;

pub(super) fn run(global: &Global, args: &Id) -> Result<ExitCode> {
    let mut entry = container::store(global).open(&args.id)?;
    // Before the sandbox is asked for: one that has ended cannot be, and the reason would be lost.
    entry.record.status.apply(Event::Started)?;
    let client = Client::connect(entry.dir())?;
    container::start(global, &mut entry, &client)?;
    Ok(ExitCode::SUCCESS)
}
