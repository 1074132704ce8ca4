//! `IPPROTO_TCP`: limits of the timers, and Fast Open from `ns_connect`.

use std::time::Duration;

use libc::{IPPROTO_TCP as TCP, c_int};
use netstack::tcp::{FastOpenModes, State};

use super::tcp::{defaults, tcp};
use super::value::{int, int_value, saturate};
use super::{Row, both};
use crate::errno::Errno;

pub(super) const ROWS: &[Row] = &[
    both(
        TCP,
        libc::TCP_FASTOPEN_CONNECT,
        |socket| Ok(int_value(tcp(socket)?.tcp_options().fast_open_connect.into())),
        |socket, value| {
            let (tcp, on) = (tcp(socket)?, bit(value)?);
            if !defaults(socket).fast_open.contains(FastOpenModes::CLIENT) {
                return Err(Errno(libc::EOPNOTSUPP));
            }
            if tcp.state() != State::Closed {
                return Err(Errno(libc::EINVAL));
            }
            tcp.set_tcp_options(|options| options.fast_open_connect = on);
            Ok(())
        },
    ),
    both(
        TCP,
        TCP_FASTOPEN_NO_COOKIE,
        |socket| Ok(int_value(tcp(socket)?.tcp_options().fast_open_without_cookie.into())),
        |socket, value| {
            let (tcp, on) = (tcp(socket)?, bit(value)?);
            tcp.set_tcp_options(|options| options.fast_open_without_cookie = on);
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_THIN_LINEAR_TIMEOUTS,
        |socket| Ok(int_value(tcp(socket)?.tcp_options().thin_linear_timeouts.into())),
        |socket, value| {
            let (tcp, on) = (tcp(socket)?, bit(value)?);
            tcp.set_tcp_options(|options| options.thin_linear_timeouts = on);
            Ok(())
        },
    ),
    both(
        TCP,
        TCP_RTO_MAX_MS,
        |socket| {
            let time = tcp(socket)?.tcp_options().rto_max.unwrap_or(defaults(socket).rto_max);
            Ok(int_value(saturate(time.as_millis())))
        },
        |socket, value| {
            let time = within(value, 1000, 120_000).map(Duration::from_millis)?;
            tcp(socket)?.set_tcp_options(|options| options.rto_max = Some(time));
            Ok(())
        },
    ),
    both(
        TCP,
        TCP_RTO_MIN_US,
        |socket| {
            let time = tcp(socket)?.tcp_options().rto_min.unwrap_or(defaults(socket).rto_min);
            Ok(int_value(saturate(time.as_micros())))
        },
        |socket, value| {
            let time = within(value, SHORTEST_MICROS, 200_000).map(Duration::from_micros)?;
            tcp(socket)?.set_tcp_options(|options| options.rto_min = Some(time));
            Ok(())
        },
    ),
    both(
        TCP,
        TCP_DELACK_MAX_US,
        |socket| {
            let set = tcp(socket)?.tcp_options().delayed_ack_max;
            Ok(int_value(saturate(set.unwrap_or(defaults(socket).delayed_ack_max).as_micros())))
        },
        |socket, value| {
            let time = within(value, SHORTEST_MICROS, 200_000).map(Duration::from_micros)?;
            tcp(socket)?.set_tcp_options(|options| options.delayed_ack_max = Some(time));
            Ok(())
        },
    ),
];

/// Zero or one.
fn bit(value: &[u8]) -> Result<bool, Errno> {
    within(value, 0, 1).map(|bit| bit == 1)
}

fn within(value: &[u8], least: u64, most: u64) -> Result<u64, Errno> {
    let number = u64::try_from(int(value)?).ok().filter(|number| (least..=most).contains(number));
    number.ok_or(Errno(libc::EINVAL))
}

/// Two ticks of a millisecond; Linux's depend on how it was built.
const SHORTEST_MICROS: u64 = 2000;

// linux/tcp.h; the C library's crate does not have them.
const TCP_FASTOPEN_NO_COOKIE: c_int = 34;
const TCP_RTO_MAX_MS: c_int = 44;
const TCP_RTO_MIN_US: c_int = 45;
const TCP_DELACK_MAX_US: c_int = 46;
