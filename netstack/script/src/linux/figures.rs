//! Figures of connections (`TCP_INFO`, `/proc/net/tcp`) and counters of the namespace.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::stat::fstat;

use crate::value::Value;

/// `TCP_INFO` as bytes.
mod raw {
    use nix::{getsockopt_impl, libc};

    /// `struct tcp_info` of `linux/tcp.h` up to `tcpi_rehash`.
    pub(super) const LEN: usize = 240;

    #[derive(Clone, Copy)]
    pub(super) struct TcpInfo;
    getsockopt_impl!(
        TcpInfo,
        libc::IPPROTO_TCP,
        libc::TCP_INFO,
        [u8; LEN],
        nix::sys::socket::sockopt::GetStruct<[u8; LEN]>
    );
}

/// A field of `TCP_INFO` without its prefix, or `state`, `inq`, `outq`, `accept_queue`, `syn_queue`.
pub(super) fn field(fd: &OwnedFd, name: &str) -> Option<Value> {
    match name {
        "outq" => return queues(fd).map(|(send, _)| Value::Int(send)),
        "inq" | "accept_queue" => return queues(fd).map(|(_, receive)| Value::Int(receive)),
        "syn_queue" => return Some(Value::Int(half_open())),
        _ => {}
    }
    let info = getsockopt(fd, raw::TcpInfo).ok()?;
    let byte = |at: usize| Value::Int(info[at].into());
    let option = |bit: u8| Value::Int((info[5] & bit != 0).into());
    Some(match name {
        "state" => Value::Name((*STATES.get(usize::from(info[0]))?).to_owned()),
        "ca_state" => Value::Name((*PHASES.get(usize::from(info[1]))?).to_owned()),
        "retransmits" => byte(2),
        "probes" => byte(3),
        "backoff" => byte(4),
        "has_timestamps" => option(1),
        "has_sack" => option(2),
        "has_wscale" => option(4),
        "has_ecn" => option(8),
        "snd_wscale" => Value::Int((info[6] & 0xf).into()),
        "rcv_wscale" => Value::Int((info[6] >> 4).into()),
        name => {
            if let Some((_, at)) = U64_FIELDS.iter().find(|(field, _)| *field == name) {
                let bytes = info.get(*at..at + 8)?.try_into().ok()?;
                return Some(Value::Int(i64::try_from(u64::from_ne_bytes(bytes)).unwrap_or(i64::MAX)));
            }
            let (_, at) = U32_FIELDS.iter().find(|(field, _)| *field == name)?;
            let number = u32::from_ne_bytes(info.get(*at..at + 4)?.try_into().ok()?);
            match name {
                "rto" | "ato" | "rtt" | "rttvar" | "min_rtt" => {
                    Value::time(Duration::from_micros(number.into()))
                }
                _ => Value::Int(number.into()),
            }
        }
    })
}

/// Bytes in the send and receive queue, or the length of the accept queue.
fn queues(fd: &OwnedFd) -> Option<(i64, i64)> {
    let inode = fstat(fd).ok()?.st_ino.to_string();
    let row = rows().into_iter().find(|row| row.get(9) == Some(&inode))?;
    let (send, receive) = row.get(4)?.split_once(':')?;
    Some((i64::from_str_radix(send, 16).ok()?, i64::from_str_radix(receive, 16).ok()?))
}

/// Connections in SYN-RECEIVED.
fn half_open() -> i64 {
    let count = rows().iter().filter(|row| row.get(3).is_some_and(|state| state == "03")).count();
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The rows of `/proc/net/tcp` and `tcp6`, in words.
fn rows() -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for file in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("{NET}/{file}")).unwrap_or_default();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        rows.extend(text.lines().skip(1).map(words));
    }
    rows
}

/// A counter of the namespace.
pub(super) fn counter(name: &str) -> Option<i64> {
    for file in ["snmp", "netstat"] {
        let text = std::fs::read_to_string(format!("{NET}/{file}")).ok()?;
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.chunks_exact(2) {
            let position = pair[0].split_whitespace().position(|word| word == name);
            // ICMP and UDP have names in common with TCP, which is what scripts are about; UDP-Lite comes last.
            if let Some(position) = position
                && (!pair[0].starts_with("Icmp") || file == "netstat")
                && (name != "InCsumErrors" || pair[0].starts_with("Tcp"))
            {
                return pair[1].split_whitespace().nth(position)?.parse().ok();
            }
        }
    }
    None
}

/// The namespace of the calling thread; `/proc/net` would be that of the process.
const NET: &str = "/proc/thread-self/net";

const STATES: [&str; 12] = [
    "?",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
];

const PHASES: [&str; 5] = ["Open", "Disorder", "CWR", "Recovery", "Loss"];

/// Offsets in `struct tcp_info`.
const U32_FIELDS: &[(&str, usize)] = &[
    ("rto", 8),
    ("ato", 12),
    ("snd_mss", 16),
    ("rcv_mss", 20),
    ("unacked", 24),
    ("sacked", 28),
    ("lost", 32),
    ("retrans", 36),
    ("pmtu", 60),
    ("rcv_ssthresh", 64),
    ("rtt", 68),
    ("rttvar", 72),
    ("snd_ssthresh", 76),
    ("snd_cwnd", 80),
    ("advmss", 84),
    ("reordering", 88),
    ("rcv_space", 96),
    ("total_retrans", 100),
    ("segs_out", 136),
    ("segs_in", 140),
    ("notsent_bytes", 144),
    ("min_rtt", 148),
    ("delivered", 192),
    ("delivered_ce", 196),
    ("dsack_dups", 216),
    ("reord_seen", 220),
    ("rcv_ooopack", 224),
    ("snd_wnd", 228),
    ("rcv_wnd", 232),
];

const U64_FIELDS: &[(&str, usize)] =
    &[("bytes_acked", 120), ("bytes_received", 128), ("bytes_sent", 200), ("bytes_retrans", 208)];
