//! How a stack is described before it exists.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::clock::Clock;
use crate::stack::{Core, Stack};
use crate::tcp;

/// Describes a stack; made by [`Stack::builder`].
#[derive(Debug, Clone)]
pub struct StackBuilder {
    has_manual_clock: bool,
    has_loopback: bool,
    seed: Option<u64>,
    tcp_config: tcp::Config,
    ephemeral_ports: RangeInclusive<u16>,
}

impl StackBuilder {
    pub(crate) fn new() -> Self {
        Self {
            has_manual_clock: false,
            has_loopback: true,
            seed: None,
            tcp_config: tcp::Config::default(),
            ephemeral_ports: EPHEMERAL_PORTS,
        }
    }

    /// Time starts at zero and moves by [`Stack::advance_to`] only.
    pub fn manual_clock(mut self) -> Self {
        self.has_manual_clock = true;
        self
    }

    /// Makes secrets and random choices follow from `seed`, so that a run can be repeated. Never for production: who
    /// knows the seed can guess sequence numbers. Without it they come from the operating system.
    pub fn deterministic(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Leaves out the loopback NIC, which otherwise is made first, as `lo` with 127.0.0.1/8 and ::1/128.
    pub fn without_loopback(mut self) -> Self {
        self.has_loopback = false;
        self
    }

    /// The TCP settings to start with.
    pub fn tcp_config(mut self, config: tcp::Config) -> Self {
        self.tcp_config = config;
        self
    }

    /// The range that ports are picked from; 32768 to 60999, as in Linux, if not set.
    pub fn ephemeral_ports(mut self, range: RangeInclusive<u16>) -> Self {
        self.ephemeral_ports = range;
        self
    }

    /// Makes the stack.
    pub fn build(self) -> Stack {
        let clock = match self.has_manual_clock {
            true => Clock::Manual(0.into()),
            false => Clock::Monotonic(std::time::Instant::now()),
        };
        let core = Core {
            clock,
            topology: Default::default(),
            tcp_config: parking_lot::RwLock::new(Arc::new(self.tcp_config)),
        };
        Stack { core: Arc::new(core) }
    }
}

/// Linux's `net.ipv4.ip_local_port_range`.
const EPHEMERAL_PORTS: RangeInclusive<u16> = 32_768..=60_999;
