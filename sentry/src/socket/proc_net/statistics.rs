//! `snmp` and `netstat`: the stack's counters under the names of the SNMP MIBs.

use netstack::tcp::State;

use crate::socket::NetNamespace;

/// Two lines: the names and the values.
fn group(name: &str, rows: &[(&str, i64)]) -> String {
    let names: Vec<&str> = rows.iter().map(|(name, _)| *name).collect();
    let values: Vec<String> = rows.iter().map(|(_, value)| value.to_string()).collect();
    format!("{name}: {}\n{name}: {}\n", names.join(" "), values.join(" "))
}

fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn snmp(namespace: &NetNamespace) -> String {
    let stack = namespace.stack();
    let s = stack.stats();
    let established = stack
        .tcp_connections()
        .iter()
        .filter(|(_, state)| matches!(state, State::Established | State::CloseWait))
        .count();
    let ip = group(
        "Ip",
        &[
            // 2 is "not forwarding" (RFC 4293).
            ("Forwarding", 2),
            ("DefaultTTL", 64),
            ("InReceives", count(s.ip_in_receives)),
            ("InHdrErrors", count(s.ip_in_header_errors + s.ip_in_checksum_errors)),
            ("InAddrErrors", count(s.ip_in_not_ours + s.ip_in_martians)),
            ("ForwDatagrams", 0),
            ("InUnknownProtos", count(s.ip_in_unknown_protos)),
            ("InDiscards", count(s.ip_in_truncated)),
            ("InDelivers", count(s.ip_in_delivers)),
            ("OutRequests", count(s.ip_out_requests)),
            ("OutDiscards", count(s.ip_out_discards)),
            ("OutNoRoutes", count(s.ip_out_no_routes)),
            ("ReasmTimeout", count(s.ip_reasm_timeout)),
            ("ReasmReqds", count(s.ip_reasm_requests)),
            ("ReasmOKs", count(s.ip_reasm_oks)),
            ("ReasmFails", count(s.ip_reasm_fails)),
            ("FragOKs", count(s.ip_frag_ok)),
            ("FragFails", 0),
            ("FragCreates", count(s.ip_frag_creates)),
        ],
    );
    let icmp = group(
        "Icmp",
        &[
            ("InMsgs", count(s.icmp_in_msgs)),
            ("InErrors", count(s.icmp_in_errors)),
            ("InCsumErrors", count(s.icmp_in_checksum_errors)),
            ("OutMsgs", count(s.icmp_out_errors + s.icmp_out_echo_replies)),
            ("OutErrors", 0),
            ("OutRateLimitHost", count(s.icmp_out_rate_limited)),
            ("OutEchoReps", count(s.icmp_out_echo_replies)),
        ],
    );
    let tcp = group(
        "Tcp",
        &[
            // "other" (RFC 4022); the limits are in milliseconds.
            ("RtoAlgorithm", 1),
            ("RtoMin", 200),
            ("RtoMax", 120_000),
            ("MaxConn", -1),
            ("ActiveOpens", count(s.tcp_active_opens)),
            ("PassiveOpens", count(s.tcp_passive_opens)),
            ("CurrEstab", i64::try_from(established).unwrap_or(i64::MAX)),
            ("InSegs", count(s.tcp_in_segs)),
            ("OutSegs", count(s.tcp_out_segs)),
            ("InErrs", count(s.tcp_in_errs)),
            ("OutRsts", count(s.tcp_out_rsts)),
            ("InCsumErrors", count(s.tcp_in_csum_errors)),
        ],
    );
    let udp = group(
        "Udp",
        &[
            ("InDatagrams", count(s.udp_in_datagrams)),
            ("NoPorts", count(s.udp_no_ports)),
            ("InErrors", count(s.udp_in_errors)),
            ("OutDatagrams", count(s.udp_out_datagrams)),
            ("RcvbufErrors", count(s.udp_rcvbuf_errors)),
            ("SndbufErrors", 0),
            ("InCsumErrors", count(s.udp_in_checksum_errors)),
            ("IgnoredMulti", count(s.udp_ignored_multi)),
        ],
    );
    [ip, icmp, tcp, udp].concat()
}

pub(super) fn netstat(namespace: &NetNamespace) -> String {
    let s = namespace.stack().stats();
    group(
        "TcpExt",
        &[
            ("SyncookiesSent", count(s.tcp_cookies_sent)),
            ("SyncookiesFailed", count(s.tcp_drop_bad_cookie)),
            ("PAWSEstab", count(s.tcp_drop_paws)),
            ("ListenOverflows", count(s.tcp_drop_listen_overflow_syn)),
            ("ListenDrops", count(s.tcp_drop_listen_overflow_syn + s.tcp_drop_listen_queue_full)),
            ("TCPBacklogDrop", count(s.tcp_backlog_drops)),
            ("TCPMinTTLDrop", count(s.tcp_min_ttl_drops)),
            ("TCPDeferAcceptDrop", count(s.tcp_drop_defer_accept)),
            ("TCPReqQFullDrop", count(s.tcp_drop_listen_queue_full)),
            ("TCPChallengeACK", count(s.tcp_drop_inexact_reset)),
            ("TCPSYNChallenge", count(s.tcp_drop_unexpected_syn)),
            ("TCPRcvQDrop", count(s.tcp_drop_no_buffer)),
        ],
    )
}
