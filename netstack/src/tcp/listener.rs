//! A listener: half-open connections, SYN cookies and the accept queue.

use super::config::Config;
use super::connection::Connection;
use super::flow::Flow;
use super::isn::{Secret, SeedGenerator};
use super::options::Options;
use super::outcome::DropReason;
use super::path::PathInfo;
use super::segment::{SegmentIn, Transmit};
use crate::time::Instant;
use std::sync::Arc;

/// A listening socket's machine.
///
/// Half-open connections live in here as small records. A [`Connection`] exists only after its handshake is complete;
/// it is handed to the shell at once ([`ListenOutcome::Ready`]), which makes an endpoint of it, puts that into the demux
/// table and tells the listener when the user has accepted it or it has gone ([`Listener::on_accepted`]).
pub struct Listener {
    _todo: (),
}

/// What the shell has to do with a segment for a listener.
pub enum ListenOutcome {
    /// Send this (a SYN-ACK or a challenge ACK).
    Reply(Transmit),
    /// The handshake is complete: enter the connection into the demux table and into the accept queue.
    Ready(Box<Connection>),
    /// Send this RST.
    Reset(Transmit, DropReason),
    /// Nothing to send.
    Drop(DropReason),
}

impl Listener {
    /// Starts to listen. `cookie_secret` keys this listener's SYN cookies; `seeds` is the stack's generator.
    #[must_use]
    pub fn new(
        config: &Arc<Config>,
        options: Options,
        backlog: u32,
        cookie_secret: Secret,
        seeds: SeedGenerator,
    ) -> Self {
        todo!("{config:?} {options:?} {backlog} {cookie_secret:?} {seeds:?}")
    }

    /// Processes a segment for this listener for which there is no connection. `path` is the way back.
    pub fn on_segment(
        &mut self,
        now: Instant,
        flow: &Flow,
        path: PathInfo,
        segment: SegmentIn,
    ) -> ListenOutcome {
        todo!("{now:?} {flow:?} {path:?} {segment:?}")
    }

    /// Runs what is due: call until it returns `None`. Gives SYN-ACKs to retransmit with the flow they go to.
    pub fn on_timer(&mut self, now: Instant) -> Option<(Flow, Transmit)> {
        todo!("{now:?}")
    }

    /// When `on_timer` wants to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        todo!()
    }

    /// A connection has left the accept queue: the user took it, or it was destroyed before.
    pub fn on_accepted(&mut self) {
        todo!()
    }

    /// Changes the backlog (`listen` called again).
    pub fn set_backlog(&mut self, backlog: u32) {
        todo!("{backlog}")
    }

    /// How many handshakes are half open.
    #[must_use]
    pub fn half_open(&self) -> usize {
        todo!()
    }

    /// How many connections wait in the accept queue.
    #[must_use]
    pub fn queued(&self) -> usize {
        todo!()
    }

    /// Stops listening: forgets the half-open connections. Gives the RSTs for them.
    pub fn close(&mut self, now: Instant) -> Vec<(Flow, Transmit)> {
        todo!("{now:?}")
    }
}
