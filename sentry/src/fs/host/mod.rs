//! Descriptors of the host as files of the guest: the standard streams that a sandbox is started with.
//!
//! The open file stays shared with whoever else has it outside, with its position and, for a terminal, its
//! attributes. Its flags are never changed: a guest that asks for `O_NONBLOCK` gets it for its own description only.

mod control;
mod description;
mod file;
mod inode;
mod terminal;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use sentry_hostio::nowait;

use crate::errno::Errno;
use crate::kernel::Terminal;
use crate::task::{Task, Tid};
use crate::vfs::{File, FileOps, Inode, OpenFlags, VfsPath};

pub(crate) use description::{Description, KeySignals};

/// Makes guest files of host descriptors. Descriptors that are one open file outside are one inside.
///
/// # Errors
/// The errors of fstat(2) and fcntl(2).
pub fn import(fds: Vec<OwnedFd>) -> io::Result<Vec<Arc<File>>> {
    let mut imported: Vec<(Arc<Description>, Arc<File>)> = Vec::new();
    let mut files = Vec::new();
    for fd in fds {
        let known = imported.iter().find(|(description, _)| nowait::is_same_file(description.fd(), &fd));
        let file = match known {
            Some((_, file)) => file.clone(),
            None => {
                let description = Description::new(fd)?;
                let file = file::open(&description)?;
                imported.push((description, file.clone()));
                file
            }
        };
        files.push(file);
    }
    Ok(files)
}

/// Says who passes on the signals of the keys of the terminals among imported `files`.
pub(crate) fn set_keys(files: &[Arc<File>], keys: &Arc<dyn KeySignals>) {
    for terminal in files.iter().filter_map(|file| file.downcast::<file::HostFile>()?.terminal()) {
        terminal.set_keys(keys.clone());
    }
}

/// Opens an imported descriptor again, by way of `/proc/PID/fd/N`; `None` for any other inode.
pub(crate) fn reopen(inode: &Inode) -> Option<Result<Box<dyn FileOps>, Errno>> {
    let inode = inode.downcast::<inode::HostInode>()?;
    Some(Ok(Box::new(file::HostFile::new(inode.description().clone()))))
}

/// The same open files, with every terminal among them at the place that `place` gives it.
pub(crate) fn place_terminals(
    files: Vec<Arc<File>>,
    mut place: impl FnMut(&Arc<Description>) -> Option<VfsPath>,
) -> Vec<Arc<File>> {
    let mut placed: Vec<(Arc<File>, Arc<File>)> = Vec::new();
    files
        .into_iter()
        .map(|file| {
            if let Some((_, new)) = placed.iter().find(|(old, _)| Arc::ptr_eq(old, &file)) {
                return new.clone();
            }
            let terminal = file.downcast::<file::HostFile>().and_then(file::HostFile::terminal);
            let Some((terminal, at)) = terminal.and_then(|it| Some((it.clone(), place(it)?))) else {
                return file;
            };
            let new = File::at(Box::new(file::HostFile::new(terminal)), file.flags(), at);
            placed.push((file, new.clone()));
            new
        })
        .collect()
}

/// Opens an imported terminal by its name in `/dev/pts`. A session leader without a terminal gets it as its
/// controlling one, unless `flags` say otherwise.
pub(crate) fn open_terminal(
    description: &Arc<Description>,
    task: Option<&Task>,
    flags: OpenFlags,
) -> Box<dyn FileOps> {
    if !flags.contains(OpenFlags::NOCTTY)
        && let Some(task) = task
    {
        // It is no error if the caller cannot have it.
        let _ = control::acquire(description, task);
    }
    Box::new(file::HostFile::new(description.clone()))
}

/// The number in `/dev/pts` of a session's terminal, where it is an imported one.
pub(crate) fn number(terminal: &dyn Terminal) -> Option<u32> {
    let any: &dyn std::any::Any = terminal;
    any.downcast_ref::<control::HostTerminal>()?.description().number()
}

/// Makes an imported terminal the controlling one of `task`, which leads a session; anything else stays what it is.
pub(crate) fn adopt_terminal(file: &File, task: &Task) {
    if let Some(description) = file.downcast::<file::HostFile>().and_then(file::HostFile::terminal) {
        control::adopt(description, task);
    }
}

/// True for an imported terminal.
pub(crate) fn is_terminal(file: &File) -> bool {
    file.downcast::<file::HostFile>().and_then(file::HostFile::terminal).is_some()
}

/// Opens `/dev/tty` where the session's terminal is an imported one.
pub(crate) fn open_controlling(terminal: &dyn Terminal) -> Option<Box<dyn FileOps>> {
    let any: &dyn std::any::Any = terminal;
    let terminal = any.downcast_ref::<control::HostTerminal>()?;
    Some(Box::new(file::HostFile::new(terminal.description().clone())))
}

/// The foreground process group of a terminal, where it is an imported one.
pub(crate) fn foreground(terminal: &dyn Terminal) -> Option<Tid> {
    let any: &dyn std::any::Any = terminal;
    any.downcast_ref::<control::HostTerminal>()?.foreground()
}

/// Whether the size of a terminal is another one than at the last call; true for one that is no imported terminal.
pub(crate) fn take_size_change(terminal: &dyn Terminal) -> bool {
    let any: &dyn std::any::Any = terminal;
    any.downcast_ref::<control::HostTerminal>().is_none_or(control::HostTerminal::take_size_change)
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
