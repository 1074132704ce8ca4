//! Reading a bundle, with errors that name the file and the field.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, LinuxSeccomp, Process, Spec};
use sentry::boot::OwnNamespaces;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::bundle::placement::{Placement, PlacementError};

/// A bundle that has what every container needs.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Its directory, absolute.
    pub(crate) dir: PathBuf,
    /// The root file system, absolute.
    pub(crate) rootfs: PathBuf,
    /// The process section, which must be there to start anything.
    pub(crate) process: Process,
    /// config.json.
    pub(crate) spec: Spec,
}

/// Why a bundle cannot be used.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// The directory is not there.
    #[error("bundle {path}: {source}")]
    NoBundle {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not follow the specification.
    #[error("{path}: {field}: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The place in it.
        field: String,
        /// What is wrong there.
        source: serde_json::Error,
    },
    /// A field that every container needs is missing or empty.
    #[error("{path}: {field}: missing")]
    MissingField {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
    },
    /// A field has a value that this runtime cannot honour.
    #[error("{path}: {field}: {value:?} is not supported")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// The root file system is not there.
    #[error("{path}: root.path: {rootfs}: {source}")]
    NoRootfs {
        /// The file that names it.
        path: PathBuf,
        /// The directory.
        rootfs: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Bundle {
    /// Reads the bundle in `dir`.
    pub(crate) fn load(dir: &Path) -> Result<Self, LoadError> {
        let dir =
            dir.canonicalize().map_err(|source| LoadError::NoBundle { path: dir.to_owned(), source })?;
        let path = dir.join("config.json");
        let (spec, process) = parse_config(&path, &read(&path)?)?;
        let missing = |field| LoadError::MissingField { path: path.clone(), field };
        let root = spec.root().as_ref().ok_or_else(|| missing("root"))?;
        let named = dir.join(root.path());
        let rootfs = named.canonicalize().and_then(|found| match found.is_dir() {
            true => Ok(found),
            false => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        });
        let rootfs = rootfs.map_err(|source| LoadError::NoRootfs { path, rootfs: named, source })?;
        Ok(Self { dir, rootfs, process, spec })
    }

    /// What it says about system calls.
    pub(crate) fn seccomp(&self) -> Option<&LinuxSeccomp> {
        self.spec.linux().as_ref()?.seccomp().as_ref()
    }

    /// The network namespace that the bundle names.
    pub(crate) fn network_namespace(&self) -> Option<&Path> {
        self.namespace(LinuxNamespaceType::Network)?.path().as_deref()
    }

    /// Whether the bundle asks for a network namespace at all, its own or a named one.
    pub(crate) fn has_network_namespace(&self) -> bool {
        self.namespace(LinuxNamespaceType::Network).is_some()
    }

    /// Which namespaces a container that shares a sandbox has for itself: those that the bundle asks for without naming
    /// somebody else's.
    pub(crate) fn own_namespaces(&self) -> OwnNamespaces {
        let kinds = [
            (LinuxNamespaceType::Pid, OwnNamespaces::PID),
            (LinuxNamespaceType::Ipc, OwnNamespaces::IPC),
            (LinuxNamespaceType::Uts, OwnNamespaces::UTS),
        ];
        let is_own = |kind| self.namespace(kind).is_some_and(|found| found.path().is_none());
        kinds.into_iter().filter(|&(kind, _)| is_own(kind)).map(|(_, own)| own).collect()
    }

    /// Whether the container gets a sandbox of its own.
    pub(crate) fn placement(&self) -> Result<Placement, PlacementError> {
        Placement::of(self.spec.annotations().as_ref())
    }

    fn namespace(&self, kind: LinuxNamespaceType) -> Option<&LinuxNamespace> {
        let namespaces = self.spec.linux().as_ref()?.namespaces().as_ref()?;
        namespaces.iter().find(|namespace| namespace.typ() == kind)
    }
}

/// The specification in a config.json, and its process section.
pub(crate) fn parse_config(path: &Path, text: &[u8]) -> Result<(Spec, Process), LoadError> {
    let spec: Spec = parse(path, text)?;
    check_version(path, spec.version())?;
    let missing = |field| LoadError::MissingField { path: path.to_owned(), field };
    let process = spec.process().clone().ok_or_else(|| missing("process"))?;
    check_process(path, &process)?;
    Ok((spec, process))
}

/// Reads a file with one process section (`exec --process`).
pub(crate) fn read_process(path: &Path) -> Result<Process, LoadError> {
    let process: Process = parse(path, &read(path)?)?;
    check_process(path, &process)?;
    Ok(process)
}

fn check_version(path: &Path, version: &str) -> Result<(), LoadError> {
    if version.is_empty() {
        return Err(LoadError::MissingField { path: path.to_owned(), field: "ociVersion" });
    }
    if version != "1" && !version.starts_with("1.") {
        let value = version.to_owned();
        return Err(LoadError::Unsupported { path: path.to_owned(), field: "ociVersion", value });
    }
    Ok(())
}

fn check_process(path: &Path, process: &Process) -> Result<(), LoadError> {
    let missing = |field| LoadError::MissingField { path: path.to_owned(), field };
    let args = process.args().as_deref().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return Err(missing("process.args"));
    }
    if !process.cwd().is_absolute() {
        let value = process.cwd().display().to_string();
        return Err(LoadError::Unsupported { path: path.to_owned(), field: "process.cwd", value });
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    fs::read(path).map_err(|source| LoadError::Unreadable { path: path.to_owned(), source })
}

fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T, LoadError> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let malformed = |field: String, source| LoadError::Malformed { path: path.to_owned(), field, source };
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| malformed(error.path().to_string(), error.into_inner()))?;
    deserializer.end().map_err(|source| malformed(".".to_owned(), source))?;
    Ok(value)
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
