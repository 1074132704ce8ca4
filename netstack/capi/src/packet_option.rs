//! Options of packet sockets: those of `packet(7)`, and of `socket(7)` what concerns frames.

use std::mem::offset_of;

use libc::{SOL_PACKET, SOL_SOCKET, c_int, packet_mreq, sock_filter, sock_fprog};
use netstack::bpf::{Instruction, Program};
use netstack::error::FanoutError;
use netstack::socket::{FanoutMode, PacketMode};

use crate::control::Receive;
use crate::errno::Errno;
use crate::frame::{bytes, nic_of};
use crate::option::value::{field, int, int_value, read_time, saturate, time};
use crate::packet::Packets;
use crate::stack::ns_stack;

/// Sets an option.
///
/// # Safety
/// `value` is as long as it says; for options with programs (`SO_ATTACH_FILTER`, `PACKET_FANOUT_DATA`) it is a
/// `struct sock_fprog` whose pointer leads to as many instructions as it says.
pub(crate) unsafe fn set(
    handle: &ns_stack,
    packets: &Packets,
    name: (c_int, c_int),
    value: &[u8],
) -> Result<(), Errno> {
    match name {
        (SOL_PACKET, libc::PACKET_FANOUT_DATA) => {
            // SAFETY: as required of the caller.
            let program = unsafe { program(value) }?;
            // There is a group, and it picks by a program.
            if packets.socket.set_fanout_program(Some(program)) { Ok(()) } else { Err(INVALID) }
        }
        (SOL_SOCKET, libc::SO_ATTACH_FILTER) => {
            packets.check_filter_unlocked()?;
            // SAFETY: as required of the caller.
            packets.socket.set_filter(Some(unsafe { program(value) }?));
            Ok(())
        }
        (SOL_SOCKET, _) => set_generic(packets, name.1, value),
        (SOL_PACKET, _) => set_own(handle, packets, name.1, value),
        _ => Err(Errno(libc::ENOPROTOOPT)),
    }
}

fn set_own(handle: &ns_stack, packets: &Packets, name: c_int, value: &[u8]) -> Result<(), Errno> {
    match name {
        libc::PACKET_ADD_MEMBERSHIP => check_membership(handle, value),
        // Linux says nothing of one that is not there (packet_mc_drop).
        libc::PACKET_DROP_MEMBERSHIP => field::<MEMBERSHIP_LEN>(value, 0).map(drop),
        libc::PACKET_AUXDATA => {
            let on = int(value)? != 0;
            packets.settings.lock().receive.set(Receive::AUXDATA, on);
            Ok(())
        }
        libc::PACKET_FANOUT => join(packets, int(value)?.cast_unsigned()),
        PACKET_IGNORE_OUTGOING => {
            let ignores = u8::try_from(int(value)?).ok().filter(|&on| on <= 1).ok_or(INVALID)?;
            packets.socket.set_receive_outgoing(ignores == 0);
            Ok(())
        }
        _ => Err(Errno(libc::ENOPROTOOPT)),
    }
}

fn set_generic(packets: &Packets, name: c_int, value: &[u8]) -> Result<(), Errno> {
    match name {
        libc::SO_DETACH_FILTER => {
            packets.check_filter_unlocked()?;
            packets.socket.filter().ok_or(Errno(libc::ENOENT))?;
            packets.socket.set_filter(None);
        }
        libc::SO_LOCK_FILTER => packets.lock_filter(int(value)? != 0)?,
        libc::SO_RCVTIMEO => packets.settings.lock().receive_timeout = read_time(value)?,
        libc::SO_RCVBUF => {
            let size = usize::try_from(int(value)?).unwrap_or(0).saturating_mul(2).max(MIN_RECV_BUFFER);
            packets.socket.set_options(|options| options.recv_buffer = size);
        }
        libc::SO_TIMESTAMP => want_time(packets, value, Receive::TIMESTAMP)?,
        libc::SO_TIMESTAMPNS => want_time(packets, value, Receive::TIMESTAMP_NS)?,
        _ => return Err(Errno(libc::ENOPROTOOPT)),
    }
    Ok(())
}

/// The two exclude one another, and either's zero ends both (sock_set_timestamp).
fn want_time(packets: &Packets, value: &[u8], switch: Receive) -> Result<(), Errno> {
    let on = int(value)? != 0;
    let wanted = &mut packets.settings.lock().receive;
    wanted.remove(Receive::TIMESTAMP | Receive::TIMESTAMP_NS);
    wanted.set(switch, on);
    Ok(())
}

