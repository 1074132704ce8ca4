//! The process that stands on the host for a container in the sandbox of another one. It ends when the container does, with
//! its status, as engines expect of a container's process; when it is killed, so is the container.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use sentry::boot::{DonatedFd, ExitStatus, ProcessName, Request};
use sentry_hostio::caps::{self, CapSet};
use sentry_hostio::channel::Channel;
use sentry_hostio::memfd;
use sentry_hostio::spawn::{Child, Lifetime};
use sentry_hostio::{empty_root, inherited, privilege, tty};
use serde::{Deserialize, Serialize};

use crate::foreground::{Foreground, Signals};
use crate::sandbox::client::{Address, Client};
use crate::sandbox::filter::confine_attendant;
use crate::sandbox::join::Attended;
use crate::sandbox::launch::{
    CONFIG_FD, LaunchError, attendant_identity, placeholder, spawn, standard, step, with_config,
};
use crate::sandbox::plan::Donations;

/// What the process is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AttendantConfig {
    container: String,
    /// The connection that stands for the container.
    attends: DonatedFd,
    /// Another one, for signals meanwhile.
    signals: DonatedFd,
    terminal: Option<DonatedFd>,
    dies_with_parent: bool,
}

/// Starts the process for the container at `address`.
pub(super) fn start(attended: Attended, address: &Address, program: &OwnedFd) -> Result<Child, LaunchError> {
    let Attended { lifetime, terminal } = attended;
    let attends = Client::connect(address)?;
    attends.command(Request::Attend, &[])?;
    let signals = Client::connect(address)?;
    let mut fds = Donations::new(standard(lifetime).map_err(step("open /dev/null"))?);
    fds.add(placeholder().map_err(step("open /dev/null"))?);
    let config = AttendantConfig {
        container: address.container.clone(),
        attends: fds.add(attends.into()),
        signals: fds.add(signals.into()),
        terminal: terminal.map(|terminal| fds.add(terminal)),
        dies_with_parent: lifetime == Lifetime::Bound,
    };
    let config = serde_json::to_vec(&config)
        .map_err(io::Error::from)
        .and_then(|text| memfd::sealed_with(c"attendant-config", &text))
        .map_err(step("write the attendant's configuration"))?;
    spawn(program, "attend", with_config(fds, config), attendant_identity(), lifetime)
        .map_err(step("start the process for the container"))
}

/// The process's `main`: isolates itself, and ends as the container does.
pub(crate) fn serve() -> Result<ExitStatus> {
    let config = inherited::take(CONFIG_FD).context("configuration")?;
    let config: AttendantConfig = serde_json::from_reader(File::from(config)).context("configuration")?;
    let connection = |fd: DonatedFd| -> Result<Client> {
        let fd = inherited::take(fd.0).context("connection to the sandbox")?;
        Ok(Client::new(Channel::from(fd), &config.container))
    };
    let (attends, signals) = (connection(config.attends)?, connection(config.signals)?);
    let terminal = config.terminal.map(|fd| inherited::take(fd.0)).transpose().context("terminal")?;
    isolate(terminal.as_ref(), config.dies_with_parent)?;
    let foreground = Foreground::new()?;
    confine_attendant()?;
    foreground.attend(&attends, &mut Signals::Over(signals), ProcessName::First)
}

/// Leaves the process nothing but its connections and the container's terminal, the signals of whose keys it passes on.
fn isolate(terminal: Option<&OwnedFd>, dies_with_parent: bool) -> Result<()> {
    privilege::new_session().context("leave the session")?;
    if let Some(terminal) = terminal {
        tty::take_control(terminal.as_raw_fd()).context("take the terminal")?;
    }
    empty_root::enter_empty().context("enter an empty root")?;
    privilege::forbid_dumps().context("forbid core dumps")?;
    privilege::set_no_new_privs().context("set no_new_privs")?;
    caps::restrict_to(CapSet::EMPTY).context("drop capabilities")?;
    if dies_with_parent {
        privilege::die_with_parent().context("bind to the caller")?;
    }
    Ok(())
}
