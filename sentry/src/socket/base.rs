//! What every socket has, whatever its family: identity, owner, and the options of `socket(7)` that act above the
//! protocols.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sentry_abi::socket::{MsgFlags, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM, Ucred};

use crate::errno::Errno;
use crate::kernel::KTime;
use crate::task::CurrentTask;

/// The type of a socket (`socket(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketType {
    /// `SOCK_STREAM`.
    Stream,
    /// `SOCK_DGRAM`.
    Datagram,
    /// `SOCK_RAW`.
    Raw,
    /// `SOCK_SEQPACKET`.
    SeqPacket,
}

impl SocketType {
    /// The number in `socket(2)`.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Stream => SOCK_STREAM,
            Self::Datagram => SOCK_DGRAM,
            Self::Raw => SOCK_RAW,
            Self::SeqPacket => SOCK_SEQPACKET,
        }
    }
}

bitflags::bitflags! {
    /// The switches of `socket(7)` that need nothing but a bit.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Switches: u32 {
        /// `SO_PASSCRED`.
        const PASS_CREDENTIALS = 1;
        /// `SO_TIMESTAMP`.
        const TIMESTAMP = 1 << 1;
        /// `SO_TIMESTAMPNS`; excludes the one above.
        const TIMESTAMP_NS = 1 << 2;
        /// The times are told as `SO_TIMESTAMP_NEW` and its like say.
        const TIMESTAMP_NEW = 1 << 14;
        /// There are flags of `SO_TIMESTAMPING`.
        const TIMESTAMPING = 1 << 15;
        /// `TCP_REPAIR`.
        const REPAIR = 1 << 16;
        /// `SO_PASSPIDFD`.
        const PASS_PROCESS = 1 << 18;
        /// `SO_RXQ_OVFL`.
        const TELLS_DROPS = 1 << 17;
        /// `SO_PASSRIGHTS` is off: nobody can send descriptors here.
        const REFUSES_RIGHTS = 1 << 19;
        /// `SO_INQ`.
        const TELLS_QUEUED = 1 << 20;
        /// `SO_RCVMARK`.
        const TELLS_MARKS = 1 << 21;
        /// `SO_RCVPRIORITY`.
        const TELLS_PRIORITIES = 1 << 22;
        /// `SO_OOBINLINE`.
        const OOB_INLINE = 1 << 3;
        /// `SO_KEEPALIVE`.
        const KEEP_ALIVE = 1 << 4;
        /// `SO_DEBUG`: a hint, kept.
        const DEBUG = 1 << 5;
        /// `SO_LINGER` is on.
        const LINGER = 1 << 7;
        /// `SO_REUSEADDR`.
        const REUSE_ADDRESS = 1 << 10;
        /// `SO_REUSEPORT`.
        const REUSE_PORT = 1 << 11;
        /// `SO_BROADCAST`.
        const BROADCAST = 1 << 12;
        /// `SO_LOCK_FILTER`.
        const FILTER_LOCKED = 1 << 13;
    }
}

/// Identity, owner and generic options of a socket.
///
/// The atomics are independent values, so relaxed ordering is enough.
#[derive(Debug)]
pub struct SocketBase {
    /// `AF_*`.
    pub family: u16,
    /// The type.
    pub kind: SocketType,
    /// The protocol number as `SO_PROTOCOL` reports it.
    pub protocol: i32,
    /// Who made it.
    pub owner: Ucred,
    /// The user it belongs to: who made it, or to whom it was given (fchown(2)).
    user: AtomicU32,
    ino: AtomicU64,
    switches: AtomicU32,
    /// Nanoseconds, 0 for none.
    recv_timeout: AtomicU64,
    send_timeout: AtomicU64,
    recv_low_water: AtomicI32,
    priority: AtomicI32,
    linger_seconds: AtomicI32,
    /// `SO_PEEK_OFF`; negative for none.
    peek_offset: AtomicI32,
    /// The number of what ended `recvmmsg(2)` behind its first message; 0 for nothing.
    late_error: AtomicI32,
    /// Options that are kept and shown, and have no effect, by level and number.
    kept: Mutex<Vec<((i32, i32), i32)>>,
}

