//! TCP endpoints: the concurrent shell around the TCP machines.
//!
//! A connection has one mutex around its machine. The thread that reads a link never waits for it: when the application
//! holds the lock, the segment goes to the endpoint's backlog, and whoever unlocks looks there once more. Everything that
//! an input causes (segments to send, timers, wake-ups) happens in [`TcpEndpoint::finish`], once per batch of frames.
//!
//! Lock order: listener, endpoint, then the tables, neighbours and timers, none of which calls back.

mod coalesce;
mod connection;
mod input;
mod ip_options;
mod listener;
mod transmit;

pub(crate) use coalesce::Held;
pub(crate) use connection::{SMALL_WRITE, TcpEndpoint};
pub(crate) use input::{
    Single, input, input_checked, input_plain, input_single, input_unclaimed, looks_at_packets,
    may_look_at_packets, on_icmp, release_held,
};
pub(crate) use listener::ListenEndpoint;
pub(crate) use transmit::{facts_of, path_of, resolve, send_bare};
