//! A snapshot of a connection for `TCP_INFO`, sock_diag and traces.

use super::congestion::BbrInfo;
use super::state::State;
use core::time::Duration;

/// The figures of one connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    /// The state.
    pub state: State,
    /// The phase of congestion control (`tcpi_ca_state`).
    pub recovery: RecoveryPhase,
    /// Consecutive timeouts without an answer.
    pub retransmits: u32,
    /// Unanswered zero-window or keepalive probes.
    pub probes: u32,
    /// How often the retransmission timer has been backed off.
    pub backoff: u32,
    /// Timestamps in use.
    pub has_timestamps: bool,
    /// SACK in use.
    pub has_sack: bool,
    /// Window scaling in use: our peer's shift, ours.
    pub window_scale: Option<(u8, u8)>,
    /// ECN in use.
    pub has_ecn: bool,
    /// The retransmission timeout.
    pub rto: Duration,
    /// The delayed-ACK timeout.
    pub ato: Duration,
    /// The segment size we send.
    pub snd_mss: u32,
    /// The segment size we see.
    pub rcv_mss: u32,
    /// The MSS that we advertised.
    pub advertised_mss: u32,
    /// The path MTU as this connection believes it, in MSS terms.
    pub path_mss: u32,
    /// Bytes sent and not acknowledged.
    pub unacked: u32,
    /// Bytes selectively acknowledged.
    pub sacked: u32,
    /// Bytes marked lost.
    pub lost: u32,
    /// Bytes retransmitted and not acknowledged.
    pub retransmitting: u32,
    /// Smoothed round-trip time; zero before the first measurement.
    pub srtt: Duration,
    /// Its variation.
    pub rttvar: Duration,
    /// The least round-trip time seen.
    pub min_rtt: Duration,
    /// Slow-start threshold in bytes; `u32::MAX` before the first loss.
    pub ssthresh: u32,
    /// Congestion window in bytes.
    pub cwnd: u32,
    /// The rate at which data leaves, in bytes a second; `None` without pacing.
    pub pacing_rate: Option<u64>,
    /// The latest delivery rate in bytes a second; zero before the first measurement.
    pub delivery_rate: u64,
    /// The application, rather than the network, limits that rate.
    pub is_delivery_rate_app_limited: bool,
    /// The reordering degree in segments.
    pub reordering: u32,
    /// The window that the peer offers, in bytes.
    pub snd_wnd: u32,
    /// The window that we offer, in bytes.
    pub rcv_wnd: u32,
    /// The receive buffer that auto-tuning aims at.
    pub receive_space: u32,
    /// Bytes waiting for the reader.
    pub receive_queued: u32,
    /// Bytes in the send queue, acknowledged ones excluded (SIOCOUTQ).
    pub send_queued: u32,
    /// Bytes never sent (SIOCOUTQNSD).
    pub not_sent: u32,
    /// Bytes ever acknowledged by the peer.
    pub bytes_acked: u64,
    /// Bytes ever sent, retransmissions included.
    pub bytes_sent: u64,
    /// Bytes ever retransmitted.
    pub bytes_retransmitted: u64,
    /// Payload bytes ever received in order.
    pub bytes_received: u64,
    /// Segments ever sent.
    pub segments_out: u64,
    /// Segments ever received.
    pub segments_in: u64,
    /// Segments ever retransmitted.
    pub total_retransmits: u64,
    /// DSACK blocks received.
    pub dsacks: u64,
    /// Segments that arrived out of order.
    pub out_of_order: u64,
    /// Recoveries undone as spurious.
    pub undos: u64,
    /// Time since data was last sent.
    pub last_data_sent: Duration,
    /// Time since data last arrived.
    pub last_data_received: Duration,
    /// Time since an ACK last arrived.
    pub last_ack_received: Duration,
    /// What is added to the stack's clock in milliseconds to give the timestamps that are sent.
    pub timestamp_offset: u32,
    /// The user answers what arrives, so that ACKs wait for the answers (`TCP_QUICKACK` shows the opposite).
    pub is_interactive: bool,
    /// BBR's view of the path, where it is at work (`TCP_CC_INFO`).
    pub bbr: Option<BbrInfo>,
}

/// The phase of congestion control, named as in Linux's `tcp_ca_state`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RecoveryPhase {
    /// Nothing unusual.
    #[default]
    Open,
    /// Duplicate ACKs or SACKs, nothing marked lost yet.
    Disorder,
    /// The window is being reduced after an ECN echo.
    Cwr,
    /// Fast recovery.
    Recovery,
    /// After a retransmission timeout.
    Loss,
}
