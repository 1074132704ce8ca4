//! `runsc spec`: a config.json to start from.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::bundle;
use crate::cli::Spec;

pub(super) fn run(args: &Spec) -> Result<ExitCode> {
    let command = if args.command.is_empty() { vec!["sh".to_owned()] } else { args.command.clone() };
    let template = bundle::template(&command, &args.cwd, args.netns.as_deref());
    let path = args.bundle.join("config.json");
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    file.write_all(format!("{template:#}\n").as_bytes()).with_context(|| path.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
