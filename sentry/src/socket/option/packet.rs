//! `SOL_PACKET` (`packet(7)`).

use netstack::error::FanoutError;
use netstack::socket::FanoutMode;
use sentry_abi::packet::*;
use sentry_abi::socket::SOL_PACKET;
use zerocopy::IntoBytes;

use crate::errno::Errno;
use crate::socket::inet::Membership;
use crate::socket::ops::Family;
use crate::socket::option::value::{bytes, int, object, of_bool, of_int, saturate, switch};
use crate::socket::option::{Context, Effect, OptionRow, Value, filter, option};
use crate::socket::packet::{PacketSocket, Version, VnetHeader};

pub(super) const ROWS: &[OptionRow] = &[
    option!(SOL_PACKET, PACKET_ADD_MEMBERSHIP, -, add_membership),
    option!(SOL_PACKET, PACKET_DROP_MEMBERSHIP, -, drop_membership),
    option!(SOL_PACKET, PACKET_RX_RING, -, set_rx_ring),
    option!(SOL_PACKET, PACKET_STATISTICS, get_statistics, -),
    option!(SOL_PACKET, PACKET_AUXDATA, get_auxdata, set_auxdata),
    option!(SOL_PACKET, PACKET_TX_RING, -, set_tx_ring),
    option!(SOL_PACKET, PACKET_LOSS, get_loss, set_loss),
    option!(SOL_PACKET, PACKET_TX_HAS_OFF, get_has_offsets, set_has_offsets),
    option!(
        SOL_PACKET,
        PACKET_COPY_THRESH,
        get_copy_threshold,
        set_copy_threshold,
        Effect::Hint("frames that a ring cuts are not kept whole besides")
    ),
    option!(
        SOL_PACKET,
        PACKET_ORIGDEV,
        get_original_device,
        set_original_device,
        Effect::Hint("there are no stacked devices")
    ),
    option!(SOL_PACKET, PACKET_VERSION, get_version, set_version),
    option!(SOL_PACKET, PACKET_HDRLEN, get_header_len, -),
    option!(SOL_PACKET, PACKET_RESERVE, get_reserve, set_reserve),
    option!(
        SOL_PACKET,
        PACKET_TIMESTAMP,
        get_timestamp,
        set_timestamp,
        Effect::Hint("there are no clocks of devices")
    ),
    option!(SOL_PACKET, PACKET_FANOUT, get_fanout, set_fanout),
    option!(SOL_PACKET, PACKET_FANOUT_DATA, -, set_fanout_data),
    option!(
        SOL_PACKET,
        PACKET_QDISC_BYPASS,
        get_bypass,
        set_bypass,
        Effect::Hint("there is nothing to bypass")
    ),
    option!(SOL_PACKET, PACKET_VNET_HDR, get_vnet_header, set_vnet_header),
    option!(SOL_PACKET, PACKET_VNET_HDR_SZ, get_vnet_header_len, set_vnet_header_len),
    option!(SOL_PACKET, PACKET_IGNORE_OUTGOING, get_ignore_outgoing, set_ignore_outgoing),
];

fn packet<'a>(context: &Context<'a>) -> Result<&'a PacketSocket, Errno> {
    match context.socket.family() {
        Family::Packet(packet) => Ok(packet),
        Family::Unix(_) | Family::Inet(_) | Family::Netlink(_) | Family::Host(_) => Err(Errno::ENOPROTOOPT),
    }
}

fn get_loss(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(packet(context)?.skips_nonsense())
}

fn set_loss(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    packet(context)?.set_skips_nonsense(switch(value)?)
}

fn get_has_offsets(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(packet(context)?.has_offsets())
}

fn set_has_offsets(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    packet(context)?.set_has_offsets(switch(value)?);
    Ok(())
}

fn get_copy_threshold(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(packet(context)?.numbers().copy_threshold)
}

fn set_copy_threshold(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let threshold = int(value)?;
    packet(context)?.change_numbers(|numbers| numbers.copy_threshold = threshold);
    Ok(())
}

fn get_timestamp(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(packet(context)?.numbers().timestamp)
}

fn set_timestamp(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let which = int(value)?;
    packet(context)?.change_numbers(|numbers| numbers.timestamp = which);
    Ok(())
}

fn get_original_device(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(packet(context)?.numbers().original_device)
}

fn set_original_device(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    packet(context)?.change_numbers(|numbers| numbers.original_device = on);
    Ok(())
}

fn get_bypass(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(packet(context)?.numbers().bypass)
}

fn set_bypass(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let on = switch(value)?;
    packet(context)?.change_numbers(|numbers| numbers.bypass = on);
    Ok(())
}

fn add_membership(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    packet(context)?.change_membership(object(value)?, Membership::Join)
}

fn drop_membership(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    packet(context)?.change_membership(object(value)?, Membership::Leave)
}

/// `struct tpacket_req`, or the longer one of version 3.
fn ring_sizes(packet: &PacketSocket, value: &[u8]) -> Result<TpacketReq3, Errno> {
    let needed = match packet.version() {
        Version::V1 | Version::V2 => 16,
        Version::V3 => size_of::<TpacketReq3>(),
    };
    let mut sizes = TpacketReq3::default();
    sizes.as_mut_bytes()[..needed].copy_from_slice(value.get(..needed).ok_or(Errno::EINVAL)?);
    Ok(sizes)
}

fn set_rx_ring(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let packet = packet(context)?;
    packet.set_ring(context.task.kernel(), ring_sizes(packet, value)?)
}

