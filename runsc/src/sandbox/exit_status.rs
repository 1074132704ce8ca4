//! The exit status of a container's first process, for who asks when the sandbox is gone.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sentry::boot::ExitStatus;

/// Name of the file in a container's directory.
const FILE: &str = "exit-status.json";

/// Longest content that is looked at: the sandbox writes it.
const MAX_BYTES: u64 = 64;

/// Makes the file, to be given to the sandbox.
pub(super) fn create(dir: &Path) -> io::Result<OwnedFd> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.join(FILE))?;
    Ok(file.into())
}

/// The status, where the process has ended and not been killed together with its sandbox.
pub(crate) fn read(dir: &Path) -> Option<ExitStatus> {
    let mut text = String::new();
    File::open(dir.join(FILE)).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}
