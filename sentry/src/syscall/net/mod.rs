//! System calls about sockets, one file per call or natural pair.

mod accept;
mod address;
mod bind;
mod connect;
mod message;
mod name;
mod option;
mod receive;
mod send;
mod shutdown;
mod socket;
mod wait;

pub(crate) use accept::{sys_accept, sys_accept4};
pub(crate) use bind::{sys_bind, sys_listen};
pub(crate) use connect::sys_connect;
pub(crate) use name::{sys_getpeername, sys_getsockname};
pub(crate) use option::{sys_getsockopt, sys_setsockopt};
pub(crate) use receive::{sys_recvfrom, sys_recvmmsg, sys_recvmsg};
pub(crate) use send::{sys_sendmmsg, sys_sendmsg, sys_sendto};
pub(crate) use shutdown::sys_shutdown;
pub(crate) use socket::{sys_socket, sys_socketpair};
