//! `/proc/PID/mounts`, `mountinfo`, `mountstats`.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::errno::Errno;
use crate::task::Task;
use crate::vfs::{DeviceId, FsContext, GroupId, Mount, MountFlags, Shown, VfsPath};

/// `fstab(5)` form.
pub(super) fn mounts(task: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    let mut out = String::new();
    for (mount, place) in visible(task) {
        let fs = mount.superblock().fs();
        let (source, kind) = (escape(mount.source()), fs.type_name());
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{source} {place} {kind} {} 0 0", options(&mount));
    }
    Ok(out.into_bytes())
}

/// `proc_pid_mountinfo(5)`.
pub(super) fn mountinfo(task: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    let mut out = String::new();
    let context = task.fs();
    for (mount, place) in visible(task) {
        let fs = mount.superblock().fs();
        let device = DeviceId::decode(mount.superblock().device());
        let parent = mount.mount_point().map_or(mount.id().0, |p| p.mount.id().0);
        let root = escape(&mount.root().path_in_fs());
        let (source, kind) = (escape(mount.source()), fs.type_name());
        let is_read_only = mount.flags().contains(MountFlags::RDONLY) || fs.is_read_only();
        let ro = if is_read_only { "ro" } else { "rw" };
        let own = fs.show_options();
        let separator = if own.is_empty() { "" } else { "," };
        let _ = writeln!(
            out,
            "{} {parent} {}:{} {root} {place} {}{} - {kind} {source} {ro}{separator}{own}",
            mount.id().0,
            device.major,
            device.minor,
            flags(&mount),
            propagation(&context, &mount),
        );
    }
    Ok(out.into_bytes())
}

/// `proc_pid_mountstats(5)`.
pub(super) fn mountstats(task: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    let mut out = String::new();
    for (mount, place) in visible(task) {
        let kind = mount.superblock().fs().type_name();
        let _ = writeln!(out, "device {} mounted on {place} with fstype {kind}", escape(mount.source()));
    }
    Ok(out.into_bytes())
}

/// The optional fields (`proc_pid_mountinfo(5)`).
fn propagation(context: &FsContext, mount: &Mount) -> String {
    let (namespace, root) = (context.namespace(), context.root());
    let Shown { group, master, is_unbindable } = namespace.propagation(mount);
    let mut text = group.map_or_else(String::new, |GroupId(group)| format!(" shared:{group}"));
    if let Some(GroupId(master)) = master {
        let _ = write!(text, " master:{master}");
        let in_sight = |peer: &Arc<Mount>| {
            let is_ours = peer.namespace().is_some_and(|of| Arc::ptr_eq(&of, &namespace));
            is_ours && peer.root_path().text(&root).is_reachable
        };
        let near = namespace.dominating(mount, in_sight).filter(|near| near.0 != master);
        if let Some(GroupId(near)) = near {
            let _ = write!(text, " propagate_from:{near}");
        }
    }
    if is_unbindable {
        text.push_str(" unbindable");
    }
    text
}

/// The mounts that can be reached from the task's root, with their places.
fn visible(task: &Task) -> Vec<(Arc<Mount>, String)> {
    let fs = task.fs();
    let root = fs.root();
    let mut found = Vec::new();
    for mount in fs.namespace().mounts() {
        let text = VfsPath::new(mount.clone(), mount.root().clone()).text(&root);
        if text.is_reachable {
            found.push((mount, escape(&text.path)));
        }
    }
    found
}

fn flags(mount: &Mount) -> String {
    let flags = mount.flags();
    let mut text = String::from(if flags.contains(MountFlags::RDONLY) { "ro" } else { "rw" });
    let names = [
        (MountFlags::NOSUID, "nosuid"),
        (MountFlags::NODEV, "nodev"),
        (MountFlags::NOEXEC, "noexec"),
        (MountFlags::NOATIME, "noatime"),
        (MountFlags::NODIRATIME, "nodiratime"),
    ];
    for (flag, name) in names {
        if flags.contains(flag) {
            text.push(',');
            text.push_str(name);
        }
    }
    if !flags.contains(MountFlags::NOATIME) {
        text.push_str(",relatime");
    }
    text
}

fn options(mount: &Mount) -> String {
    let fs = mount.superblock().fs();
    let own = fs.show_options();
    let separator = if own.is_empty() { "" } else { "," };
    let flags = flags(mount);
    // One word for the mount and the file system.
    let flags = if fs.is_read_only() { flags.replacen("rw", "ro", 1) } else { flags };
    format!("{flags}{separator}{own}")
}

/// Blanks, tabs, newlines and backslashes in octal, as `getmntent(3)` reads them.
fn escape(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => out.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            other => out.push(*other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
