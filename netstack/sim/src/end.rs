//! One end of a connection, whichever stack it is on.

use netstack::TcpSocket;
use netstack::error::{RecvError, SendError};
use netstack::options::{RecvFlags, Shutdown};
use netstack::tcp::State;

use crate::network::{Network, NodeId};

/// One end of a connection.
#[derive(Debug)]
pub enum End {
    /// On one of our stacks.
    Ours(TcpSocket),
    /// On a smoltcp node.
    #[cfg(feature = "smoltcp")]
    Smoltcp(NodeId, smoltcp::iface::SocketHandle),
}

impl End {
    /// Queues some of `data`; zero if there is no room, or no connection yet.
    ///
    /// # Panics
    /// If the connection has failed.
    #[track_caller]
    pub fn send(&self, network: &mut Network, data: &[u8]) -> usize {
        match self {
            Self::Ours(socket) => match socket.try_send(&mut &*data) {
                Ok(count) => count,
                Err(SendError::WouldBlock) => 0,
                Err(error) => panic!("send: {error} in {:?} at {:?}", socket.state(), network.now()),
            },
            #[cfg(feature = "smoltcp")]
            Self::Smoltcp(node, handle) => {
                let socket = network.smoltcp(*node).socket(*handle);
                if socket.can_send() { socket.send_slice(data).unwrap_or(0) } else { 0 }
            }
        }
    }

    /// Receives what is there, up to the length of `room`, and returns how much that was; `None` at the end of the
    /// stream.
    ///
    /// # Panics
    /// If the connection has failed.
    #[track_caller]
    pub fn receive(&self, network: &mut Network, room: &mut [u8]) -> Option<usize> {
        match self {
            Self::Ours(socket) => match socket.try_recv(&mut &mut *room, RecvFlags::default()) {
                Ok(0) => None,
                Ok(count) => Some(count),
                Err(RecvError::WouldBlock) => Some(0),
                Err(error) => panic!("receive: {error} in {:?} at {:?}", socket.state(), network.now()),
            },
            #[cfg(feature = "smoltcp")]
            Self::Smoltcp(node, handle) => {
                let socket = network.smoltcp(*node).socket(*handle);
                if socket.can_recv() {
                    return Some(socket.recv_slice(room).unwrap_or(0));
                }
                (socket.may_recv() || !is_synchronised(socket.state())).then_some(0)
            }
        }
    }

    /// Ends the stream behind what was sent.
    pub fn finish(&self, network: &mut Network) {
        match self {
            // Refused if the connection is gone already.
            Self::Ours(socket) => drop(socket.shutdown(Shutdown::Write)),
            #[cfg(feature = "smoltcp")]
            Self::Smoltcp(node, handle) => network.smoltcp(*node).socket(*handle).close(),
        }
    }

    /// Whether the handshake is complete, as this end sees it.
    pub fn is_established(&self, network: &mut Network) -> bool {
        match self {
            Self::Ours(socket) => !matches!(socket.state(), State::SynSent | State::SynReceived),
            #[cfg(feature = "smoltcp")]
            Self::Smoltcp(node, handle) => is_synchronised(network.smoltcp(*node).socket(*handle).state()),
        }
    }

    /// Whether the end is closed for good, TIME-WAIT included.
    pub fn is_closed(&self, network: &mut Network) -> bool {
        match self {
            Self::Ours(socket) => matches!(socket.state(), State::Closed | State::TimeWait),
            #[cfg(feature = "smoltcp")]
            Self::Smoltcp(node, handle) => {
                use smoltcp::socket::tcp;
                let state = network.smoltcp(*node).socket(*handle).state();
                matches!(state, tcp::State::Closed | tcp::State::TimeWait)
            }
        }
    }

    /// The socket, on one of our stacks.
    #[must_use]
    pub fn ours(&self) -> Option<&TcpSocket> {
        match self {
            Self::Ours(socket) => Some(socket),
            #[cfg(feature = "smoltcp")]
            Self::Smoltcp(..) => None,
        }
    }
}

#[cfg(feature = "smoltcp")]
fn is_synchronised(state: smoltcp::socket::tcp::State) -> bool {
    use smoltcp::socket::tcp::State;
    !matches!(state, State::Listen | State::SynSent | State::SynReceived)
}
