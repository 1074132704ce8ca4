//! `runsc state`: a container's state as JSON.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Global, Id};
use crate::container;

pub(super) fn run(global: &Global, args: &Id) -> Result<ExitCode> {
    let record = container::store(global).peek(&args.id)?;
    println!("{:#}", container::oci_state(&record));
    Ok(ExitCode::SUCCESS)
}