impl SocketBase {
    /// A socket owned by `owner`.
    #[must_use]
    pub fn new(family: u16, kind: SocketType, protocol: i32, owner: Ucred) -> Self {
        Self {
            family,
            kind,
            protocol,
            user: AtomicU32::new(owner.uid),
            owner,
            ino: AtomicU64::new(0),
            switches: AtomicU32::new(0),
            recv_timeout: AtomicU64::new(0),
            send_timeout: AtomicU64::new(0),
            recv_low_water: AtomicI32::new(1),
            priority: AtomicI32::new(0),
            linger_seconds: AtomicI32::new(0),
            peek_offset: AtomicI32::new(-1),
            late_error: AtomicI32::new(0),
            kept: Mutex::default(),
        }
    }

    /// The user it belongs to (`sk_uid`).
    #[must_use]
    pub fn user(&self) -> u32 {
        self.user.load(Ordering::Relaxed)
    }

    /// Gives it to a user.
    pub fn set_user(&self, user: u32) {
        self.user.store(user, Ordering::Relaxed);
    }

    /// The identity for a connection that this listening socket accepts: it inherits the options (`accept(2)`).
    #[must_use]
    pub fn inherit(&self) -> Self {
        let new = Self::new(self.family, self.kind, self.protocol, self.owner);
        new.set_user(self.user());
        // unix_create: what a local stream tells of itself is its own.
        new.switches.store((self.switches() - Switches::TELLS_QUEUED).bits(), Ordering::Relaxed);
        for (to, from) in [(&new.recv_timeout, &self.recv_timeout), (&new.send_timeout, &self.send_timeout)] {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        new.set_recv_low_water(self.recv_low_water());
        new.set_priority(self.priority());
        new.set_linger_seconds(self.linger_seconds());
        new.kept.lock().clone_from(&self.kept.lock());
        new
    }

    /// What the socket keeps for an option of a level and a number.
    #[must_use]
    pub fn kept(&self, option: (i32, i32)) -> Option<i32> {
        self.kept.lock().iter().find(|(of, _)| *of == option).map(|(_, value)| *value)
    }

    /// Keeps `value` for an option.
    pub fn keep(&self, option: (i32, i32), value: i32) {
        let mut kept = self.kept.lock();
        match kept.iter_mut().find(|(of, _)| *of == option) {
            Some((_, old)) => *old = value,
            None => kept.push((option, value)),
        }
    }

    /// The inode number, zero before it has a file.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.ino.load(Ordering::Relaxed)
    }

    /// Names the inode, once.
    pub fn set_ino(&self, ino: u64) {
        self.ino.store(ino, Ordering::Relaxed);
    }

    /// The switches that are on.
    #[must_use]
    pub fn switches(&self) -> Switches {
        Switches::from_bits_retain(self.switches.load(Ordering::Relaxed))
    }

    /// True where `switch` is on.
    #[must_use]
    pub fn has(&self, switch: Switches) -> bool {
        self.switches().contains(switch)
    }

    /// Turns `switch` on or off.
    pub fn set(&self, switch: Switches, on: bool) {
        if on {
            self.switches.fetch_or(switch.bits(), Ordering::Relaxed);
        } else {
            self.switches.fetch_and(!switch.bits(), Ordering::Relaxed);
        }
    }

    /// `SO_RCVTIMEO`; zero is none.
    #[must_use]
    pub fn recv_timeout(&self) -> Duration {
        Duration::from_nanos(self.recv_timeout.load(Ordering::Relaxed))
    }

    /// Sets `SO_RCVTIMEO`.
    pub fn set_recv_timeout(&self, timeout: Duration) {
        self.recv_timeout.store(nanos(timeout), Ordering::Relaxed);
    }

