//! `SOL_TCP`: taking a connection apart and putting it together elsewhere (`TCP_REPAIR` and what belongs to it, as CRIU uses them).

use netstack::tcp::{Snapshot, State};
use sentry_abi::inet::*;
use sentry_abi::socket::SOL_TCP;

use crate::errno::Errno;
use crate::socket::base::Switches;
use crate::socket::inet::repair::{self, Queue};
use crate::socket::option::tcp::tcp;
use crate::socket::option::value::{bytes, int, object, of_bool, of_int};
use crate::socket::option::{Context, OptionRow, Value, option};
use crate::task::Capabilities;

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_TCP, TCP_REPAIR, get_repair, set_repair),
    option!(SOL_TCP, TCP_REPAIR_QUEUE, get_queue, set_queue),
    option!(SOL_TCP, TCP_QUEUE_SEQ, get_number, set_number),
    option!(SOL_TCP, TCP_REPAIR_OPTIONS, -, set_options),
    option!(SOL_TCP, TCP_REPAIR_WINDOW, get_window, set_window),
    option!(SOL_TCP, TCP_TIMESTAMP, get_timestamp, set_timestamp),
];

fn is_on(context: &Context<'_>) -> bool {
    repair::is_on(context.socket.base())
}

fn get_repair(context: &Context<'_>) -> Result<Value, Errno> {
    tcp(context)?;
    of_bool(is_on(context))
}