/// Reads an option.
pub(crate) fn get(packets: &Packets, name: (c_int, c_int)) -> Result<Vec<u8>, Errno> {
    let socket = &packets.socket;
    let wants = |switch| int_value(packets.settings.lock().receive.contains(switch).into());
    Ok(match name {
        (SOL_PACKET, libc::PACKET_STATISTICS) => {
            let stats = socket.take_stats();
            // 32 bits wide in `struct tpacket_stats`, and wrap around there.
            let [packets, drops] = [stats.packets, stats.drops].map(|count| (count & 0xffff_ffff) as u32);
            [packets.to_ne_bytes(), drops.to_ne_bytes()].concat()
        }
        (SOL_PACKET, libc::PACKET_AUXDATA) => wants(Receive::AUXDATA),
        (SOL_PACKET, libc::PACKET_FANOUT) => int_value(socket.fanout().map_or(0, |(id, mode)| {
            let number =
                FANOUT_MODES.iter().find(|(_, other)| *other == mode).map_or(0, |(number, _)| *number);
            c_int::from(id) | (c_int::from(number) << 16)
        })),
        (SOL_PACKET, PACKET_IGNORE_OUTGOING) => int_value((!socket.receives_outgoing()).into()),
        (SOL_SOCKET, libc::SO_ERROR) => {
            int_value(socket.take_error().map_or(0, |error| Errno::from(error).0))
        }
        (SOL_SOCKET, libc::SO_TYPE) => int_value(match packets.mode {
            PacketMode::Raw => libc::SOCK_RAW,
            PacketMode::Cooked => libc::SOCK_DGRAM,
        }),
        (SOL_SOCKET, libc::SO_DOMAIN) => int_value(libc::AF_PACKET),
        // packet_create keeps the protocol elsewhere.
        (SOL_SOCKET, libc::SO_PROTOCOL) => int_value(0),
        (SOL_SOCKET, libc::SO_LOCK_FILTER) => int_value(packets.is_filter_locked().into()),
        (SOL_SOCKET, libc::SO_RCVTIMEO) => time(packets.settings.lock().receive_timeout),
        (SOL_SOCKET, libc::SO_RCVBUF) => int_value(saturate(socket.options().recv_buffer)),
        (SOL_SOCKET, libc::SO_TIMESTAMP) => wants(Receive::TIMESTAMP),
        (SOL_SOCKET, libc::SO_TIMESTAMPNS) => wants(Receive::TIMESTAMP_NS),
        _ => return Err(Errno(libc::ENOPROTOOPT)),
    })
}

/// Links deliver whatever they see, so that a membership has only to make sense (packet_mc_add).
fn check_membership(handle: &ns_stack, value: &[u8]) -> Result<(), Errno> {
    field::<MEMBERSHIP_LEN>(value, 0)?;
    let index = u32::from_ne_bytes(field(value, offset_of!(packet_mreq, mr_ifindex))?);
    let kind = u16::from_ne_bytes(field(value, offset_of!(packet_mreq, mr_type))?);
    let address_len = u16::from_ne_bytes(field(value, offset_of!(packet_mreq, mr_alen))?);
    nic_of(handle, index)?;
    if address_len > 6 {
        return Err(INVALID);
    }
    // packet_dev_mc: a unicast or multicast address is one of the link's, the rest has none.
    match c_int::from(kind) {
        libc::PACKET_MR_MULTICAST | PACKET_MR_UNICAST if address_len != 6 => Err(INVALID),
        _ => Ok(()),
    }
}

fn join(packets: &Packets, wanted: u32) -> Result<(), Errno> {
    // The lower half, and the upper one.
    let (id, kind) = ((wanted & 0xffff) as u16, (wanted >> 16) as u16);
    let is_unique = kind & PACKET_FANOUT_FLAG_UNIQUEID != 0;
    if is_unique && id != 0 {
        return Err(INVALID);
    }
    let number = kind & !PACKET_FANOUT_FLAG_UNIQUEID;
    let mode = FANOUT_MODES.iter().find(|(other, _)| *other == number).ok_or(INVALID)?.1;
    // fanout_add: a socket that is bound to no protocol cannot be in a group.
    if packets.socket.local().protocol.0 == 0 {
        return Err(INVALID);
    }
    let joined = packets.socket.join_fanout((!is_unique).then_some(id), mode);
    joined.map(drop).map_err(|error| match error {
        FanoutError::AlreadyMember => Errno(libc::EALREADY),
        FanoutError::OtherGroup => INVALID,
        FanoutError::Full => Errno(libc::ENOSPC),
    })
}

/// The program of a `struct sock_fprog`.
///
/// # Safety
/// Its pointer leads to as many readable instructions as it says.
unsafe fn program(value: &[u8]) -> Result<Program, Errno> {
    let count = u16::from_ne_bytes(field(value, offset_of!(sock_fprog, len))?);
    let at = usize::from_ne_bytes(field(value, offset_of!(sock_fprog, filter))?);
    // bpf_check_basics_ok
    if at == 0 || count == 0 {
        return Err(INVALID);
    }
    let len = usize::from(count) * size_of::<sock_filter>();
    // SAFETY: as required of the caller.
    let encoded = unsafe { bytes(std::ptr::with_exposed_provenance(at), len) }?;
    let (instructions, _) = encoded.as_chunks::<{ size_of::<sock_filter>() }>();
    let decoded = instructions.iter().map(|&[a, b, jt, jf, c, d, e, f]| Instruction {
        code: u16::from_ne_bytes([a, b]),
        jt,
        jf,
        k: u32::from_ne_bytes([c, d, e, f]),
    });
    Program::new(&decoded.collect::<Vec<_>>()).map_err(|_| INVALID)
}

/// The modes of `PACKET_FANOUT` and their numbers (linux/if_packet.h).
const FANOUT_MODES: [(u16, FanoutMode); 7] = [
    (0, FanoutMode::Hash),
    (1, FanoutMode::RoundRobin),
    (2, FanoutMode::Processor),
    (3, FanoutMode::Rollover),
    (4, FanoutMode::Random),
    (5, FanoutMode::Queue),
    (6, FanoutMode::Program),
];

/// What crate libc does not have of linux/if_packet.h.
const PACKET_FANOUT_FLAG_UNIQUEID: u16 = 0x2000;
const PACKET_IGNORE_OUTGOING: c_int = 23;
const PACKET_MR_UNICAST: c_int = 3;

const MEMBERSHIP_LEN: usize = size_of::<packet_mreq>();
/// Linux's `SOCK_MIN_RCVBUF`, rounded.
const MIN_RECV_BUFFER: usize = 2304;
const INVALID: Errno = Errno(libc::EINVAL);
