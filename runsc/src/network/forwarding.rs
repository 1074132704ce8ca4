//! Forwarding by a device of the host for as long as any sandbox needs it.
//!
//! The host may have it off, and wants it off again after the last sandbox, however that one and those before it end.
//! Who needs it is written down in the state directory, under a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// Name of the list of who needs what; no container's, which do not start with a dot.
const LIST: &str = ".forwarding";

/// One sandbox's need of forwarding by one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Forwarding {
    /// The state directory.
    root: PathBuf,
    /// Inode of the network namespace.
    namespace: u64,
    device: String,
    /// A name of the sandbox that no other has at the time.
    holder: String,
}

/// Who needs forwarding that was off before, by namespace and device.
type Holders = BTreeMap<String, BTreeSet<String>>;

impl Forwarding {
    /// The need of sandbox `holder` for `device` in the calling thread's namespace. Changes nothing.
    pub(crate) fn new(root: &Path, device: &str, holder: &str) -> io::Result<Self> {
        let namespace = current_namespace()?;
        Ok(Self { root: root.to_owned(), namespace, device: device.to_owned(), holder: holder.to_owned() })
    }

    /// Switches it on, unless it is on already.
    pub(crate) fn switch_on(&self) -> io::Result<()> {
        let _lock = self.lock()?;
        let mut all = self.read();
        let is_held = all.contains_key(&self.key());
        if !is_held && fs::read_to_string(switch(&self.device))?.trim() != "0" {
            // The host's own wish, which nobody of us changes.
            return Ok(());
        }
        all.entry(self.key()).or_default().insert(self.holder.clone());
        // First: one who is noted and has changed nothing does no harm.
        self.write(&all)?;
        fs::write(switch(&self.device), "1")
    }

    /// Switches it off if this sandbox was the last that needed it; fine to be called twice.
    pub(crate) fn switch_off(&self) -> io::Result<()> {
        let _lock = self.lock()?;
        let mut all = self.read();
        let Some(holders) = all.get_mut(&self.key()) else { return Ok(()) };
        if !holders.remove(&self.holder) {
            return Ok(());
        }
        if holders.is_empty() {
            all.remove(&self.key());
            // In another namespace the device of the name is another one.
            if current_namespace()? == self.namespace {
                // Before the note is gone, so that somebody does it if we are killed. The device may be gone.
                let _ = fs::write(switch(&self.device), "0");
            }
        }
        self.write(&all)
    }

    fn key(&self) -> String {
        format!("{} {}", self.namespace, self.device)
    }

    /// The directory's own lock: the list comes and goes.
    fn lock(&self) -> io::Result<Flock<File>> {
        Flock::lock(File::open(&self.root)?, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
    }

    fn list(&self) -> PathBuf {
        self.root.join(LIST)
    }

    /// Nobody, where there is no list.
    fn read(&self) -> Holders {
        let text = fs::read(self.list()).unwrap_or_default();
        // The first value counts: a writer that was killed may have left the end of a longer one.
        let first = serde_json::Deserializer::from_slice(&text).into_iter().next();
        first.and_then(Result::ok).unwrap_or_default()
    }

    /// In place and in one piece, so that nothing has to be cleared away after a writer that was killed.
    fn write(&self, all: &Holders) -> io::Result<()> {
        if all.is_empty() {
            return match fs::remove_file(self.list()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let text = serde_json::to_vec(all)?;
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.list())?;
        file.write_all(&text)?;
        file.set_len(text.len() as u64)
    }
}

fn current_namespace() -> io::Result<u64> {
    Ok(fs::metadata("/proc/thread-self/ns/net")?.ino())
}

/// ip-sysctl: `conf/DEVICE/forwarding`.
pub(super) fn switch(device: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{device}/forwarding")
}
