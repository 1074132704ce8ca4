//! Linux namespaces: which kinds there are, and entering one for a while.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use bitflags::bitflags;
use nix::sched::CloneFlags;

bitflags! {
    /// A set of namespace kinds (namespaces(7)).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Namespaces: i32 {
        /// User and group ids, capabilities.
        const USER = libc::CLONE_NEWUSER;
        /// Process ids.
        const PID = libc::CLONE_NEWPID;
        /// Mount table.
        const MOUNT = libc::CLONE_NEWNS;
        /// Network devices and stacks.
        const NET = libc::CLONE_NEWNET;
        /// System V IPC and POSIX message queues.
        const IPC = libc::CLONE_NEWIPC;
        /// Host name.
        const UTS = libc::CLONE_NEWUTS;
    }
}

impl Namespaces {
    /// Everything but the user namespace.
    pub const ALL_BUT_USER: Self =
        Self::PID.union(Self::MOUNT).union(Self::NET).union(Self::IPC).union(Self::UTS);
}

/// Runs `work` on a new thread that has entered the network namespace `path` and returns its result.
///
/// setns(2) changes one thread only, so a thread that ends afterwards is the one way to enter a
/// namespace that cannot leak into the rest of the process.
///
/// # Errors
/// The errors of opening `path`, of setns(2) and of `work`.
pub fn in_net_namespace<T, E>(path: &Path, work: impl FnOnce() -> Result<T, E> + Send) -> Result<T, E>
where
    T: Send,
    E: From<io::Error> + Send,
{
    let namespace = File::open(path)?;
    on_fresh_thread(move || {
        nix::sched::setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
        work()
    })
}

/// Runs `work` on a new thread that has a network namespace of its own.
///
/// The namespace lives as long as something holds it: a socket opened in it, a file of
/// `/proc/thread-self/ns/net`, a process.
///
/// # Errors
/// The errors of unshare(2) and of `work`.
pub fn in_new_net_namespace<T, E>(work: impl FnOnce() -> Result<T, E> + Send) -> Result<T, E>
where
    T: Send,
    E: From<io::Error> + Send,
{
    on_fresh_thread(move || {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
        work()
    })
}

/// Runs `work` on the calling thread, in the network namespace `path`.
///
/// For what belongs to the thread that does it, such as a child that ends with it. Other threads are not affected.
///
/// # Errors
/// The errors of opening `path`, of setns(2) and of `work`; also when there is no way back, and the thread must not
/// go on then.
pub fn while_in_net_namespace<T>(path: &Path, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = File::open("/proc/thread-self/ns/net")?;
    let other = File::open(path)?;
    nix::sched::setns(other.as_fd(), CloneFlags::CLONE_NEWNET)?;
    let result = work();
    nix::sched::setns(own.as_fd(), CloneFlags::CLONE_NEWNET)?;
    result
}

fn on_fresh_thread<T, E>(work: impl FnOnce() -> Result<T, E> + Send) -> Result<T, E>
where
    T: Send,
    E: From<io::Error> + Send,
{
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a thread in a namespace panicked").into()))
    })
}
