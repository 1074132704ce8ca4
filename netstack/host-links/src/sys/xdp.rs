//! The calls that AF_XDP sockets need.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

/// Binds an AF_XDP socket to a queue of an interface, in copy mode.
pub(crate) fn bind_xdp(fd: BorrowedFd<'_>, ifindex: u32, queue: u32) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        // AF_XDP is 44.
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_COPY,
        sxdp_ifindex: ifindex,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let len = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
    // SAFETY: the pointer is to a live sockaddr_xdp and the length is its size.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(())
}

/// Where the parts of the rings are (`XDP_MMAP_OFFSETS`).
pub(crate) fn xdp_offsets(fd: BorrowedFd<'_>) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: it consists of numbers, for which zero is fine.
    let mut offsets: libc::xdp_mmap_offsets = unsafe { mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of_val(&offsets)).unwrap_or(0);
    // SAFETY: value and length are live and exclusive, and the length is the value's.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_MMAP_OFFSETS,
            (&raw mut offsets).cast(),
            &raw mut len,
        )
    })?;
    Ok(offsets)
}

/// Has the kernel look at the ring of frames to send.
pub(crate) fn kick(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no data and no address.
    let sent =
        unsafe { libc::sendto(fd.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The attributes of `BPF_MAP_CREATE` that matter here.
#[repr(C)]
pub(crate) struct BpfMap {
    pub(crate) map_type: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
}

/// Makes a map.
pub(crate) fn bpf_create_map(map: &BpfMap) -> io::Result<OwnedFd> {
    bpf_descriptor(BPF_MAP_CREATE, map)
}

/// Sets `map[key] = value`.
pub(crate) fn bpf_update_element(map: BorrowedFd<'_>, key: u32, value: u32) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        map: u32,
        padding: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let attributes = Attributes {
        map: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: (&raw const key).addr() as u64,
        value: (&raw const value).addr() as u64,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &attributes)?;
    Ok(())
}

/// Loads a program for `XDP`.
pub(crate) fn bpf_load_xdp(instructions: &[u64]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        program_type: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        ifindex: u32,
        expected_attach_type: u32,
    }
    // The helper that it calls is for programs of any license.
    let license = c"MIT";
    let attributes = Attributes {
        program_type: BPF_PROG_TYPE_XDP,
        count: u32::try_from(instructions.len()).unwrap_or(0),
        instructions: instructions.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"netstack_xsk\0\0\0\0",
        ifindex: 0,
        expected_attach_type: BPF_XDP,
    };
    bpf_descriptor(BPF_PROG_LOAD, &attributes)
}

/// Attaches a program to an interface for as long as the descriptor exists.
pub(crate) fn bpf_attach_xdp(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        program: u32,
        target_ifindex: u32,
        attach_type: u32,
        flags: u32,
    }
    let program = program.as_raw_fd().cast_unsigned();
    let attributes = Attributes { program, target_ifindex: ifindex, attach_type: BPF_XDP, flags: 0 };
    bpf_descriptor(BPF_LINK_CREATE, &attributes)
}

fn bpf_descriptor<T>(command: c_int, attributes: &T) -> io::Result<OwnedFd> {
    let raw = bpf(command, attributes)?;
    // SAFETY: the commands that come here return a new descriptor, to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// bpf(2). `attributes` must be the first fields of those of the command; addresses in it must be of live memory.
fn bpf<T>(command: c_int, attributes: &T) -> io::Result<c_int> {
    // SAFETY: the kernel reads as much as the size says, takes the rest as zero, and checks every address.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    // A descriptor, zero or -1.
    check(c_int::try_from(result).unwrap_or(-1))
}

const BPF_MAP_CREATE: c_int = 0;
const BPF_MAP_UPDATE_ELEM: c_int = 2;
const BPF_PROG_LOAD: c_int = 5;
const BPF_LINK_CREATE: c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
