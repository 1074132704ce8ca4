//! The state directory: one sub-directory per container, changed under a lock and replaced atomically.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};
use thiserror::Error;

use crate::sandbox::Address;
use crate::state::{ProcessRef, Record};

/// Longest container id; with the socket's name it stays below NAME_MAX.
const MAX_ID_BYTES: usize = 200;

/// Start of the names of directories that are being made; no id starts like that. The rest is the maker's pid.
const UNFINISHED: &str = ".new-";

/// Start of the names of directories that are being removed. The rest is the remover's pid, a hyphen and the id.
const REMOVED: &str = ".old-";

const STATE: &str = "state.json";
const LOCK: &str = "lock";

/// Why a container's state could not be used.
#[derive(Debug, Error)]
pub(crate) enum StateError {
    /// The id cannot be a directory's name, or would be confusing.
    #[error(
        "invalid container id {0:?}: it has to be 1 to {MAX_ID_BYTES} of letters, digits, '_', '+', '-', '.' and not start with '.'"
    )]
    InvalidId(String),
    /// The id is in use.
    #[error("container {0:?} already exists")]
    Exists(String),
    /// There is no such container.
    #[error("container {0:?} does not exist")]
    Missing(String),
    /// The state file is not one.
    #[error("{path}: malformed state: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A file could not be used.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The state directory of all containers.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
}

/// One container's directory, locked against other commands.
#[derive(Debug)]
pub(crate) struct Entry {
    dir: PathBuf,
    /// What is in the file, to be changed and then saved.
    pub(crate) record: Record,
    lock: Option<Flock<File>>,
}

impl Store {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The directory of container `id`.
    pub(crate) fn dir(&self, id: &str) -> Result<PathBuf, StateError> {
        check_id(id)?;
        Ok(self.root.join(id))
    }

    /// Makes the directory for a new container.
    pub(crate) fn create(&self, record: Record) -> Result<Entry, StateError> {
        let dir = self.dir(&record.id)?;
        make_dir(&self.root, 0o711)?;
        // Complete before it has its name, so that a caller that is killed leaves no container without a state.
        let unfinished = self.root.join(format!("{UNFINISHED}{}", std::process::id()));
        make_dir(&unfinished, 0o711)?;
        let lock = make_lock(&unfinished.join(LOCK))?;
        let mut entry = Entry { dir: unfinished, record, lock: Some(lock) };
        entry.save()?;
        let renamed = renameat2(AT_FDCWD, &entry.dir, AT_FDCWD, &dir, RenameFlags::RENAME_NOREPLACE);
        if let Err(error) = renamed {
            let id = entry.record.id.clone();
            entry.remove()?;
            return Err(match error {
                nix::Error::EEXIST => StateError::Exists(id),
                other => StateError::Io { path: dir, source: other.into() },
            });
        }
        entry.dir = dir;
        Ok(entry)
    }

    /// Removes what callers left that were killed while they made or removed a container.
    pub(crate) fn remove_unfinished(&self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(unfinished_by);
            if pid.is_some_and(|pid| ProcessRef::of(pid).is_none()) {
                // Another command may be at it, too.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Locks the directory of an existing container; waits for other commands to finish with it.
    pub(crate) fn open(&self, id: &str) -> Result<Entry, StateError> {
        let dir = self.dir(id)?;
        let missing = |error: StateError| match error {
            StateError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                StateError::Missing(id.to_owned())
            }
            other => other,
        };
        let lock = lock(&dir.join(LOCK)).map_err(missing)?;
        // Read after the lock was taken: the container may have been deleted while we waited.
        let mut record = read(&dir).map_err(missing)?;
        record.refresh();
        Ok(Entry { dir, record, lock: Some(lock) })
    }

    /// Reads a container's state without waiting for commands that are at work on it.
    pub(crate) fn peek(&self, id: &str) -> Result<Record, StateError> {
        let mut record = read(&self.dir(id)?).map_err(|error| match error {
            StateError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                StateError::Missing(id.to_owned())
            }
            other => other,
        })?;
        record.refresh();
        Ok(record)
    }

