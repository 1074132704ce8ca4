//! The stack: interfaces, addresses, routes, sockets and time put together.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::sync::{BriefMutex, Mutex, RwLock};
use bytes::Bytes;
use netstack_wire::ip::Protocol;

use crate::clock::Clock;
use crate::fast_open_cache::FastOpenCache;
use crate::filter::FilterCell;
use crate::flow_table::FlowTable;
use crate::gauges::Gauges;
use crate::ip::{self, IpOutput, PmtuCache, RateLimiter, ReassemblyShell};
use crate::ip_config::IpConfig;
use crate::nic::NicId;
use crate::options::{Family, SocketOptions};
use crate::outbox::Outbox;
use crate::packet::Packet;
use crate::pool::Pool;
use crate::port_table::PortTable;
use crate::secret::Secrets;
use crate::socket::{DatagramEndpoint, PacketSockets, RawSockets};
use crate::stats::{PerThread, StackCounters, StackStats};
use crate::tcp::{self, SeedGenerator};
use crate::tcp_endpoint::{ListenEndpoint, TcpEndpoint};
use crate::time::Instant;
use crate::timer::TimerQueue;
use crate::topology::TopologyCell;

mod address;
mod autoconf;
mod builder;
mod control;
mod routing;

pub use builder::StackBuilder;

/// A TCP/IP stack. Cheap to clone; all clones are the same stack, which lives as long as a clone or a socket does.
///
/// # Threads
/// A stack has no threads. The thread that reads a link calls [`deliver`](Self::deliver), which carries each frame to
/// its socket, answers it and notifies observers before it returns. A socket call transmits on its caller's thread.
/// Somebody calls [`run_timers`](Self::run_timers) when [`next_deadline`](Self::next_deadline) has come: a
/// [`Driver`](crate::Driver) thread, an event loop, or a test through [`advance_to`](Self::advance_to).
///
/// # Manual mode
/// With [`StackBuilder::manual_clock`] the stack never reads a clock: time moves by `advance_to` only and everything is
/// deterministic. The code that runs is the same.
#[derive(Clone)]
pub struct Stack {
    pub(crate) core: Arc<Core>,
}