    /// `SO_SNDTIMEO`; zero is none.
    #[must_use]
    pub fn send_timeout(&self) -> Duration {
        Duration::from_nanos(self.send_timeout.load(Ordering::Relaxed))
    }

    /// Sets `SO_SNDTIMEO`.
    pub fn set_send_timeout(&self, timeout: Duration) {
        self.send_timeout.store(nanos(timeout), Ordering::Relaxed);
    }

    /// `SO_RCVLOWAT`.
    #[must_use]
    pub fn recv_low_water(&self) -> i32 {
        self.recv_low_water.load(Ordering::Relaxed)
    }

    /// Sets `SO_RCVLOWAT`.
    pub fn set_recv_low_water(&self, bytes: i32) {
        self.recv_low_water.store(bytes, Ordering::Relaxed);
    }

    /// `SO_PRIORITY`.
    #[must_use]
    pub fn priority(&self) -> i32 {
        self.priority.load(Ordering::Relaxed)
    }

    /// Sets `SO_PRIORITY`.
    pub fn set_priority(&self, priority: i32) {
        self.priority.store(priority, Ordering::Relaxed);
    }

    /// `SO_PEEK_OFF`: how much of what waits was peeked at; negative if nobody wants to know.
    #[must_use]
    pub fn peek_offset(&self) -> i32 {
        self.peek_offset.load(Ordering::Relaxed)
    }

    /// Sets `SO_PEEK_OFF`.
    pub fn set_peek_offset(&self, bytes: i32) {
        self.peek_offset.store(bytes, Ordering::Relaxed);
    }

    /// Keeps an error for the next call (recvmmsg(2) BUGS; Linux's `sk_err`).
    pub(crate) fn set_late_error(&self, error: Errno) {
        self.late_error.store(error.code().into(), Ordering::Relaxed);
    }

    /// Whether an error waits for the next call.
    pub(crate) fn has_late_error(&self) -> bool {
        self.late_error.load(Ordering::Relaxed) != 0
    }

    /// Takes the error that an earlier call has kept.
    pub(crate) fn take_late_error(&self) -> Option<Errno> {
        if !self.has_late_error() {
            return None;
        }
        Errno::from_code(self.late_error.swap(0, Ordering::Relaxed))
    }

    /// How many bytes a call with these flags passes over.
    #[must_use]
    pub fn peek_skip(&self, flags: MsgFlags) -> Option<usize> {
        if !flags.contains(MsgFlags::PEEK) {
            return None;
        }
        usize::try_from(self.peek_offset()).ok()
    }

    /// Moves the offset on by what was peeked at, and back by what was taken away (`sk_peek_offset_fwd` and `_bwd`).
    pub fn note_received(&self, flags: MsgFlags, bytes: usize) {
        let offset = self.peek_offset();
        if offset >= 0 {
            let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
            self.set_peek_offset(match flags.contains(MsgFlags::PEEK) {
                true => offset.saturating_add(bytes),
                false => offset.saturating_sub(bytes).max(0),
            });
        }
    }

    /// The time of `SO_LINGER`, whether it is on or not.
    #[must_use]
    pub fn linger_seconds(&self) -> i32 {
        self.linger_seconds.load(Ordering::Relaxed)
    }

    /// Sets the time of `SO_LINGER`.
    pub fn set_linger_seconds(&self, seconds: i32) {
        self.linger_seconds.store(seconds, Ordering::Relaxed);
    }
}

/// When a wait that begins now and may last `timeout` ends; `None` for a timeout of zero, which is none.
#[must_use]
pub fn deadline(task: &CurrentTask, timeout: Duration) -> Option<KTime> {
    (!timeout.is_zero()).then(|| task.kernel().clocks().monotonic().saturating_add(nanos(timeout)))
}

/// The task as `SCM_CREDENTIALS` and `SO_PEERCRED` name it: its process and its effective ids.
#[must_use]
pub fn credentials_of(task: &CurrentTask) -> Ucred {
    let creds = task.creds();
    Ucred { pid: task.pid().0, uid: creds.euid.0, gid: creds.egid.0 }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
