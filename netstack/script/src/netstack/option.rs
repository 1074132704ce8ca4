//! Socket options by their names in Linux, as the sandbox's system calls translate them.

use std::sync::Arc;
use std::time::Duration;

use netstack::UdpSocket;
use netstack::options::{ExtensionHeader, Ipv4Options, PmtuDiscovery};
use netstack::tcp::{Algorithm, Config, FinWait2, State};

use super::TcpState;
use super::errno::{AsErrno, error};
use crate::backend::Reply;
use crate::value::{Value, bytes_of};

/// `setsockopt` on a TCP socket.
pub(super) fn set(tcp: &mut TcpState, name: &str, value: &Value) -> Reply {
    let number = match value {
        Value::Int(number) => *number,
        Value::Name(text) if name == "TCP_CONGESTION" => return set_congestion(tcp, text),
        // `SO_LINGER, off`.
        Value::Name(text) if name == "SO_LINGER" && text == "off" => -1,
        Value::Name(text) => return set_headers(tcp, name, text),
        _ => return error("EINVAL"),
    };
    let on = number != 0;
    let unsigned = u64::try_from(number).unwrap_or(0);
    let low32 = u32::try_from(number).unwrap_or(u32::MAX);
    let socket = &tcp.socket;
    let is_count = (1..=127).contains(&number);
    let is_time = (1..=32_767).contains(&number);
    // Within 1..=127 where it counts.
    let count = u8::try_from(number).unwrap_or(u8::MAX);
    let span = Duration::from_secs(unsigned);
    match name {
        "TCP_NODELAY" => socket.set_tcp_options(|options| options.no_delay = on),
        "TCP_CORK" => socket.set_tcp_options(|options| options.cork = on),
        "TCP_QUICKACK" => socket.set_quick_ack(number & 1 != 0),
        "TCP_MAXSEG" if number != 0 && !(88..=32_767).contains(&number) => return error("EINVAL"),
        "TCP_MAXSEG" => {
            socket.set_tcp_options(|options| {
                options.max_segment = u16::try_from(number).ok().filter(|n| *n > 0);
            });
        }
        "TCP_KEEPIDLE" if is_time => socket.set_tcp_options(|options| options.keepalive_idle = Some(span)),
        "TCP_KEEPINTVL" if is_time => {
            socket.set_tcp_options(|options| options.keepalive_interval = Some(span));
        }
        "TCP_KEEPCNT" if is_count => socket.set_tcp_options(|options| options.keepalive_probes = Some(count)),
        "TCP_SYNCNT" if is_count => socket.set_tcp_options(|options| options.syn_retries = Some(count)),
        "TCP_LINGER2" => {
            let setting = match number {
                0 => FinWait2::Default,
                n if n < 0 => FinWait2::Skip,
                n => FinWait2::After(Duration::from_secs(n.min(120).unsigned_abs())),
            };
            socket.set_tcp_options(|options| options.fin_wait2 = setting);
        }
        "TCP_FASTOPEN" if number < 0 => return error("EINVAL"),
        "TCP_FASTOPEN" => socket.set_tcp_options(|options| options.fast_open_queue = Some(low32)),
        "TCP_FASTOPEN_CONNECT" => socket.set_tcp_options(|options| options.fast_open_connect = on),
        "TCP_FASTOPEN_NO_COOKIE" => socket.set_tcp_options(|options| options.fast_open_without_cookie = on),
        "TCP_THIN_LINEAR_TIMEOUTS" => socket.set_tcp_options(|options| options.thin_linear_timeouts = on),
        "TCP_RTO_MAX_MS" => {
            socket.set_tcp_options(|options| options.rto_max = Some(Duration::from_millis(unsigned)));
        }
        "TCP_RTO_MIN_US" => {
            socket.set_tcp_options(|options| options.rto_min = Some(Duration::from_micros(unsigned)));
        }
        "TCP_DELACK_MAX_US" => {
            socket.set_tcp_options(|options| options.delayed_ack_max = Some(Duration::from_micros(unsigned)));
        }
        "TCP_DEFER_ACCEPT" => {
            let time = (number > 0).then(|| Duration::from_secs(defer_period(unsigned)));
            socket.set_tcp_options(|options| options.defer_accept = time);
        }
        "TCP_WINDOW_CLAMP" if number == 0 && socket.state() != State::Closed => return error("EINVAL"),
        "TCP_WINDOW_CLAMP" => {
            let clamp = on.then(|| low32.max(1152));
            socket.set_tcp_options(|options| options.window_clamp = clamp);
        }
        "TCP_USER_TIMEOUT" if number < 0 => return error("EINVAL"),
        "TCP_USER_TIMEOUT" => {
            let timeout = on.then(|| Duration::from_millis(unsigned));
            socket.set_tcp_options(|options| options.user_timeout = timeout);
        }
        "TCP_NOTSENT_LOWAT" => {
            socket.set_tcp_options(|options| options.not_sent_low_water = on.then_some(low32));
        }
        "SO_KEEPALIVE" => socket.set_tcp_options(|options| options.keepalive = on),
        "SO_SNDBUF" => {
            let bytes = low32.min(BUFFER_MAX).saturating_mul(2).max(4608);
            socket.set_tcp_options(|options| options.send_buffer = Some(bytes));
        }
        "SO_RCVBUF" => {
            let bytes = low32.min(BUFFER_MAX).saturating_mul(2).max(2304);
            socket.set_tcp_options(|options| options.receive_buffer = Some(bytes));
        }
        "SO_LINGER" => tcp.linger = (number >= 0).then_some(number),
        "SO_OOBINLINE" => socket.set_tcp_options(|options| options.urgent_inline = on),
        "SO_REUSEADDR" => socket.set_options(|options| options.reuse_address = on),
        "SO_REUSEPORT" => socket.set_options(|options| options.reuse_port = on),
        "IP_TTL" => socket.set_options(|options| options.ttl = u8::try_from(number).ok()),
        "IPV6_UNICAST_HOPS" => socket.set_options(|options| options.hop_limit = u8::try_from(number).ok()),
        "IP_TOS" => socket.set_options(|options| options.tos = u8::try_from(number & 0xff).unwrap_or(0)),
        "IPV6_TCLASS" => {
            socket.set_options(|options| options.traffic_class = u8::try_from(number & 0xff).unwrap_or(0));
        }
        "IP_MINTTL" | "IPV6_MINHOPCOUNT" => {
            let Ok(least) = u8::try_from(number) else { return error("EINVAL") };
            socket.set_options(|options| match name {
                "IP_MINTTL" => options.min_ttl = least,
                _ => options.min_hop_limit = least,
            });
        }
        "IPV6_AUTOFLOWLABEL" => socket.set_options(|options| options.auto_flow_label = Some(on)),
        "SO_MARK" => socket.set_options(|options| options.mark = low32),
        "SO_MAX_PACING_RATE" => {
            socket.set_tcp_options(|options| options.max_pacing_rate = Some(unsigned));
        }
        "IP_MTU_DISCOVER" => {
            let Some(mode) = pmtu_mode(number) else { return error("EINVAL") };
            socket.set_options(|options| options.pmtu_discovery = mode);
        }
        "TCP_KEEPIDLE" | "TCP_KEEPINTVL" | "TCP_KEEPCNT" | "TCP_SYNCNT" => return error("EINVAL"),
        _ => return error("ENOPROTOOPT"),
    }
    Reply::Number(0)
}

