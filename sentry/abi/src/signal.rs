//! Signals: numbers, sets, `siginfo_t`, `struct sigaction`, `stack_t` (`signal(7)`, `sigaction(2)`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! signals {
    ($($name:ident = $n:literal),* $(,)?) => {
        #[allow(missing_docs, reason = "the names are those of signal(7)")]
        impl Signal { $(pub const $name: Self = Self($n);)* }
        const NAMES: &[(u8, &str)] = &[$(($n, stringify!($name))),*];
    };
}

/// A signal number, `1..=64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

signals! {
    SIGHUP = 1, SIGINT = 2, SIGQUIT = 3, SIGILL = 4, SIGTRAP = 5, SIGABRT = 6, SIGBUS = 7, SIGFPE = 8, SIGKILL = 9,
    SIGUSR1 = 10, SIGSEGV = 11, SIGUSR2 = 12, SIGPIPE = 13, SIGALRM = 14, SIGTERM = 15, SIGSTKFLT = 16,
    SIGCHLD = 17, SIGCONT = 18, SIGSTOP = 19, SIGTSTP = 20, SIGTTIN = 21, SIGTTOU = 22, SIGURG = 23, SIGXCPU = 24,
    SIGXFSZ = 25, SIGVTALRM = 26, SIGPROF = 27, SIGWINCH = 28, SIGIO = 29, SIGPWR = 30, SIGSYS = 31, SIGRTMIN = 32,
    SIGRTMAX = 64,
}

impl Signal {
    /// The signal with this number, or `None` where Linux has none.
    #[must_use]
    pub const fn new(number: i32) -> Option<Self> {
        if number >= 1 && number <= 64 { Some(Self(number as u8)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// True for signals that queue (`SIGRTMIN` and above, as the kernel counts).
    #[must_use]
    pub const fn is_realtime(self) -> bool {
        self.0 >= 32
    }

    /// The name, such as `SIGINT`, or `SIGRT` for real-time signals.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(n, _)| *n == self.0).map_or("SIGRT", |(_, s)| s)
    }
}

/// A set of signals: bit `n - 1` is signal `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct SigSet(pub u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// What cannot be blocked.
    pub const UNBLOCKABLE: Self = Self::of(Signal::SIGKILL).with(Signal::SIGSTOP);
    /// Signals that stop a process by default.
    pub const STOP: Self =
        Self::of(Signal::SIGSTOP).with(Signal::SIGTSTP).with(Signal::SIGTTIN).with(Signal::SIGTTOU);
    /// Signals raised by the instruction that runs; delivered before others.
    pub const SYNCHRONOUS: Self = Self::of(Signal::SIGSEGV)
        .with(Signal::SIGBUS)
        .with(Signal::SIGILL)
        .with(Signal::SIGTRAP)
        .with(Signal::SIGFPE)
        .with(Signal::SIGSYS);

    /// The set of one signal.
    #[must_use]
    pub const fn of(signal: Signal) -> Self {
        Self(1 << (signal.0 - 1))
    }

    /// This set and `signal`.
    #[must_use]
    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | Self::of(signal).0)
    }

    /// True where `signal` is in the set.
    #[must_use]
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & Self::of(signal).0 != 0
    }

    /// Both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// True where no signal is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The signal with the lowest number.
    #[must_use]
    pub fn lowest(self) -> Option<Signal> {
        if self.0 == 0 { None } else { Signal::new(self.0.trailing_zeros() as i32 + 1) }
    }
}

/// `siginfo_t`: a header and a union that depends on signal and code.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigInfo {
    /// `si_signo`.
    pub signo: i32,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    pad: i32,
    /// The union, in 8-byte words.
    pub fields: [u64; 14],
}

impl core::fmt::Debug for SigInfo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SigInfo {{ signo: {}, code: {}, .. }}", self.signo, self.code)
    }
}

/// `si_code` values (`sigaction(2)`).
#[allow(missing_docs, reason = "the names are those of sigaction(2)")]
pub mod si_code {
    pub const SI_USER: i32 = 0;
    pub const SI_KERNEL: i32 = 0x80;
    pub const SI_QUEUE: i32 = -1;
    pub const SI_TIMER: i32 = -2;
    pub const SI_MESGQ: i32 = -3;
    pub const SI_SIGIO: i32 = -5;
    pub const SI_TKILL: i32 = -6;
    pub const CLD_EXITED: i32 = 1;
    pub const CLD_KILLED: i32 = 2;
    pub const CLD_DUMPED: i32 = 3;
    pub const CLD_TRAPPED: i32 = 4;
    pub const CLD_STOPPED: i32 = 5;
    pub const CLD_CONTINUED: i32 = 6;
    pub const SEGV_MAPERR: i32 = 1;
    pub const SEGV_ACCERR: i32 = 2;
    pub const BUS_ADRERR: i32 = 2;
}

