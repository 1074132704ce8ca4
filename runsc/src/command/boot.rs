//! `runsc boot`: the sandbox process. Not for users.

use std::process::ExitCode;

use anyhow::{Context, Result};
use sentry_hostio::channel::Channel;
use sentry_hostio::inherited;

use crate::sandbox::{CHANNEL_FD, CONFIG_FD, LISTENER_FD};

pub(super) fn run() -> Result<ExitCode> {
    let config = inherited::take(CONFIG_FD).context("configuration")?;
    let channel = Channel::from(inherited::take(CHANNEL_FD).context("channel")?);
    let listener = inherited::take(LISTENER_FD).context("control socket")?;
    let status = sentry::boot::run(config, channel, listener.into());
    Ok(super::exit_code(status))
}
