//! The mounts of config.json.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use sentry::boot::{MountFlags, MountKind};

use crate::log;

/// One mount, before its file server has a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountPlan {
    pub(crate) destination: String,
    pub(crate) kind: PlannedKind,
    pub(crate) flags: MountFlags,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PlannedKind {
    /// A file system of the sandbox's own.
    Own(MountKind),
    /// A host directory or file, absolute.
    Bind(PathBuf),
}

/// The mounts of a bundle in `bundle`. Kinds that this kernel does not have are left out with a line in the log, as
/// engines always ask for some.
pub(crate) fn from_spec(spec: &Spec, bundle: &Path) -> Vec<MountPlan> {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    mounts.iter().filter_map(|mount| plan(mount, bundle)).collect()
}

/// What every program expects below `/proc`, `/sys` and `/dev`, for containers without a specification.
pub(crate) fn defaults() -> Vec<MountPlan> {
    let own = |destination: &str, kind, flags| MountPlan {
        destination: destination.to_owned(),
        kind: PlannedKind::Own(kind),
        flags,
    };
    let tmpfs = |options: &[&str]| MountKind::Tmpfs {
        options: options.iter().map(|&option| option.to_owned()).collect(),
    };
    let quiet = MountFlags::NO_SUID | MountFlags::NO_DEV | MountFlags::NO_EXEC;
    vec![
        own("/proc", MountKind::Proc, quiet),
        own("/sys", MountKind::Sysfs, quiet | MountFlags::READ_ONLY),
        own("/dev", MountKind::Dev, MountFlags::NO_SUID),
        own("/dev/pts", MountKind::Devpts { options: Vec::new() }, MountFlags::NO_SUID | MountFlags::NO_EXEC),
        own("/dev/mqueue", MountKind::Mqueue, quiet),
        own("/dev/shm", tmpfs(&["mode=1777"]), MountFlags::NO_SUID | MountFlags::NO_DEV),
    ]
}

fn plan(mount: &Mount, bundle: &Path) -> Option<MountPlan> {
    let options = mount.options().as_deref().unwrap_or_default();
    let destination = absolute(mount.destination());
    let (flags, own_options) = split_options(options);
    let is_bind = options.iter().any(|option| option == "bind" || option == "rbind");
    let kind = match mount.typ().as_deref() {
        _ if is_bind => bind(mount, bundle)?,
        Some("bind") => bind(mount, bundle)?,
        Some("proc") => PlannedKind::Own(MountKind::Proc),
        Some("sysfs") => PlannedKind::Own(MountKind::Sysfs),
        Some("tmpfs") if destination == "/dev" => PlannedKind::Own(MountKind::Dev),
        Some("tmpfs") => PlannedKind::Own(MountKind::Tmpfs { options: own_options }),
        Some("devtmpfs") => PlannedKind::Own(MountKind::Dev),
        Some("devpts") => PlannedKind::Own(MountKind::Devpts { options: own_options }),
        Some("mqueue") => PlannedKind::Own(MountKind::Mqueue),
        Some("cgroup" | "cgroup2") => PlannedKind::Own(MountKind::Cgroup),
        other => {
            log::warning(&format!(
                "mount {destination}: type {:?} is not supported and left out",
                other.unwrap_or_default()
            ));
            return None;
        }
    };
    Some(MountPlan { destination, kind, flags })
}

fn bind(mount: &Mount, bundle: &Path) -> Option<PlannedKind> {
    let source = mount.source().as_ref()?;
    // config.md: "if relative, path relative to the bundle".
    Some(PlannedKind::Bind(bundle.join(source)))
}

/// config.md: destinations should be absolute; runtimes take relative ones as relative to the root.
fn absolute(path: &Path) -> String {
    Path::new("/").join(path).display().to_string()
}

/// What a propagation option, or `rootfsPropagation`, asks for (config-linux.md). Nothing is heard from the host's mounts, so a slave
/// has no master and is private; and a tree of the host is one mount, so `r` makes no difference.
pub(crate) fn propagation(option: &str) -> MountFlags {
    match option {
        "shared" | "rshared" => MountFlags::SHARED,
        "unbindable" | "runbindable" => MountFlags::UNBINDABLE,
        _ => MountFlags::empty(),
    }
}

/// Flags that every mount has, and the options that only the file system understands. An option of the former kind that this
/// kernel lacks is not an error on Linux either.
fn split_options(options: &[String]) -> (MountFlags, Vec<String>) {
    let mut flags = MountFlags::empty();
    let mut own = Vec::new();
    for option in options {
        match option.as_str() {
            "ro" => flags.insert(MountFlags::READ_ONLY),
            "rw" => flags.remove(MountFlags::READ_ONLY),
            "nosuid" => flags.insert(MountFlags::NO_SUID),
            "suid" => flags.remove(MountFlags::NO_SUID),
            "nodev" => flags.insert(MountFlags::NO_DEV),
            "dev" => flags.remove(MountFlags::NO_DEV),
            "noexec" => flags.insert(MountFlags::NO_EXEC),
            "exec" => flags.remove(MountFlags::NO_EXEC),
            "noatime" => flags.insert(MountFlags::NO_ATIME),
            "atime" => flags.remove(MountFlags::NO_ATIME),
            "shared" | "rshared" | "unbindable" | "runbindable" | "private" | "rprivate" | "slave"
            | "rslave" => {
                flags.remove(MountFlags::SHARED | MountFlags::UNBINDABLE);
                flags.insert(propagation(option));
            }
            text if text.contains('=') => own.push(text.to_owned()),
            _ => {}
        }
    }
    (flags, own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_options_of_an_engine() {
        let spec: Spec = serde_json::from_str(
            r#"{"ociVersion":"1.0.2","mounts":[
                {"destination":"/proc","type":"proc","source":"proc","options":["nosuid","noexec","nodev"]},
                {"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","mode=755","size=65536k"]},
                {"destination":"/data","source":"vol","options":["rbind","ro","rprivate"]},
                {"destination":"tmp","type":"tmpfs","options":["size=1m","noatime","private","rshared"]},
                {"destination":"/x","type":"nfs"}]}"#,
        )
        .unwrap();
        let mounts = from_spec(&spec, Path::new("/b"));
        let kinds: Vec<_> = mounts.iter().map(|mount| (mount.destination.as_str(), &mount.kind)).collect();
        assert_eq!(
            kinds,
            [
                ("/proc", &PlannedKind::Own(MountKind::Proc)),
                ("/dev", &PlannedKind::Own(MountKind::Dev)),
                ("/data", &PlannedKind::Bind("/b/vol".into())),
                ("/tmp", &PlannedKind::Own(MountKind::Tmpfs { options: vec!["size=1m".to_owned()] })),
            ]
        );
        assert_eq!(mounts[0].flags, MountFlags::NO_SUID | MountFlags::NO_EXEC | MountFlags::NO_DEV);
        assert_eq!(mounts[2].flags, MountFlags::READ_ONLY);
        assert_eq!(mounts[3].flags, MountFlags::NO_ATIME | MountFlags::SHARED);
    }
}
