//! Verbs of other runtimes that this one does not have, so that whoever asks learns why.

use std::process::ExitCode;

use anyhow::{Result, bail};

pub(super) fn run(verb: &str) -> Result<ExitCode> {
    bail!("{verb} is not supported: the state of a sandbox cannot be saved yet")
}
