//! `runsc start`: the program of a created container.

use std::process::ExitCode;

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::cli::{Global, Id};
use crate::container;
use crate::sandbox::Client;
use crate::state::{Event, ProcessRef};

pub(super) fn run(global: &Global, args: &Id) -> Result<ExitCode> {
    let mut entry = container::store(global).open(&args.id)?;
    // Before the sandbox is asked for: one that has ended cannot be, and the reason would be lost.
    entry.record.status.apply(Event::Started)?;
    let client = Client::connect(&entry.address())?;
    if let Err(error) = container::start(global, &mut entry, &client) {
        // Nothing will ever run in it; engines learn from the end of its process that it can be deleted.
        if let Some(sandbox) = entry.record.sandbox.and_then(ProcessRef::open) {
            let _ = sandbox.signal(Some(Signal::SIGKILL));
        }
        return Err(error);
    }
    Ok(ExitCode::SUCCESS)
}
