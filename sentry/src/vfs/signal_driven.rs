//! Signal-driven I/O (`fcntl(2)`: `O_ASYNC`, `F_SETOWN`, `F_SETSIG`; `socket(7)`: `SIGIO`, `SIGURG`).
//!
//! An open file description that has an owner observes its own readiness and turns what it hears into signals. What a wait
//! queue says is a hint; it is held against the state of the file before anybody gets a signal for it.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sentry_abi::signal::{SigInfo, Signal, si_code};

use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::task::{Credentials, Task, ThreadGroup, Tid, Uid};
use crate::vfs::dir_notify::{DirEvents, DirRequests};
use crate::vfs::{Fd, FdTableId, File};
use crate::wait::{Observer, Readiness, WaitId};

/// Who gets the signals.
#[derive(Debug, Clone, Default)]
enum Owner {
    /// Nobody.
    #[default]
    Nobody,
    /// One thread.
    Thread(Weak<Task>),
    /// A process.
    Process(Weak<ThreadGroup>),
    /// A process group.
    Group(Tid),
}

/// An owner as `F_SETOWN_EX` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerName {
    /// `F_OWNER_TID`.
    Thread(i32),
    /// `F_OWNER_PID`.
    Process(i32),
    /// `F_OWNER_PGRP`.
    Group(i32),
}

impl OwnerName {
    /// The owner that the argument of `F_SETOWN` names: a process, or a negative process group.
    ///
    /// # Errors
    /// `EINVAL` for the number that has no positive one.
    pub fn from_signed(number: i32) -> Result<Self, Errno> {
        if number >= 0 {
            return Ok(Self::Process(number));
        }
        number.checked_neg().map(Self::Group).ok_or(Errno::EINVAL)
    }

    /// The same with another number.
    #[must_use]
    pub fn map(self, number: impl FnOnce(i32) -> i32) -> Self {
        match self {
            Self::Thread(id) => Self::Thread(number(id)),
            Self::Process(id) => Self::Process(number(id)),
            Self::Group(id) => Self::Group(number(id)),
        }
    }

    /// As `F_GETOWN` shows it.
    #[must_use]
    pub fn signed(self) -> i32 {
        match self {
            Self::Thread(id) | Self::Process(id) => id,
            Self::Group(id) => -id,
        }
    }
}

/// The signals of one open file description.
#[derive(Debug)]
pub struct SignalDriven {
    kernel: Weak<Kernel>,
    file: Weak<File>,
    settings: Mutex<Settings>,
    registration: Mutex<Option<WaitId>>,
    /// What is to be told of the directory that it is.
    directory: DirRequests,
}

#[derive(Debug, Clone, Default)]
struct Settings {
    owner: Owner,
    /// The kind of owner that was named last, which stays when there is nobody.
    kind: Kind,
    /// Of whoever named the owner: signals go where they could have sent them.
    uid: Uid,
    euid: Uid,
    /// `F_SETSIG`; zero is `SIGIO` without details.
    signal: i32,
    /// `O_ASYNC`.
    is_async: bool,
    /// The descriptor by which the flag was set.
    fd: i32,
    /// Something could not be written or connected at once: when it can, that is told.
    waits_for_space: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    Thread,
    #[default]
    Process,
    Group,
}

/// Why a signal is sent (`sigaction(2)`, `SIGPOLL`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    In = 1,
    Out = 2,
    Message = 3,
    Error = 4,
    Priority = 5,
    HangUp = 6,
}

impl Reason {
    /// `si_band`: the events of poll(2) that it stands for (Linux's `band_table`).
    fn band(self) -> u64 {
        match self {
            Self::In => 0x41,
            Self::Out => 0x304,
            Self::Message => 0x441,
            Self::Error => 0x8,
            Self::Priority => 0x82,
            Self::HangUp => 0x18,
        }
    }
}

impl SignalDriven {
    pub(super) fn new(kernel: &Arc<Kernel>, file: &Arc<File>) -> Arc<Self> {
        Arc::new(Self {
            kernel: Arc::downgrade(kernel),
            file: Arc::downgrade(file),
            settings: Mutex::default(),
            registration: Mutex::new(None),
            directory: DirRequests::default(),
        })
    }