fn set_tx_ring(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let packet = packet(context)?;
    packet.set_transmit_ring(context.task.kernel(), ring_sizes(packet, value)?)
}

/// The counters since the last call. They are 32 bits wide in the ABI and wrap around.
fn get_statistics(context: &Context<'_>) -> Result<Value, Errno> {
    let packet = packet(context)?;
    let stats = packet.stack_socket().take_stats();
    let (packets, drops) = ((stats.packets & 0xffff_ffff) as u32, (stats.drops & 0xffff_ffff) as u32);
    Ok(match (packet.version(), packet.take_freezes()) {
        (Version::V3, freezes) => {
            bytes(&TpacketStatsV3 { packets, drops, freezes: freezes.unwrap_or_default() })
        }
        _ => bytes(&TpacketStats { packets, drops }),
    })
}

fn get_auxdata(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(packet(context)?.wants_auxdata())
}

fn set_auxdata(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    packet(context)?.set_wants_auxdata(switch(value)?);
    Ok(())
}

fn get_version(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(packet(context)?.version().number())
}

fn set_version(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let version = Version::from_number(int(value)?).ok_or(Errno::EINVAL)?;
    packet(context)?.set_version(version)
}

/// Of the version that the guest's buffer names.
fn get_header_len(context: &Context<'_>) -> Result<Value, Errno> {
    packet(context)?;
    let version = Version::from_number(int(&context.read_buffer(4)?)?).ok_or(Errno::EINVAL)?;
    of_int(saturate(version.header_len()))
}

fn get_reserve(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(saturate(packet(context)?.reserve()))
}

fn set_reserve(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let bytes = u32::try_from(int(value)?).map_err(|_| Errno::EINVAL)?;
    packet(context)?.set_reserve(bytes)
}

fn get_vnet_header(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(!packet(context)?.vnet_header().is_empty())
}

fn set_vnet_header(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let header = if switch(value)? { VnetHeader::Plain } else { VnetHeader::Absent };
    packet(context)?.set_vnet_header(header)
}

fn get_vnet_header_len(context: &Context<'_>) -> Result<Value, Errno> {
    of_int(i32::try_from(packet(context)?.vnet_header().len()).unwrap_or(i32::MAX))
}

fn set_vnet_header_len(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let header = VnetHeader::of_len(int(value)?).ok_or(Errno::EINVAL)?;
    packet(context)?.set_vnet_header(header)
}

fn get_ignore_outgoing(context: &Context<'_>) -> Result<Value, Errno> {
    of_bool(!packet(context)?.stack_socket().receives_outgoing())
}

fn set_ignore_outgoing(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let packet = packet(context)?;
    let ignore = int(value)?;
    if !(0..=1).contains(&ignore) {
        return Err(Errno::EINVAL);
    }
    packet.stack_socket().set_receive_outgoing(ignore == 0);
    Ok(())
}

/// The modes and their numbers.
const FANOUT_MODES: [(u16, FanoutMode); 7] = [
    (PACKET_FANOUT_HASH, FanoutMode::Hash),
    (PACKET_FANOUT_LB, FanoutMode::RoundRobin),
    (PACKET_FANOUT_CPU, FanoutMode::Processor),
    (PACKET_FANOUT_ROLLOVER, FanoutMode::Rollover),
    (PACKET_FANOUT_RND, FanoutMode::Random),
    (PACKET_FANOUT_QM, FanoutMode::Queue),
    (PACKET_FANOUT_CBPF, FanoutMode::Program),
];

/// The id, the mode in the upper half.
fn get_fanout(context: &Context<'_>) -> Result<Value, Errno> {
    let fanout = packet(context)?.stack_socket().fanout();
    of_int(fanout.map_or(0, |(id, mode)| {
        let number = FANOUT_MODES.iter().find(|(_, other)| *other == mode).map_or(0, |(number, _)| *number);
        i32::from(id) | (i32::from(number) << 16)
    }))
}

fn set_fanout(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let packet = packet(context)?;
    let wanted = int(value)?.cast_unsigned();
    // The lower half, and the upper one.
    let (id, kind) = ((wanted & 0xffff) as u16, (wanted >> 16) as u16);
    // Frames are whole datagrams or fragments as they came: gathering them first is not built.
    if kind & PACKET_FANOUT_FLAG_DEFRAG != 0 {
        return Err(Errno::EINVAL);
    }
    let is_unique = kind & PACKET_FANOUT_FLAG_UNIQUEID != 0;
    if is_unique && id != 0 {
        return Err(Errno::EINVAL);
    }
    let number = kind & !PACKET_FANOUT_FLAG_UNIQUEID;
    let mode = FANOUT_MODES.iter().find(|(other, _)| *other == number).ok_or(Errno::EINVAL)?.1;
    // fanout_add: a socket that is bound to no protocol cannot be in a group.
    if packet.stack_socket().local().protocol.0 == 0 {
        return Err(Errno::EINVAL);
    }
    let joined = packet.stack_socket().join_fanout((!is_unique).then_some(id), mode);
    joined.map(drop).map_err(|error| match error {
        FanoutError::AlreadyMember => Errno::EALREADY,
        FanoutError::OtherGroup => Errno::EINVAL,
        FanoutError::Full => Errno::ENOSPC,
    })
}

fn set_fanout_data(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let packet = packet(context)?;
    let program = filter::program(context, value)?;
    if packet.stack_socket().set_fanout_program(Some(program)) { Ok(()) } else { Err(Errno::EINVAL) }
}
