//! Internet sockets (`ip(7)`, `ipv6(7)`, `tcp(7)`, `udp(7)`, `raw(7)`) on the network stack.

mod address;
mod ancillary;
mod copy;
mod errno;
mod error_queue;
pub mod extension;
pub mod ip_options;
mod notes;
mod receive;
pub mod repair;
mod socket;
pub mod stamp;
pub mod tag;
mod tcp_info;

pub use address::{decode as decode_address, encode as encode_address, to_family};
pub use copy::{Discard, GuestSink, GuestSource};
pub use errno::ToErrno;
pub use notes::Notes;
pub use receive::{Receive, ReceiveSwitches};
pub use socket::{Batch, InetSocket, Membership, Protocol, Transport};
pub use tcp_info::{state_number, tcp_info};
