//! `SOL_TCP` (`tcp(7)`).

use std::time::Duration;

use netstack::TcpSocket;
use netstack::tcp::{Algorithm, FinWait2, State};
use sentry_abi::inet::*;
use sentry_abi::socket::SOL_TCP;

use crate::errno::Errno;
use crate::socket::inet::{Receive, repair, tcp_info};
use crate::socket::option::value::{bytes, int, of_bool, of_int, saturate, switch};
use crate::socket::option::{Context, Effect, OptionRow, Value, option};

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_TCP, TCP_NODELAY, get_no_delay, set_no_delay),
    option!(SOL_TCP, TCP_MAXSEG, get_max_segment, set_max_segment),
    option!(SOL_TCP, TCP_CORK, get_cork, set_cork),
    option!(SOL_TCP, TCP_KEEPIDLE, get_keep_idle, set_keep_idle),
    option!(SOL_TCP, TCP_KEEPINTVL, get_keep_interval, set_keep_interval),
    option!(SOL_TCP, TCP_KEEPCNT, get_keep_count, set_keep_count),
    option!(SOL_TCP, TCP_SYNCNT, get_syn_count, set_syn_count),
    option!(SOL_TCP, TCP_LINGER2, get_linger2, set_linger2),
    option!(SOL_TCP, TCP_DEFER_ACCEPT, get_defer_accept, set_defer_accept),
    option!(SOL_TCP, TCP_WINDOW_CLAMP, get_window_clamp, set_window_clamp),
    option!(SOL_TCP, TCP_INFO, get_info, -),
    option!(SOL_TCP, TCP_QUICKACK, get_quick_ack, set_quick_ack),
    option!(SOL_TCP, TCP_CONGESTION, get_congestion, set_congestion),
    option!(SOL_TCP, TCP_USER_TIMEOUT, get_user_timeout, set_user_timeout),
    option!(SOL_TCP, TCP_NOTSENT_LOWAT, get_not_sent, set_not_sent),
    option!(SOL_TCP, TCP_INQ, get_in_queue, set_in_queue),
    option!(SOL_TCP, TCP_THIN_DUPACK, get_zero, set_bit, Effect::Hint("without effect on Linux, too")),
    option!(SOL_TCP, TCP_ULP, get_nothing, set_ulp),
    option!(SOL_TCP, TCP_CC_INFO, get_congestion_info, -),
    option!(SOL_TCP, TCP_IS_MPTCP, get_zero, -),
];

pub(super) fn tcp<'a>(context: &Context<'a>) -> Result<&'a TcpSocket, Errno> {
    context.inet()?.tcp().ok_or(Errno::ENOPROTOOPT)
}

pub(super) fn get_zero(context: &Context<'_>) -> Result<Value, Errno> {
    tcp(context)?;
    of_int(0)
}

fn get_nothing(context: &Context<'_>) -> Result<Value, Errno> {
    tcp(context)?;
    Ok(Value::new())
}

/// `struct tcp_bbr_info` where BBR is at work; the others tell nothing.
fn get_congestion_info(context: &Context<'_>) -> Result<Value, Errno> {
    let tcp = tcp(context)?;
    let default = context.namespace.stack().tcp_config().congestion;
    if tcp.tcp_options().congestion.unwrap_or(default) != Algorithm::Bbr {
        return Ok(Value::new());
    }
    let info = tcp.info().and_then(|info| info.bbr).unwrap_or_default();
    let micros = u32::try_from(info.min_rtt.as_micros()).unwrap_or(u32::MAX);
    // The bandwidth in two halves; the gains in units of 1/256.
    let bandwidth = info.bandwidth.to_ne_bytes();
    let rest = [micros, info.pacing_gain, info.window_gain].map(u32::to_ne_bytes).concat();
    Ok(Value::from_slice(&[&bandwidth[..], &rest].concat()))
}

/// A switch without effect.
fn set_bit(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    tcp(context)?;
    if (0..=1).contains(&int(value)?) { Ok(()) } else { Err(Errno::EINVAL) }
}

fn get_no_delay(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(tcp(context)?.tcp_options().no_delay)
}

fn set_no_delay(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    tcp(context)?.set_tcp_options(|options| options.no_delay = on);
    Ok(())
}

fn get_cork(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(tcp(context)?.tcp_options().cork)
}

fn set_cork(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    tcp(context)?.set_tcp_options(|options| options.cork = on);
    Ok(())
}

/// What `TCP_MAXSEG` shows before there is a connection (`TCP_MSS_DEFAULT`, RFC 1122).
const DEFAULT_MSS: u32 = 536;
/// `TCP_MIN_MSS` and `MAX_TCP_WINDOW` bound what can be set.
const MSS_RANGE: std::ops::RangeInclusive<i32> = 88..=32767;

