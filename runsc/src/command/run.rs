//! `runsc run`: create, start, wait and delete in one.

use std::process::ExitCode;

use anyhow::Result;
use sentry::boot::ProcessName;
use sentry_hostio::spawn::Lifetime;

use crate::bundle::Bundle;
use crate::cli::{Create, Global, Run};
use crate::container::{self, Hooks};
use crate::foreground::{Foreground, Signals};
use crate::relay;
use crate::state::StateError;

pub(super) fn run(global: &Global, args: &Run) -> Result<ExitCode> {
    if args.detach {
        let (mut entry, launched) = container::create(global, &args.create, Lifetime::Detached)?;
        if let Err(error) = container::start(global, &mut entry, &launched.client) {
            container::destroy(entry, Hooks::Run)?;
            return Err(error);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if has_terminal(&args.create)? && args.create.console_socket.is_none() && relay::is_possible() {
        args.create.preserve.keep()?;
        return relay::run();
    }
    // Signals are held back from the first process on, so that none is lost and none ends us half-way.
    let foreground = Foreground::new()?;
    let (mut entry, launched) = container::create(global, &args.create, Lifetime::Bound)?;
    let mut signals = Signals::To(entry.address());
    let outcome = container::start(global, &mut entry, &launched.client);
    // Others may use the container while it runs.
    drop(entry);
    let outcome = outcome.and_then(|_| foreground.attend(&launched.client, &mut signals, ProcessName::First));
    launched.kill();
    match container::store(global).open(&args.create.id) {
        Ok(entry) => container::destroy(entry, Hooks::Run)?,
        // Another command was faster.
        Err(StateError::Missing(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(super::exit_code(outcome?))
}

fn has_terminal(args: &Create) -> Result<bool> {
    Ok(Bundle::load(&args.bundle)?.process.terminal().unwrap_or(false))
}
