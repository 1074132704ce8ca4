//! Containers that join a sandbox which another one was made for: those of a pod.
//!
//! Each has mounts and a gofer of its own, and processes in a PID namespace below the sandbox's; the network is the
//! sandbox's. On the host a process stands for each, whose connection ends the container when it hangs up.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::boot::container::{Container, not_now};
use crate::boot::guest::{Donated, Guest, build};
use crate::boot::run::failed;
use crate::boot::server;
use crate::boot::{ContainerConfig, ControlError, JoinConfig, OwnNamespaces, ProcessName};
use crate::errno::Errno;
use crate::ipc::IpcNamespace;
use crate::kernel::{ContainerId, Namespaces};
use crate::task::Credentials;

/// Makes the container `name`; `fds` are as of [`Request::Join`](crate::boot::Request::Join).
pub(super) fn join(
    guest: &Guest,
    name: &str,
    config: JoinConfig,
    fds: Vec<OwnedFd>,
) -> Result<(), ControlError> {
    if !guest.first().is_started() {
        return Err(not_now("join a sandbox whose first container was not started"));
    }
    let id = {
        let mut members = guest.members.lock();
        members.last += 1;
        ContainerId(members.last)
    };
    let JoinConfig { container, own_namespaces, gofer_connections } = config;
    let first = &guest.first().surroundings().namespaces;
    let namespaces = namespaces(first, own_namespaces, &container)
        .map_err(|error| failed("namespaces of the container", &error))?;
    let donated = donated(fds, gofer_connections)?;
    let made = build(guest.kernel(), id, container, namespaces, donated)?;
    let mut members = guest.members.lock();
    if name == guest.name() || members.by_name.contains_key(name) {
        return Err(not_now(&format!("join as {name:?}, which is there already")));
    }
    members.by_name.insert(name.to_owned(), made);
    Ok(())
}

/// The file for the exit status, the connections to the gofer, and what is left for the first process.
fn donated(fds: Vec<OwnedFd>, gofer_connections: usize) -> Result<Donated, ControlError> {
    let mut fds = fds.into_iter();
    let exit_status = fds.next().map(File::from);
    let gofer: Vec<_> = fds.by_ref().take(gofer_connections).collect();
    match exit_status {
        Some(exit_status) if gofer.len() == gofer_connections && !gofer.is_empty() => {
            Ok(Donated { gofer, stdio: fds.collect(), exit_status })
        }
        _ => Err(not_now("join without the descriptors of a container")),
    }
}

/// Those of the sandbox, and new ones where the container has its own.
fn namespaces(
    first: &Arc<Namespaces>,
    own: OwnNamespaces,
    config: &ContainerConfig,
) -> Result<Arc<Namespaces>, Errno> {
    let maker = Credentials::root();
    let mut namespaces = Namespaces::clone(first);
    if own.contains(OwnNamespaces::PID) {
        namespaces.pid_for_children = first.pid_for_children.create(&maker)?;
    }
    if own.contains(OwnNamespaces::IPC) {
        namespaces.ipc = IpcNamespace::create(&maker)?;
    }
    if own.contains(OwnNamespaces::UTS) {
        let uts = first.uts.fork(&maker)?;
        if !config.hostname.is_empty() {
            uts.set_hostname(config.hostname.clone().into_bytes());
        }
        if !config.domainname.is_empty() {
            uts.set_domainname(config.domainname.clone().into_bytes());
        }
        namespaces.uts = uts;
    }
    Ok(Arc::new(namespaces))
}

/// Ends the container `name`, and forgets it. The first one ends with its process only.
pub(super) fn remove(guest: &Guest, name: &str) {
    let Some(container) = guest.members.lock().by_name.remove(name) else { return };
    container.abandon();
    // Until what it has open is closed. One that never was started has nothing to wait for.
    let _ = container.wait(ProcessName::First);
}

/// Ends the container when `attendant`, or its gofer, hangs up.
pub(super) fn end_without(container: Arc<Container>, attendant: OwnedFd) {
    server::start("container-attend", move || {
        let watched = || std::iter::once(&attendant).chain(container.gofer());
        // No events: an end that hangs up is told of anyway.
        let mut fds: Vec<_> = watched().map(|fd| PollFd::new(fd.as_fd(), PollFlags::empty())).collect();
        while let Err(nix::Error::EINTR) = poll(&mut fds, PollTimeout::NONE) {}
        container.abandon();
    });
}
