//! The stack-wide settings of TCP: what Linux keeps in `net.ipv4.tcp_*`, with Linux's defaults.

use super::congestion::Algorithm;
use super::fast_open::{FastOpenKeys, FastOpenModes};
use core::time::Duration;

/// Settings shared by the connections of a stack. Immutable once shared; a change makes a new value for new connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// `tcp_rmem`: receive buffer, in bytes of memory; about half of it is offered as window.
    pub receive_buffer: BufferSizes,
    /// `tcp_wmem`: send buffer, in bytes.
    pub send_buffer: BufferSizes,
    /// `tcp_moderate_rcvbuf`: grow the receive buffer with the measured rate.
    pub tune_receive_buffer: bool,
    /// `tcp_sack`: offer and accept selective acknowledgments.
    pub sack: bool,
    /// `tcp_dsack`: report duplicates (RFC 2883).
    pub dsack: bool,
    /// `tcp_timestamps`: offer and accept timestamps (RFC 7323).
    pub timestamps: bool,
    /// `tcp_window_scaling`.
    pub window_scaling: bool,
    /// `tcp_ecn`.
    pub ecn: EcnMode,
    /// `tcp_congestion_control`.
    pub congestion: Algorithm,
    /// The initial window in segments (RFC 6928).
    pub initial_window: u32,
    /// `tcp_slow_start_after_idle`: restart from the initial window after an idle RTO (RFC 5681 section 4.1).
    pub slow_start_after_idle: bool,
    /// RTO before the first measurement (RFC 6298 section 2.1).
    pub rto_initial: Duration,
    /// The smallest RTO (`tcp_rto_min_us`). RFC 6298 section 2.4 says 1 s; Linux's default is 200 ms.
    pub rto_min: Duration,
    /// The largest RTO (`tcp_rto_max_ms`).
    pub rto_max: Duration,
    /// `tcp_thin_linear_timeouts`: no backoff of the first timeouts of streams with little in flight.
    pub thin_linear_timeouts: bool,
    /// `tcp_syn_retries`.
    pub syn_retries: u8,
    /// `tcp_syn_linear_timeouts`: so many SYNs more, sent before the backoff begins.
    pub syn_linear_timeouts: u8,
    /// `tcp_synack_retries`.
    pub synack_retries: u8,
    /// `tcp_retries2`: timeouts before an established connection is given up, as a time with exponential backoff.
    pub retries: u8,
    /// `tcp_orphan_retries`: the same once the user has closed; 0 means 8.
    pub orphan_retries: u8,
    /// `tcp_keepalive_time`.
    pub keepalive_idle: Duration,
    /// `tcp_keepalive_intvl`.
    pub keepalive_interval: Duration,
    /// `tcp_keepalive_probes`.
    pub keepalive_probes: u8,
    /// `tcp_fin_timeout`: how long an orphan stays in FIN-WAIT-2.
    pub fin_timeout: Duration,
    /// How long TIME-WAIT lasts; 60 s in Linux, where it cannot be set.
    pub time_wait: Duration,
    /// `TCP_DELACK_MIN`.
    pub delayed_ack_min: Duration,
    /// `TCP_DELACK_MAX`.
    pub delayed_ack_max: Duration,
    /// `tcp_invalid_ratelimit`: at most one ACK for invalid segments per this time and connection.
    pub challenge_ack_interval: Duration,
    /// `tcp_reordering`: the first guess of the reordering degree, in segments.
    pub reordering: u8,
    /// `tcp_early_retrans`: tail loss probes (RFC 8985 section 7).
    pub tail_loss_probe: bool,
    /// `tcp_recovery`: RACK loss detection (RFC 8985 section 6); otherwise RFC 6675.
    pub rack: bool,
    /// `tcp_frto`: detect spurious timeouts (RFC 5682).
    pub frto: bool,
    /// The smallest segment size used for sending, whatever the peer asks (Linux's `TCP_MIN_SND_MSS`).
    pub min_mss: u16,
    /// `tcp_mtu_probing`: whether to find out by probes how large segments may be (RFC 4821).
    pub mtu_probing: MtuProbing,
    /// `tcp_base_mss`: the size at which the search begins.
    pub base_mss: u16,
    /// `tcp_probe_threshold`: how close the bounds of the search come.
    pub mtu_probe_threshold: u16,
    /// `tcp_probe_interval`: how long what was found holds before larger sizes are tried again.
    pub mtu_probe_interval: Duration,
    /// `tcp_mtu_probe_floor`: the smallest one.
    pub black_hole_floor: u16,
    /// `tcp_syncookies`.
    pub syn_cookies: SynCookies,
    /// Which rules a full listener follows.
    pub listen_rules: ListenRules,
    /// `tcp_abort_on_overflow`: answer the final ACK to a full accept queue with RST.
    pub abort_on_overflow: bool,
    /// `tcp_fastopen`: who may put data into a SYN.
    pub fast_open: FastOpenModes,
    /// `tcp_fastopen_key`: the keys of listeners' cookies; none means that the stack makes them up.
    pub fast_open_keys: Option<FastOpenKeys>,
    /// `tcp_notsent_lowat`: unsent bytes below which the connection is writable.
    pub not_sent_low_water: u32,
    /// `tcp_rfc1337`: RST does not end TIME-WAIT. Linux has it off, which lets old duplicates assassinate it.
    pub time_wait_ignores_reset: bool,
}

