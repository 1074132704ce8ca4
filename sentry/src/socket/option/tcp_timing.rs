//! `SOL_TCP`: limits of the timers.

use std::time::Duration;

use sentry_abi::inet::*;
use sentry_abi::socket::SOL_TCP;

use crate::errno::Errno;
use crate::socket::option::tcp::tcp;
use crate::socket::option::value::{int, of_bool, of_int, saturate};
use crate::socket::option::{Context, Effect, OptionRow, Value, option};

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, get_thin, set_thin),
    option!(
        SOL_TCP,
        TCP_TX_DELAY,
        get_delay,
        set_delay,
        Effect::Hint("on Linux it takes the fq queueing discipline to have an effect")
    ),
    option!(SOL_TCP, TCP_RTO_MAX_MS, get_rto_max, set_rto_max),
    option!(SOL_TCP, TCP_RTO_MIN_US, get_rto_min, set_rto_min),
    option!(SOL_TCP, TCP_DELACK_MAX_US, get_delayed_ack_max, set_delayed_ack_max),
];

fn get_thin(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(tcp(context)?.tcp_options().thin_linear_timeouts)
}

fn set_thin(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let tcp = tcp(context)?;
    let on = match int(value)? {
        0 => false,
        1 => true,
        _ => return Err(Errno::EINVAL),
    };
    tcp.set_tcp_options(|options| options.thin_linear_timeouts = on);
    Ok(())
}

fn get_delay(context: &Context<'_>) -> Result<Value, Errno> {
    tcp(context)?;
    of_int(context.inet()?.notes().transmit_delay())
}

fn set_delay(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    tcp(context)?;
    // "tp->tcp_tx_delay is in usec", of which only the upper bits of a rate's period are used.
    match int(value)? {
        micros @ 0..MAX_DELAY => {
            context.inet()?.notes().set_transmit_delay(micros);
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `do_tcp_setsockopt`: "if (val < 0 || val >= (1U << (31 - 3)))".
const MAX_DELAY: i32 = 1 << 28;

fn get_rto_max(context: &Context<'_>) -> Result<Value, Errno> {
    let default = context.namespace.stack().tcp_config().rto_max;
    let time = tcp(context)?.tcp_options().rto_max.unwrap_or(default);
    of_int(saturate(time.as_millis()))
}

/// From a second to `TCP_RTO_MAX_SEC`.
fn set_rto_max(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let tcp = tcp(context)?;
    let millis = int(value)?;
    if !(1000..=120_000).contains(&millis) {
        return Err(Errno::EINVAL);
    }
    let ticks = millis.unsigned_abs().div_ceil(TICK_MILLIS).min(RTO_MAX_MILLIS / TICK_MILLIS);
    let time = Duration::from_millis(u64::from(ticks * TICK_MILLIS));
    tcp.set_tcp_options(|options| options.rto_max = Some(time));
    Ok(())
}

/// Linux counts in ticks; these are those of 250 Hz. Two to fifty of them (`TCP_TIMEOUT_MIN`, `TCP_RTO_MIN`).
fn ticks(value: &[u8]) -> Result<Duration, Errno> {
    let micros = u32::try_from(int(value)?).map_err(|_| Errno::EINVAL)?;
    match micros.div_ceil(TICK_MICROS) {
        ticks @ 2..=50 => Ok(Duration::from_micros(u64::from(ticks) * u64::from(TICK_MICROS))),
        _ => Err(Errno::EINVAL),
    }
}

const TICK_MICROS: u32 = 4000;
const TICK_MILLIS: u32 = TICK_MICROS / 1000;
const RTO_MAX_MILLIS: u32 = 120_000;

fn get_rto_min(context: &Context<'_>) -> Result<Value, Errno> {
    let default = context.namespace.stack().tcp_config().rto_min;
    let time = tcp(context)?.tcp_options().rto_min.unwrap_or(default);
    of_int(saturate(time.as_micros()))
}

fn set_rto_min(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let (tcp, time) = (tcp(context)?, ticks(value)?);
    tcp.set_tcp_options(|options| options.rto_min = Some(time));
    Ok(())
}

fn get_delayed_ack_max(context: &Context<'_>) -> Result<Value, Errno> {
    let default = context.namespace.stack().tcp_config().delayed_ack_max;
    let time = tcp(context)?.tcp_options().delayed_ack_max.unwrap_or(default);
    of_int(saturate(time.as_micros()))
}

fn set_delayed_ack_max(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let (tcp, time) = (tcp(context)?, ticks(value)?);
    tcp.set_tcp_options(|options| options.delayed_ack_max = Some(time));
    Ok(())
}
