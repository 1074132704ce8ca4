//! A link between two processes: a socket pair that carries frames with virtio-net headers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::receive::VnetHeaders;
use crate::sys;
use crate::tap_link::{TapLink, TapLinkParams, TapMode};

/// Makes the two ends of a link without privilege or interface: descriptors for [`pipe_link`] in one process each,
/// inherited or passed ([`send_descriptor`](crate::send_descriptor)).
///
/// They are a pair of `SOCK_SEQPACKET` sockets, so each write is a frame. When an end is closed, the other one is gone.
pub fn pipe_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = sys::seqpacket_pair()?;
    for end in [&a, &b] {
        // A super-segment must fit as a whole, and several of them if the other end is busy. The limit of an
        // unprivileged process is lower, and still enough for one.
        for name in [libc::SO_SNDBUFFORCE, libc::SO_SNDBUF] {
            if sys::set_option(end.as_fd(), libc::SOL_SOCKET, name, &BUFFER_BYTES).is_ok() {
                break;
            }
        }
    }
    Ok((a, b))
}

/// Makes a link of an end of a [`pipe_pair`]. Super-segments and unfinished checksums pass as they are: no byte is ever
/// on a wire.
pub fn pipe_link(end: OwnedFd, mode: TapMode, mtu: usize) -> Arc<TapLink> {
    let params = TapLinkParams { mode, mtu, vnet_headers: VnetHeaders::Present, udp_segmentation: true };
    TapLink::from_fd(end, params)
}

/// A window of a few super-segments at the kernel's true size.
const BUFFER_BYTES: libc::c_int = 4 << 20;
