//! Placement of the sandbox's processes in control groups of the host, version 1 or 2.
//!
//! Limits hold for the sandbox as a whole: guest processes are not host processes. A controller that the host does
//! not offer to us is left out with a line in the log, since a container without a limit is what the engine gets
//! from other runtimes without root, too.

mod setting;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cgroup::setting::Setting;
use crate::log;

const MOUNT: &str = "/sys/fs/cgroup";

/// Control groups that were made for one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cgroup {
    /// One directory with version 2, one per controller with version 1.
    directories: Vec<PathBuf>,
}

/// A limit that the host did not take.
#[derive(Debug, Error)]
pub(crate) enum UpdateError {
    /// No group of the container has the controller.
    #[error("the container has no {0} controller")]
    NoController(&'static str),
    /// The host refused the value.
    #[error("{path}: {value:?}: {source}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// Why.
        source: io::Error,
    },
}

impl Cgroup {
    /// Makes the groups at `path` (the specification's `cgroupsPath`) with the limits of `resources`.
    ///
    /// `None` when the host lets us make none.
    pub(crate) fn create(path: &Path, resources: Option<&LinuxResources>) -> Option<Self> {
        let relative = relative(path)?;
        let mount = Path::new(MOUNT);
        let directories = if mount.join("cgroup.controllers").exists() {
            create_unified(&mount.join(relative), resources)
        } else {
            create_legacy(mount, &relative, resources)
        };
        if directories.is_empty() {
            log::warning(&format!("no control group could be made at {}", path.display()));
            return None;
        }
        Some(Self { directories })
    }

    /// Moves process `pid` in.
    pub(crate) fn add(&self, pid: i32) {
        for directory in &self.directories {
            if let Err(error) = fs::write(directory.join("cgroup.procs"), pid.to_string()) {
                log::warning(&format!("{}: {error}", directory.display()));
            }
        }
    }

    /// Changes the limits.
    pub(crate) fn update(&self, resources: &LinuxResources) -> Result<(), UpdateError> {
        let is_unified = Path::new(MOUNT).join("cgroup.controllers").exists();
        let settings = if is_unified { setting::unified(resources) } else { setting::legacy(resources) };
        let mut refused = Vec::new();
        for setting in settings {
            let directory = self.directory(setting.controller, is_unified);
            let directory = directory.ok_or(UpdateError::NoController(setting.controller))?;
            if is_unified {
                enable_controller(directory, setting.controller);
            }
            let path = directory.join(setting.file);
            if let Err(source) = fs::write(&path, &setting.value) {
                refused.push(UpdateError::Refused { path, value: setting.value, source });
            }
        }
        // A limit may have to wait for another: memory alone is never above memory and swap together, a quota never
        // above what its period allows.
        for error in refused {
            match error {
                UpdateError::Refused { path, value, .. } => {
                    fs::write(&path, &value).map_err(|source| UpdateError::Refused {
                        path,
                        value,
                        source,
                    })?;
                }
                other @ UpdateError::NoController(_) => return Err(other),
            }
        }
        Ok(())
    }

    /// A file of the group of `controller`, as a number.
    pub(crate) fn number(&self, controller: &str, file: &str) -> Option<u64> {
        let directory = self.directory(controller, Path::new(MOUNT).join("cgroup.controllers").exists())?;
        fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok()
    }

    fn directory(&self, controller: &str, is_unified: bool) -> Option<&PathBuf> {
        let of_controller = Path::new(MOUNT).join(controller);
        self.directories.iter().find(|directory| is_unified || directory.starts_with(&of_controller))
    }

    /// Removes the groups, which are empty once the processes are gone. The gateway's is not waited for elsewhere, and
    /// one that somebody else put there is not ours.
    pub(crate) fn remove(&self) {
        let deadline = Instant::now() + EMPTY_LIMIT;
        for directory in &self.directories {
            let removed = loop {
                match fs::remove_dir(directory) {
                    Err(error)
                        if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
                    {
                        thread::sleep(RETRY_AFTER);
                    }
                    outcome => break outcome,
                }
            };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    log::warning(&format!("{}: {error}", directory.display()));
                }
                _ => {}
            }
        }
    }
}

