//! The figures of a connection as `TCP_INFO` lays them out.

use std::time::Duration;

use netstack::tcp::{Info, RecoveryPhase, State};
use sentry_abi::inet::{self, TcpInfo};
use zerocopy::FromZeros;

/// The state's number in `TCP_INFO`, `/proc/net/tcp` and sock_diag.
#[must_use]
pub fn state_number(state: State) -> u8 {
    match state {
        State::Established => inet::TCP_ESTABLISHED,
        State::SynSent => inet::TCP_SYN_SENT,
        State::SynReceived => inet::TCP_SYN_RECV,
        State::FinWait1 => inet::TCP_FIN_WAIT1,
        State::FinWait2 => inet::TCP_FIN_WAIT2,
        State::TimeWait => inet::TCP_TIME_WAIT,
        State::Closed => inet::TCP_CLOSE,
        State::CloseWait => inet::TCP_CLOSE_WAIT,
        State::LastAck => inet::TCP_LAST_ACK,
        State::Listen => inet::TCP_LISTEN,
        State::Closing => inet::TCP_CLOSING,
    }
}

/// `struct tcp_info` of a socket in `state`, with its connection's figures where it has one.
#[must_use]
pub fn tcp_info(state: State, info: Option<&Info>) -> TcpInfo {
    let mut out = TcpInfo::new_zeroed();
    out.state = state_number(state);
    let Some(info) = info else { return out };
    let mss = info.snd_mss.max(1);
    let segments = |bytes: u32| bytes.div_ceil(mss);
    out.ca_state = recovery_number(info.recovery);
    out.retransmits = byte(info.retransmits);
    out.probes = byte(info.probes);
    out.backoff = byte(info.backoff);
    for (flag, is_set) in [
        (inet::TCPI_OPT_TIMESTAMPS, info.has_timestamps),
        (inet::TCPI_OPT_SACK, info.has_sack),
        (inet::TCPI_OPT_WSCALE, info.window_scale.is_some()),
        (inet::TCPI_OPT_ECN, info.has_ecn),
    ] {
        if is_set {
            out.options |= flag;
        }
    }
    if let Some((theirs, ours)) = info.window_scale {
        out.wscale = (theirs & 0xf) | (ours << 4);
    }
    out.rto = micros(info.rto);
    out.ato = micros(info.ato);
    out.snd_mss = info.snd_mss;
    out.rcv_mss = info.rcv_mss;
    out.unacked = segments(info.unacked);
    out.sacked = segments(info.sacked);
    out.lost = segments(info.lost);
    out.retrans = segments(info.retransmitting);
    out.last_data_sent = millis(info.last_data_sent);
    out.last_data_recv = millis(info.last_data_received);
    out.last_ack_recv = millis(info.last_ack_received);
    // The stack knows the path in MSS terms; 40 bytes are the headers that Linux adds back for IPv4.
    out.pmtu = info.path_mss.saturating_add(40);
    out.rcv_ssthresh = info.rcv_wnd;
    out.rtt = micros(info.srtt);
    out.rttvar = micros(info.rttvar);
    // Linux shows TCP_INFINITE_SSTHRESH, a number of segments, as it is.
    out.snd_ssthresh = if info.ssthresh == u32::MAX { 0x7fff_ffff } else { segments(info.ssthresh) };
    out.snd_cwnd = segments(info.cwnd);
    // tcp_rcv_synsent_state_process takes off what timestamps need.
    out.advmss =
        info.advertised_mss - if info.has_timestamps { TIMESTAMPS_LEN.min(info.advertised_mss) } else { 0 };
    out.reordering = info.reordering;
    out.rcv_space = info.receive_space;
    out.total_retrans = low32(info.total_retransmits);
    out.pacing_rate = info.pacing_rate.unwrap_or(u64::MAX);
    out.delivery_rate = info.delivery_rate;
    out.max_pacing_rate = u64::MAX;
    out.bytes_acked = info.bytes_acked;
    out.bytes_received = info.bytes_received;
    out.segs_out = low32(info.segments_out);
    out.segs_in = low32(info.segments_in);
    out.notsent_bytes = info.not_sent;
    out.min_rtt = micros(info.min_rtt);
    out.bytes_sent = info.bytes_sent;
    out.bytes_retrans = info.bytes_retransmitted;
    out.dsack_dups = low32(info.dsacks);
    out.rcv_ooopack = low32(info.out_of_order);
    out.snd_wnd = info.snd_wnd;
    out.rcv_wnd = info.rcv_wnd;
    out
}

fn recovery_number(phase: RecoveryPhase) -> u8 {
    match phase {
        RecoveryPhase::Open => 0,
        RecoveryPhase::Disorder => 1,
        RecoveryPhase::Cwr => 2,
        RecoveryPhase::Recovery => 3,
        RecoveryPhase::Loss => 4,
    }
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

fn byte(n: u32) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

/// Counters of 32 bits wrap around in Linux.
fn low32(n: u64) -> u32 {
    (n & 0xffff_ffff) as u32
}

/// The timestamps option with its padding.
const TIMESTAMPS_LEN: u32 = 12;
