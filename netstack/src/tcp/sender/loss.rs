//! What an acknowledgment shows to be lost: RACK (RFC 8985), RFC 6675 without it, RFC 6582 without SACK.

use super::super::config::Config;
use super::super::rack::RackContext;
use super::super::recovery::Phase;
use super::super::scoreboard::Fate;
use super::Sender;
use super::ack::Context;
use core::time::Duration;

impl Sender {
    /// Marks what this acknowledgment shows to be lost; returns when to look again.
    pub(super) fn detect_losses(&mut self, config: &Config, context: &Context) -> Option<Duration> {
        let now = context.input.now;
        let mss = self.mss();
        if !self.has_sack {
            self.count_duplicates(config, context);
            return None;
        }
        // SACK reneging: the cumulative ACK stops right before what had been selectively acknowledged (RFC 2018 section 8).
        // Only a timeout acts on it (section 8: "MUST turn off all of the SACKed bits" then).
        if !config.rack {
            let threshold = u32::from(config.reordering).saturating_sub(1).saturating_mul(mss);
            self.mark_by_rfc6675(threshold);
            return None;
        }
        let rack = RackContext {
            now,
            srtt: self.rtt.srtt().unwrap_or(config.rto_initial),
            min_rtt: self.rtt.min_rtt().unwrap_or_default(),
            is_recovering: self.recovery.is_recovering(),
            dup_thresh_bytes: u32::from(config.reordering).saturating_mul(mss),
        };
        self.rack.detect(&mut self.board, &rack)
    }

    /// RFC 6675 section 4, IsLost: more than (DupThresh - 1) * SMSS bytes above it have been selectively acknowledged.
    fn mark_by_rfc6675(&mut self, threshold: u32) {
        let mut above = 0;
        let mut limit = None;
        for record in self.board.iter().rev() {
            if above > threshold {
                limit = Some(record.end);
                break;
            }
            if record.fate == Fate::Sacked {
                above += record.end - record.start;
            }
        }
        if let Some(limit) = limit {
            self.board.mark_lost(|record| !record.is_retransmission, |record| record.start.ge(limit));
        }
    }

    /// Without SACK: the third duplicate marks the first segment, a partial acknowledgment the next (RFC 6582).
    fn count_duplicates(&mut self, config: &Config, context: &Context) {
        let mss = self.mss();
        if context.delivered.acked > 0 {
            self.recovery.dup_acks = 0;
            let is_partial = match self.recovery.phase {
                Phase::Recovery { high, .. } => self.snd_una.lt(high),
                _ => false,
            };
            if is_partial && self.board.first().is_some_and(|first| !first.is_retransmission) {
                self.board.mark_head_lost(mss);
            }
        } else if context.is_duplicate {
            self.recovery.dup_acks = self.recovery.dup_acks.saturating_add(1);
            if self.recovery.dup_acks == u32::from(config.reordering) && self.recovery.is_open() {
                self.board.mark_head_lost(mss);
            }
        }
    }
}
