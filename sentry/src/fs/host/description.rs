//! One open file of the host.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};
use parking_lot::Mutex;
use sentry_hostio::tty;

use crate::fs::host::control::HostTerminal;
use crate::host_events::Watched;
use crate::vfs::OpenFlags;

/// What kind of file it is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It has a position, and is always ready.
    Regular,
    /// Bytes come and go.
    Stream,
    /// A stream with attributes.
    Terminal,
}

/// Who is told by the host's kernel of the keys of a terminal that are signals.
pub(crate) trait KeySignals: Send + Sync {
    /// Has the signals of keys that were pressed so far sent to whom they are for, and tells how many there were.
    fn settle(&self) -> usize;
}

/// An open file of the host, with those who wait for it.
pub(crate) struct Description {
    file: Watched<OwnedFd>,
    kind: Kind,
    /// Device and inode of the file: which terminal it is, however often it was opened.
    identity: (u64, u64),
    /// Its number in the guest's `/dev/pts`, where it is a terminal that has one.
    number: OnceLock<u32>,
    /// Who controls it, where it is a terminal that controls a session. Weak: the session holds it.
    control: Mutex<Weak<HostTerminal>>,
    /// Where the signals of its keys come from, where it is a terminal whose keys somebody passes on.
    keys: OnceLock<Arc<dyn KeySignals>>,
}

impl Description {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Arc<Self>> {
        let stat = fstat(&fd)?;
        let mode = SFlag::from_bits_truncate(stat.st_mode);
        let kind = match mode & SFlag::S_IFMT {
            SFlag::S_IFREG | SFlag::S_IFBLK => Kind::Regular,
            _ if tty::is_terminal(&fd) => Kind::Terminal,
            _ => Kind::Stream,
        };
        Ok(Arc::new(Self {
            file: Watched::new(fd),
            kind,
            identity: (stat.st_dev, stat.st_ino),
            number: OnceLock::new(),
            control: Mutex::default(),
            keys: OnceLock::new(),
        }))
    }

    /// The terminal as sessions hold it.
    pub(super) fn control(self: &Arc<Self>) -> Arc<HostTerminal> {
        let mut control = self.control.lock();
        if let Some(terminal) = control.upgrade() {
            return terminal;
        }
        let terminal = HostTerminal::new(self.clone());
        *control = Arc::downgrade(&terminal);
        terminal
    }

    /// True where both are the same terminal.
    pub(crate) fn is_same_terminal(&self, other: &Self) -> bool {
        self.kind == Kind::Terminal && other.kind == Kind::Terminal && self.identity == other.identity
    }

    /// Its number in the guest's `/dev/pts`.
    pub(crate) fn number(&self) -> Option<u32> {
        self.number.get().copied()
    }

    /// Numbers the terminal, once.
    pub(crate) fn set_number(&self, number: u32) {
        self.number.get_or_init(|| number);
    }

    /// Says who passes on the signals of the terminal's keys, once.
    pub(super) fn set_keys(&self, keys: Arc<dyn KeySignals>) {
        self.keys.get_or_init(|| keys);
    }

    /// Has the signals of keys that were pressed so far sent, and tells how many there were.
    pub(super) fn settle_keys(&self) -> usize {
        self.keys.get().map_or(0, |keys| keys.settle())
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.get().as_fd()
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The descriptor with those who wait for it.
    pub(super) fn watched(&self) -> &Watched<OwnedFd> {
        &self.file
    }

    /// Access mode and status flags with which the host has the file open.
    pub(super) fn flags(&self) -> io::Result<OpenFlags> {
        let flags = OFlag::from_bits_retain(fcntl(self.file.get(), FcntlArg::F_GETFL)?);
        let mut result = match flags & OFlag::O_ACCMODE {
            OFlag::O_WRONLY => OpenFlags::WRONLY,
            OFlag::O_RDWR => OpenFlags::RDWR,
            _ => OpenFlags::empty(),
        };
        for (host, guest) in [
            (OFlag::O_APPEND, OpenFlags::APPEND),
            (OFlag::O_NONBLOCK, OpenFlags::NONBLOCK),
            (OFlag::O_PATH, OpenFlags::PATH),
        ] {
            result.set(guest, flags.contains(host));
        }
        Ok(result | OpenFlags::LARGEFILE)
    }
}
