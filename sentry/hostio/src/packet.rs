//! AF_PACKET sockets, opened by a privileged process and donated to the sandbox.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Whether frames carry a virtio-net header (packet(7), `PACKET_VNET_HDR`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VnetHeader {
    /// Each frame starts with a header that describes segmentation and checksum offload.
    Present,
    /// Frames are plain Ethernet.
    Absent,
}

/// A packet socket bound to one device.
#[derive(Debug)]
pub struct PacketSocket {
    /// The socket.
    pub fd: OwnedFd,
    /// Whether frames carry the header.
    pub vnet_header: VnetHeader,
}

/// Buffer sizes asked for; the kernel caps them unless the caller may force.
const BUFFER_BYTES: libc::c_int = 4 << 20;

/// Opens a raw packet socket on device `ifindex` of the calling thread's network namespace.
///
/// # Errors
/// `EPERM` without `CAP_NET_RAW`, `ENODEV` when there is no such device.
pub fn open(ifindex: u32) -> io::Result<PacketSocket> {
    // Protocol 0: nothing is received until the bind below, so no frame of another device slips in.
    // SAFETY: socket takes integers and returns a new descriptor or -1.
    let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just returned to us alone.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    let vnet_header = match set_option(&fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1) {
        Ok(()) => VnetHeader::Present,
        Err(_) => VnetHeader::Absent,
    };
    for (forced, capped) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
    {
        if set_option(&fd, libc::SOL_SOCKET, forced, BUFFER_BYTES).is_err() {
            set_option(&fd, libc::SOL_SOCKET, capped, BUFFER_BYTES)?;
        }
    }
    // Frames that this socket sends must not come back to it.
    let _ = set_option(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1);
    bind(&fd, ifindex)?;
    Ok(PacketSocket { fd, vnet_header })
}

fn bind(fd: &OwnedFd, ifindex: u32) -> io::Result<()> {
    // ETH_P_ALL is 3, in network order.
    let protocol = 3u16.to_be();
    let index = libc::c_int::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: an all-zero sockaddr_ll is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    // AF_PACKET is 17 and fits.
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = protocol;
    address.sll_ifindex = index;
    let length = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
    // SAFETY: the pointer is to a live sockaddr_ll and the length is its size.
    let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn set_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or(0);
    // SAFETY: the pointer is to a live int and the length is its size.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