/// How long processes get to leave a group that is removed.
const EMPTY_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks.
const RETRY_AFTER: Duration = Duration::from_millis(5);

/// `/a/b` and `a/b` name a path below the mount; `slice:prefix:name` is systemd's, which becomes a plain path here
/// because nothing of ours talks to systemd.
fn relative(path: &Path) -> Option<PathBuf> {
    let text = path.to_str()?;
    let plain = match text.split(':').collect::<Vec<_>>().as_slice() {
        [slice, prefix, name] => format!("{slice}/{prefix}-{name}.scope"),
        _ => text.to_owned(),
    };
    let relative = PathBuf::from(plain.trim_start_matches('/'));
    let is_plain = relative.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    (is_plain && !relative.as_os_str().is_empty()).then_some(relative)
}

fn create_unified(directory: &Path, resources: Option<&LinuxResources>) -> Vec<PathBuf> {
    if fs::create_dir_all(directory).is_err() {
        return Vec::new();
    }
    for setting in resources.map(setting::unified).unwrap_or_default() {
        enable_controller(directory, setting.controller);
        write_setting(directory, &setting);
    }
    vec![directory.to_owned()]
}

/// A controller has to be handed down from the root, level by level (cgroups(7), `cgroup.subtree_control`).
fn enable_controller(directory: &Path, controller: &str) {
    let mut parents: Vec<&Path> =
        directory.ancestors().skip(1).take_while(|path| path.starts_with(MOUNT)).collect();
    parents.reverse();
    for parent in parents {
        // Fails where it is on already or not to be had; then writing the setting tells.
        let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn create_legacy(mount: &Path, relative: &Path, resources: Option<&LinuxResources>) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    let settings = resources.map(setting::legacy).unwrap_or_default();
    let wants_cpuset = settings.iter().any(|setting| setting.controller == "cpuset");
    let cpuset = wants_cpuset.then_some("cpuset");
    for controller in ["memory", "pids", "cpu"].into_iter().chain(cpuset) {
        let root = mount.join(controller);
        if !root.join("cgroup.procs").exists() {
            if settings.iter().any(|setting| setting.controller == controller) {
                log::warning(&format!("the host has no {controller} controller: its limits are ignored"));
            }
            continue;
        }
        let directory = root.join(relative);
        if fs::create_dir_all(&directory).is_err() {
            continue;
        }
        if controller == "cpuset" {
            inherit_processors(&root, relative);
        }
        for setting in settings.iter().filter(|setting| setting.controller == controller) {
            write_setting(&directory, setting);
        }
        directories.push(directory);
    }
    directories
}

/// A group without processors and memory nodes of its own takes no process (cpusets(7)); new ones have none.
fn inherit_processors(root: &Path, relative: &Path) {
    let mut parent = root.to_owned();
    for part in relative.components() {
        let child = parent.join(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let is_empty = fs::read_to_string(child.join(file)).is_ok_and(|text| text.trim().is_empty());
            if is_empty && let Ok(value) = fs::read(parent.join(file)) {
                // Without it the group takes no process, which is said then.
                let _ = fs::write(child.join(file), value);
            }
        }
        parent = child;
    }
}

fn write_setting(directory: &Path, setting: &Setting) {
    let file = directory.join(setting.file);
    if let Err(error) = fs::write(&file, &setting.value) {
        log::warning(&format!("{}: {error}", file.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_mount() {
        for (path, expected) in [
            ("/docker/abc", Some("docker/abc")),
            ("a/b", Some("a/b")),
            ("system.slice:docker:abc", Some("system.slice/docker-abc.scope")),
            ("../x", None),
            ("/", None),
        ] {
            assert_eq!(relative(Path::new(path)), expected.map(PathBuf::from), "{path}");
        }
    }
}
