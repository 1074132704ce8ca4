//! Local sockets (`unix(7)`): streams, datagrams and sequenced packets, with files and credentials passing between
//! processes.
//!
//! # Shape
//! A [`UnixSocket`] owns its inbox; sending puts messages into the receiver's. Memory is charged to the *sender*
//! (`SO_SNDBUF`), as in Linux, and freed when the receiver has taken the message.
//!
//! # Locks
//! `control` (one connect, bind or listen at a time) before `state`. A listener's `state` may be held while the
//! connecting socket's is taken, never the other way round: a connecting socket does not listen, since `control`
//! keeps it from it. `reader` (one receiver at a time) before `state`. No lock is held while guest memory is copied
//! except `reader`, and none while observers are told or files are dropped.

mod address;
mod bind;
mod connection;
mod datagram;
mod graveyard;
mod message;
mod place;
mod socket;
mod stream;

pub use address::Name;
pub use bind::AbstractNames;
pub use socket::UnixSocket;