/// What comes between the IP header and TCP's, in hexadecimal digits.
fn set_headers(tcp: &TcpState, name: &str, digits: &str) -> Reply {
    let Some(bytes) = bytes_of(digits) else { return error("EINVAL") };
    if name == "IP_OPTIONS" {
        let Some(ip_options) = Ipv4Options::new(&bytes) else { return error("EINVAL") };
        tcp.socket.set_options(|options| options.ip_options = Some(ip_options).filter(|_| !bytes.is_empty()));
        return Reply::Number(0);
    }
    let header = ExtensionHeader::new(&bytes);
    if header.is_none() && !bytes.is_empty() {
        return error("EINVAL");
    }
    let mut extensions = tcp.socket.options().extensions.map_or_else(Default::default, |all| (*all).clone());
    match name {
        "IPV6_HOPOPTS" => extensions.hop_by_hop = header,
        "IPV6_RTHDR" => extensions.routing = header,
        "IPV6_DSTOPTS" => extensions.destination = header,
        _ => return error("ENOPROTOOPT"),
    }
    let extensions = (!extensions.is_empty()).then(|| Arc::new(extensions));
    tcp.socket.set_options(|options| options.extensions = extensions);
    Reply::Number(0)
}

fn set_congestion(tcp: &TcpState, name: &str) -> Reply {
    let algorithm = match name {
        "reno" => Algorithm::NewReno,
        "cubic" => Algorithm::Cubic,
        "bbr" => Algorithm::Bbr,
        _ => return error("ENOENT"),
    };
    tcp.socket.set_tcp_options(|options| options.congestion = Some(algorithm));
    Reply::Number(0)
}

