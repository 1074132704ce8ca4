//! The gofer process: owns the host's files and hands them out.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use sentry::boot::DonatedFd;
use sentry::fs::gofer::{self, Access, ServedTree};
use sentry_hostio::caps::{self, CapSet, Capability};
use sentry_hostio::memfd;
use sentry_hostio::seccomp::SeccompError;
use sentry_hostio::seqpacket::SeqPacket;
use sentry_hostio::spawn::Lifetime;
use sentry_hostio::{empty_root, inherited, privilege};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::sandbox::filter::confine_gofer;
use crate::sandbox::launch::CONFIG_FD;
use crate::sandbox::plan::{Donations, Export};

/// What the gofer process is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GoferConfig {
    exports: Vec<Export>,
    connections: Vec<DonatedFd>,
    dies_with_parent: bool,
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
    /// The filter of system calls could not be put in force.
    #[error("gofer: {0}")]
    Seccomp(SeccompError),
}

impl GoferConfig {
    /// What to show, on each of the connections.
    pub(crate) fn new(
        exports: Vec<Export>,
        connections: Vec<OwnedFd>,
        lifetime: Lifetime,
        donations: &mut Donations,
    ) -> Self {
        let connections = connections.into_iter().map(|fd| donations.add(fd)).collect();
        Self { exports, connections, dies_with_parent: lifetime == Lifetime::Bound }
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
    let connections: Vec<OwnedFd> = config
        .connections
        .iter()
        .map(|connection| inherited::take(connection.0))
        .collect::<Result<_, _>>()
        .map_err(step("take a connection"))?;
    isolate(&config)?;
    let trees: Arc<[ServedTree]> = config
        .exports
        .iter()
        .enumerate()
        .map(|(at, export)| open_tree(&Path::new("/").join(at.to_string()), export.writable))
        .collect::<Result<_, _>>()
        .map_err(step("open the exported files"))?;
    confine_gofer().map_err(GoferError::Seccomp)?;
    let servers: Vec<_> = connections
        .into_iter()
        .map(|connection| {
            let trees = trees.clone();
            std::thread::Builder::new()
                .name("gofer".to_owned())
                .spawn(move || serve_connection(&connection.into(), &trees))
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
    nix::sys::stat::umask(Mode::empty());
    let effective = caps::effective().map_err(step("read capabilities"))?;
    caps::restrict_to(effective.intersection(needed_capabilities())).map_err(step("drop capabilities"))?;
    if config.dies_with_parent {
        privilege::die_with_parent().map_err(step("bind to the caller"))?;
    }
    Ok(())
}

fn open_tree(path: &Path, writable: bool) -> io::Result<ServedTree> {
    let is_directory = path.metadata()?.is_dir();
    let root = match (is_directory, writable) {
        (true, _) => open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?,
        // A single file cannot be opened again without a path; how it is open now is how the guest can have it.
        (false, true) => open(path, OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())?,
        (false, false) => open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())?,
    };
    Ok(ServedTree::new(root, if writable { Access::ReadWrite } else { Access::ReadOnly }))
}

fn serve_connection(connection: &SeqPacket, trees: &[ServedTree]) {
    if let Err(error) = gofer::serve(connection, trees) {
        eprintln!("gofer: {error}");
    }
}
