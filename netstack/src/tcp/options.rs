//! The settings of one socket: what `setsockopt` changes. Unset ones follow the stack's [`Config`](super::Config).

use super::config::Config;
use super::congestion::Algorithm;
use super::fast_open::FastOpenKeys;
use core::time::Duration;
use std::sync::{Arc, LazyLock};

/// The options of one connection; a listener hands its own on to what it accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// `TCP_NODELAY`: send small segments at once.
    pub no_delay: bool,
    /// `TCP_CORK`: hold partial segments back, at most 200 ms.
    pub cork: bool,
    /// `SO_KEEPALIVE`.
    pub keepalive: bool,
    /// `TCP_KEEPIDLE`.
    pub keepalive_idle: Option<Duration>,
    /// `TCP_KEEPINTVL`.
    pub keepalive_interval: Option<Duration>,
    /// `TCP_KEEPCNT`.
    pub keepalive_probes: Option<u8>,
    /// `TCP_USER_TIMEOUT`; none means the retry limits count.
    pub user_timeout: Option<Duration>,
    /// `TCP_LINGER2`.
    pub fin_wait2: FinWait2,
    /// `TCP_MAXSEG`.
    pub max_segment: Option<u16>,
    /// `TCP_WINDOW_CLAMP`.
    pub window_clamp: Option<u32>,
    /// `TCP_SYNCNT`.
    pub syn_retries: Option<u8>,
    /// `TCP_DEFER_ACCEPT`, listeners only.
    pub defer_accept: Option<Duration>,
    /// `TCP_FASTOPEN`, listeners only: how many connections may be open before their handshake is complete; none takes
    /// no data in SYNs.
    pub fast_open_queue: Option<u32>,
    /// `TCP_FASTOPEN_NO_COOKIE`: take or send data in SYNs without a cookie.
    pub fast_open_without_cookie: bool,
    /// `SO_OOBINLINE`: urgent data is read in line.
    pub urgent_inline: bool,
    /// `TCP_NOTSENT_LOWAT`.
    pub not_sent_low_water: Option<u32>,
    /// `SO_SNDBUF` as stored (doubled by the caller as Linux does); turns send auto-tuning off.
    pub send_buffer: Option<u32>,
    /// `SO_RCVBUF` as stored (doubled by the caller as Linux does); turns receive auto-tuning off.
    pub receive_buffer: Option<u32>,
    /// `SO_MAX_PACING_RATE` in bytes a second; none means no limit.
    pub max_pacing_rate: Option<u64>,
    /// `TCP_CONGESTION`.
    pub congestion: Option<Algorithm>,
    /// `TCP_FASTOPEN_CONNECT`: connecting to a server whose cookie is known sends nothing until the first data.
    pub fast_open_connect: bool,
    /// `TCP_FASTOPEN_KEY`, listeners only; none means the stack's.
    pub fast_open_keys: Option<FastOpenKeys>,
    /// `TCP_SAVE_SYN`, listeners only.
    pub save_syn: SaveSyn,
    /// `TCP_THIN_LINEAR_TIMEOUTS`: no backoff of the first timeouts of a stream with little in flight.
    pub thin_linear_timeouts: bool,
    /// How much longer than 20 or 40 bytes the IP headers of the segments are, which the MSS counts (RFC 6691 section 3). The
    /// sockets keep it in step with their IP options.
    pub header_overhead: u16,
    /// `TCP_RTO_MAX_MS`. This and the two below stay as they are once a connection has them, unless another value is set.
    pub rto_max: Option<Duration>,
    /// `TCP_RTO_MIN_US`.
    pub rto_min: Option<Duration>,
    /// `TCP_DELACK_MAX_US`.
    pub delayed_ack_max: Option<Duration>,
}

impl Options {
    /// The defaults, shared: connections keep options of their own only once they differ.
    #[must_use]
    pub fn shared_default() -> Arc<Self> {
        static DEFAULT: LazyLock<Arc<Options>> = LazyLock::new(Arc::default);
        Arc::clone(&DEFAULT)
    }

    /// The stack's settings with what the socket has of its own in their place: the machines look in one place only.
    pub(super) fn override_config(&self, config: &Arc<Config>) -> Arc<Config> {
        let rto_max = self.rto_max.unwrap_or(config.rto_max);
        let rto_min = self.rto_min.unwrap_or(config.rto_min);
        let delayed_ack_max = self.delayed_ack_max.unwrap_or(config.delayed_ack_max);
        let thin_linear_timeouts = self.thin_linear_timeouts || config.thin_linear_timeouts;
        let is_same = rto_max == config.rto_max
            && rto_min == config.rto_min
            && delayed_ack_max == config.delayed_ack_max
            && thin_linear_timeouts == config.thin_linear_timeouts;
        if is_same {
            return Arc::clone(config);
        }
        Arc::new(Config { rto_max, rto_min, delayed_ack_max, thin_linear_timeouts, ..Config::clone(config) })
    }
}

/// `TCP_LINGER2`: how long an orphan may stay in FIN-WAIT-2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FinWait2 {
    /// The stack's `fin_timeout`.
    #[default]
    Default,
    /// Not at all: CLOSED at once (a negative value in Linux).
    Skip,
    /// This long.
    After(Duration),
}

/// `TCP_SAVE_SYN`: what a listener keeps of the SYN of each connection, for the user to read once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SaveSyn {
    /// Nothing.
    #[default]
    Off,
    /// From the IP header to the end of the TCP header.
    Network,
    /// The same from the link layer's header on, if there is one.
    Link,
}
