//! A receiver as a value, and as it goes on elsewhere.

use super::super::segment::Payload;
use super::super::snapshot::Snapshot;
use super::Receiver;
use netstack_wire::seq::SeqNum;

impl Receiver {
    /// Puts the receiving half into a snapshot, except for what the user has to read.
    pub(in super::super) fn describe(&self, out: &mut Snapshot) {
        (out.rcv_wnd, out.rcv_wup) = (self.rcv_wnd, self.last_ack_sent.0);
        out.window_shifts = self.has_window_scaling.then_some((0, self.wnd_shift));
        out.advertised_mss = self.advertised_mss;
        out.timestamps = self.timestamps.map(|(recent, _)| (recent, 0));
    }

    /// Goes on where another one was.
    pub(in super::super) fn restore(&mut self, from: &Snapshot) {
        if !from.unread.is_empty() {
            let len = u32::try_from(from.unread.len()).unwrap_or(u32::MAX);
            self.append(Payload::from(from.unread.clone()), len);
        }
        if from.is_read_over {
            self.rcv_nxt += 1;
            self.is_fin_taken = true;
        }
        // Not behind what has come: an acknowledgment said that before it was moved, or will now.
        self.last_ack_sent = SeqNum(from.rcv_wup).min(self.rcv_nxt);
        // No segment could have offered more.
        self.rcv_wnd = from.rcv_wnd.min(u32::from(u16::MAX) << self.wnd_shift);
    }
}
