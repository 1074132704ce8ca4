//! Sockets (`socket(7)`): what every family shares, and the families.
//!
//! System calls work on [`Socket`] trait objects behind [`SocketFile`]; a family implements it with operations that
//! never wait. Options are rows of a table (`option`), like the system calls.

mod base;
pub mod control;
mod create;
pub(crate) mod departed;
mod device;
mod file;
pub(crate) mod flow_label;
pub mod host;
mod in_flight;
pub mod inet;
pub(crate) mod iptables;
pub(crate) mod mroute;
mod namespace;
mod net_ioctl;
pub mod netlink;
mod ops;
pub mod option;
pub(crate) mod owner;
pub mod packet;
pub mod proc_net;
pub(crate) mod settings;
mod timer_thread;
pub(crate) mod tun;

pub mod unix;

pub use base::{SocketBase, SocketType, Switches, credentials_of, deadline};
pub use create::{create, unix_type};
pub use device::{LinkDetails, Lower, Master};
pub use file::SocketFile;
pub(crate) use in_flight::FilesInFlight;
pub use in_flight::FlightCharge;
pub(crate) use namespace::Backing;
pub use namespace::{NetNamespace, SocketList};
pub use ops::{
    Accepted, Destination, Family, RawAddr, Received, RecvRequest, SendRequest, ShutdownHow, Socket,
};
pub use settings::Settings;
pub use tun::TunDetails;
