//! Extension headers of IPv6 that a socket keeps, and whether it is told those that it receives (`ipv6(7)`, RFC 3542).

use std::sync::Arc;

use netstack::options::{ExtensionHeader, Family as IpFamily, Ipv6Extensions};
use sentry_abi::inet::*;
use sentry_abi::socket::SOL_IPV6;

use crate::errno::Errno;
use crate::socket::inet::{InetSocket, Receive, extension};
use crate::socket::option::value::{of_bool, switch};
use crate::socket::option::{Context, OptionRow, Value, option};
use crate::task::Capabilities;

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_IPV6, IPV6_HOPOPTS, get, set),
    option!(SOL_IPV6, IPV6_RTHDRDSTOPTS, get, set),
    option!(SOL_IPV6, IPV6_RTHDR, get, set),
    option!(SOL_IPV6, IPV6_DSTOPTS, get, set),
    option!(SOL_IPV6, IPV6_RECVHOPOPTS, get_switch, set_switch),
    option!(SOL_IPV6, IPV6_RECVRTHDR, get_switch, set_switch),
    option!(SOL_IPV6, IPV6_RECVDSTOPTS, get_switch, set_switch),
    option!(SOL_IPV6, IPV6_2292HOPOPTS, get_switch, set_switch),
    option!(SOL_IPV6, IPV6_2292RTHDR, get_switch, set_switch),
    option!(SOL_IPV6, IPV6_2292DSTOPTS, get_switch, set_switch),
];

fn v6<'a>(context: &Context<'a>) -> Result<&'a InetSocket, Errno> {
    context.inet().ok().filter(|inet| inet.ip_family() == IpFamily::V6).ok_or(Errno::ENOPROTOOPT)
}

/// The header that an option is about.
fn place<'a>(context: &Context<'_>, all: &'a mut Ipv6Extensions) -> &'a mut Option<ExtensionHeader> {
    match context.option.1 {
        IPV6_HOPOPTS => &mut all.hop_by_hop,
        IPV6_RTHDRDSTOPTS => &mut all.routing_destination,
        IPV6_RTHDR => &mut all.routing,
        _ => &mut all.destination,
    }
}

fn get(context: &Context<'_>) -> Result<Value, Errno> {
    let mut all = v6(context)?.options().extensions.unwrap_or_default();
    let header = place(context, Arc::make_mut(&mut all)).take();
    Ok(header.map_or_else(Value::new, |header| Value::from_slice(header.as_slice())))
}

/// The guest's buffer may be longer than most values.
fn set(context: &Context<'_>, _: &[u8]) -> Result<(), Errno> {
    let inet = v6(context)?;
    let is_route = context.option.1 == IPV6_RTHDR;
    if !is_route && !context.namespace.grants(&context.task.creds(), Capabilities::NET_RAW) {
        return Err(Errno::EPERM);
    }
    let value = match context.buffer.1 {
        len if len > MAX_LEN => return Err(Errno::EINVAL),
        len => context.read_buffer(len)?,
    };
    let header = extension::parse(&value)?;
    if header.as_ref().is_some_and(|header| is_route && !extension::is_route(header, &value)) {
        return Err(Errno::EINVAL);
    }
    inet.change_options(|options| {
        let mut all = options.extensions.take().unwrap_or_default();
        *place(context, Arc::make_mut(&mut all)) = header;
        options.extensions = Some(all).filter(|all| !all.is_empty());
    });
    Ok(())
}

fn receive(context: &Context<'_>) -> Receive {
    match context.option.1 {
        IPV6_RECVHOPOPTS => Receive::HOP_BY_HOP,
        IPV6_RECVRTHDR => Receive::ROUTING,
        IPV6_RECVDSTOPTS => Receive::DESTINATION,
        IPV6_2292HOPOPTS => Receive::HOP_BY_HOP_2292,
        IPV6_2292RTHDR => Receive::ROUTING_2292,
        _ => Receive::DESTINATION_2292,
    }
}

fn get_switch(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(v6(context)?.receive_switches().get().contains(receive(context)))
}

fn set_switch(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    v6(context)?.receive_switches().set(receive(context), switch(value)?);
    Ok(())
}

/// `8 * 255` (`do_ipv6_setsockopt`).
const MAX_LEN: usize = 8 * 255;
