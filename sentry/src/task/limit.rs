//! Resource limits (`getrlimit(2)`).

use crate::errno::Errno;

/// A limited resource, with the numbers of x86-64 Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of getrlimit(2)")]
pub enum Resource {
    Cpu = 0,
    Fsize = 1,
    Data = 2,
    Stack = 3,
    Core = 4,
    Rss = 5,
    Nproc = 6,
    Nofile = 7,
    Memlock = 8,
    As = 9,
    Locks = 10,
    Sigpending = 11,
    Msgqueue = 12,
    Nice = 13,
    Rtprio = 14,
    Rttime = 15,
}

impl Resource {
    /// All resources, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Cpu,
        Self::Fsize,
        Self::Data,
        Self::Stack,
        Self::Core,
        Self::Rss,
        Self::Nproc,
        Self::Nofile,
        Self::Memlock,
        Self::As,
        Self::Locks,
        Self::Sigpending,
        Self::Msgqueue,
        Self::Nice,
        Self::Rtprio,
        Self::Rttime,
    ];

    /// The resource with this number.
    ///
    /// # Errors
    /// `EINVAL` when there is none.
    pub fn from_number(number: u32) -> Result<Self, Errno> {
        usize::try_from(number).ok().and_then(|n| Self::ALL.get(n)).copied().ok_or(Errno::EINVAL)
    }
}

/// A soft and a hard limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The enforced value.
    pub soft: u64,
    /// The ceiling of the soft value.
    pub hard: u64,
}

impl Limit {
    /// `RLIM_INFINITY`.
    pub const INFINITY: u64 = u64::MAX;
    /// No limit.
    pub const UNLIMITED: Self = Self { soft: Self::INFINITY, hard: Self::INFINITY };

    /// The same value for both.
    #[must_use]
    pub const fn both(value: u64) -> Self {
        Self { soft: value, hard: value }
    }
}

/// The limits of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits([Limit; 16]);

impl Limits {
    /// The limit of `resource`.
    #[must_use]
    pub fn get(&self, resource: Resource) -> Limit {
        self.0[resource as usize]
    }

    /// Replaces the limit of `resource`; the caller checked the permission.
    pub fn set(&mut self, resource: Resource, limit: Limit) {
        self.0[resource as usize] = limit;
    }
}

impl Default for Limits {
    /// What Linux gives to init (`INIT_RLIMITS`), with a finite number of processes.
    fn default() -> Self {
        let mut limits = Self([Limit::UNLIMITED; 16]);
        limits.set(Resource::Stack, Limit { soft: 8 << 20, hard: Limit::INFINITY });
        limits.set(Resource::Core, Limit { soft: 0, hard: Limit::INFINITY });
        limits.set(Resource::Nofile, Limit { soft: 1024, hard: 1 << 20 });
        limits.set(Resource::Memlock, Limit::both(8 << 20));
        limits.set(Resource::Sigpending, Limit::both(31_000));
        limits.set(Resource::Nproc, Limit::both(31_000));
        limits.set(Resource::Msgqueue, Limit::both(819_200));
        limits.set(Resource::Nice, Limit::both(0));
        limits.set(Resource::Rtprio, Limit::both(0));
        limits
    }
}
