//! `runsc create`: everything but the start of the program.

use std::process::ExitCode;

use anyhow::Result;
use sentry_hostio::spawn::Lifetime;

use crate::cli::{Create, Global};
use crate::container;

pub(super) fn run(global: &Global, args: &Create) -> Result<ExitCode> {
    container::create(global, args, Lifetime::Detached)?;
    Ok(ExitCode::SUCCESS)
}
