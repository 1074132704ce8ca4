//! `runsc attend`: the process that stands for a container in another one's sandbox. Not for users.

use std::process::ExitCode;

use anyhow::Result;

use crate::sandbox;

pub(super) fn run() -> Result<ExitCode> {
    Ok(super::exit_code(sandbox::serve_attendant()?))
}
