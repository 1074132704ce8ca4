//! Settings of a network namespace that concern its sockets rather than its stack (`/proc/sys/net`).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;

/// The settings, each a value of its own that later calls follow (hence the relaxed loads and stores).
#[derive(Debug)]
pub struct Settings {
    /// Longest accept queue (`net.core.somaxconn`).
    pub(crate) somaxconn: Number,
    /// Largest `SO_RCVBUF` that can be asked for (`net.core.rmem_max`).
    pub(crate) receive_max: Number,
    /// Largest `SO_SNDBUF` (`net.core.wmem_max`).
    pub(crate) send_max: Number,
    /// `SO_RCVBUF` of new sockets that are not TCP's (`net.core.rmem_default`).
    pub(crate) receive_default: Number,
    /// `SO_SNDBUF` of new sockets that are not TCP's (`net.core.wmem_default`).
    pub(crate) send_default: Number,
    /// First port that needs no privilege (`net.ipv4.ip_unprivileged_port_start`).
    pub(crate) unprivileged_port_start: Number,
    /// How many datagrams of strangers wait in a local inbox; one more is let in, as in Linux
    /// (`net.unix.max_dgram_qlen`).
    pub(crate) local_datagrams: Number,
    /// Whether sockets bind to addresses that are not ours (`net.ipv4.ip_nonlocal_bind`).
    binds_anywhere: AtomicBool,
    /// Groups that may have ping sockets, first and last; none where the first is greater
    /// (`net.ipv4.ping_group_range`).
    ping_groups: Mutex<(u32, u32)>,
}

impl Settings {
    /// Whether sockets bind to addresses that are not ours.
    pub(crate) fn binds_anywhere(&self) -> bool {
        self.binds_anywhere.load(Ordering::Relaxed)
    }

    /// Changes whether sockets bind to addresses that are not ours.
    pub(crate) fn set_binds_anywhere(&self, on: bool) {
        self.binds_anywhere.store(on, Ordering::Relaxed);
    }

    /// The first and the last group that may have ping sockets.
    pub(crate) fn ping_groups(&self) -> (u32, u32) {
        *self.ping_groups.lock()
    }

    /// Changes the groups that may have ping sockets.
    pub(crate) fn set_ping_groups(&self, first: u32, last: u32) {
        *self.ping_groups.lock() = (first, last);
    }
}

impl Default for Settings {
    /// As of a new namespace of Linux 6.18, but for ping sockets, which all groups get as on today's distributions, and
    /// for the larger maxima of the host.
    fn default() -> Self {
        Self {
            somaxconn: Number::new(4096),
            receive_max: Number::new(DEFAULT_MAX),
            send_max: Number::new(DEFAULT_MAX),
            receive_default: Number::new(DEFAULT_BUFFER),
            send_default: Number::new(DEFAULT_BUFFER),
            unprivileged_port_start: Number::new(1024),
            local_datagrams: Number::new(10),
            binds_anywhere: AtomicBool::new(false),
            ping_groups: Mutex::new((0, i32::MAX.unsigned_abs())),
        }
    }
}

/// One number.
#[derive(Debug)]
pub(crate) struct Number(AtomicU32);

impl Number {
    fn new(value: u32) -> Self {
        Self(AtomicU32::new(value))
    }

    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// `net.core.wmem_max` and `rmem_max` (Linux 6.18).
const DEFAULT_MAX: u32 = 4 << 20;
/// `net.core.rmem_default`: what sockets have from the start.
pub(crate) const DEFAULT_BUFFER: u32 = 212_992;
