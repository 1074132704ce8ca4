//! `struct sockaddr` to and from socket addresses.

use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use libc::{c_int, sa_family_t, sockaddr, sockaddr_in, sockaddr_in6, socklen_t};

use crate::errno::Errno;

/// Reads an address.
///
/// # Safety
/// `address` is null or points to `len` readable bytes.
pub(crate) unsafe fn read(address: *const sockaddr, len: socklen_t) -> Result<SocketAddr, Errno> {
    if address.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    // socklen_t is 32 bits wide.
    let len = len as usize;
    if len < size_of::<sa_family_t>() {
        return Err(Errno(libc::EINVAL));
    }
    // SAFETY: there are at least that many bytes; they may be anywhere in memory.
    let family = unsafe { address.cast::<sa_family_t>().read_unaligned() };
    match c_int::from(family) {
        libc::AF_INET if len >= size_of::<sockaddr_in>() => {
            // SAFETY: the length was checked, and every bit pattern is an address.
            let address = unsafe { address.cast::<sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
            Ok(SocketAddr::new(IpAddr::V4(ip), u16::from_be(address.sin_port)))
        }
        // RFC 2553's structure ended before the scope.
        libc::AF_INET6 if len >= size_of::<sockaddr_in6>() => {
            // SAFETY: the length was checked, and every bit pattern is an address.
            let address = unsafe { address.cast::<sockaddr_in6>().read_unaligned() };
            let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
            let port = u16::from_be(address.sin6_port);
            Ok(SocketAddrV6::new(ip, port, u32::from_be(address.sin6_flowinfo), address.sin6_scope_id).into())
        }
        libc::AF_INET | libc::AF_INET6 => Err(Errno(libc::EINVAL)),
        _ => Err(Errno(libc::EAFNOSUPPORT)),
    }
}

/// Writes an address, cut to `*len` bytes, and its full length to `*len`, as `getsockname(2)` does. Nothing is written if
/// `out` is null.
///
/// # Safety
/// `out` is null, or `len` points to a length and `out` to that many writable bytes.
pub(crate) unsafe fn write(
    address: SocketAddr,
    out: *mut sockaddr,
    len: *mut socklen_t,
) -> Result<(), Errno> {
    let (encoded, encoded_len) = encode(address);
    // SAFETY: as required of the caller.
    unsafe { write_encoded(&encoded[..encoded_len], out, len) }
}

/// The same for an address of any family, as C has it in memory.
///
/// # Safety
/// `out` is null, or `len` points to a length and `out` to that many writable bytes.
pub(crate) unsafe fn write_encoded(
    encoded: &[u8],
    out: *mut sockaddr,
    len: *mut socklen_t,
) -> Result<(), Errno> {
    if out.is_null() {
        return Ok(());
    }
    // SAFETY: as required of the caller.
    let room = unsafe { len.as_mut() }.ok_or(Errno(libc::EFAULT))?;
    let count = encoded.len().min(*room as usize);
    // SAFETY: `out` has at least `count` bytes, `encoded` too, and they do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(encoded.as_ptr(), out.cast::<u8>(), count) };
    // 28 at most.
    *room = encoded.len() as socklen_t;
    Ok(())
}

/// The bytes of `sockaddr_in` or `sockaddr_in6`.
pub(crate) fn encode(address: SocketAddr) -> ([u8; size_of::<sockaddr_in6>()], usize) {
    let mut bytes = [0; size_of::<sockaddr_in6>()];
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // Both fit: the numbers are 2 and 10.
    bytes[..2].copy_from_slice(&(family as sa_family_t).to_ne_bytes());
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(address) => {
            bytes[4..8].copy_from_slice(&address.ip().octets());
            (bytes, size_of::<sockaddr_in>())
        }
        SocketAddr::V6(address) => {
            bytes[4..8].copy_from_slice(&address.flowinfo().to_be_bytes());
            bytes[8..24].copy_from_slice(&address.ip().octets());
            bytes[24..28].copy_from_slice(&address.scope_id().to_ne_bytes());
            (bytes, size_of::<sockaddr_in6>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["10.1.2.3:80", "[fd00::1]:443", "[fe80::1%7]:9"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut buffer = [0u8; 32];
            let mut len = 32;
            let room = buffer.as_mut_ptr().cast::<sockaddr>();
            // SAFETY: 32 bytes are there, as the length says.
            unsafe { write(address, room, &mut len) }.unwrap();
            // SAFETY: the same bytes.
            assert_eq!(unsafe { read(room, len) }, Ok(address));
            // SAFETY: fewer bytes than there are.
            assert_eq!(unsafe { read(room, len - 1) }, Err(Errno(libc::EINVAL)));
        }
    }

    #[test]
    fn a_short_buffer_gets_the_beginning_and_the_full_length() {
        let mut buffer = [0xffu8; 8];
        let mut len = 4;
        let room = buffer.as_mut_ptr().cast::<sockaddr>();
        // SAFETY: four bytes are there, and more.
        unsafe { write("10.1.2.3:80".parse().unwrap(), room, &mut len) }.unwrap();
        assert_eq!((len, buffer[3], buffer[4]), (16, 80, 0xff));
    }
}
