//! What the handles of all datagram sockets offer alike.
//!
//! The methods are made by macros and not by a trait, so that users find them on the type without an import.

/// Addresses, readiness, options, errors, receiving and shutting down.
macro_rules! datagram_front {
    ($socket:ident) => {
        impl $socket {
            /// The address and port of this end; unspecified parts are zero.
            pub fn local_addr(&self) -> std::net::SocketAddr {
                self.endpoint.local_addr()
            }

            /// The address and port of the other end, if connected.
            pub fn peer_addr(&self) -> Option<std::net::SocketAddr> {
                self.endpoint.peer_addr()
            }

            /// What can be done now.
            pub fn readiness(&self) -> $crate::wait::Readiness {
                self.endpoint.readiness()
            }

            /// Where to wait for changes of the readiness.
            pub fn wait_queue(&self) -> &$crate::wait::WaitQueue {
                &self.endpoint.waiters
            }

            /// The options.
            pub fn options(&self) -> $crate::options::SocketOptions {
                self.endpoint.options()
            }

            /// Changes options; the new ones take effect at once.
            pub fn set_options(&self, change: impl FnOnce(&mut $crate::options::SocketOptions)) {
                self.endpoint.set_options(change);
            }

            /// Shows what arrives to a program first, which drops it or cuts it short (`SO_ATTACH_FILTER`).
            pub fn set_filter(&self, program: Option<$crate::bpf::Program>) {
                self.endpoint.filter.set(program);
            }

            /// The program that is shown what arrives.
            pub fn filter(&self) -> Option<$crate::bpf::Program> {
                self.endpoint.filter.get()
            }

            /// Takes the pending error, if there is one (`SO_ERROR`).
            pub fn take_error(&self) -> Option<$crate::error::SocketError> {
                self.endpoint.take_error()
            }

            /// Takes the oldest entry of the error queue (`MSG_ERRQUEUE`).
            pub fn take_queued_error(&self) -> Option<$crate::options::QueuedError> {
                self.endpoint.take_queued_error()
            }

            /// Takes the oldest time of what was sent, of those that were asked for
            /// ([`SendMeta::stamp`](crate::options::SendMeta::stamp)).
            pub fn take_sent_stamp(&self) -> Option<$crate::options::SentStamp> {
                self.endpoint.take_sent_stamp()
            }

            /// Receives one datagram; what exceeds the room is cut off.
            pub fn try_recv(
                &self,
                out: &mut dyn $crate::buffer::Sink,
                flags: $crate::options::RecvFlags,
            ) -> Result<$crate::options::Datagram, $crate::error::RecvError> {
                self.endpoint.receive(out, flags)
            }

            /// The length of the next datagram, if there is one (`FIONREAD`).
            pub fn next_datagram_len(&self) -> Option<usize> {
                self.endpoint.next_len()
            }

            /// The memory that waiting datagrams take of the receive buffer.
            pub fn recv_queue_len(&self) -> usize {
                self.endpoint.receive_queued()
            }

            /// How many datagrams the socket has lost, as there was no room or the filter did not want them, modulo 2^32.
            pub fn dropped(&self) -> u32 {
                self.endpoint.dropped()
            }

            /// Shuts directions; needs a connected socket.
            pub fn shutdown(
                &self,
                how: $crate::options::Shutdown,
            ) -> Result<(), $crate::error::ShutdownError> {
                self.endpoint.shutdown(how)
            }
        }
    };
}

/// Multicast memberships, with the sources that are wanted.
macro_rules! membership_front {
    ($socket:ident) => {
        impl $socket {
            /// Joins a multicast group on a NIC; without one, the routing table picks it.
            pub fn join_group(
                &self,
                group: std::net::IpAddr,
                nic: Option<$crate::nic::NicId>,
            ) -> Result<(), $crate::error::MembershipError> {
                $crate::socket::membership::join(&self.core, &self.endpoint, group, nic)
            }

            /// Leaves a multicast group, whatever sources of it were wanted.
            pub fn leave_group(
                &self,
                group: std::net::IpAddr,
                nic: Option<$crate::nic::NicId>,
            ) -> Result<(), $crate::error::MembershipError> {
                $crate::socket::membership::leave(&self.core, &self.endpoint, group, nic)
            }

            /// Receives a group from one source in addition to others asked for so (`IP_ADD_SOURCE_MEMBERSHIP`).
            pub fn add_source(
                &self,
                group: std::net::IpAddr,
                source: std::net::IpAddr,
                nic: Option<$crate::nic::NicId>,
            ) -> Result<(), $crate::error::MembershipError> {
                $crate::socket::membership::add_source(&self.core, &self.endpoint, group, source, nic)
            }

            /// Undoes [`add_source`](Self::add_source) (`IP_DROP_SOURCE_MEMBERSHIP`).
            pub fn drop_source(
                &self,
                group: std::net::IpAddr,
                source: std::net::IpAddr,
                nic: Option<$crate::nic::NicId>,
            ) -> Result<(), $crate::error::MembershipError> {
                $crate::socket::membership::drop_source(&self.core, &self.endpoint, group, source, nic)
            }

            /// Receives a group that was joined for all sources from one source no more (`IP_BLOCK_SOURCE`).
            pub fn block_source(
                &self,
                group: std::net::IpAddr,
                source: std::net::IpAddr,
                nic: Option<$crate::nic::NicId>,
            ) -> Result<(), $crate::error::MembershipError> {
                $crate::socket::membership::block_source(&self.core, &self.endpoint, group, source, nic)
            }

            /// Undoes [`block_source`](Self::block_source) (`IP_UNBLOCK_SOURCE`).
            pub fn unblock_source(
                &self,
                group: std::net::IpAddr,
                source: std::net::IpAddr,
                nic: Option<$crate::nic::NicId>,
            ) -> Result<(), $crate::error::MembershipError> {
                $crate::socket::membership::unblock_source(&self.core, &self.endpoint, group, source, nic)
            }

            /// Replaces the sources of a membership, or begins or ends one (`IP_MSFILTER`).
            pub fn set_source_filter(
                &self,
                group: std::net::IpAddr,
                nic: Option<$crate::nic::NicId>,
                filter: $crate::multicast::SourceFilter,
            ) -> Result<(), $crate::error::MembershipError> {
                $crate::socket::membership::set_filter(&self.core, &self.endpoint, group, nic, filter)
            }

            /// The sources of a membership.
            pub fn source_filter(
                &self,
                group: std::net::IpAddr,
                nic: Option<$crate::nic::NicId>,
            ) -> Result<$crate::multicast::SourceFilter, $crate::error::MembershipError> {
                $crate::socket::membership::filter(&self.core, &self.endpoint, group, nic)
            }
        }
    };
}

pub(super) use {datagram_front, membership_front};