fn get_max_segment(context: &Context<'_>) -> Result<Value, Errno> {
    let tcp = tcp(context)?;
    let wanted = tcp.tcp_options().max_segment;
    if repair::is_on(context.socket.base())
        && let Some(snapshot) = tcp.snapshot()
    {
        // What the other end has said.
        return of_int(snapshot.connection.peer_mss.into());
    }
    match tcp.info().filter(|_| !matches!(tcp.state(), State::Closed | State::Listen)) {
        Some(info) => of_int(saturate(info.snd_mss)),
        None => of_int(saturate(wanted.map_or(DEFAULT_MSS, u32::from))),
    }
}

fn set_max_segment(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let tcp = tcp(context)?;
    let size = match int(value)? {
        0 => None,
        n if MSS_RANGE.contains(&n) => Some(u16::try_from(n).map_err(|_| Errno::EINVAL)?),
        _ => return Err(Errno::EINVAL),
    };
    tcp.set_tcp_options(|options| options.max_segment = size);
    Ok(())
}

/// A time in seconds within `MAX_TCP_KEEPIDLE` and `MAX_TCP_KEEPINTVL`.
fn keep_seconds(value: &[u8]) -> Result<Duration, Errno> {
    match int(value)? {
        n @ 1..=32767 => Ok(Duration::from_secs(n.unsigned_abs().into())),
        _ => Err(Errno::EINVAL),
    }
}

fn seconds(span: Duration) -> i32 {
    saturate(span.as_secs())
}

fn get_keep_idle(context: &Context<'_>) -> Result<Value, Errno> {
    let default = context.namespace.stack().tcp_config().keepalive_idle;
    of_int(seconds(tcp(context)?.tcp_options().keepalive_idle.unwrap_or(default)))
}

fn set_keep_idle(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let time = keep_seconds(value)?;
    tcp(context)?.set_tcp_options(|options| options.keepalive_idle = Some(time));
    Ok(())
}

fn get_keep_interval(context: &Context<'_>) -> Result<Value, Errno> {
    let default = context.namespace.stack().tcp_config().keepalive_interval;
    of_int(seconds(tcp(context)?.tcp_options().keepalive_interval.unwrap_or(default)))
}

fn set_keep_interval(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let time = keep_seconds(value)?;
    tcp(context)?.set_tcp_options(|options| options.keepalive_interval = Some(time));
    Ok(())
}

/// A count in `1..=127` (`MAX_TCP_KEEPCNT`, `MAX_TCP_SYNCNT`).
fn count(value: &[u8]) -> Result<u8, Errno> {
    match int(value)? {
        n @ 1..=127 => u8::try_from(n).map_err(|_| Errno::EINVAL),
        _ => Err(Errno::EINVAL),
    }
}

fn get_keep_count(context: &Context<'_>) -> Result<Value, Errno> {
    let default = context.namespace.stack().tcp_config().keepalive_probes;
    of_int(tcp(context)?.tcp_options().keepalive_probes.unwrap_or(default).into())
}

fn set_keep_count(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let probes = count(value)?;
    tcp(context)?.set_tcp_options(|options| options.keepalive_probes = Some(probes));
    Ok(())
}

fn get_syn_count(context: &Context<'_>) -> Result<Value, Errno> {
    let default = context.namespace.stack().tcp_config().syn_retries;
    of_int(tcp(context)?.tcp_options().syn_retries.unwrap_or(default).into())
}

fn set_syn_count(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let retries = count(value)?;
    tcp(context)?.set_tcp_options(|options| options.syn_retries = Some(retries));
    Ok(())
}

/// `TCP_FIN_TIMEOUT_MAX` in seconds.
const LINGER2_MAX: i32 = 120;

fn get_linger2(context: &Context<'_>) -> Result<Value, Errno> {
    let default = context.namespace.stack().tcp_config().fin_timeout;
    of_int(match tcp(context)?.tcp_options().fin_wait2 {
        FinWait2::Default => seconds(default),
        FinWait2::Skip => -1,
        FinWait2::After(time) => seconds(time),
    })
}

fn set_linger2(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let setting = match int(value)? {
        0 => FinWait2::Default,
        n if n < 0 => FinWait2::Skip,
        n => FinWait2::After(Duration::from_secs(n.min(LINGER2_MAX).unsigned_abs().into())),
    };
    tcp(context)?.set_tcp_options(|options| options.fin_wait2 = setting);
    Ok(())
}

/// Linux stores the time as a number of SYN-ACK retransmissions, at most 255: 1, 3, 7, 15, ... seconds, then steps of 120.
fn defer_period(seconds: u64) -> u64 {
    let (mut period, mut timeout) = (1, 1);
    for _ in 1..u8::MAX {
        if period >= seconds {
            break;
        }
        timeout = (timeout * 2).min(120);
        period += timeout;
    }
    period
}

fn get_defer_accept(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(tcp(context)?.tcp_options().defer_accept.map_or(0, seconds))
}

fn set_defer_accept(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let asked = u64::try_from(int(value)?).unwrap_or(0);
    let time = (asked > 0).then(|| Duration::from_secs(defer_period(asked)));
    tcp(context)?.set_tcp_options(|options| options.defer_accept = time);
    Ok(())
}

