//! `runsc delete`: removes a stopped container, or with `--force` any.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::cli::{Delete, Global};
use crate::container::{self, Hooks};
use crate::state::{StateError, Status};

pub(super) fn run(global: &Global, args: &Delete) -> Result<ExitCode> {
    let entry = match container::store(global).open(&args.id) {
        Err(StateError::Missing(_)) if args.force => return Ok(ExitCode::SUCCESS),
        entry => entry?,
    };
    let status = entry.record.status;
    if status != Status::Stopped && !args.force {
        bail!("container {:?} is {status}: stop it first, or use --force", args.id);
    }
    container::destroy(entry, Hooks::Run)?;
    Ok(ExitCode::SUCCESS)
}
