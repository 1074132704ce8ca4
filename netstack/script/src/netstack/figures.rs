//! Figures of connections and counters of the stack by the names that Linux has for them.

use netstack::TcpSocket;
use netstack::stats::StackStats;
use netstack::tcp::{Info, RecoveryPhase, State};

use crate::value::Value;

/// A field of `TCP_INFO`, or `state`, `inq`, `outq`.
pub(super) fn field(socket: &TcpSocket, name: &str) -> Option<Value> {
    let len = |len: usize| Some(Value::Int(i64::try_from(len).unwrap_or(i64::MAX)));
    match name {
        "state" => return Some(Value::Name(state(socket.state()).to_owned())),
        "inq" => return len(socket.recv_queue_len()),
        "outq" => return len(socket.send_queue_len()),
        "accept_queue" => return len(socket.listen_queue_lens().0),
        "syn_queue" => return len(socket.listen_queue_lens().1),
        _ => {}
    }
    let info = socket.info()?;
    Some(match name {
        "rto" => Value::time(info.rto),
        "ato" => Value::time(info.ato),
        "rtt" => Value::time(info.srtt),
        "rttvar" => Value::time(info.rttvar),
        "min_rtt" => Value::time(info.min_rtt),
        "ca_state" => Value::Name(phase(info.recovery).to_owned()),
        _ => Value::Int(number(&info, name)?),
    })
}

fn number(info: &Info, name: &str) -> Option<i64> {
    let mss = info.snd_mss.max(1);
    let segments = |bytes: u32| i64::from(bytes.div_ceil(mss));
    let wide = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    Some(match name {
        "retransmits" => info.retransmits.into(),
        "probes" => info.probes.into(),
        "backoff" => info.backoff.into(),
        "has_timestamps" => info.has_timestamps.into(),
        "has_sack" => info.has_sack.into(),
        "has_wscale" => info.window_scale.is_some().into(),
        "has_ecn" => info.has_ecn.into(),
        "snd_wscale" => info.window_scale.map_or(0, |(theirs, _)| theirs.into()),
        "rcv_wscale" => info.window_scale.map_or(0, |(_, ours)| ours.into()),
        "snd_mss" => info.snd_mss.into(),
        "rcv_mss" => info.rcv_mss.into(),
        "advmss" => info.advertised_mss.into(),
        "pmtu" => i64::from(info.path_mss) + 40,
        "unacked" => segments(info.unacked),
        "sacked" => segments(info.sacked),
        "lost" => segments(info.lost),
        "retrans" => segments(info.retransmitting),
        "snd_ssthresh" if info.ssthresh == u32::MAX => 0x7fff_ffff,
        "snd_ssthresh" => segments(info.ssthresh),
        "snd_cwnd" => segments(info.cwnd),
        "reordering" => info.reordering.into(),
        "snd_wnd" => info.snd_wnd.into(),
        "rcv_wnd" => info.rcv_wnd.into(),
        "total_retrans" => wide(info.total_retransmits),
        "bytes_acked" => wide(info.bytes_acked),
        "bytes_received" => wide(info.bytes_received),
        "bytes_sent" => wide(info.bytes_sent),
        "bytes_retrans" => wide(info.bytes_retransmitted),
        "segs_out" => wide(info.segments_out),
        "segs_in" => wide(info.segments_in),
        "notsent_bytes" => info.not_sent.into(),
        "dsack_dups" => wide(info.dsacks),
        "rcv_ooopack" => wide(info.out_of_order),
        _ => return None,
    })
}

fn phase(phase: RecoveryPhase) -> &'static str {
    match phase {
        RecoveryPhase::Open => "Open",
        RecoveryPhase::Disorder => "Disorder",
        RecoveryPhase::Cwr => "CWR",
        RecoveryPhase::Recovery => "Recovery",
        RecoveryPhase::Loss => "Loss",
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Established => "ESTABLISHED",
        State::SynSent => "SYN_SENT",
        State::SynReceived => "SYN_RECV",
        State::FinWait1 => "FIN_WAIT1",
        State::FinWait2 => "FIN_WAIT2",
        State::TimeWait => "TIME_WAIT",
        State::Closed => "CLOSE",
        State::CloseWait => "CLOSE_WAIT",
        State::LastAck => "LAST_ACK",
        State::Listen => "LISTEN",
        State::Closing => "CLOSING",
    }
}

/// A counter by its name in `/proc/net/snmp` or `/proc/net/netstat`.
pub(super) fn counter(stats: &StackStats, name: &str) -> Option<i64> {
    let count = match name {
        "ListenOverflows" => stats.tcp_drop_listen_overflow_syn + stats.tcp_drop_listen_overflow_ack,
        "ListenDrops" => {
            stats.tcp_drop_listen_overflow_syn
                + stats.tcp_drop_listen_overflow_ack
                + stats.tcp_drop_listen_queue_full
        }
        "TCPReqQFullDrop" => stats.tcp_drop_listen_queue_full,
        "SyncookiesSent" => stats.tcp_cookies_sent,
        "SyncookiesFailed" => stats.tcp_drop_bad_cookie,
        "PAWSEstab" => stats.tcp_drop_paws,
        "TCPSYNChallenge" => stats.tcp_drop_unexpected_syn,
        "TCPAbortOnData" => stats.tcp_drop_data_after_close,
        "TCPDeferAcceptDrop" => stats.tcp_drop_defer_accept,
        "InCsumErrors" => stats.tcp_in_csum_errors,
        "TCPMinTTLDrop" => stats.tcp_min_ttl_drops,
        "ActiveOpens" => stats.tcp_active_opens,
        "PassiveOpens" => stats.tcp_passive_opens,
        "NoPorts" => stats.udp_no_ports,
        _ => return None,
    };
    i64::try_from(count).ok()
}