/// What all handles share.
pub(crate) struct Core {
    pub(crate) clock: Clock,
    pub(crate) topology: TopologyCell,
    pub(crate) timers: TimerQueue,
    pub(crate) secrets: Secrets,
    pub(crate) counters: PerThread<StackCounters>,
    pub(crate) filter: FilterCell,
    pub(crate) pmtu: PmtuCache,
    pub(crate) ways: ip::Ways,
    pub(crate) icmp_limiter: RateLimiter,
    pub(crate) redirects: Arc<ip::Redirects>,
    pub(crate) reassembly_v4: Arc<ReassemblyShell>,
    pub(crate) reassembly_v6: Arc<ReassemblyShell>,
    pub(crate) multicast_v4: Arc<ip::MulticastForwarding>,
    pub(crate) multicast_v6: Arc<ip::MulticastForwarding>,
    pub(crate) ip_config: RwLock<IpConfig>,
    /// That of `ip_config`, for every packet to read.
    pub(crate) default_ttl: AtomicU8,
    /// Those of `ip_config` in one word.
    pub(crate) flow_label_settings: AtomicU8,
    /// The counter of RFC 6056 section 3.3.3.
    pub(crate) next_port: AtomicU32,
    pub(crate) tcp: FlowTable<TcpEndpoint>,
    pub(crate) tcp_ports: PortTable<ListenEndpoint>,
    /// Some TCP socket has, or had, a program to look at its packets, or a limit to how far they may have come.
    pub(crate) filters_streams: AtomicBool,
    /// Whether a listener ever kept SYNs (`TCP_SAVE_SYN`).
    pub(crate) saves_syns: AtomicBool,
    pub(crate) tcp_config: BriefMutex<Arc<tcp::Config>>,
    pub(crate) seeds: SeedGenerator,
    /// Of servers that our connections may send data to in their SYNs.
    pub(crate) fast_open: FastOpenCache,
    pub(crate) udp: PortTable<DatagramEndpoint>,
    pub(crate) ping: PortTable<DatagramEndpoint>,
    pub(crate) raw: RawSockets,
    pub(crate) packet_sockets: PacketSockets,
    /// Blocks that socket data is copied into.
    pub(crate) send_pool: Arc<Pool>,
    /// Duplicate detections under way.
    detections: Mutex<Vec<Arc<ip::Detection>>>,
    /// Who looks after which IPv4 address.
    pub(crate) guards: Mutex<HashMap<(NicId, Ipv4Addr), Arc<ip::AddressGuard>>>,
    next_ident: AtomicU32,
    next_member: AtomicU64,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl Core {
    /// The TTL of IPv4 packets for which nobody asked for another.
    pub(crate) fn default_ttl(&self) -> u8 {
        // A value of its own: who changed it knows when it counts.
        self.default_ttl.load(Ordering::Relaxed)
    }

    /// Whether an echo request of the family goes unanswered.
    pub(crate) fn ignores_echo(&self, is_v4: bool) -> bool {
        let config = self.ip_config.read();
        if is_v4 { config.ignores_echo_v4 } else { config.ignores_echo_v6 }
    }

    /// What [`ip::flow_label::pack`] made of the settings.
    pub(crate) fn flow_labels(&self) -> u8 {
        // A value of its own, as the TTL.
        self.flow_label_settings.load(Ordering::Relaxed)
    }

    /// The multicast routing of a family.
    pub(crate) fn multicast_forwarding(&self, family: Family) -> &Arc<ip::MulticastForwarding> {
        match family {
            Family::V4 => &self.multicast_v4,
            Family::V6 => &self.multicast_v6,
        }
    }

    /// The ports to pick from.
    ///
    /// A socket's own limits count if they are within (Linux's `inet_sk_get_local_port_range`).
    pub(crate) fn ephemeral_ports(&self, options: &SocketOptions) -> RangeInclusive<u16> {
        let all = self.ip_config.read().ephemeral_ports.clone();
        let (first, last) = options.port_range;
        let first = if all.contains(&first) { first } else { *all.start() };
        let last = if all.contains(&last) { last } else { *all.end() };
        if first <= last { first..=last } else { all }
    }

    /// The identification of a packet that may be fragmented on its way. RFC 7739: unpredictable to those who see
    /// other flows, by a keyed hash per pair of hosts, and a counter.
    pub(crate) fn next_ident(&self, output: &IpOutput) -> u16 {
        // The low half.
        (self.next_fragment_ident(output) & 0xffff) as u16
    }

    /// A number for a new membership; zero is the stack itself.
    pub(crate) fn next_member(&self) -> ip::MemberId {
        ip::MemberId(self.next_member.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The same with 32 bits, for IPv6.
    pub(crate) fn next_fragment_ident(&self, output: &IpOutput) -> u32 {
        self.next_fragment_ident_for(output.source, output.destination, output.protocol)
    }

    /// The same, field by field.
    pub(crate) fn next_fragment_ident_for(
        &self,
        source: IpAddr,
        destination: IpAddr,
        protocol: Protocol,
    ) -> u32 {
        let count = self.next_ident.fetch_add(1, Ordering::Relaxed);
        let hash = self.secrets.hash_pair(source, destination, u64::from(protocol.0));
        // The low half of the hash.
        ((hash & 0xffff_ffff) as u32).wrapping_add(count)
    }
}

impl Stack {
    /// Starts to describe a stack.
    pub fn builder() -> StackBuilder {
        StackBuilder::new()
    }

    /// The stack's time.
    pub fn now(&self) -> Instant {
        self.core.clock.now()
    }

    /// Takes frames that arrived on a NIC: whole Ethernet frames or IP packets, as its medium says.
    ///
    /// Empties `frames`. Give what is there as one batch: acknowledgments and wake-ups are merged over it. A frame's
    /// buffer is kept as long as its payload waits to be read, so it should not be much larger than the frame.
    pub fn deliver(&self, nic: NicId, frames: &mut Vec<Packet>) {
        let mut outbox = Outbox::default();
        ip::input(&self.core, nic, frames, &mut outbox);
        outbox.flush(&self.core);
    }

    /// Takes one frame that arrived on a NIC.
    pub fn inject(&self, nic: NicId, frame: impl Into<Bytes>) {
        self.deliver(nic, &mut vec![Packet::from_frame(frame.into())]);
    }

    /// When [`run_timers`](Self::run_timers) has something to do; `None` if nothing is pending.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.core.timers.next_deadline()
    }

    /// Runs what is due now.
    pub fn run_timers(&self) {
        let now = self.now();
        let mut outbox = Outbox::default();
        // Those that become due meanwhile wait for the next call, so this ends.
        while let Some(target) = self.core.timers.pop_due(now) {
            target.on_timer(&self.core, now, &mut outbox);
        }
        outbox.flush(&self.core);
    }

    /// Manual mode: moves the time to `now`, stopping at each deadline on the way to run what is due then. Earlier
    /// times are ignored, as is the whole call when the stack has a real clock.
    pub fn advance_to(&self, now: Instant) {
        if let Clock::Monotonic(_) = self.core.clock {
            return;
        }
        while let Some(deadline) = self.next_deadline().filter(|&deadline| deadline <= now) {
            self.core.clock.set(deadline);
            self.run_timers();
        }
        self.core.clock.set(now);
    }

    /// Sets who is called when the earliest deadline moves closer, from whichever thread caused it. It must neither
    /// block nor call into the stack.
    pub fn set_timer_waker(&self, waker: Arc<dyn Fn() + Send + Sync>) {
        self.core.timers.set_waker(waker);
    }

    /// What the stack counted.
    pub fn stats(&self) -> StackStats {
        self.core.counters.snapshot()
    }

    /// What the stack holds at this moment.
    pub fn gauges(&self) -> Gauges {
        Gauges::of(&self.core)
    }

    /// The flows and states of all connections (TIME-WAIT included), in no order.
    pub fn tcp_connections(&self) -> Vec<(tcp::Flow, tcp::State)> {
        let endpoints = self.core.tcp.snapshot();
        endpoints
            .iter()
            .map(|endpoint| (endpoint.flow, endpoint.inspect(|inner| inner.machine.state())))
            .collect()
    }

    /// The state of a connection, if there is one with this flow.
    pub fn tcp_state(&self, flow: &tcp::Flow) -> Option<tcp::State> {
        let endpoint = self.core.tcp.get(&self.core.secrets, flow)?;
        Some(endpoint.inspect(|inner| inner.machine.state()))
    }

    /// The settings of the network layer.
    pub fn ip_config(&self) -> IpConfig {
        self.core.ip_config.read().clone()
    }

    /// Changes some settings of the network layer; none if `change` fails.
    pub fn change_ip_config<E>(&self, change: impl FnOnce(&mut IpConfig) -> Result<(), E>) -> Result<(), E> {
        let mut current = self.core.ip_config.write();
        let mut config = current.clone();
        change(&mut config)?;
        self.core.default_ttl.store(config.default_ttl, Ordering::Relaxed);
        self.core.flow_label_settings.store(ip::flow_label::pack(&config.flow_labels), Ordering::Relaxed);
        if config.flow_labels.reflects_streams || config.flow_labels.reflects_resets {
            // Only headers that are kept tell labels.
            self.core.saves_syns.store(true, Ordering::Relaxed);
        }
        *current = config;
        // Sockets have made headers with what was set before.
        self.core.topology.invalidate();
        Ok(())
    }

    /// The TCP settings that new connections and listeners start with.
    pub fn tcp_config(&self) -> Arc<tcp::Config> {
        Arc::clone(&self.core.tcp_config.lock())
    }

    /// Changes some TCP settings of later connections and listeners; none if `change` fails. Changes that others make at
    /// the same time are kept.
    pub fn change_tcp_config<E>(
        &self,
        change: impl FnOnce(&mut tcp::Config) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut current = self.core.tcp_config.lock();
        let mut config = (**current).clone();
        change(&mut config)?;
        *current = Arc::new(config);
        Ok(())
    }

    /// Changes the TCP settings of later connections and listeners.
    pub fn set_tcp_config(&self, config: tcp::Config) {
        *self.core.tcp_config.lock() = Arc::new(config);
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").finish_non_exhaustive()
    }
}