/// `getsockopt` on a TCP socket.
pub(super) fn get(tcp: &TcpState, name: &str, config: &Config) -> Reply {
    let socket = &tcp.socket;
    let options = socket.tcp_options();
    let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    Reply::Number(match name {
        "SO_ERROR" => {
            return socket.take_error().map_or(Reply::Number(0), |reason| error_name(reason.errno()));
        }
        "TCP_CONGESTION" => {
            return Reply::Name(
                match options.congestion.unwrap_or(config.congestion) {
                    Algorithm::NewReno => "reno",
                    Algorithm::Cubic => "cubic",
                    Algorithm::Bbr => "bbr",
                }
                .to_owned(),
            );
        }
        "TCP_NODELAY" => options.no_delay.into(),
        "TCP_CORK" => options.cork.into(),
        "SO_KEEPALIVE" => options.keepalive.into(),
        "TCP_MAXSEG" => match socket.info() {
            Some(info) if !matches!(socket.state(), State::Closed | State::Listen) => info.snd_mss.into(),
            _ => options.max_segment.map_or(536, i64::from),
        },
        "TCP_KEEPIDLE" => seconds(options.keepalive_idle.unwrap_or(config.keepalive_idle)),
        "TCP_KEEPINTVL" => seconds(options.keepalive_interval.unwrap_or(config.keepalive_interval)),
        "TCP_KEEPCNT" => options.keepalive_probes.unwrap_or(config.keepalive_probes).into(),
        "TCP_SYNCNT" => options.syn_retries.unwrap_or(config.syn_retries).into(),
        "TCP_DEFER_ACCEPT" => options.defer_accept.map_or(0, seconds),
        "TCP_LINGER2" => match options.fin_wait2 {
            FinWait2::Default => seconds(config.fin_timeout),
            FinWait2::Skip => -1,
            FinWait2::After(span) => seconds(span),
        },
        "TCP_USER_TIMEOUT" => {
            options.user_timeout.map_or(0, |span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
        }
        "SO_ACCEPTCONN" => (socket.state() == State::Listen).into(),
        "SO_RCVBUF" => options.receive_buffer.unwrap_or(config.receive_buffer.default).into(),
        "SO_SNDBUF" => options.send_buffer.unwrap_or(config.send_buffer.default).into(),
        "SO_OOBINLINE" => options.urgent_inline.into(),
        "SO_LINGER" => tcp.linger.unwrap_or(-1),
        "TCP_NOTSENT_LOWAT" => options.not_sent_low_water.map_or(0, i64::from),
        "TCP_WINDOW_CLAMP" => options.window_clamp.map_or(0, i64::from),
        "TCP_THIN_LINEAR_TIMEOUTS" => options.thin_linear_timeouts.into(),
        "TCP_RTO_MAX_MS" => millis(options.rto_max.unwrap_or(config.rto_max)),
        "TCP_RTO_MIN_US" => micros(options.rto_min.unwrap_or(config.rto_min)),
        "TCP_DELACK_MAX_US" => micros(options.delayed_ack_max.unwrap_or(config.delayed_ack_max)),
        "TCP_FASTOPEN" => options.fast_open_queue.map_or(0, i64::from),
        "TCP_FASTOPEN_NO_COOKIE" => options.fast_open_without_cookie.into(),
        "SO_REUSEADDR" => socket.options().reuse_address.into(),
        "SO_REUSEPORT" => socket.options().reuse_port.into(),
        "SO_MARK" => socket.options().mark.into(),
        "IP_TTL" => socket.options().ttl.map_or(64, i64::from),
        "IP_TOS" => socket.options().tos.into(),
        "IP_MINTTL" => socket.options().min_ttl.into(),
        "IPV6_MINHOPCOUNT" => socket.options().min_hop_limit.into(),
        "IPV6_UNICAST_HOPS" => socket.options().hop_limit.map_or(64, i64::from),
        "IPV6_TCLASS" => socket.options().traffic_class.into(),
        "IPV6_AUTOFLOWLABEL" => socket.options().auto_flow_label.unwrap_or(true).into(),
        "IP_MTU_DISCOVER" => mode_number(socket.options().pmtu_discovery),
        _ => return error("ENOPROTOOPT"),
    })
}

/// `setsockopt` on a UDP socket.
pub(super) fn set_udp(udp: &UdpSocket, name: &str, value: &Value) -> Reply {
    let Value::Int(number) = value else { return error("EINVAL") };
    match name {
        "IP_MTU_DISCOVER" => match pmtu_mode(*number) {
            Some(mode) => udp.set_options(|options| options.pmtu_discovery = mode),
            None => return error("EINVAL"),
        },
        "IP_RECVERR" => udp.set_options(|options| options.error_queue = *number != 0),
        "SO_REUSEADDR" => udp.set_options(|options| options.reuse_address = *number != 0),
        "IP_TTL" => udp.set_options(|options| options.ttl = u8::try_from(*number).ok()),
        _ => return error("ENOPROTOOPT"),
    }
    Reply::Number(0)
}

/// `getsockopt` on a UDP socket.
pub(super) fn get_udp(udp: &UdpSocket, name: &str) -> Reply {
    match name {
        "SO_ERROR" => udp.take_error().map_or(Reply::Number(0), |reason| error_name(reason.errno())),
        _ => error("ENOPROTOOPT"),
    }
}

/// The value of `SO_ERROR` by name; the call itself succeeds.
fn error_name(name: &str) -> Reply {
    Reply::Name(name.to_owned())
}

/// `IP_PMTUDISC_*`.
fn pmtu_mode(number: i64) -> Option<PmtuDiscovery> {
    Some(match number {
        0 => PmtuDiscovery::Dont,
        1 => PmtuDiscovery::Want,
        2 => PmtuDiscovery::Do,
        3 => PmtuDiscovery::Probe,
        4 => PmtuDiscovery::Interface,
        5 => PmtuDiscovery::Omit,
        _ => return None,
    })
}

fn mode_number(mode: PmtuDiscovery) -> i64 {
    match mode {
        PmtuDiscovery::Dont => 0,
        PmtuDiscovery::Want => 1,
        PmtuDiscovery::Do => 2,
        PmtuDiscovery::Probe => 3,
        PmtuDiscovery::Interface => 4,
        PmtuDiscovery::Omit => 5,
    }
}

/// Linux keeps the time as a number of SYN-ACK retransmissions: 1, 3, 7, 15, ... seconds.
fn defer_period(seconds: u64) -> u64 {
    let (mut period, mut timeout) = (1, 1);
    while period < seconds {
        timeout = (timeout * 2).min(120);
        period += timeout;
    }
    period
}

/// `net.core.wmem_max` and `rmem_max`.
const BUFFER_MAX: u32 = 4 << 20;
