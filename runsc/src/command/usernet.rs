//! `runsc usernet`: the gateway process. Not for users.

use std::process::ExitCode;

use anyhow::Result;

use crate::sandbox;

pub(super) fn run() -> Result<ExitCode> {
    sandbox::serve_network()?;
    Ok(ExitCode::SUCCESS)
}
