//! The guest's mounts, as the configuration lists them.

use std::sync::Arc;

use sentry_hostio::seqpacket::SeqPacket;
use thiserror::Error;

use crate::boot::{MountConfig, MountFlags as ConfigFlags, MountKind, RootConfig};
use crate::errno::Errno;
use crate::fs::gofer::{Caching, Connection, GoferFs, GoferOptions};
use crate::fs::overlay::Overlay;
use crate::fs::tmpfs::{Tmpfs, TmpfsOptions};
use crate::kernel::{ContainerId, Kernel, Namespaces};
use crate::task::Credentials;
use crate::vfs::change::create;
use crate::vfs::walk::{Last, LastName, Resolve, WalkRoot, walk};
use crate::vfs::{Caller, Dentry, Mount, MountFlags, MountNamespace, NewKind, Propagation, VfsPath};

/// Why a mount could not be made.
#[derive(Debug, Error)]
#[error("mount {destination}: {errno}")]
pub(super) struct MountError {
    destination: String,
    errno: Errno,
}

/// Makes mounts for one container.
pub(super) struct Mounter {
    gofer: Arc<Connection>,
    kernel: Arc<Kernel>,
    creds: Arc<Credentials>,
    /// Of its processes.
    namespaces: Arc<Namespaces>,
}

impl Mounter {
    /// For processes in `namespaces`, whose files `sockets` lead to.
    pub(super) fn new(sockets: Vec<SeqPacket>, kernel: Arc<Kernel>, namespaces: Arc<Namespaces>) -> Self {
        Self { gofer: Connection::remote(sockets), kernel, creds: Credentials::root(), namespaces }
    }

    /// The mount namespace of the first process. A root that cannot be written gets a layer in memory below that
    /// flag, so that the mount points exist whatever the image has.
    pub(super) fn root(
        &self,
        root: &RootConfig,
        container: ContainerId,
    ) -> Result<Arc<MountNamespace>, MountError> {
        let failed = |errno| MountError { destination: "/".to_owned(), errno };
        let lower = self.served(root.tree, Caching::Exclusive).map_err(failed)?;
        let dentry = if root.memory_overlay || root.readonly {
            let upper = self.tmpfs(&TmpfsOptions::default());
            Overlay::create(&upper, &lower).map_err(failed)?
        } else {
            lower
        };
        let mount = Mount::new(dentry, b"none", MountFlags::empty());
        if container == ContainerId::FIRST {
            return Ok(MountNamespace::new(mount));
        }
        MountNamespace::create(mount, &self.creds).map_err(failed)
    }

    /// Makes the mounts of the configuration, in order. A kind that the kernel does not have is left out: engines
    /// always ask for some.
    pub(super) fn mount_all(
        &self,
        namespace: &Arc<MountNamespace>,
        mounts: &[MountConfig],
    ) -> Result<(), MountError> {
        for mount in mounts {
            let failed = |errno| MountError { destination: mount.destination.clone(), errno };
            let root = match self.file_system(&mount.kind) {
                Err(Errno::ENODEV) => {
                    tracing::warn!("mount {}: no such file system", mount.destination);
                    continue;
                }
                root => root.map_err(failed)?,
            };
            let is_directory = root.inode().is_dir();
            let place = self.mount_point(namespace, &mount.destination, is_directory).map_err(failed)?;
            let (source, flags) = (source_name(&mount.kind), mount_flags(mount.flags));
            let made = namespace.mount(root, source, place, flags).map_err(failed)?;
            propagate(namespace, made, mount.flags);
        }
        Ok(())
    }

    /// Makes the root read-only, and what the configuration lists; hides what it lists.
    pub(super) fn protect(
        &self,
        namespace: &Arc<MountNamespace>,
        root: &RootConfig,
        readonly: &[String],
        masked: &[String],
    ) -> Result<(), MountError> {
        for path in readonly {
            self.cover(namespace, path, Cover::ReadOnly)?;
        }
        for path in masked {
            self.cover(namespace, path, Cover::Empty)?;
        }
        if root.readonly {
            let mount = namespace.root_mount();
            mount.set_flags(mount.flags() | MountFlags::RDONLY);
        }
        propagate(namespace, namespace.root_mount(), root.propagation);
        Ok(())
    }

