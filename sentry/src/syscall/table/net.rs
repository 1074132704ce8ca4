//! Rows about sockets.

use crate::syscall::net;
use crate::syscall::table::{Syscall, row};

/// The rows of this family, ascending.
pub(crate) const SYSCALLS: &[Syscall] = &[
    row!(SOCKET, "socket", [Int, Int, Int], net::sys_socket, Partial("unix, inet, inet6, netlink, packet")),
    row!(CONNECT, "connect", [Fd, SockAddr, Int], net::sys_connect, Full),
    row!(ACCEPT, "accept", [Fd, Ptr, Ptr], net::sys_accept, Full),
    row!(
        SENDTO,
        "sendto",
        [Fd, InBuf, Uint, Hex, SockAddr, Int],
        net::sys_sendto,
        Partial("no MSG_ZEROCOPY")
    ),
    row!(RECVFROM, "recvfrom", [Fd, OutBuf, Uint, Hex, Ptr, Ptr], net::sys_recvfrom, Full),
    row!(SENDMSG, "sendmsg", [Fd, Ptr, Hex], net::sys_sendmsg, Partial("as sendto")),
    row!(RECVMSG, "recvmsg", [Fd, Ptr, Hex], net::sys_recvmsg, Full),
    row!(SHUTDOWN, "shutdown", [Fd, Int], net::sys_shutdown, Full),
    row!(BIND, "bind", [Fd, SockAddr, Int], net::sys_bind, Full),
    row!(LISTEN, "listen", [Fd, Int], net::sys_listen, Full),
    row!(GETSOCKNAME, "getsockname", [Fd, Ptr, Ptr], net::sys_getsockname, Full),
    row!(GETPEERNAME, "getpeername", [Fd, Ptr, Ptr], net::sys_getpeername, Full),
    row!(SOCKETPAIR, "socketpair", [Int, Int, Int, Ptr], net::sys_socketpair, Full),
    row!(
        SETSOCKOPT,
        "setsockopt",
        [Fd, Int, Int, Ptr, Int],
        net::sys_setsockopt,
        Partial("options by table")
    ),
    row!(
        GETSOCKOPT,
        "getsockopt",
        [Fd, Int, Int, Ptr, Ptr],
        net::sys_getsockopt,
        Partial("options by table")
    ),
    row!(ACCEPT4, "accept4", [Fd, Ptr, Ptr, Hex], net::sys_accept4, Full),
    row!(RECVMMSG, "recvmmsg", [Fd, Ptr, Uint, Hex, Ptr], net::sys_recvmmsg, Full),
    row!(SENDMMSG, "sendmmsg", [Fd, Ptr, Uint, Hex], net::sys_sendmmsg, Full),
];