/// Two 32-bit halves in one word of the union, low half first in memory.
const fn pack(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

impl SigInfo {
    /// A signal without further information.
    #[must_use]
    pub fn new(signal: Signal, code: i32) -> Self {
        Self { signo: signal.number(), errno: 0, code, pad: 0, fields: [0; 14] }
    }

    /// Sent by a process (`si_pid`, `si_uid`).
    #[must_use]
    pub fn from_process(signal: Signal, code: i32, pid: i32, uid: u32) -> Self {
        let mut info = Self::new(signal, code);
        info.fields[0] = pack(pid.cast_unsigned(), uid);
        info
    }

    /// A child changed state (`si_pid`, `si_uid`, `si_status`, `si_utime`, `si_stime`).
    #[must_use]
    pub fn child(signal: Signal, code: i32, pid: i32, uid: u32, status: i32, utime: u64, stime: u64) -> Self {
        let mut info = Self::from_process(signal, code, pid, uid);
        info.fields[1] = pack(status.cast_unsigned(), 0);
        info.fields[2] = utime;
        info.fields[3] = stime;
        info
    }

    /// A fault at an address (`si_addr`).
    #[must_use]
    pub fn fault(signal: Signal, code: i32, addr: u64) -> Self {
        let mut info = Self::new(signal, code);
        info.fields[0] = addr;
        info
    }

    /// A POSIX timer expired (`si_timerid`, `si_overrun`, `si_value`).
    #[must_use]
    pub fn timer(signal: Signal, id: i32, overrun: i32, value: u64) -> Self {
        let mut info = Self::new(signal, si_code::SI_TIMER);
        info.fields[0] = pack(id.cast_unsigned(), overrun.cast_unsigned());
        info.fields[1] = value;
        info
    }

    /// A file is ready (`si_band`, `si_fd`).
    #[must_use]
    pub fn poll(signal: Signal, code: i32, band: u64, fd: i32) -> Self {
        let mut info = Self::new(signal, code);
        info.fields[0] = band;
        info.fields[1] = pack(fd.cast_unsigned(), 0);
        info
    }

    /// Whether the union has `si_pid` and `si_uid` (Linux's `has_si_pid_and_uid`).
    #[must_use]
    pub fn names_process(&self) -> bool {
        match self.code {
            si_code::SI_TIMER | si_code::SI_SIGIO => false,
            ..=0 => true,
            code => self.signo == Signal::SIGCHLD.number() && code <= si_code::CLD_CONTINUED,
        }
    }

    /// The same from another process or user.
    #[must_use]
    pub fn naming(mut self, pid: i32, uid: u32) -> Self {
        self.fields[0] = pack(pid.cast_unsigned(), uid);
        self
    }

    /// `si_pid`, where the union has it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        (self.fields[0] as u32).cast_signed()
    }

    /// `si_uid`, where the union has it.
    #[must_use]
    pub fn uid(&self) -> u32 {
        (self.fields[0] >> 32) as u32
    }
}

/// `SIG_DFL`.
pub const SIG_DFL: u64 = 0;
/// `SIG_IGN`.
pub const SIG_IGN: u64 = 1;

/// `sa_flags` (`sigaction(2)`).
#[allow(missing_docs, reason = "the names are those of sigaction(2)")]
pub mod sa {
    pub const NOCLDSTOP: u64 = 1;
    pub const NOCLDWAIT: u64 = 2;
    pub const SIGINFO: u64 = 4;
    pub const UNSUPPORTED: u64 = 0x400;
    pub const RESTORER: u64 = 0x0400_0000;
    pub const ONSTACK: u64 = 0x0800_0000;
    pub const RESTART: u64 = 0x1000_0000;
    pub const NODEFER: u64 = 0x4000_0000;
    pub const RESETHAND: u64 = 0x8000_0000;
}

/// The kernel's `struct sigaction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigAction {
    /// `SIG_DFL`, `SIG_IGN` or a guest address.
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Signals blocked while the handler runs.
    pub mask: SigSet,
}

/// `stack_t` (`sigaltstack(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackT {
    /// The lowest address.
    pub sp: u64,
    /// `SS_*`.
    pub flags: i32,
    pad: i32,
    /// The size in bytes.
    pub size: u64,
}

impl StackT {
    /// `SS_ONSTACK`.
    pub const ONSTACK: i32 = 1;
    /// `SS_DISABLE`.
    pub const DISABLE: i32 = 2;
    /// `SS_AUTODISARM`.
    pub const AUTODISARM: i32 = i32::MIN;
    /// The smallest stack that is accepted.
    pub const MINSIGSTKSZ: u64 = 2048;

    /// No alternate stack.
    pub const DISABLED: Self = Self { sp: 0, flags: Self::DISABLE, pad: 0, size: 0 };

    /// A stack with flags.
    #[must_use]
    pub const fn new(sp: u64, flags: i32, size: u64) -> Self {
        Self { sp, flags, pad: 0, size }
    }

    /// True where `sp` points into the stack.
    #[must_use]
    pub fn contains(&self, sp: u64) -> bool {
        // As `__on_sig_stack`: the stack grows down, so the top is inside and the lowest address is not.
        self.flags & Self::DISABLE == 0 && sp > self.sp && sp - self.sp <= self.size
    }
}