    /// config-linux.md: paths that do not exist are not an error.
    fn cover(&self, namespace: &Arc<MountNamespace>, path: &str, cover: Cover) -> Result<(), MountError> {
        let failed = |errno| MountError { destination: path.to_owned(), errno };
        let place = match self.walk(namespace, path.as_bytes(), Last::Follow) {
            Ok(walked) => match walked.found {
                Some(place) => place,
                None => return Ok(()),
            },
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        };
        let (root, flags) = match cover {
            Cover::ReadOnly => (place.dentry.clone(), place.mount.flags() | MountFlags::RDONLY),
            Cover::Empty if place.inode().is_dir() => {
                (self.tmpfs(&TmpfsOptions::default()), MountFlags::RDONLY)
            }
            // An empty file: what reads as /dev/null does, without depending on /dev.
            Cover::Empty => (self.empty_file().map_err(failed)?, MountFlags::RDONLY),
        };
        namespace.mount(root, b"none", place, flags).map_err(failed)?;
        Ok(())
    }

    fn empty_file(&self) -> Result<Arc<Dentry>, Errno> {
        let tmpfs = self.tmpfs(&TmpfsOptions::default());
        let namespace = MountNamespace::new(Mount::new(tmpfs, b"none", MountFlags::empty()));
        let walked = self.walk(&namespace, b"/empty", Last::FollowOrMissing)?;
        Ok(create(&Caller::kernel(&self.creds), &walked, NewKind::Regular, 0o444, 0)?.dentry)
    }

    fn file_system(&self, kind: &MountKind) -> Result<Arc<Dentry>, Errno> {
        match kind {
            MountKind::Bind { tree } => self.served(*tree, Caching::Shared),
            MountKind::Tmpfs { options } => {
                // Of the options that engines pass, tmpfs takes its own and refuses others, such as `mode=` of other
                // file systems and SELinux contexts.
                let own = |option: &&String| {
                    ["size=", "mode=", "uid=", "gid=", "nr_inodes=", "nr_blocks="]
                        .iter()
                        .any(|name| option.starts_with(name))
                };
                let options: Vec<&str> = options.iter().filter(own).map(String::as_str).collect();
                Ok(self.tmpfs(&TmpfsOptions::parse(&options.join(","))?))
            }
            MountKind::Dev => self.device_directory(),
            MountKind::Proc => Ok(crate::fs::proc::create(&self.kernel, &self.namespaces.pid_for_children)),
            MountKind::Sysfs => crate::fs::registry::create_at_boot(&self.kernel, "sysfs", ""),
            MountKind::Devpts { options } => {
                crate::fs::registry::create_at_boot(&self.kernel, "devpts", &options.join(","))
            }
            MountKind::Mqueue => Ok(self.namespaces.ipc.queues().root().dentry),
            MountKind::Cgroup => crate::fs::registry::create_at_boot(&self.kernel, "cgroup2", ""),
        }
    }

    fn tmpfs(&self, options: &TmpfsOptions) -> Arc<Dentry> {
        Tmpfs::create(self.kernel.memory_file().clone(), options)
    }

    fn served(&self, tree: u32, caching: Caching) -> Result<Arc<Dentry>, Errno> {
        let files = self.kernel.files_of_mounts.clone();
        GoferFs::create(self.gofer.clone(), GoferOptions { tree, caching }, files)
    }

