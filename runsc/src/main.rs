#![forbid(unsafe_code)]
//! An OCI runtime that runs containers on the sentry.

use std::process::ExitCode;

fn main() -> ExitCode {
    runsc::run()
}
