//! TCP: the machines of a connection and of a listener, as plain values.
//!
//! Nothing in here locks, reads a clock, draws random numbers or logs. Time comes in as an argument, randomness as
//! [`Seed`] and [`Secret`], results go out as return values; the shell around it does the rest.
//!
#![doc = include_str!("README.md")]

mod ack_policy;
mod closed;
mod common;
mod config;
mod congestion;
mod connection;
mod cookie;
mod delivery_rate;
mod error;
mod fast_open;
mod flow;
mod half_open;
mod info;
mod isn;
mod listener;
mod negotiated;
mod num;
mod open;
mod options;
mod outcome;
mod pacing;
mod path;
mod prr;
mod rack;
mod rate_limit;
mod readiness;
mod reassembly;
mod receive_queue;
mod receive_tuning;
mod receiver;
mod recovery;
mod rtt;
mod scoreboard;
mod segment;
mod send_queue;
mod sender;
mod siphash;
mod snapshot;
mod state;
mod syn_received;
mod syn_sent;
mod time_wait;
mod unconfirmed;
mod urgent;

pub use closed::reset_reply;
pub use config::{BufferSizes, Config, EcnMode, ListenRules, MtuProbing, SynCookies};
pub use congestion::{Algorithm, BbrInfo};
pub use connection::{Connection, Shutdown};
pub use error::{RecvError, SendError, ShutdownError};
pub use fast_open::{FastOpen, FastOpenKeys, FastOpenModes, fast_open_cookie};
pub use flow::Flow;
pub use info::{Info, RecoveryPhase};
pub use isn::{Secret, Seed, SeedGenerator};
pub use listener::{ListenOutcome, Listener};
pub use options::{FinWait2, Options, SaveSyn};
pub use outcome::{CloseReason, DropReason, Events, IcmpError, Outcome, Verdict};
pub use path::PathInfo;
pub use readiness::Readiness;
pub use segment::{Ecn, Payload, PlainSegment, PlainTransmit, SegmentIn, SynHeaders, Transmit};
pub use snapshot::Snapshot;
pub use state::State;
pub use urgent::UrgentError;

#[cfg(test)]
mod tests;