impl Config {
    /// How long an ACK waits at most: where the smallest RTO is set lower than the longest delay, the peer's is taken to be
    /// as low (Linux's `tcp_delack_max`).
    pub(super) fn delayed_ack_limit(&self) -> Duration {
        match self.rto_min {
            min if min < self.delayed_ack_max => min.saturating_sub(TICK).max(TICK),
            _ => self.delayed_ack_max,
        }
    }
}

/// A `tcp_rmem`-like triple in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BufferSizes {
    /// The least that `setsockopt` or pressure can leave.
    pub min: u32,
    /// What a new connection starts with.
    pub default: u32,
    /// How far auto-tuning goes.
    pub max: u32,
}

/// How to use ECN (RFC 3168), numbered as `tcp_ecn`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EcnMode {
    /// 0: never.
    Off,
    /// 1: ask for it and accept it.
    On,
    /// 2: accept it when asked.
    Passive,
}

/// When to search for the path's MTU, numbered as `tcp_mtu_probing`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MtuProbing {
    /// 0: never; what routers say counts.
    Off,
    /// 1: once a path swallows large segments without a word (RFC 4821 section 7.7).
    BlackHole,
    /// 2: from the start.
    Always,
}

/// When a listener answers with a SYN cookie, numbered as `tcp_syncookies`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SynCookies {
    /// 0: never; SYNs beyond the queue are dropped.
    Off,
    /// 1: when the queue of half-open connections is full.
    WhenNeeded,
    /// 2: for each SYN.
    Always,
}

/// What a listener with full queues does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenRules {
    /// As Linux today: the accept queue holds backlog + 1; while it is full, SYNs are dropped.
    Linux,
    /// The rules of May 2019: the accept queue holds exactly the backlog; a SYN is dropped only if the accept queue is
    /// full and as many connections are half open.
    Seed2019,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            receive_buffer: BufferSizes { min: 4 << 10, default: 128 << 10, max: 32 << 20 },
            send_buffer: BufferSizes { min: 4 << 10, default: 16 << 10, max: 4 << 20 },
            tune_receive_buffer: true,
            sack: true,
            dsack: true,
            timestamps: true,
            window_scaling: true,
            ecn: EcnMode::Passive,
            congestion: Algorithm::Cubic,
            initial_window: 10,
            slow_start_after_idle: true,
            rto_initial: Duration::from_secs(1),
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(120),
            thin_linear_timeouts: false,
            syn_retries: 6,
            syn_linear_timeouts: 4,
            synack_retries: 5,
            retries: 15,
            orphan_retries: 0,
            keepalive_idle: Duration::from_secs(7200),
            keepalive_interval: Duration::from_secs(75),
            keepalive_probes: 9,
            fin_timeout: Duration::from_secs(60),
            time_wait: Duration::from_secs(60),
            delayed_ack_min: Duration::from_millis(40),
            delayed_ack_max: Duration::from_millis(200),
            challenge_ack_interval: Duration::from_millis(500),
            reordering: 3,
            tail_loss_probe: true,
            rack: true,
            frto: true,
            min_mss: 48,
            mtu_probing: MtuProbing::Off,
            base_mss: 1024,
            mtu_probe_threshold: 8,
            mtu_probe_interval: Duration::from_secs(600),
            black_hole_floor: 48,
            syn_cookies: SynCookies::WhenNeeded,
            listen_rules: ListenRules::Linux,
            abort_on_overflow: false,
            fast_open: FastOpenModes::CLIENT,
            fast_open_keys: None,
            not_sent_low_water: u32::MAX,
            time_wait_ignores_reset: true,
        }
    }
}

/// What Linux takes off: one of its timer's ticks (at 250 Hz).
const TICK: Duration = Duration::from_millis(4);
