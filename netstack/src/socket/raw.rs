//! Raw IP sockets.

use std::net::{IpAddr, SocketAddr};

use crate::buffer::{Sink, Source};
use crate::error::{
    AcceptError, BindError, ConnectError, ListenError, MembershipError, RecvError, SendError, ShutdownError,
    SocketError,
};
use crate::nic::NicId;
use crate::options::{Datagram, Family, QueuedError, RecvFlags, SendMeta, Shutdown, SocketOptions};
use crate::stack::Stack;
use crate::wait::{Readiness, WaitQueue};

/// A raw socket. IPv4 ones receive whole IP packets, IPv6 ones the payload after the headers, as in Linux.
#[derive(Debug)]
pub struct RawSocket {}

/// Which ICMPv6 types a raw socket does not want (`ICMP6_FILTER`): bit N of word N/32 set blocks type N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Icmp6Filter(pub [u32; 8]);

impl RawSocket {
    /// Makes a socket for one IP protocol number. `IPPROTO_RAW` (255) only sends, with the header supplied.
    pub fn new(stack: &Stack, family: Family, protocol: u8) -> Self {
        todo!()
    }

    /// Sets the ICMPv6 filter.
    pub fn set_icmp6_filter(&self, filter: Icmp6Filter) {
        todo!()
    }

    /// The ICMPv6 filter.
    pub fn icmp6_filter(&self) -> Icmp6Filter {
        todo!()
    }

    /// Where the kernel computes and checks a checksum (`IPV6_CHECKSUM`), counted from the payload's start.
    pub fn set_checksum_offset(&self, offset: Option<u16>) {
        todo!()
    }

    /// Binds to a local address; port zero picks one. An IPv6 scope id is a NIC's number.
    pub fn bind(&self, local: SocketAddr) -> Result<(), BindError> {
        todo!()
    }

    /// Fixes the peer: only its datagrams (and errors) are received, and sends need no destination.
    pub fn connect(&self, remote: SocketAddr) -> Result<(), ConnectError> {
        todo!()
    }

    /// Undoes [`connect`](Self::connect).
    pub fn disconnect(&self) {
        todo!()
    }

    /// Sends all that is left of `data` as one datagram and returns its length.
    pub fn try_send(&self, data: &mut dyn Source, meta: &SendMeta) -> Result<usize, SendError> {
        todo!()
    }

    /// Receives one datagram; what exceeds the room is cut off.
    pub fn try_recv(&self, out: &mut dyn Sink, flags: RecvFlags) -> Result<Datagram, RecvError> {
        todo!()
    }

    /// Shuts directions; needs a connected socket.
    pub fn shutdown(&self, how: Shutdown) -> Result<(), ShutdownError> {
        todo!()
    }

    /// Takes the oldest entry of the error queue (`MSG_ERRQUEUE`).
    pub fn take_queued_error(&self) -> Option<QueuedError> {
        todo!()
    }

    /// The length of the next datagram, if there is one (`FIONREAD`).
    pub fn next_datagram_len(&self) -> Option<usize> {
        todo!()
    }

    /// Joins a multicast group on a NIC; without one, the routing table picks it.
    pub fn join_group(&self, group: IpAddr, nic: Option<NicId>) -> Result<(), MembershipError> {
        todo!()
    }

    /// Leaves a multicast group.
    pub fn leave_group(&self, group: IpAddr, nic: Option<NicId>) -> Result<(), MembershipError> {
        todo!()
    }

    /// The address and port of this end; unspecified parts are zero.
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }

    /// The address and port of the other end, if connected.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        todo!()
    }

    /// What can be done now.
    pub fn readiness(&self) -> Readiness {
        todo!()
    }

    /// Where to wait for changes of the readiness.
    pub fn wait_queue(&self) -> &WaitQueue {
        todo!()
    }

    /// The options.
    pub fn options(&self) -> SocketOptions {
        todo!()
    }

    /// Changes options; the new ones take effect at once.
    pub fn set_options(&self, change: impl FnOnce(&mut SocketOptions)) {
        todo!()
    }

    /// Takes the pending error, if there is one (`SO_ERROR`).
    pub fn take_error(&self) -> Option<SocketError> {
        todo!()
    }
}
