//! `runsc debug`: what the kernel of a running sandbox knows of its network.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sentry::boot::{CaptureEnd, Reply, Request};

use crate::cli::{Debug, Global};
use crate::container;
use crate::sandbox::{Client, ClientError};

pub(super) fn run(global: &Global, args: &Debug) -> Result<ExitCode> {
    let entry = container::store(global).open(&args.id)?;
    if !entry.record.status.is_alive() {
        bail!("container {:?} is {}", args.id, entry.record.status);
    }
    let client = Client::connect(&entry.address())?;
    drop(entry);
    if args.counters {
        print_counters(&client)?;
    }
    if let Some(path) = &args.capture {
        capture(&client, args, path)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print_counters(client: &Client) -> Result<()> {
    match client.call(Request::Counters)? {
        Reply::Counters(counters) => counters.iter().for_each(|(name, value)| println!("{name} {value}")),
        other => bail!("unexpected reply of the sandbox: {other:?}"),
    }
    Ok(())
}

/// Records until interrupted, until the time is over, or until the sandbox ends.
fn capture(client: &Client, args: &Debug, path: &Path) -> Result<()> {
    let file = container::open_capture(path).with_context(|| format!("--capture {}", path.display()))?;
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
    let request = Request::Capture { snap_len: args.snap_len, outlives_connection: false };
    client.command(request, &[file.as_fd()])?;
    drop(file);
    wait(client, &signals, args.seconds.map(Duration::from_secs))?;
    match client.call(Request::EndCapture) {
        Ok(Reply::Captured(CaptureEnd { packets, lost })) => {
            eprintln!("runsc: {packets} packets recorded, {lost} lost because they came too fast");
        }
        Ok(other) => bail!("unexpected reply of the sandbox: {other:?}"),
        // It has written what there was before it ended.
        Err(ClientError::Died) => eprintln!("runsc: the sandbox has ended"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn wait(client: &Client, signals: &SignalFd, limit: Option<Duration>) -> Result<()> {
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                // Rounded up, and in steps that the call can count.
                PollTimeout::try_from(left.min(MAX_STEP) + Duration::from_micros(999))
                    .unwrap_or(PollTimeout::MAX)
            }
        };
        let mut fds = [client.as_fd(), signals.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, timeout) {
            Err(nix::Error::EINTR) => {}
            Ok(0) if deadline.is_none_or(|deadline| Instant::now() < deadline) => {}
            outcome => return outcome.map(drop).context("wait"),
        }
    }
}

/// The longest single wait.
const MAX_STEP: Duration = Duration::from_secs(3600);
