//! `runsc pause` and `runsc resume`.

use std::process::ExitCode;

use anyhow::Result;
use sentry::boot::Request;

use crate::cli::{Global, Id};
use crate::container;
use crate::sandbox::Client;
use crate::state::Event;

pub(super) fn pause(global: &Global, args: &Id) -> Result<ExitCode> {
    change(global, args, Event::Paused, Request::Pause)
}

pub(super) fn resume(global: &Global, args: &Id) -> Result<ExitCode> {
    change(global, args, Event::Resumed, Request::Resume)
}

fn change(global: &Global, args: &Id, event: Event, request: Request) -> Result<ExitCode> {
    let mut entry = container::store(global).open(&args.id)?;
    entry.record.apply(event)?;
    Client::connect(&entry.address())?.command(request, &[])?;
    entry.save()?;
    Ok(ExitCode::SUCCESS)
}
