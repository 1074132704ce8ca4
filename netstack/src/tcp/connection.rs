//! A connection: the machine that the endpoints wrap.

use super::config::Config;
use super::error::{RecvError, SendError, ShutdownError};
use super::flow::Flow;
use super::info::Info;
use super::isn::Seed;
use super::options::Options;
use super::outcome::{CloseReason, IcmpError, Outcome};
use super::path::PathInfo;
use super::readiness::Readiness;
use super::segment::{SegmentIn, Transmit};
use super::state::State;
use crate::time::Instant;
use bytes::Bytes;
use netstack_wire::seq::SeqNum;
use std::sync::Arc;

/// One TCP connection from SYN to CLOSED.
///
/// Calling order: any input (`on_*`) or user command, then `poll_transmit` until it gives `None`, then `next_deadline`.
/// `on_timer` may come late or for nothing. When [`Connection::state`] is CLOSED and `poll_transmit` is drained, the
/// flow may be forgotten; unread data stays readable for as long as the value lives.
pub struct Connection {
    _todo: (),
}

impl Connection {
    /// Opens actively: the first `poll_transmit` gives the SYN.
    #[must_use]
    pub fn connect(
        now: Instant,
        config: &Arc<Config>,
        options: Options,
        flow: &Flow,
        path: PathInfo,
        seed: Seed,
    ) -> Self {
        todo!("{now:?} {config:?} {options:?} {flow:?} {path:?} {seed:?}")
    }

    /// Processes a segment whose checksum is right and whose flow is this connection's.
    pub fn on_segment(&mut self, now: Instant, segment: SegmentIn) -> Outcome {
        todo!("{now:?} {segment:?}")
    }

    /// Runs what is due at `now`.
    pub fn on_timer(&mut self, now: Instant) -> Outcome {
        todo!("{now:?}")
    }

    /// When `on_timer` wants to be called next; `None` when nothing is pending.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        todo!()
    }

    /// Gives the next segment to send, a super-segment of at most `max_payload` payload bytes where possible.
    /// `max_payload` below the MSS counts as the MSS.
    pub fn poll_transmit(&mut self, now: Instant, max_payload: u32) -> Option<Transmit> {
        todo!("{now:?} {max_payload}")
    }

    /// The path MTU changed: `path_mss` is the new MTU less IP header and 20 bytes. From an ICMP message, `quoted` is the
    /// quoted sequence number, which must be in flight (RFC 5927).
    pub fn on_pmtu(&mut self, now: Instant, path_mss: u16, quoted: Option<SeqNum>) -> Outcome {
        todo!("{now:?} {path_mss} {quoted:?}")
    }

    /// An ICMP error quoting a segment of ours arrived (RFC 5461 section 4).
    pub fn on_icmp_error(&mut self, now: Instant, error: IcmpError, quoted: SeqNum) -> Outcome {
        todo!("{now:?} {error:?} {quoted}")
    }

    /// Queues a copy of as much of `data` as there is room for, and returns how much.
    pub fn send(&mut self, now: Instant, data: &[u8]) -> Result<usize, SendError> {
        todo!("{now:?} {data:?}")
    }

    /// Queues as much of `data` as there is room for without copying it, and returns how much.
    pub fn send_bytes(&mut self, now: Instant, data: &Bytes) -> Result<usize, SendError> {
        todo!("{now:?} {data:?}")
    }

    /// Moves received bytes into `buf`; zero at the end of the stream. It may leave a window update to transmit.
    pub fn recv(&mut self, now: Instant, buf: &mut [u8]) -> Result<usize, RecvError> {
        todo!("{now:?} {buf:?}")
    }

    /// Copies received bytes from `offset` on into `buf` and leaves them queued.
    pub fn peek(&mut self, offset: usize, buf: &mut [u8]) -> Result<usize, RecvError> {
        todo!("{offset} {buf:?}")
    }

    /// Takes one contiguous range of at most `max` received bytes without copying; empty at the end of the stream.
    pub fn take(&mut self, now: Instant, max: usize) -> Result<Bytes, RecvError> {
        todo!("{now:?} {max}")
    }

    /// Shuts one or both directions, with the rules of Linux (nothing is sent for the read side).
    pub fn shutdown(&mut self, now: Instant, how: Shutdown) -> Result<Outcome, ShutdownError> {
        todo!("{now:?} {how:?}")
    }

    /// The user is done: sends what is queued and FIN in the background, or RST if data is unread (RFC 2525 section 2.17).
    pub fn close(&mut self, now: Instant) -> Outcome {
        todo!("{now:?}")
    }

    /// Resets the connection (linger with a zero timeout).
    pub fn abort(&mut self, now: Instant) -> Outcome {
        todo!("{now:?}")
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &Options {
        todo!()
    }

    /// Changes options; the new ones take effect at once where Linux's do.
    pub fn set_options(&mut self, now: Instant, options: Options) {
        todo!("{now:?} {options:?}")
    }

    /// `TCP_QUICKACK`: acknowledge at once for a while, or go back to delayed ACKs.
    pub fn set_quick_ack(&mut self, now: Instant, on: bool) {
        todo!("{now:?} {on}")
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> State {
        todo!()
    }

    /// What the user could do now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        todo!()
    }

    /// Why the connection is closed; `None` while it is not.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        todo!()
    }

    /// Takes the pending error (`SO_ERROR`); each is reported once, here or by a send or receive.
    pub fn take_error(&mut self) -> Option<CloseReason> {
        todo!()
    }

    /// A snapshot of the figures.
    #[must_use]
    pub fn info(&self, now: Instant) -> Info {
        todo!("{now:?}")
    }
}

/// Which directions `shutdown` closes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shutdown {
    /// Receiving.
    Read,
    /// Sending.
    Write,
    /// Both.
    Both,
}
