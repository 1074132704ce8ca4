//! Placement of the sandbox's processes in control groups of the host, version 1 or 2.
//!
//! Limits hold for the sandbox as a whole: guest processes are not host processes. A controller that the host does
//! not offer to us is left out with a line in the log, since a container without a limit is what the engine gets
//! from other runtimes without root, too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use crate::log;

const MOUNT: &str = "/sys/fs/cgroup";

/// Control groups that were made for one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cgroup {
    /// One directory with version 2, one per controller with version 1.
    directories: Vec<PathBuf>,
}

/// One file to write in a group.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    controller: &'static str,
    file: &'static str,
    value: String,
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

    /// Removes the groups, which are empty once the processes are gone.
    pub(crate) fn remove(&self) {
        for directory in &self.directories {
            match fs::remove_dir(directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    log::warning(&format!("{}: {error}", directory.display()));
                }
                _ => {}
            }
        }
    }
}

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
    for setting in resources.map(unified_settings).unwrap_or_default() {
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
    let settings = resources.map(legacy_settings).unwrap_or_default();
    for controller in ["memory", "pids", "cpu"] {
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
        for setting in settings.iter().filter(|setting| setting.controller == controller) {
            write_setting(&directory, setting);
        }
        directories.push(directory);
    }
    directories
}

fn write_setting(directory: &Path, setting: &Setting) {
    let file = directory.join(setting.file);
    if let Err(error) = fs::write(&file, &setting.value) {
        log::warning(&format!("{}: {error}", file.display()));
    }
}

fn unified_settings(resources: &LinuxResources) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(limit) = resources.memory().as_ref().and_then(oci_spec::runtime::LinuxMemory::limit) {
        settings.push(Setting { controller: "memory", file: "memory.max", value: or_max(limit) });
    }
    if let Some(pids) = resources.pids() {
        settings.push(Setting {
            controller: "pids",
            file: "pids.max",
            value: or_max(pids_limit(pids.limit())),
        });
    }
    if let Some(cpu) = resources.cpu() {
        if let Some(quota) = cpu.quota() {
            let period = cpu.period().unwrap_or(100_000);
            let value = format!("{} {period}", or_max(quota));
            settings.push(Setting { controller: "cpu", file: "cpu.max", value });
        }
        if let Some(shares) = cpu.shares().filter(|shares| *shares > 0) {
            // The ranges are 2..=262144 and 1..=10000; this is the conversion that the kernel's documentation and
            // other runtimes use.
            let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
            settings.push(Setting { controller: "cpu", file: "cpu.weight", value: weight.to_string() });
        }
    }
    settings
}

fn legacy_settings(resources: &LinuxResources) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(limit) = resources.memory().as_ref().and_then(oci_spec::runtime::LinuxMemory::limit) {
        settings.push(Setting {
            controller: "memory",
            file: "memory.limit_in_bytes",
            value: limit.to_string(),
        });
    }
    if let Some(pids) = resources.pids() {
        settings.push(Setting {
            controller: "pids",
            file: "pids.max",
            value: or_max(pids_limit(pids.limit())),
        });
    }
    if let Some(cpu) = resources.cpu() {
        if let Some(period) = cpu.period() {
            settings.push(Setting {
                controller: "cpu",
                file: "cpu.cfs_period_us",
                value: period.to_string(),
            });
        }
        if let Some(quota) = cpu.quota() {
            settings.push(Setting { controller: "cpu", file: "cpu.cfs_quota_us", value: quota.to_string() });
        }
        if let Some(shares) = cpu.shares().filter(|shares| *shares > 0) {
            settings.push(Setting { controller: "cpu", file: "cpu.shares", value: shares.to_string() });
        }
    }
    settings
}

/// The sandbox needs host threads of its own beside the one per guest thread.
const OWN_THREADS: i64 = 64;

/// Host threads for `limit` guest threads: each has one in the sandbox and one that runs its code.
fn pids_limit(limit: i64) -> i64 {
    if limit <= 0 { -1 } else { limit.saturating_mul(2).saturating_add(OWN_THREADS) }
}

fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn limits_become_settings_of_each_version() {
        let resources = resources(
            r#"{"memory":{"limit":1048576},"pids":{"limit":10},"cpu":{"quota":50000,"period":100000,"shares":1024}}"#,
        );
        let lines = |settings: Vec<Setting>| -> Vec<String> {
            settings.iter().map(|s| format!("{}={}", s.file, s.value)).collect()
        };
        assert_eq!(
            lines(unified_settings(&resources)),
            ["memory.max=1048576", "pids.max=84", "cpu.max=50000 100000", "cpu.weight=39"]
        );
        assert_eq!(
            lines(legacy_settings(&resources)),
            [
                "memory.limit_in_bytes=1048576",
                "pids.max=84",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "cpu.shares=1024"
            ]
        );
    }

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
