//! Packet sockets: frames, past the protocols (`packet(7)`). `socket.rs` and `transfer.rs` come here for them.

use std::mem::{offset_of, size_of};
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, sa_family_t, sockaddr, sockaddr_ll, socklen_t, tpacket_auxdata};
use netstack::buffer::{Sink, Source};
use netstack::options::RecvFlags;
use netstack::packet::{AddressedTo, Checksum};
use netstack::socket::{LinkAddress, PacketMode, ReceivedFrame};
use netstack::wait::Readiness;
use netstack::wire::ethernet::EtherType;
use netstack::{MacAddr, NicId, PacketSocket, Stack};
use parking_lot::Mutex;

use crate::address;
use crate::control::{Encoder, Receive, describe_time};
use crate::descriptor::{Patience, Settings, wait};
use crate::errno::Errno;
use crate::stack::ns_stack;

/// A packet socket and what the C interface remembers about it.
pub(crate) struct Packets {
    pub(crate) socket: PacketSocket,
    pub(crate) mode: PacketMode,
    is_nonblocking: AtomicBool,
    /// `SO_LOCK_FILTER`.
    is_filter_locked: AtomicBool,
    pub(crate) settings: Mutex<Settings>,
}

impl Packets {
    /// Makes one; the protocol is in network order, as for `socket(2)`.
    pub(crate) fn new(stack: &Stack, kind: c_int, protocol: c_int) -> Result<Self, Errno> {
        let mode = match kind {
            libc::SOCK_RAW => PacketMode::Raw,
            libc::SOCK_DGRAM => PacketMode::Cooked,
            _ => return Err(Errno(libc::ESOCKTNOSUPPORT)),
        };
        // As on Linux, the lower half counts.
        let protocol = u16::from_be((protocol & 0xffff) as u16);
        let socket = PacketSocket::new(stack, mode, EtherType(protocol));
        Ok(Self {
            socket,
            mode,
            is_nonblocking: AtomicBool::new(false),
            is_filter_locked: AtomicBool::new(false),
            settings: Mutex::default(),
        })
    }