    /// Names the owner (`F_SETOWN`, `F_SETOWN_EX`); zero is nobody.
    ///
    /// # Errors
    /// `ESRCH` where there is no such thread, process or group.
    pub fn set_owner(self: &Arc<Self>, name: OwnerName, creds: &Credentials) -> Result<(), Errno> {
        let kernel = self.kernel.upgrade().ok_or(Errno::ESRCH)?;
        let owner = {
            let tree = kernel.tree();
            match name {
                OwnerName::Thread(0) | OwnerName::Process(0) | OwnerName::Group(0) => Some(Owner::Nobody),
                OwnerName::Thread(id) => tree.thread(Tid(id)).map(|task| Owner::Thread(Arc::downgrade(task))),
                OwnerName::Process(id) => {
                    tree.process(Tid(id)).map(|process| Owner::Process(Arc::downgrade(&process.group)))
                }
                OwnerName::Group(id) => tree.group_members(Tid(id)).next().map(|_| Owner::Group(Tid(id))),
            }
        };
        let owner = owner.ok_or(Errno::ESRCH)?;
        {
            let mut settings = self.settings.lock();
            settings.owner = owner;
            settings.kind = match name {
                OwnerName::Thread(_) => Kind::Thread,
                OwnerName::Process(_) => Kind::Process,
                OwnerName::Group(_) => Kind::Group,
            };
            (settings.uid, settings.euid) = (creds.uid, creds.euid);
        }
        self.observe();
        Ok(())
    }

    /// Whether somebody was named, living or not.
    pub fn has_owner(&self) -> bool {
        !matches!(self.settings.lock().owner, Owner::Nobody)
    }

    /// The owner; the number is zero for nobody and for what has ended.
    #[must_use]
    pub fn owner(&self) -> OwnerName {
        let Settings { owner, kind, .. } = self.settings.lock().clone();
        let id = self.kernel.upgrade().map_or(0, |kernel| {
            let tree = kernel.tree();
            let id = match owner {
                Owner::Nobody => None,
                Owner::Thread(task) => {
                    task.upgrade().filter(|task| tree.thread(task.tid()).is_some()).map(|task| task.tid())
                }
                Owner::Process(group) => {
                    let group = group.upgrade();
                    group.filter(|group| tree.process(group.pid()).is_some()).map(|group| group.pid())
                }
                Owner::Group(id) => tree.group_members(id).next().map(|_| id),
            };
            id.map_or(0, |Tid(id)| id)
        });
        match kind {
            Kind::Thread => OwnerName::Thread(id),
            Kind::Process => OwnerName::Process(id),
            Kind::Group => OwnerName::Group(id),
        }
    }

    /// Sets the signal that is sent in place of `SIGIO` (`F_SETSIG`); zero is `SIGIO`.
    pub fn set_signal(&self, number: i32) {
        self.settings.lock().signal = number;
    }

    /// See [`set_signal`](Self::set_signal).
    #[must_use]
    pub fn signal(&self) -> i32 {
        self.settings.lock().signal
    }

    /// `O_ASYNC` was set or cleared by way of `fd`.
    pub fn set_async(self: &Arc<Self>, on: bool, fd: Fd) {
        {
            let mut settings = self.settings.lock();
            settings.is_async = on;
            if on {
                settings.fd = fd.0;
            }
        }
        self.observe();
    }

    /// A write or a connection has to wait: the file's owner hears when it can go on (Linux's `SOCK_NOSPACE`).
    pub fn note_full(&self) {
        self.settings.lock().waits_for_space = true;
        // It may have become true in between.
        self.notify(Readiness::OUT);
    }

    /// Asks for signals about what happens in the directory (`F_NOTIFY`), by way of `fd` of `table`.
    pub fn watch_directory(self: &Arc<Self>, table: FdTableId, fd: Fd, events: DirEvents) {
        if let Some(file) = self.file.upgrade() {
            self.directory.add(self, file.inode(), table, fd, events);
        }
    }

    /// Ends that, for one table.
    pub fn unwatch_directory(&self, table: FdTableId) {
        self.directory.end(table);
    }

    /// Something that was asked for has happened in the directory.
    pub(super) fn tell_of_directory(&self, fd: Fd) {
        let settings = Settings { fd: fd.0, ..self.settings.lock().clone() };
        self.send_io(&settings, Reason::Message);
    }

    /// Ends the observation, when the file is closed.
    pub(super) fn close(&self, file: &File) {
        if let Some(id) = self.registration.lock().take() {
            file.ops().unregister(id);
        }
    }

    /// Observes what there may be signals for.
    fn observe(self: &Arc<Self>) {
        let Some(file) = self.file.upgrade() else { return };
        let interest = match &*self.settings.lock() {
            Settings { is_async: true, .. } => Readiness::all(),
            // Urgent data needs no flag.
            Settings { owner: Owner::Thread(_) | Owner::Process(_) | Owner::Group(_), .. } => Readiness::PRI,
            Settings { owner: Owner::Nobody, .. } => Readiness::empty(),
        };
        let mut registration = self.registration.lock();
        if let Some(old) = registration.take() {
            file.ops().unregister(old);
        }
        if !interest.is_empty() {
            *registration = file.ops().register(interest, Arc::clone(self) as Arc<dyn Observer>);
        }
    }

