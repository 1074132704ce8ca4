//! Choosing a backend.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use crate::contract::Platform;
use crate::memory_file::MemoryFile;
use crate::ptrace::Ptrace;
use crate::stub::Template;

/// A backend by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlatformKind {
    /// `ptrace(2)`.
    Ptrace,
}

impl FromStr for PlatformKind {
    type Err = UnknownPlatform;

    fn from_str(name: &str) -> Result<Self, UnknownPlatform> {
        match name {
            "ptrace" => Ok(Self::Ptrace),
            _ => Err(UnknownPlatform(name.to_owned())),
        }
    }
}

impl fmt::Display for PlatformKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ptrace => f.write_str("ptrace"),
        }
    }
}

/// No backend has this name.
#[derive(Debug, thiserror::Error)]
#[error("unknown platform {0:?}: it is one of ptrace")]
pub struct UnknownPlatform(String);

/// A backend whose template process is running; made before the sentry has threads.
pub struct Prepared {
    kind: PlatformKind,
    template: Template,
}

impl Prepared {
    /// Forks the template process. Call it at the very start of the process: the fork copies the sentry's page tables,
    /// and no other thread may be running. Stubs die with the calling thread (`PR_SET_PDEATHSIG`), so it should be the
    /// main thread.
    ///
    /// # Errors
    /// When the host refuses a call.
    pub fn new(kind: PlatformKind) -> io::Result<Self> {
        Ok(Self { kind, template: Template::spawn()? })
    }

    /// The platform, with guest memory in `memory`.
    #[must_use]
    pub fn create(self, memory: Arc<MemoryFile>) -> Arc<dyn Platform> {
        match self.kind {
            PlatformKind::Ptrace => Arc::new(Ptrace::new(self.template, memory)),
        }
    }
}
