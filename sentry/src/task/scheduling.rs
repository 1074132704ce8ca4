//! Scheduling attributes (`sched(7)`). They are kept and reported; the host's scheduler decides.

/// Policy, priorities and CPU mask of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduling {
    /// `SCHED_OTHER` (0), `SCHED_FIFO` (1), `SCHED_RR` (2), `SCHED_BATCH` (3), `SCHED_IDLE` (5).
    pub policy: i32,
    /// The static priority of the real-time policies.
    pub priority: i32,
    /// The nice value, -20 to 19.
    pub nice: i32,
    /// `SCHED_RESET_ON_FORK`.
    pub reset_on_fork: bool,
    /// The CPUs that the thread may run on.
    pub cpus: CpuMask,
}

/// A set of CPUs, at most 1024 (`CPU_SETSIZE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuMask(pub [u64; 16]);

impl CpuMask {
    /// The first `n` CPUs.
    #[must_use]
    pub fn first(n: usize) -> Self {
        let mut mask = [0; 16];
        for cpu in 0..n.min(1024) {
            mask[cpu / 64] |= 1 << (cpu % 64);
        }
        Self(mask)
    }

    /// What both have.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        let mut mask = self.0;
        for (a, b) in mask.iter_mut().zip(other.0) {
            *a &= b;
        }
        Self(mask)
    }

    /// True where there is no CPU.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    /// How many CPUs there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.iter().map(|w| w.count_ones()).sum()
    }
}

impl Scheduling {
    /// `SCHED_OTHER` on `cpus` CPUs.
    #[must_use]
    pub fn new(cpus: usize) -> Self {
        Self { policy: 0, priority: 0, nice: 0, reset_on_fork: false, cpus: CpuMask::first(cpus) }
    }

    /// What a child inherits.
    #[must_use]
    pub fn for_child(&self) -> Self {
        if self.reset_on_fork {
            let cpus = self.cpus;
            return Self { policy: 0, priority: 0, nice: self.nice.max(0), reset_on_fork: false, cpus };
        }
        self.clone()
    }
}

/// How many CPUs the sandbox shows: those that the sentry may use.
#[must_use]
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
