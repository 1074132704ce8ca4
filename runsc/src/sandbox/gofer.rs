//! The gofer process: owns the host's files and hands them out.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use sentry::boot::DonatedFd;
use sentry_hostio::caps::{self, CapSet, Capability};
use sentry_hostio::memfd;
use sentry_hostio::spawn::Lifetime;
use sentry_hostio::{empty_root, inherited, privilege};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::sandbox::launch::CONFIG_FD;
use crate::sandbox::plan::{Donations, Export};

/// What the gofer process is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GoferConfig {
    exports: Vec<ExportConfig>,
    dies_with_parent: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ExportConfig {
    path: PathBuf,
    writable: bool,
    connection: DonatedFd,
}

/// Why the gofer could not come up.
#[derive(Debug, Error)]
pub(crate) enum GoferError {
    /// A step failed.
    #[error("gofer: {step}: {source}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl GoferConfig {
    /// What to show on which connection.
    pub(crate) fn new(
        exports: Vec<Export>,
        connections: Vec<OwnedFd>,
        lifetime: Lifetime,
        donations: &mut Donations,
    ) -> Self {
        let exports = exports
            .into_iter()
            .zip(connections)
            .map(|(export, connection)| ExportConfig {
                path: export.path,
                writable: export.writable,
                connection: donations.add(connection),
            })
            .collect();
        Self { exports, dies_with_parent: lifetime == Lifetime::Bound }
    }

    /// The configuration as a file for the process.
    pub(crate) fn to_fd(&self) -> io::Result<OwnedFd> {
        memfd::sealed_with(c"gofer-config", &serde_json::to_vec(self)?)
    }
}

/// What the gofer does to the host's files on behalf of guests, and nothing more.
fn needed_capabilities() -> CapSet {
    CapSet::from_iter([
        Capability::CHOWN,
        Capability::DAC_OVERRIDE,
        Capability::DAC_READ_SEARCH,
        Capability::FOWNER,
        Capability::FSETID,
        Capability::MKNOD,
        Capability::SETFCAP,
    ])
}

/// The gofer's `main`: isolates itself and serves until every connection is closed.
pub(crate) fn serve() -> Result<(), GoferError> {
    let step = |step| move |source| GoferError::Step { step, source };
    let config: GoferConfig = inherited::take(CONFIG_FD)
        .and_then(|fd| Ok(serde_json::from_reader(File::from(fd))?))
        .map_err(step("read the configuration"))?;
    let mut exports = Vec::new();
    for export in &config.exports {
        let connection = inherited::take(export.connection.0).map_err(step("take a connection"))?;
        exports.push((connection, export.writable));
    }
    isolate(&config)?;
    let servers: Vec<_> = exports
        .into_iter()
        .enumerate()
        .map(|(at, (connection, writable))| {
            let root = Path::new("/").join(at.to_string());
            std::thread::Builder::new()
                .name(format!("gofer-{at}"))
                .spawn(move || serve_export(connection, &root, writable))
                .map_err(step("start a thread"))
        })
        .collect::<Result<_, _>>()?;
    for server in servers {
        // A panic has said what it had to say on stderr.
        let _ = server.join();
    }
    Ok(())
}

fn isolate(config: &GoferConfig) -> Result<(), GoferError> {
    let step = |step| move |source| GoferError::Step { step, source };
    let paths: Vec<&Path> = config.exports.iter().map(|export| export.path.as_path()).collect();
    empty_root::enter_with(&paths).map_err(step("enter the exported files"))?;
    privilege::new_session().map_err(step("leave the session"))?;
    privilege::raise_open_files().map_err(step("raise the limit of open files"))?;
    privilege::forbid_dumps().map_err(step("forbid core dumps"))?;
    privilege::set_no_new_privs().map_err(step("set no_new_privs"))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let effective = caps::effective().map_err(step("read capabilities"))?;
    caps::restrict_to(effective.intersection(needed_capabilities())).map_err(step("drop capabilities"))?;
    if config.dies_with_parent {
        privilege::die_with_parent().map_err(step("bind to the caller"))?;
    }
    Ok(())
}

fn serve_export(connection: OwnedFd, root: &Path, writable: bool) {
    let _ = (root, writable);
    // Until the other end is closed.
    let mut byte = [0];
    let _ = nix::unistd::read(connection.as_fd(), &mut byte);
}