    /// Every container, by id. Directories that are just being made or removed are left out.
    pub(crate) fn list(&self) -> Result<Vec<Record>, StateError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StateError::Io { path: self.root.clone(), source }),
        };
        let mut records: Vec<Record> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|id| self.peek(&id).ok())
            .collect();
        records.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(records)
    }
}

impl Entry {
    /// The container's directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where to reach the container.
    pub(crate) fn address(&self) -> Address {
        let of_sandbox = self.record.sandbox_of.as_ref().map(|id| self.store_root().join(id));
        Address { dir: of_sandbox.unwrap_or_else(|| self.dir.clone()), container: self.record.id.clone() }
    }

    /// The state directory of all containers.
    pub(crate) fn store_root(&self) -> PathBuf {
        self.dir.parent().unwrap_or(Path::new("/")).to_owned()
    }

    /// Replaces the state file with the record as it is now.
    pub(crate) fn save(&self) -> Result<(), StateError> {
        let path = self.dir.join(STATE);
        let temporary = self.dir.join("state.json.new");
        let io = |source| StateError::Io { path: temporary.clone(), source };
        let text = serde_json::to_vec(&self.record)
            .map_err(|source| StateError::Malformed { path: path.clone(), source })?;
        let mut file = File::create(&temporary).map_err(io)?;
        file.write_all(&text).map_err(io)?;
        fs::rename(&temporary, &path).map_err(io)
    }

    /// Lets other commands use the container while this one waits.
    pub(crate) fn unlock(&mut self) {
        self.lock = None;
    }

    /// Locks the container again and reads what others changed; fine when they deleted it.
    pub(crate) fn relock(&mut self) -> Result<(), StateError> {
        match lock(&self.dir.join(LOCK)).and_then(|lock| Ok((lock, read(&self.dir)?))) {
            Ok((lock, record)) => {
                self.lock = Some(lock);
                self.record = record;
                Ok(())
            }
            Err(StateError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes the directory; the container is forgotten.
    pub(crate) fn remove(self) -> Result<(), StateError> {
        // All at once under another name: a caller that is killed half-way leaves no container without a state.
        let removed = self.dir.with_file_name(format!("{REMOVED}{}-{}", std::process::id(), self.record.id));
        match fs::rename(&self.dir, &removed).and_then(|()| fs::remove_dir_all(&removed)) {
            // Deleted by another command while this one waited.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome.map_err(|source| StateError::Io { path: self.dir.clone(), source }),
        }
    }
}

/// Who makes or removes the directory called `name`; `None` for those of containers.
fn unfinished_by(name: &str) -> Option<i32> {
    let removed = || name.strip_prefix(REMOVED)?.split_once('-').map(|(pid, _)| pid);
    name.strip_prefix(UNFINISHED).or_else(removed)?.parse().ok()
}

fn check_id(id: &str) -> Result<(), StateError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    let valid = (1..=MAX_ID_BYTES).contains(&id.len()) && id.chars().all(is_allowed) && !id.starts_with('.');
    if valid { Ok(()) } else { Err(StateError::InvalidId(id.to_owned())) }
}

fn make_dir(path: &Path, mode: u32) -> Result<(), StateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| StateError::Io { path: path.to_owned(), source })
}

/// Makes the lock of a new container.
fn make_lock(path: &Path) -> Result<Flock<File>, StateError> {
    let io = |source| StateError::Io { path: path.to_owned(), source };
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| io(error.into()))
}

/// Takes the lock of the container that has the name when it is our turn. The one that had it when we came may be gone
/// by then, and its lock keeps nobody from using the next one.
fn lock(path: &Path) -> Result<Flock<File>, StateError> {
    let io = |source| StateError::Io { path: path.to_owned(), source };
    loop {
        let file = OpenOptions::new().write(true).open(path).map_err(io)?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| io(error.into()))?;
        let (held, named) = (lock.metadata().map_err(io)?, fs::metadata(path).map_err(io)?);
        if (held.dev(), held.ino()) == (named.dev(), named.ino()) {
            return Ok(lock);
        }
    }
}

fn read(dir: &Path) -> Result<Record, StateError> {
    let path = dir.join(STATE);
    let text = fs::read(&path).map_err(|source| StateError::Io { path: path.clone(), source })?;
    serde_json::from_slice(&text).map_err(|source| StateError::Malformed { path, source })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
