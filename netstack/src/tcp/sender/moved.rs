//! A sender as a value, and as it goes on elsewhere.

use super::super::config::Config;
use super::super::snapshot::Snapshot;
use super::{Forced, Sender};
use crate::time::Instant;
use netstack_wire::seq::SeqNum;

impl Sender {
    /// Puts the sending half into a snapshot.
    pub(in super::super) fn describe(&mut self, out: &mut Snapshot, now: Instant) {
        // A FIN that was acknowledged is none of these states'.
        let una = self.snd_una.min(self.queue.end());
        let len = self.queue.end() - una;
        out.snd_una = una.0;
        out.unacked = self.queue.range(una, len).to_bytes();
        out.sent = (self.snd_nxt - una).min(len);
        (out.snd_wnd, out.snd_wl1, out.max_wnd) = (self.snd_wnd, self.snd_wl1.0, self.max_wnd);
        out.window_shifts = out.window_shifts.map(|(_, own)| (self.wnd_shift, own));
        (out.peer_mss, out.has_sack, out.has_ecn) = (self.peer_mss, self.has_sack, self.has_ecn);
        out.timestamps = out.timestamps.map(|(recent, _)| (recent, self.timestamp(now)));
        out.srtt = self.rtt.srtt();
    }

    /// Goes on where another one was. What that has sent counts as sent now.
    pub(in super::super) fn restore(&mut self, config: &Config, now: Instant, from: &Snapshot) {
        // No segment could have offered more.
        let most = u32::from(u16::MAX) << self.wnd_shift;
        self.snd_wnd = from.snd_wnd.min(most);
        self.snd_wl1 = SeqNum(from.snd_wl1);
        self.max_wnd = from.max_wnd.min(most).max(self.snd_wnd);
        self.largest_flight = self.congestion.cwnd().min(self.snd_wnd);
        self.push_shared(from.unacked.clone());
        let sent = from.sent.min(self.queue.len());
        if sent > 0 {
            let (start, end) = (self.snd_una, self.snd_una + sent);
            self.snd_nxt = end;
            self.board.on_sent(start, end, now);
            self.account(config, now, sent);
        }
    }

    /// Has the next segment be one that the peer answers.
    pub(in super::super) fn force_probe(&mut self) {
        self.forced = Some(Forced::WindowProbe);
    }
}
