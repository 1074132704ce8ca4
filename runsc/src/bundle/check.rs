//! Whether a config.json can be used, without a bundle around it.

use std::path::Path;

use crate::bundle::load::parse_config;
use crate::bundle::process::{Choices, NetRaw};
use crate::bundle::{mounts_from_spec, process_from_spec};

/// Reads a config.json and plans its process and mounts, as starting it would.
///
/// # Errors
/// What the program would say.
pub fn check_config(text: &[u8]) -> Result<(), anyhow::Error> {
    let (spec, process) = parse_config(Path::new("config.json"), text)?;
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    process_from_spec(&process, seccomp, Choices { raw: NetRaw::Drop, has_seccomp: true })?;
    mounts_from_spec(&spec, Path::new("/nowhere"));
    Ok(())
}