    /// Sends the file's signal for a reason (Linux's `send_sigio`).
    fn send_io(&self, settings: &Settings, reason: Reason) {
        let queued = Signal::new(settings.signal).map(|signal| {
            // "Linux extended these si_codes to other signals in a way that is ambiguous if other signals also have
            // signal specific si_codes."
            let is_ambiguous = HAS_CODES.contains(&signal);
            let code = if is_ambiguous { si_code::SI_SIGIO } else { reason as i32 };
            (signal, SigInfo::poll(signal, code, reason.band(), settings.fd))
        });
        self.each_target(settings, |target| {
            let is_sent = queued.is_some_and(|(signal, info)| target.send(signal, info).is_ok());
            if !is_sent {
                // "If ... the queue of pending signals is full": SIGIO tells that something was lost.
                let _ = target.send(Signal::SIGIO, SigInfo::new(Signal::SIGIO, si_code::SI_KERNEL));
            }
        });
    }

    fn each_target(&self, settings: &Settings, send: impl Fn(&Target)) {
        let Some(kernel) = self.kernel.upgrade() else { return };
        let targets: Vec<Target> = {
            let tree = kernel.tree();
            match &settings.owner {
                Owner::Nobody => Vec::new(),
                Owner::Thread(task) => task.upgrade().map(Target::Thread).into_iter().collect(),
                Owner::Process(group) => {
                    let process = group.upgrade().and_then(|group| tree.process(group.pid()));
                    process.map(Target::of).into_iter().collect()
                }
                Owner::Group(id) => tree.group_members(*id).map(Target::of).collect(),
            }
        };
        for target in &targets {
            if settings.may_signal(target.task()) {
                send(target);
            }
        }
    }
}

impl Settings {
    /// Linux's `sigio_perm`.
    fn may_signal(&self, target: &Task) -> bool {
        let theirs = target.creds();
        let is_same = |id: Uid| id == theirs.suid || id == theirs.uid;
        self.euid == Uid(0) || is_same(self.euid) || is_same(self.uid)
    }
}

impl Observer for SignalDriven {
    fn notify(&self, ready: Readiness) {
        let Some(file) = self.file.upgrade() else { return };
        let mut settings = self.settings.lock().clone();
        if !settings.is_async && !ready.contains(Readiness::PRI) {
            return;
        }
        let ready = ready & file.ops().readiness(&file);
        if ready.contains(Readiness::PRI) {
            let info = SigInfo::new(Signal::SIGURG, si_code::SI_KERNEL);
            self.each_target(&settings, |target| {
                let _ = target.send(Signal::SIGURG, info);
            });
            // "Don't send SIGURG to processes which have not set a queued signum".
            if settings.is_async && settings.signal != 0 {
                self.send_io(&settings, Reason::Priority);
            }
        }
        if !settings.is_async {
            return;
        }
        if ready.contains(Readiness::ERR) {
            self.send_io(&settings, Reason::Error);
        } else if ready.contains(Readiness::HUP) {
            self.send_io(&settings, Reason::HangUp);
        } else if ready.contains(Readiness::IN) {
            self.send_io(&settings, Reason::In);
        }
        if ready.contains(Readiness::OUT) && settings.waits_for_space {
            settings.waits_for_space = false;
            let was_waiting = std::mem::take(&mut self.settings.lock().waits_for_space);
            if was_waiting && !ready.intersects(Readiness::ALWAYS) {
                self.send_io(&settings, Reason::Out);
            }
        }
    }
}

/// Where a signal goes.
enum Target {
    Thread(Arc<Task>),
    Process(Arc<ThreadGroup>, Arc<Task>),
}

impl Target {
    fn of(process: &crate::kernel::Process) -> Self {
        Self::Process(Arc::clone(&process.group), Arc::clone(&process.leader))
    }

    fn task(&self) -> &Task {
        match self {
            Self::Thread(task) | Self::Process(_, task) => task,
        }
    }

    fn send(&self, signal: Signal, info: SigInfo) -> Result<(), Errno> {
        match self {
            Self::Thread(task) => task.send_signal(signal, info),
            Self::Process(group, _) => group.send_signal(signal, info),
        }
    }
}

/// The signals with codes of their own, but `SIGPOLL` (Linux's `SIG_SPECIFIC_SICODES_MASK`).
const HAS_CODES: [Signal; 7] = [
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGTRAP,
    Signal::SIGCHLD,
    Signal::SIGSYS,
];
