//! How a stack is described before it exists.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};

use crate::sync::{BriefMutex, Mutex, RwLock};

use crate::clock::Clock;
use crate::fast_open_cache::FastOpenCache;
use crate::filter::FilterCell;
use crate::flow_table::FlowTable;
use crate::ip::{MulticastForwarding, PmtuCache, RateLimiter, Ways, flow_label};
use crate::ip_config::IpConfig;
use crate::options::Family;
use crate::port_table::{PortTable, Sharing};
use crate::secret::Secrets;
use crate::socket::{PacketSockets, RawSockets, send_pool};
use crate::stack::{Core, Stack};
use crate::stats::PerThread;
use crate::tcp::{self, SeedGenerator};
use crate::timer::TimerQueue;
use crate::topology::TopologyCell;

/// Describes a stack; made by [`Stack::builder`].
#[derive(Debug, Clone)]
pub struct StackBuilder {
    has_manual_clock: bool,
    has_loopback: bool,
    seed: Option<u64>,
    tcp_config: tcp::Config,
    ip_config: IpConfig,
}

impl StackBuilder {
    pub(crate) fn new() -> Self {
        Self {
            has_manual_clock: false,
            has_loopback: true,
            seed: None,
            tcp_config: tcp::Config::default(),
            ip_config: IpConfig::default(),
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
        self.ip_config.ephemeral_ports = range;
        self
    }

    /// Makes the stack.
    pub fn build(self) -> Stack {
        let clock = match self.has_manual_clock {
            true => Clock::Manual(0.into()),
            false => Clock::Monotonic(std::time::Instant::now()),
        };
        let secrets = Secrets::new(self.seed);
        let core = Core {
            clock,
            topology: TopologyCell::default(),
            timers: TimerQueue::new(),
            counters: PerThread::default(),
            filter: FilterCell::new(secrets.stable_key()),
            pmtu: PmtuCache::default(),
            ways: Ways::new(),
            icmp_limiter: RateLimiter::new(),
            redirects: Arc::default(),
            reassembly_v4: Arc::default(),
            reassembly_v6: Arc::default(),
            multicast_v4: MulticastForwarding::new(Family::V4),
            multicast_v6: MulticastForwarding::new(Family::V6),
            default_ttl: AtomicU8::new(self.ip_config.default_ttl),
            flow_label_settings: AtomicU8::new(flow_label::pack(&self.ip_config.flow_labels)),
            ip_config: RwLock::new(self.ip_config),
            next_port: AtomicU32::new(0),
            tcp: FlowTable::new(),
            tcp_ports: PortTable::new(Sharing::Stream),
            filters_streams: AtomicBool::new(false),
            saves_syns: AtomicBool::new(false),
            tcp_config: BriefMutex::new(Arc::new(self.tcp_config)),
            seeds: SeedGenerator::new(secrets.secret()),
            fast_open: FastOpenCache::default(),
            udp: PortTable::new(Sharing::Datagram),
            ping: PortTable::new(Sharing::Datagram),
            raw: RawSockets::default(),
            packet_sockets: PacketSockets::default(),
            send_pool: send_pool(),
            detections: Mutex::default(),
            guards: Mutex::default(),
            next_ident: AtomicU32::new(0),
            next_member: AtomicU64::new(0),
            secrets,
        };
        let stack = Stack { core: Arc::new(core) };
        if self.has_loopback {
            stack.add_loopback();
        }
        stack
    }
}
