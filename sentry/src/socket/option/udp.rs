//! `SOL_UDP` (`udp(7)`).

use netstack::UdpSocket;
use sentry_abi::inet::{UDP_CORK, UDP_ENCAP, UDP_GRO, UDP_SEGMENT};
use sentry_abi::socket::SOL_UDP;

use crate::errno::Errno;
use crate::socket::inet::Receive;
use crate::socket::option::value::{int, of_bool, of_int, switch};
use crate::socket::option::{Context, Effect, OptionRow, Value, option};

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_UDP, UDP_CORK, get_cork, set_cork),
    option!(SOL_UDP, UDP_ENCAP, get_zero, set_only_zero, Effect::Partial("no tunnels")),
    option!(SOL_UDP, UDP_SEGMENT, get_segment, set_segment),
    option!(SOL_UDP, UDP_GRO, get_gro, set_gro),
];

fn udp<'a>(context: &Context<'a>) -> Result<&'a UdpSocket, Errno> {
    context.inet()?.udp().ok_or(Errno::ENOPROTOOPT)
}

fn get_zero(context: &Context<'_>) -> Result<Value, Errno> {
    udp(context)?;
    of_int(0)
}

fn set_only_zero(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    udp(context)?;
    if switch(value)? { Err(Errno::ENOPROTOOPT) } else { Ok(()) }
}

fn get_cork(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(udp(context)?.is_corked())
}

fn set_cork(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    // udp_lib_setsockopt does not say what became of the datagram.
    let _ = udp(context)?.set_cork(switch(value)?);
    Ok(())
}

fn get_gro(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(context.inet()?.receive_switches().get().contains(Receive::GRO))
}

fn set_gro(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    udp(context)?.set_options(|options| options.coalesce = on);
    context.inet()?.receive_switches().set(Receive::GRO, on);
    Ok(())
}

fn get_segment(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(udp(context)?.options().segment_size.into())
}

fn set_segment(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let size = u16::try_from(int(value)?).map_err(|_| Errno::EINVAL)?;
    udp(context)?.set_options(|options| options.segment_size = size);
    Ok(())
}
