//! The program that brings the frames of queues to their sockets, five instructions long, and its attachment (bpf(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::sys;

/// The attachment, which ends when this is dropped: the kernel detaches the program with the last descriptor of the link.
#[derive(Debug)]
pub(super) struct Redirect {
    _link: OwnedFd,
    /// The program holds the map too.
    _map: OwnedFd,
}

impl Redirect {
    /// Has the frames that arrive on queues redirected to the bound sockets of each.
    pub(super) fn attach(ifindex: u32, sockets: &[(u32, BorrowedFd<'_>)]) -> io::Result<Self> {
        let last = sockets.iter().map(|&(queue, _)| queue).max().unwrap_or(0);
        let map = sys::bpf_create_map(&sys::BpfMap {
            map_type: BPF_MAP_TYPE_XSKMAP,
            key_size: 4,
            value_size: 4,
            max_entries: last.saturating_add(1),
        })?;
        for (queue, socket) in sockets {
            sys::bpf_update_element(map.as_fd(), *queue, socket.as_raw_fd().cast_unsigned())?;
        }
        // What is in the map has a number; descriptors are not negative.
        let program = sys::bpf_load_xdp(&instructions(map.as_raw_fd().cast_unsigned()))?;
        let link = sys::bpf_attach_xdp(program.as_fd(), ifindex)?;
        Ok(Self { _link: link, _map: map })
    }
}

/// `return bpf_redirect_map(&map, ctx->rx_queue_index, XDP_PASS)`: frames of queues that are not in the map go on to the
/// host.
fn instructions(map: u32) -> [u64; 6] {
    const RX_QUEUE_INDEX: u16 = 16;
    const XDP_PASS: u32 = 2;
    const REDIRECT_MAP: u32 = 51;
    [
        // r2 = *(u32 *)(r1 + rx_queue_index)
        instruction(0x61, 2, 1, RX_QUEUE_INDEX, 0),
        // r1 = map, in two halves
        instruction(0x18, 1, BPF_PSEUDO_MAP_FD, 0, map),
        instruction(0, 0, 0, 0, 0),
        // r3 = XDP_PASS
        instruction(0xb7, 3, 0, 0, XDP_PASS),
        // r0 = bpf_redirect_map(r1, r2, r3)
        instruction(0x85, 0, 0, 0, REDIRECT_MAP),
        // return r0
        instruction(0x95, 0, 0, 0, 0),
    ]
}

/// `struct bpf_insn` as a number of the host's byte order, which is little-endian.
fn instruction(code: u8, target: u8, source: u8, offset: u16, immediate: u32) -> u64 {
    u64::from(code)
        | u64::from(source << 4 | target) << 8
        | u64::from(offset) << 16
        | u64::from(immediate) << 32
}

const BPF_MAP_TYPE_XSKMAP: u32 = 17;
const BPF_PSEUDO_MAP_FD: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_laid_out_as_the_kernel_reads_them() {
        // From `tcpdump -dd`-like listings of the same program: code, registers, offset, immediate.
        let bytes = instructions(7).map(u64::to_le_bytes);
        assert_eq!(bytes[0], [0x61, 0x12, 16, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[1], [0x18, 0x11, 0, 0, 7, 0, 0, 0]);
        assert_eq!(bytes[4], [0x85, 0, 0, 0, 51, 0, 0, 0]);
    }
}