    /// A tmpfs with the nodes and links that config-linux.md lists ("Default Devices", "Dev symbolic links").
    fn device_directory(&self) -> Result<Arc<Dentry>, Errno> {
        let root = self.tmpfs(&TmpfsOptions::parse("mode=755")?);
        let namespace = MountNamespace::new(Mount::new(root.clone(), b"none", MountFlags::empty()));
        let caller = Caller::kernel(&self.creds);
        for (name, major, minor) in [
            ("null", 1, 3),
            ("zero", 1, 5),
            ("full", 1, 7),
            ("random", 1, 8),
            ("urandom", 1, 9),
            ("tty", 5, 0),
        ] {
            let walked = self.walk(&namespace, name.as_bytes(), Last::FollowOrMissing)?;
            let kind = NewKind::CharDevice(crate::vfs::DeviceId::new(major, minor));
            create(&caller, &walked, kind, 0o666, 0)?;
        }
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
        ] {
            let walked = self.walk(&namespace, name.as_bytes(), Last::FollowOrMissing)?;
            create(&caller, &walked, NewKind::Symlink(target.into()), 0o777, 0)?;
        }
        for name in ["pts", "shm", "mqueue", "net"] {
            let walked = self.walk(&namespace, name.as_bytes(), Last::FollowOrMissing)?;
            create(&caller, &walked, NewKind::Directory, 0o755, 0)?;
        }
        // Beyond that list: who makes interfaces of the sandbox's own network needs no device of the host.
        let walked = self.walk(&namespace, b"net/tun", Last::FollowOrMissing)?;
        let kind = NewKind::CharDevice(crate::vfs::DeviceId::new(10, 200));
        create(&caller, &walked, kind, 0o666, 0)?;
        Ok(root)
    }

    /// The place to mount on, made with its parents where it is missing.
    fn mount_point(
        &self,
        namespace: &Arc<MountNamespace>,
        destination: &str,
        is_directory: bool,
    ) -> Result<VfsPath, Errno> {
        let mut names: Vec<&str> = destination.split('/').filter(|name| !name.is_empty()).collect();
        let last = names.pop();
        let mut path = Vec::new();
        for name in names {
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
            self.ensure(namespace, &path, NewKind::Directory, 0o755)?;
        }
        path.push(b'/');
        let Some(last) = last else {
            return Ok(namespace.root());
        };
        path.extend_from_slice(last.as_bytes());
        if is_directory {
            self.ensure(namespace, &path, NewKind::Directory, 0o755)
        } else {
            self.ensure(namespace, &path, NewKind::Regular, 0o644)
        }
    }

    fn ensure(
        &self,
        namespace: &Arc<MountNamespace>,
        path: &[u8],
        kind: NewKind,
        mode: u32,
    ) -> Result<VfsPath, Errno> {
        let walked = self.walk(namespace, path, Last::FollowOrMissing)?;
        match (&walked.found, &walked.name) {
            (Some(found), _) => Ok(found.clone()),
            (None, LastName::Name(_)) => create(&Caller::kernel(&self.creds), &walked, kind, mode, 0),
            (None, _) => Err(Errno::ENOENT),
        }
    }

    fn walk(
        &self,
        namespace: &Arc<MountNamespace>,
        path: &[u8],
        last: Last,
    ) -> Result<crate::vfs::Walked, Errno> {
        let root = namespace.root();
        let from = WalkRoot { namespace: namespace.clone(), start: root.clone(), root };
        walk(&Caller::kernel(&self.creds), &from, path, last, Resolve::empty())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cover {
    ReadOnly,
    Empty,
}

/// What `/proc/mounts` shows as the device.
fn source_name(kind: &MountKind) -> &'static [u8] {
    match kind {
        MountKind::Proc => b"proc",
        MountKind::Sysfs => b"sysfs",
        MountKind::Tmpfs { .. } | MountKind::Dev => b"tmpfs",
        MountKind::Devpts { .. } => b"devpts",
        MountKind::Mqueue => b"mqueue",
        MountKind::Cgroup => b"cgroup",
        MountKind::Bind { .. } => b"none",
    }
}

/// Mounts are private unless the configuration says otherwise: there is no master outside of the sandbox.
fn propagate(namespace: &MountNamespace, mount: Arc<Mount>, flags: ConfigFlags) {
    if flags.contains(ConfigFlags::SHARED) {
        namespace.set_propagation(&[mount], Propagation::Shared);
    } else if flags.contains(ConfigFlags::UNBINDABLE) {
        namespace.set_propagation(&[mount], Propagation::Unbindable);
    }
}

fn mount_flags(flags: ConfigFlags) -> MountFlags {
    let mut result = MountFlags::empty();
    for (config, flag) in [
        (ConfigFlags::READ_ONLY, MountFlags::RDONLY),
        (ConfigFlags::NO_SUID, MountFlags::NOSUID),
        (ConfigFlags::NO_DEV, MountFlags::NODEV),
        (ConfigFlags::NO_EXEC, MountFlags::NOEXEC),
        (ConfigFlags::NO_ATIME, MountFlags::NOATIME),
    ] {
        result.set(flag, flags.contains(config));
    }
    result
}