    /// Locks the filter, for good (`sk_setsockopt`: "if (sock_flag(sk, SOCK_FILTER_LOCKED) && !valbool) ret = -EPERM").
    pub(crate) fn lock_filter(&self, on: bool) -> Result<(), Errno> {
        if !on {
            return self.check_filter_unlocked();
        }
        // Relaxed: it concerns later calls only.
        self.is_filter_locked.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn is_filter_locked(&self) -> bool {
        self.is_filter_locked.load(Ordering::Relaxed)
    }

    pub(crate) fn check_filter_unlocked(&self) -> Result<(), Errno> {
        if self.is_filter_locked() { Err(Errno(libc::EPERM)) } else { Ok(()) }
    }

    pub(crate) fn set_nonblocking(&self, is_nonblocking: bool) {
        // Relaxed: it concerns later calls only.
        self.is_nonblocking.store(is_nonblocking, Ordering::Relaxed);
    }

    /// As `packet_bind`: without a protocol, that of the socket stays.
    pub(crate) fn bind(&self, address: LinkAddress) -> Result<(), Errno> {
        let protocol = match address.protocol {
            EtherType(0) => self.socket.local().protocol,
            protocol => protocol,
        };
        self.socket.bind(address.nic, protocol).map_err(|_| Errno(libc::ENODEV))
    }

    /// Sends a frame. It never waits: links drop what they cannot take.
    pub(crate) fn send(
        &self,
        data: &mut dyn Source,
        to: Option<LinkAddress>,
        flags: c_int,
    ) -> Result<usize, Errno> {
        if flags & !(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) != 0 {
            return Err(Errno(libc::EINVAL));
        }
        let has_nic = to.or(Some(self.socket.local())).is_some_and(|address| address.nic.is_some());
        if !has_nic && self.socket.local().nic.is_none() {
            return Err(Errno(libc::ENXIO));
        }
        Ok(self.socket.try_send(data, to)?)
    }

    /// Receives a frame, waiting as the socket and the flags say.
    pub(crate) fn receive(
        &self,
        is_manual: bool,
        out: &mut dyn Sink,
        flags: c_int,
    ) -> Result<ReceivedFrame, Errno> {
        if flags & !(libc::MSG_DONTWAIT | libc::MSG_PEEK | libc::MSG_TRUNC | libc::MSG_NOSIGNAL) != 0 {
            return Err(Errno(libc::EINVAL));
        }
        let is_impatient = is_manual || flags & libc::MSG_DONTWAIT != 0;
        let patience = match is_impatient || self.is_nonblocking.load(Ordering::Relaxed) {
            true => Patience::None,
            false => Patience::Limited(self.settings.lock().receive_timeout),
        };
        let how = RecvFlags { peek: flags & libc::MSG_PEEK != 0, ..RecvFlags::default() };
        let queue = self.socket.wait_queue();
        wait(queue, Readiness::IN, patience, || Ok(self.socket.try_recv(out, how)?))
    }

    /// The control messages that the socket wants with a frame.
    pub(crate) fn describe(&self, handle: &ns_stack, frame: &ReceivedFrame, out: &mut Encoder) {
        let wanted = self.settings.lock().receive;
        describe_time(handle, wanted, frame.arrival, out);
        if wanted.contains(Receive::AUXDATA) {
            out.put(libc::SOL_PACKET, libc::PACKET_AUXDATA, &auxdata(frame, self.mode));
        }
    }
}

/// What a call that received a frame returns.
pub(crate) fn count(frame: &ReceivedFrame, flags: c_int) -> usize {
    if flags & libc::MSG_TRUNC != 0 { frame.len } else { frame.copied }
}

/// `struct tpacket_auxdata` (packet(7)).
fn auxdata(frame: &ReceivedFrame, mode: PacketMode) -> [u8; size_of::<tpacket_auxdata>()] {
    let status = libc::TP_STATUS_USER
        | match frame.checksum {
            Checksum::Partial { .. } => libc::TP_STATUS_CSUMNOTREADY,
            Checksum::Verified if frame.from.addressed_to != AddressedTo::Outgoing => {
                libc::TP_STATUS_CSUM_VALID
            }
            Checksum::Verified | Checksum::Plain => 0,
        };
    let len = u32::try_from(frame.original_len).unwrap_or(u32::MAX);
    let captured = u32::try_from(frame.len).unwrap_or(u32::MAX);
    // A cooked socket's frames begin where the network's header does.
    let network = if mode == PacketMode::Raw { u16::try_from(frame.link_len).unwrap_or(0) } else { 0 };
    let mut encoded = [0; size_of::<tpacket_auxdata>()];
    let mut put = |at: usize, bytes: &[u8]| encoded[at..at + bytes.len()].copy_from_slice(bytes);
    put(offset_of!(tpacket_auxdata, tp_status), &status.to_ne_bytes());
    put(offset_of!(tpacket_auxdata, tp_len), &len.to_ne_bytes());
    put(offset_of!(tpacket_auxdata, tp_snaplen), &captured.to_ne_bytes());
    put(offset_of!(tpacket_auxdata, tp_net), &network.to_ne_bytes());
    encoded
}

/// Reads a `struct sockaddr_ll`.
///
/// # Safety
/// `address` is null or points to `len` readable bytes.
pub(crate) unsafe fn read(address: *const sockaddr, len: socklen_t) -> Result<LinkAddress, Errno> {
    if address.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    // socklen_t is 32 bits wide.
    if (len as usize) < size_of::<sockaddr_ll>() {
        return Err(Errno(libc::EINVAL));
    }
    // SAFETY: the length was checked, every bit pattern is an address, and it may be anywhere in memory.
    let address = unsafe { address.cast::<sockaddr_ll>().read_unaligned() };
    if c_int::from(address.sll_family) != libc::AF_PACKET {
        return Err(Errno(libc::EINVAL));
    }
    let [a, b, c, d, e, f, ..] = address.sll_addr;
    Ok(LinkAddress {
        nic: u32::try_from(address.sll_ifindex).ok().and_then(NicId::from_index),
        protocol: EtherType(u16::from_be(address.sll_protocol)),
        mac: MacAddr([a, b, c, d, e, f]),
        addressed_to: AddressedTo::Host,
    })
}

/// Writes a `struct sockaddr_ll`, cut to `*len` bytes, and its full length to `*len`. Nothing is written if `out` is null.
///
/// # Safety
/// `out` is null, or `len` points to a length and `out` to that many writable bytes.
pub(crate) unsafe fn write(from: LinkAddress, out: *mut sockaddr, len: *mut socklen_t) -> Result<(), Errno> {
    let mut encoded = [0; size_of::<sockaddr_ll>()];
    let mut put = |at: usize, bytes: &[u8]| encoded[at..at + bytes.len()].copy_from_slice(bytes);
    // AF_PACKET is 17, ARPHRD_ETHER 1; the length of a station address is 6.
    put(offset_of!(sockaddr_ll, sll_family), &(libc::AF_PACKET as sa_family_t).to_ne_bytes());
    put(offset_of!(sockaddr_ll, sll_protocol), &from.protocol.0.to_be_bytes());
    let index = from.nic.map_or(0, |nic| i32::try_from(nic.index()).unwrap_or(0));
    put(offset_of!(sockaddr_ll, sll_ifindex), &index.to_ne_bytes());
    put(offset_of!(sockaddr_ll, sll_hatype), &libc::ARPHRD_ETHER.to_ne_bytes());
    put(offset_of!(sockaddr_ll, sll_pkttype), &[packet_type(from.addressed_to)]);
    put(offset_of!(sockaddr_ll, sll_halen), &[6]);
    put(offset_of!(sockaddr_ll, sll_addr), &from.mac.0);
    // SAFETY: as required of the caller.
    unsafe { address::write_encoded(&encoded, out, len) }
}

/// `PACKET_HOST` and its like.
fn packet_type(addressed_to: AddressedTo) -> u8 {
    match addressed_to {
        AddressedTo::Host => libc::PACKET_HOST,
        AddressedTo::Broadcast => libc::PACKET_BROADCAST,
        AddressedTo::Multicast => libc::PACKET_MULTICAST,
        AddressedTo::OtherHost => libc::PACKET_OTHERHOST,
        AddressedTo::Outgoing => libc::PACKET_OUTGOING,
    }
}