/// `TCP_REPAIR_OFF` has the other end say what it has got; `TCP_REPAIR_OFF_NO_WP` leaves that to the next segment.
fn set_repair(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let tcp = tcp(context)?;
    let how = int(value)?;
    let may = context.namespace.grants(&context.task.creds(), Capabilities::NET_ADMIN);
    if !may || tcp.state() == State::Listen {
        return Err(Errno::EPERM);
    }
    let base = context.socket.base();
    match how {
        1 => {
            base.set(Switches::REPAIR, true);
            Queue::None.choose(base);
            // SK_FORCE_REUSE: where another connection or a listener is.
            context.inet()?.change_options(|options| options.reuse_address = true);
        }
        0 | -1 => {
            base.set(Switches::REPAIR, false);
            context.inet()?.change_options(|options| options.reuse_address = false);
            base.set(Switches::REUSE_ADDRESS, false);
            if how == 0 {
                tcp.probe();
            }
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

fn get_queue(context: &Context<'_>) -> Result<Value, Errno> {
    tcp(context)?;
    if !is_on(context) {
        return Err(Errno::EINVAL);
    }
    of_int(Queue::of(context.socket.base()) as i32)
}

fn set_queue(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    tcp(context)?;
    let number = int(value)?;
    if !is_on(context) {
        return Err(Errno::EPERM);
    }
    Queue::from_number(number).ok_or(Errno::EINVAL)?.choose(context.socket.base());
    Ok(())
}

fn get_number(context: &Context<'_>) -> Result<Value, Errno> {
    let tcp = tcp(context)?;
    let queue = Queue::of(context.socket.base());
    if queue == Queue::None {
        return Err(Errno::EINVAL);
    }
    let number = match (tcp.snapshot(), queue) {
        (None, _) => queue.first_number(context.socket.base()),
        (Some(snapshot), Queue::Send) => {
            let Snapshot { snd_una, unacked, is_write_shut, .. } = snapshot.connection;
            // Less than 2^32. A FIN has a number, too.
            let len = u32::try_from(unacked.len()).unwrap_or(u32::MAX);
            snd_una.wrapping_add(len).wrapping_add(is_write_shut.into())
        }
        (Some(snapshot), _) => {
            snapshot.connection.rcv_nxt.wrapping_add(snapshot.connection.is_read_over.into())
        }
    };
    of_int(number.cast_signed())
}

fn set_number(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let tcp = tcp(context)?;
    let number = int(value)?.cast_unsigned();
    if tcp.state() != State::Closed {
        return Err(Errno::EPERM);
    }
    match Queue::of(context.socket.base()) {
        Queue::None => Err(Errno::EINVAL),
        queue => {
            queue.begin_at(context.socket.base(), number);
            Ok(())
        }
    }
}

/// What the handshake has agreed on: pairs of an option's kind and a value (`tcp_repair_options_est`).
fn set_options(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let tcp = tcp(context)?;
    if !is_on(context) {
        return Err(Errno::EINVAL);
    }
    let has_sent = tcp.info().is_none_or(|info| info.bytes_sent > 0);
    if tcp.state() != State::Established || has_sent {
        return Err(Errno::EPERM);
    }
    let change = |snapshot: &mut Snapshot| {
        for pair in value.chunks_exact(8) {
            let [code, value] = object::<[u32; 2]>(pair)?;
            agree(snapshot, code, value)?;
        }
        Ok(())
    };
    tcp.repair(change).unwrap_or(Err(Errno::EPERM))
}

fn agree(snapshot: &mut Snapshot, code: u32, value: u32) -> Result<(), Errno> {
    match code {
        KIND_MSS => snapshot.peer_mss = u16::try_from(value).unwrap_or(u16::MAX),
        KIND_WINDOW_SCALE => {
            let (snd, rcv) = (value & 0xffff, value >> 16);
            if snd > MAX_SHIFT || rcv > MAX_SHIFT {
                return Err(Errno::EFBIG);
            }
            // At most 14.
            snapshot.window_shifts = Some((snd as u8, rcv as u8));
        }
        KIND_SACK_PERMITTED if value == 0 => snapshot.has_sack = true,
        KIND_TIMESTAMPS if value == 0 => {
            // A time of the peer's is not known before its next segment.
            snapshot.timestamps = snapshot.timestamps.or(Some((0, 0)));
        }
        KIND_SACK_PERMITTED | KIND_TIMESTAMPS => return Err(Errno::EINVAL),
        _ => {}
    }
    Ok(())
}

/// `struct tcp_repair_window`.
fn get_window(context: &Context<'_>) -> Result<Value, Errno> {
    let tcp = tcp(context)?;
    if context.buffer.1 != WINDOW_LEN {
        return Err(Errno::EINVAL);
    }
    if !is_on(context) {
        return Err(Errno::EPERM);
    }
    let Snapshot { snd_wl1, snd_wnd, max_wnd, rcv_wnd, rcv_wup, .. } =
        tcp.snapshot().map(|snapshot| snapshot.connection).unwrap_or_default();
    Ok(bytes(&[snd_wl1, snd_wnd, max_wnd, rcv_wnd, rcv_wup]))
}

/// `tcp_repair_set_window`.
fn set_window(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let tcp = tcp(context)?;
    if !is_on(context) {
        return Err(Errno::EPERM);
    }
    if context.buffer.1 != WINDOW_LEN {
        return Err(Errno::EINVAL);
    }
    let [snd_wl1, snd_wnd, max_wnd, rcv_wnd, rcv_wup] = object::<[u32; 5]>(value)?;
    let is_after = |one: u32, other: u32| one.wrapping_sub(other).cast_signed() > 0;
    if max_wnd < snd_wnd {
        return Err(Errno::EINVAL);
    }
    let change = |snapshot: &mut Snapshot| {
        let rcv_nxt = snapshot.rcv_nxt;
        if is_after(snd_wl1, rcv_nxt.wrapping_add(rcv_wnd)) || is_after(rcv_wup, rcv_nxt) {
            return Err(Errno::EINVAL);
        }
        (snapshot.snd_wl1, snapshot.snd_wnd, snapshot.max_wnd) = (snd_wl1, snd_wnd, max_wnd);
        (snapshot.rcv_wnd, snapshot.rcv_wup) = (rcv_wnd, rcv_wup);
        Ok(())
    };
    tcp.repair(change).unwrap_or(Ok(()))
}

/// The clock from which the connection's timestamps are taken, as it stands.
fn get_timestamp(context: &Context<'_>) -> Result<Value, Errno> {
    let offset = tcp(context)?.info().map_or(0, |info| info.timestamp_offset);
    let clock = context.namespace.stack().now().as_millis();
    // The clock wraps around (RFC 7323 section 5.4).
    let low = (clock & 0xffff_ffff) as u32;
    Ok(bytes(&low.wrapping_add(offset)))
}

fn set_timestamp(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let tcp = tcp(context)?;
    let clock = int(value)?.cast_unsigned();
    if !is_on(context) {
        return Err(Errno::EPERM);
    }
    let change = |snapshot: &mut Snapshot| {
        let recent = snapshot.timestamps.map(|(recent, _)| recent);
        snapshot.timestamps = recent.map(|recent| (recent, clock));
    };
    tcp.repair(change);
    Ok(())
}

/// The kinds of TCP options (RFC 9293 section 3.2, RFC 7323, RFC 2018).
const KIND_MSS: u32 = 2;
const KIND_WINDOW_SCALE: u32 = 3;
const KIND_SACK_PERMITTED: u32 = 4;
const KIND_TIMESTAMPS: u32 = 8;
/// `TCP_MAX_WSCALE`.
const MAX_SHIFT: u32 = 14;
/// The size of `struct tcp_repair_window`.
const WINDOW_LEN: usize = 20;