fn get_window_clamp(context: &Context<'_>) -> Result<Value, Errno> {
    let tcp = tcp(context)?;
    let options = tcp.tcp_options();
    // A connection's clamp begins as the window that its buffer stands for (tcp_select_initial_window).
    let initial = || match tcp.state() {
        State::Closed | State::Listen => 0,
        _ => {
            options.receive_buffer.unwrap_or(context.namespace.stack().tcp_config().receive_buffer.default)
                / 2
        }
    };
    of_int(saturate(options.window_clamp.unwrap_or_else(initial)))
}

fn set_window_clamp(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let tcp = tcp(context)?;
    let clamp = match int(value)? {
        0 if tcp.state() != State::Closed => return Err(Errno::EINVAL),
        0 => None,
        // tcp_set_window_clamp: at least half of SOCK_MIN_RCVBUF.
        n => Some(n.max(1152).cast_unsigned()),
    };
    tcp.set_tcp_options(|options| options.window_clamp = clamp);
    Ok(())
}

fn get_info(context: &Context<'_>) -> Result<Value, Errno> {
    let tcp = tcp(context)?;
    let mut info = tcp_info(tcp.state(), tcp.info().as_ref());
    if tcp.state() == State::Listen {
        // tcp_get_info: "listeners are always unlocked", their queue is shown in these.
        (info.unacked, info.sacked) = context.inet()?.accept_queue();
    }
    Ok(bytes(&info))
}

fn get_quick_ack(context: &Context<'_>) -> Result<Value, Errno> {
    let tcp = tcp(context)?;
    if tcp.state() == State::Closed {
        return of_bool(context.socket.base().kept(context.option).is_none_or(|on| on != 0));
    }
    of_bool(!tcp.info().is_some_and(|info| info.is_interactive))
}

fn set_quick_ack(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = int(value)? != 0;
    // Before there is a connection it is only shown.
    context.socket.base().keep(context.option, on.into());
    tcp(context)?.set_quick_ack(on);
    Ok(())
}

/// `TCP_CA_NAME_MAX`.
const CONGESTION_NAME_LEN: usize = 16;

fn get_congestion(context: &Context<'_>) -> Result<Value, Errno> {
    let default = context.namespace.stack().tcp_config().congestion;
    let name = tcp(context)?.tcp_options().congestion.unwrap_or(default).name();
    let mut value = [0; CONGESTION_NAME_LEN];
    value[..name.len()].copy_from_slice(name.as_bytes());
    Ok(Value::from_slice(&value))
}

fn set_congestion(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let tcp = tcp(context)?;
    if value.is_empty() {
        return Err(Errno::EINVAL);
    }
    let value = &value[..value.len().min(CONGESTION_NAME_LEN - 1)];
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    let name = std::str::from_utf8(&value[..end]).map_err(|_| Errno::ENOENT)?;
    let algorithm = Algorithm::from_name(name).ok_or(Errno::ENOENT)?;
    tcp.set_tcp_options(|options| options.congestion = Some(algorithm));
    Ok(())
}

fn get_user_timeout(context: &Context<'_>) -> Result<Value, Errno> {
    let timeout = tcp(context)?.tcp_options().user_timeout;
    of_int(timeout.map_or(0, |time| saturate(time.as_millis())))
}

fn set_user_timeout(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let millis = u64::try_from(int(value)?).map_err(|_| Errno::EINVAL)?;
    let timeout = (millis > 0).then(|| Duration::from_millis(millis));
    tcp(context)?.set_tcp_options(|options| options.user_timeout = timeout);
    Ok(())
}

fn get_not_sent(context: &Context<'_>) -> Result<Value, Errno> {
    Ok(bytes(&tcp(context)?.tcp_options().not_sent_low_water.unwrap_or(0)))
}

fn set_not_sent(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let bytes = int(value)?.cast_unsigned();
    // Zero is the stack's default (tcp_notsent_lowat()).
    tcp(context)?.set_tcp_options(|options| options.not_sent_low_water = (bytes > 0).then_some(bytes));
    Ok(())
}

fn get_in_queue(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.inet()?.receive_switches().get().contains(Receive::IN_QUEUE))
}

fn set_in_queue(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    tcp(context)?;
    let on = match int(value)? {
        0 => false,
        1 => true,
        _ => return Err(Errno::EINVAL),
    };
    context.inet()?.receive_switches().set(Receive::IN_QUEUE, on);
    Ok(())
}

/// No upper-layer protocol (kernel TLS) is built in.
fn set_ulp(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    tcp(context)?;
    Err(if value.is_empty() { Errno::EINVAL } else { Errno::ENOENT })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 5 gives 7, observed on Linux 6.18.
    #[test]
    fn defer_accept_is_rounded_to_retransmissions() {
        for (asked, kept) in [(1, 1), (2, 3), (5, 7), (8, 15), (60, 63), (128, 247), (1 << 30, 29_887)] {
            assert_eq!(defer_period(asked), kept, "{asked}");
        }
    }
}
