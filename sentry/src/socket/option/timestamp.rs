//! Times of packets: `SO_TIMESTAMP`, `SO_TIMESTAMPNS`, `SO_TIMESTAMPING`, each by two numbers (`socket(7)`, Linux's
//! `Documentation/networking/timestamping.rst`).

use netstack::options::StampOrigin;
use sentry_abi::socket::*;

use crate::errno::Errno;
use crate::socket::base::Switches;
use crate::socket::inet::stamp::Stamping;
use crate::socket::ops::Family;
use crate::socket::option::value::{bytes, int, object, of_bool};
use crate::socket::option::{Context, Effect, OptionRow, Value, option};

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_SOCKET, SO_TIMESTAMP, get, set),
    option!(SOL_SOCKET, SO_TIMESTAMP_NEW, get, set),
    option!(SOL_SOCKET, SO_TIMESTAMPNS, get, set),
    option!(SOL_SOCKET, SO_TIMESTAMPNS_NEW, get, set),
    option!(SOL_SOCKET, SO_TIMESTAMPING, get_stamping, set_stamping, SOFTWARE),
    option!(SOL_SOCKET, SO_TIMESTAMPING_NEW, get_stamping, set_stamping, SOFTWARE),
];

const SOFTWARE: Effect = Effect::Partial("not for packet sockets; no times of hardware");

/// Whether the option is one with the layout of 64-bit times on all machines, which is the same here, and whether it counts in
/// nanoseconds.
fn kind(context: &Context<'_>) -> (bool, bool) {
    let name = context.option.1;
    (
        matches!(name, SO_TIMESTAMP_NEW | SO_TIMESTAMPNS_NEW | SO_TIMESTAMPING_NEW),
        matches!(name, SO_TIMESTAMPNS | SO_TIMESTAMPNS_NEW),
    )
}

fn get(context: &Context<'_>) -> Result<Value, Errno> {
    let (is_new, is_ns) = kind(context);
    let now = context.socket.base().switches();
    // sk_getsockopt: SO_TIMESTAMP_NEW does not ask whether nanoseconds are counted.
    let wanted = match (is_ns, is_new) {
        (true, _) => Switches::TIMESTAMP_NS,
        (false, true) => Switches::TIMESTAMP_NS | Switches::TIMESTAMP,
        (false, false) => Switches::TIMESTAMP,
    };
    of_bool(now.intersects(wanted) && now.contains(Switches::TIMESTAMP_NEW) == is_new)
}

fn set(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let (is_new, is_ns) = kind(context);
    let on = int(value)? != 0;
    let base = context.socket.base();
    base.set(Switches::TIMESTAMP, on && !is_ns);
    base.set(Switches::TIMESTAMP_NS, on && is_ns);
    if on {
        base.set(Switches::TIMESTAMP_NEW, is_new);
    }
    note_arrivals(context);
    Ok(())
}

fn get_stamping(context: &Context<'_>) -> Result<Value, Errno> {
    let base = context.socket.base();
    let (is_new, _) = kind(context);
    let is_shown = !is_new || base.has(Switches::TIMESTAMP_NEW);
    let flags = if is_shown { Stamping::of(base).bits() } else { 0 };
    // The clock of the hardware, of which there is none.
    Ok(bytes(&[flags, 0]))
}

/// `sock_set_timestamping`.
fn set_stamping(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let flags = match value.len() {
        8 => object::<[u32; 2]>(value)?[0],
        _ => int(value)?.cast_unsigned(),
    };
    let flags = Stamping::from_bits(flags).ok_or(Errno::EINVAL)?;
    let base = context.socket.base();
    let old = Stamping::of(base);
    let inet = context.inet().ok();
    if flags.contains(Stamping::OPT_ID_TCP) && !flags.contains(Stamping::OPT_ID) {
        return Err(Errno::EINVAL);
    }
    let begins_to_count = flags.contains(Stamping::OPT_ID) && !old.contains(Stamping::OPT_ID);
    if let Some(tcp) = inet.and_then(|inet| inet.tcp()).filter(|_| begins_to_count)
        && matches!(tcp.state(), netstack::tcp::State::Closed | netstack::tcp::State::Listen)
    {
        return Err(Errno::EINVAL);
    }
    if flags.contains(Stamping::OPT_STATS) && !flags.contains(Stamping::OPT_TSONLY) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(Stamping::BIND_PHC) {
        return Err(Errno::EOPNOTSUPP);
    }
    let has_times = match context.socket.family() {
        // Nothing of local ones has a time on Linux, either.
        Family::Inet(_) | Family::Unix(_) | Family::Netlink(_) => true,
        Family::Packet(_) | Family::Host(_) => false,
    };
    if !has_times && flags.intersects(Stamping::SOFTWARE_TIMES) {
        return Err(Errno::ENOPROTOOPT);
    }
    if let Some(inet) = inet.filter(|_| begins_to_count) {
        inet.notes().restart_stamp_ids();
        let is_from_unwritten = flags.contains(Stamping::OPT_ID_TCP);
        let origin = if is_from_unwritten { StampOrigin::Unwritten } else { StampOrigin::Unacknowledged };
        inet.tcp().into_iter().for_each(|tcp| tcp.number_stamps(origin));
    }
    flags.keep(base);
    let (is_new, _) = kind(context);
    base.set(Switches::TIMESTAMP_NEW, is_new);
    note_arrivals(context);
    Ok(())
}

/// Has the stack remember when the bytes of a stream come, or no longer.
fn note_arrivals(context: &Context<'_>) {
    let Some(inet) = context.inet().ok().filter(|inet| inet.tcp().is_some()) else { return };
    let stamp_arrivals = Stamping::wants_arrivals(context.socket.base());
    if inet.options().stamp_arrivals != stamp_arrivals {
        inet.change_options(|options| options.stamp_arrivals = stamp_arrivals);
    }
}
