//! `main` of the sandbox process.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use sentry_hostio::channel::Channel;
use sentry_platform::{PlatformKind, Prepared};

use crate::boot::guest::Guest;
use crate::boot::{
    Addressed, BootConfig, ControlError, ExitStatus, NetworkKind, PlatformChoice, Reply, Request, isolate,
    keys, server,
};
use crate::socket::proc_net::HostFiles;

/// Status of a sandbox that could not be set up.
const SET_UP_FAILED: ExitStatus = ExitStatus::Code(128);

/// Runs a sandbox as `config` (a file with a [`BootConfig`]) says, until its first process ends; that one's status is
/// the result. `channel` is the caller's connection, later ones come over `listener`.
///
/// To be called on the main thread, before there is any other.
pub fn run(config: OwnedFd, channel: Channel, listener: UnixListener) -> ExitStatus {
    match set_up(config) {
        Ok(guest) => server::serve(&guest, channel, listener),
        Err(error) => {
            refuse(&channel, error);
            SET_UP_FAILED
        }
    }
}

fn set_up(config: OwnedFd) -> Result<Arc<Guest>, ControlError> {
    let config = read_config(config).map_err(|error| failed("read the configuration", &error))?;
    // Before there is any thread.
    keys::hold().map_err(|error| failed("hold signals back", &error))?;
    if config.strace.is_some() || config.debug {
        log_to_stderr();
    }
    let terminal =
        config.stdio.first().filter(|_| config.container.init.has_terminal && !config.dies_with_parent);
    let host_files = (config.network == NetworkKind::Host).then(HostFiles::open);
    isolate::before_template(config.dies_with_parent, terminal.map(|fd| fd.0))
        .map_err(|error| failed("isolate", &error))?;
    let platform = Prepared::new(platform_kind(config.platform))
        .map_err(|error| failed("start the platform", &error))?;
    isolate::after_template().map_err(|error| failed("isolate", &error))?;
    Guest::new(config, platform, host_files)
}

/// Standard error is the debug log where there is one, the caller's own otherwise.
fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .init();
}

fn read_config(fd: OwnedFd) -> io::Result<BootConfig> {
    let mut text = Vec::new();
    File::from(fd).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn platform_kind(choice: PlatformChoice) -> PlatformKind {
    match choice {
        PlatformChoice::Systrap => PlatformKind::Systrap,
        PlatformChoice::Ptrace => PlatformKind::Ptrace,
    }
}

/// A step that failed, for the caller.
pub(super) fn failed(step: &str, error: &dyn std::error::Error) -> ControlError {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !reason.ends_with(&text) {
            reason = format!("{reason}: {text}");
        }
        source = cause.source();
    }
    ControlError::SetUp { step: step.to_owned(), reason }
}

/// Answers the caller's first request with the error; it always asks whether the sandbox is ready.
fn refuse(channel: &Channel, error: ControlError) {
    if let Ok((Addressed { request: Request::Ready, .. }, _)) = crate::boot::receive_request(channel) {
        // The caller may be gone, and there is nobody else to tell.
        let _ = crate::boot::send_reply(channel, &Reply::Failed(error));
    }
}
