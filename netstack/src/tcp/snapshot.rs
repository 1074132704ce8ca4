//! A connection taken out of its stack as a value, and put into another one (Linux's `TCP_REPAIR`).
//!
//! The value has what the peer knows and what the user has not got yet: numbers, windows, what the handshake agreed on, and the
//! bytes of both queues. What was learnt about the path is left behind, as the path may be another one; segments that came
//! out of order are sent again by the peer (RFC 2018 section 8).

use super::common::Common;
use super::config::Config;
use super::connection::{Connection, Phase};
use super::flow::Flow;
use super::negotiated::{MAX_WINDOW_SHIFT, Negotiated, send_mss};
use super::num::low_u32;
use super::open::Open;
use super::options::Options;
use super::path::PathInfo;
use super::state::State;
use crate::time::Instant;
use bytes::Bytes;
use core::time::Duration;
use netstack_wire::seq::SeqNum;
use std::sync::Arc;

/// A connection in ESTABLISHED, CLOSE-WAIT, FIN-WAIT-1 or LAST-ACK. What is inconsistent in it is put right where it is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// SND.UNA: the first byte of `unacked`.
    pub snd_una: u32,
    /// What the user has written and the peer has not acknowledged.
    pub unacked: Bytes,
    /// How many of these bytes were sent.
    pub sent: u32,
    /// FIN follows them.
    pub is_write_shut: bool,
    /// SND.WND, scaled.
    pub snd_wnd: u32,
    /// SND.WL1: the segment that told SND.WND.
    pub snd_wl1: u32,
    /// The largest window that the peer has offered.
    pub max_wnd: u32,
    /// The number behind the last byte of `unread`. The peer's FIN is not counted.
    pub rcv_nxt: u32,
    /// What has come and the user has not read.
    pub unread: Bytes,
    /// The peer's FIN has come behind them.
    pub is_read_over: bool,
    /// The window that was offered last, and the RCV.NXT that it counts from.
    pub rcv_wnd: u32,
    /// See [`rcv_wnd`](Self::rcv_wnd).
    pub rcv_wup: u32,
    /// The shifts of the windows that the peer and we send; `None` without window scaling.
    pub window_shifts: Option<(u8, u8)>,
    /// The MSS that the peer has said.
    pub peer_mss: u16,
    /// The MSS that we have said.
    pub advertised_mss: u16,
    /// Selective acknowledgments are in use.
    pub has_sack: bool,
    /// Explicit congestion notification is in use.
    pub has_ecn: bool,
    /// With timestamps: the peer's last one (TS.Recent), and our clock as it stands.
    pub timestamps: Option<(u32, u32)>,
    /// The smoothed round trip, once one was measured.
    pub srtt: Option<Duration>,
}

impl Default for Snapshot {
    /// A connection that has agreed on nothing and carried nothing.
    fn default() -> Self {
        Self {
            snd_una: 0,
            unacked: Bytes::new(),
            sent: 0,
            is_write_shut: false,
            snd_wnd: 0,
            snd_wl1: 0,
            max_wnd: 0,
            rcv_nxt: 0,
            unread: Bytes::new(),
            is_read_over: false,
            rcv_wnd: 0,
            rcv_wup: 0,
            window_shifts: None,
            peer_mss: 536,
            advertised_mss: 536,
            has_sack: false,
            has_ecn: false,
            timestamps: None,
            srtt: None,
        }
    }
}

impl Connection {
    /// The connection as a value; it goes on. `None` in the states in which nothing more is to be moved.
    pub fn snapshot(&mut self, now: Instant) -> Option<Snapshot> {
        self.wake(Some(now));
        let Phase::Open(open) = &mut self.phase else { return None };
        let (is_write_shut, is_read_over) = match open.state() {
            State::Established => (false, false),
            State::CloseWait => (false, true),
            State::FinWait1 => (true, false),
            State::LastAck => (true, true),
            _ => return None,
        };
        let mut unread = vec![0; super::num::usize_of(open.rcv.queue.len())];
        open.rcv.queue.peek(0, &mut unread);
        let mut snapshot = Snapshot {
            is_write_shut,
            is_read_over,
            unread: unread.into(),
            rcv_nxt: (open.rcv.rcv_nxt - u32::from(is_read_over)).0,
            ..Snapshot::default()
        };
        open.rcv.describe(&mut snapshot);
        open.snd.describe(&mut snapshot, now);
        Some(snapshot)
    }

    /// A connection that goes on where another one was.
    #[must_use]
    pub fn restore(
        now: Instant,
        config: &Arc<Config>,
        options: impl Into<Arc<Options>>,
        flow: &Flow,
        path: PathInfo,
        snapshot: &Snapshot,
    ) -> Self {
        let common = Common::new(config, options, flow);
        // A window of the other end's; more are no sequence space that it has.
        let len = |bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let shift = |shift: u8| shift.min(MAX_WINDOW_SHIFT);
        let shifts = snapshot.window_shifts.map(|(snd, rcv)| (shift(snd), shift(rcv)));
        let (snd_shift, rcv_shift) = shifts.unwrap_or_default();
        let peer_mss = snapshot.peer_mss.max(1);
        let negotiated = Negotiated {
            now,
            iss: SeqNum(snapshot.snd_una) - 1,
            irs: SeqNum(snapshot.rcv_nxt) - len(&snapshot.unread) - 1,
            // The largest counts for the MSS.
            snd_wnd: snapshot.max_wnd.max(snapshot.snd_wnd),
            snd_wnd_shift: snd_shift,
            rcv_wnd: snapshot.rcv_wnd,
            rcv_wnd_shift: rcv_shift,
            has_window_scaling: shifts.is_some(),
            send_mss: send_mss(&common.config, &common.options, path, peer_mss),
            peer_mss,
            advertised_mss: snapshot.advertised_mss.min(path.link_mss).max(1),
            has_sack: snapshot.has_sack,
            timestamps: snapshot.timestamps.map(|(recent, _)| recent),
            timestamp_offset: snapshot
                .timestamps
                .map_or(0, |(_, clock)| clock.wrapping_sub(low_u32(now.as_millis()))),
            has_ecn: snapshot.has_ecn,
            rtt: snapshot.srtt,
            is_path_lossy: false,
        };
        let mut open = Open::new(&common, &negotiated);
        open.rcv.restore(snapshot);
        open.snd.restore(&common.config, now, snapshot);
        open.resume_state(snapshot.is_read_over, snapshot.is_write_shut);
        Self { common, phase: Phase::Open(Box::new(open)) }
    }

    /// Sends what makes the peer say what it has got, whatever the windows (`TCP_REPAIR_OFF`).
    pub fn probe(&mut self, now: Instant) {
        self.wake(Some(now));
        if let Phase::Open(open) = &mut self.phase {
            open.snd.force_probe();
        }
    }

    /// Ends without a word: another stack has the connection.
    pub fn forget(&mut self) -> super::outcome::Outcome {
        self.close_silently(super::outcome::CloseReason::Aborted, None)
    }
}
