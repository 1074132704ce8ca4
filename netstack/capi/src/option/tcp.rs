//! `IPPROTO_TCP`.

use std::time::Duration;

use libc::IPPROTO_TCP as TCP;
use netstack::tcp::{Algorithm, FinWait2};

use super::value::{int, int_value, keepalive_time, saturate, seconds, small_count};
use super::{Row, Subject, both, write_only};
use crate::errno::Errno;

pub(super) const ROWS: &[Row] = &[
    both(
        TCP,
        libc::TCP_NODELAY,
        |socket| Ok(int_value(tcp(socket)?.tcp_options().no_delay.into())),
        |socket, value| {
            let on = int(value)? != 0;
            tcp(socket)?.set_tcp_options(|options| options.no_delay = on);
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_CORK,
        |socket| Ok(int_value(tcp(socket)?.tcp_options().cork.into())),
        |socket, value| {
            let on = int(value)? != 0;
            tcp(socket)?.set_tcp_options(|options| options.cork = on);
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_MAXSEG,
        |socket| {
            let tcp = tcp(socket)?;
            let wanted = tcp.tcp_options().max_segment.map_or(DEFAULT_MSS, u32::from);
            Ok(int_value(saturate(tcp.info().map_or(wanted, |info| info.snd_mss))))
        },
        |socket, value| {
            let size = match int(value)? {
                0 => None,
                // TCP_MIN_MSS and MAX_TCP_WINDOW of Linux.
                size @ 88..=32767 => u16::try_from(size).ok(),
                _ => return Err(Errno(libc::EINVAL)),
            };
            tcp(socket)?.set_tcp_options(|options| options.max_segment = size);
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_KEEPIDLE,
        |socket| {
            Ok(seconds(tcp(socket)?.tcp_options().keepalive_idle.unwrap_or(defaults(socket).keepalive_idle)))
        },
        |socket, value| {
            let span = keepalive_time(value)?;
            tcp(socket)?.set_tcp_options(|options| options.keepalive_idle = Some(span));
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_KEEPINTVL,
        |socket| {
            Ok(seconds(
                tcp(socket)?.tcp_options().keepalive_interval.unwrap_or(defaults(socket).keepalive_interval),
            ))
        },
        |socket, value| {
            let span = keepalive_time(value)?;
            tcp(socket)?.set_tcp_options(|options| options.keepalive_interval = Some(span));
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_KEEPCNT,
        |socket| {
            Ok(int_value(
                tcp(socket)?
                    .tcp_options()
                    .keepalive_probes
                    .unwrap_or(defaults(socket).keepalive_probes)
                    .into(),
            ))
        },
        |socket, value| {
            let probes = small_count(value)?;
            tcp(socket)?.set_tcp_options(|options| options.keepalive_probes = Some(probes));
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_SYNCNT,
        |socket| {
            Ok(int_value(
                tcp(socket)?.tcp_options().syn_retries.unwrap_or(defaults(socket).syn_retries).into(),
            ))
        },
        |socket, value| {
            let retries = small_count(value)?;
            tcp(socket)?.set_tcp_options(|options| options.syn_retries = Some(retries));
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_USER_TIMEOUT,
        |socket| {
            let limit = tcp(socket)?.tcp_options().user_timeout.unwrap_or_default();
            Ok(int_value(saturate(limit.as_millis())))
        },
        |socket, value| {
            let limit = u64::try_from(int(value)?).map_err(|_| Errno(libc::EINVAL))?;
            let limit = (limit > 0).then(|| Duration::from_millis(limit));
            tcp(socket)?.set_tcp_options(|options| options.user_timeout = limit);
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_DEFER_ACCEPT,
        |socket| Ok(seconds(tcp(socket)?.tcp_options().defer_accept.unwrap_or_default())),
        |socket, value| {
            let limit = u64::try_from(int(value)?).ok().filter(|&limit| limit > 0);
            let limit = limit.map(Duration::from_secs);
            tcp(socket)?.set_tcp_options(|options| options.defer_accept = limit);
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_WINDOW_CLAMP,
        |socket| Ok(int_value(saturate(tcp(socket)?.tcp_options().window_clamp.unwrap_or(0)))),
        |socket, value| {
            let clamp = u32::try_from(int(value)?).map_err(|_| Errno(libc::EINVAL))?;
            let clamp = (clamp > 0).then_some(clamp);
            tcp(socket)?.set_tcp_options(|options| options.window_clamp = clamp);
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_CONGESTION,
        |socket| {
            let tcp = tcp(socket)?;
            let name = tcp.tcp_options().congestion.unwrap_or_default().name();
            // Linux's TCP_CA_NAME_MAX, filled with zeros.
            let mut field = vec![0; 16];
            field[..name.len()].copy_from_slice(name.as_bytes());
            Ok(field)
        },
        |socket, value| {
            let name = value.split(|&byte| byte == 0).next().unwrap_or_default();
            let name = std::str::from_utf8(name).map_err(|_| Errno(libc::ENOENT))?;
            let algorithm = Algorithm::from_name(name).ok_or(Errno(libc::ENOENT))?;
            tcp(socket)?.set_tcp_options(|options| options.congestion = Some(algorithm));
            Ok(())
        },
    ),
    write_only(TCP, libc::TCP_QUICKACK, |socket, value| {
        tcp(socket)?.set_quick_ack(int(value)? != 0);
        Ok(())
    }),
    both(
        TCP,
        libc::TCP_FASTOPEN,
        |socket| Ok(int_value(saturate(tcp(socket)?.tcp_options().fast_open_queue.unwrap_or(0)))),
        |socket, value| {
            let queue = u32::try_from(int(value)?).map_err(|_| Errno(libc::EINVAL))?;
            tcp(socket)?.set_tcp_options(|options| options.fast_open_queue = (queue > 0).then_some(queue));
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_NOTSENT_LOWAT,
        |socket| Ok(tcp(socket)?.tcp_options().not_sent_low_water.unwrap_or(0).to_ne_bytes().to_vec()),
        |socket, value| {
            let bytes = int(value)?.cast_unsigned();
            tcp(socket)?.set_tcp_options(|options| {
                options.not_sent_low_water = (bytes > 0).then_some(bytes);
            });
            Ok(())
        },
    ),
    both(
        TCP,
        libc::TCP_LINGER2,
        |socket| {
            Ok(match tcp(socket)?.tcp_options().fin_wait2 {
                FinWait2::Default => seconds(defaults(socket).fin_timeout),
                FinWait2::Skip => int_value(-1),
                FinWait2::After(span) => seconds(span),
            })
        },
        |socket, value| {
            let fin_wait2 = match int(value)? {
                0 => FinWait2::Default,
                ..0 => FinWait2::Skip,
                // Linux's TCP_FIN_TIMEOUT_MAX.
                span => FinWait2::After(Duration::from_secs(span.min(120).unsigned_abs().into())),
            };
            tcp(socket)?.set_tcp_options(|options| options.fin_wait2 = fin_wait2);
            Ok(())
        },
    ),
];

pub(super) fn tcp<'a>(socket: &'a Subject<'_>) -> Result<&'a netstack::TcpSocket, Errno> {
    socket.socket.tcp().ok_or(Errno(libc::ENOPROTOOPT))
}

/// What counts where a socket says nothing.
pub(super) fn defaults(socket: &Subject<'_>) -> std::sync::Arc<netstack::tcp::Config> {
    socket.handle.stack.tcp_config()
}

/// Linux's `TCP_MSS_DEFAULT` (RFC 1122).
const DEFAULT_MSS: u32 = 536;
