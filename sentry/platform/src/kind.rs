//! Choosing a backend.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use crate::contract::Platform;
use crate::memory_file::MemoryFile;
use crate::ptrace::Ptrace;
use crate::stub::{Signals, Template};
use crate::systrap::Systrap;

/// A backend by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlatformKind {
    /// Seccomp and shared memory; the default.
    Systrap,
    /// `ptrace(2)`.
    Ptrace,
}

impl FromStr for PlatformKind {
    type Err = UnknownPlatform;

    fn from_str(name: &str) -> Result<Self, UnknownPlatform> {
        match name {
            "systrap" => Ok(Self::Systrap),
            "ptrace" => Ok(Self::Ptrace),
            _ => Err(UnknownPlatform(name.to_owned())),
        }
    }
}

impl fmt::Display for PlatformKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Systrap => f.write_str("systrap"),
            Self::Ptrace => f.write_str("ptrace"),
        }
    }
}

/// No backend has this name.
#[derive(Debug, thiserror::Error)]
#[error("unknown platform {0:?}: it is one of systrap and ptrace")]
pub struct UnknownPlatform(String);

/// A backend whose template process is running; made before the sentry has threads.
pub struct Prepared {
    kind: PlatformKind,
    template: Template,
}

impl Prepared {
    /// Forks the template process, from which all stubs are forked.
    ///
    /// Call it when the process is what it is going to be - user ids, namespaces, root directory - because stubs keep
    /// what they were forked with and must be as unprivileged as the sentry, which could not kill or trace them
    /// otherwise; and before it has threads, much memory, or a seccomp filter. Descriptors are shared, so files may be
    /// opened later. Stubs die with the process's main thread (`PR_SET_PDEATHSIG`).
    ///
    /// # Errors
    /// When the host refuses a call.
    pub fn new(kind: PlatformKind) -> io::Result<Self> {
        let signals = match kind {
            PlatformKind::Systrap => Signals::ToHandler,
            PlatformKind::Ptrace => Signals::ToTracer,
        };
        Ok(Self { kind, template: Template::spawn(signals)? })
    }

    /// The platform, with guest memory in `memory`.
    #[must_use]
    pub fn create(self, memory: Arc<MemoryFile>) -> Arc<dyn Platform> {
        match self.kind {
            PlatformKind::Systrap => Arc::new(Systrap::new(self.template, memory)),
            PlatformKind::Ptrace => Arc::new(Ptrace::new(self.template, memory)),
        }
    }
}
