//! Packetization layer path MTU discovery (RFC 4821, RFC 8899; Linux's `tcp_mtu_probing`): finds by larger segments now and
//! then how large they may be, without messages from routers.
//!
//! The search begins at `tcp_base_mss` and halves the distance to the largest size that the peer and the link allow. A probe
//! is an ordinary segment of new data that is only larger. Its loss says something of its size and nothing of congestion, so
//! the window stays; enough follows it for the loss to be noticed without a timeout.

use super::super::config::{Config, MtuProbing};
use super::super::num::sat_u16;
use super::super::recovery::{Frto, Phase};
use super::{DataOut, Sender, TransmitLimits};
use crate::time::Instant;
use netstack_wire::seq::SeqNum;

/// The state of a search. Sizes are those of the MSS, options not subtracted.
#[derive(Clone, Debug)]
pub(super) struct MtuSearch {
    /// What is known to arrive.
    low: u16,
    /// What may arrive at most.
    high: u16,
    /// Where searches begin: what the peer and the link allow.
    top: u16,
    probe: Option<Probe>,
    /// When the search began.
    since: Instant,
}

/// A probe in flight.
#[derive(Clone, Copy, Debug)]
struct Probe {
    start: SeqNum,
    end: SeqNum,
    size: u16,
}

/// Whether to probe now.
enum Chance {
    /// Not now.
    No,
    /// As soon as the window has been drained for it.
    Wait,
    /// With a segment of this size.
    Yes(u16),
}

impl Sender {
    /// Begins to search with the smallest size that surely arrives, where the settings want it from the start.
    pub(in super::super) fn begin_mtu_search(&mut self, config: &Config, now: Instant) {
        if config.mtu_probing == MtuProbing::Always {
            let segments = self.congestion.cwnd() / self.mss();
            self.search_from(config.base_mss, now);
            self.congestion.set_cwnd(segments * self.mss());
            self.update_pacing();
        }
    }

    /// Begins a search below the current size, from `payload` bytes upwards.
    fn search_from(&mut self, payload: u16, now: Instant) {
        let top = self.base_mss;
        let low = payload.saturating_add(self.options_len()).min(top);
        self.search = Some(Box::new(MtuSearch { low, high: top, top, probe: None, since: now }));
        self.base_mss = low;
        self.congestion.set_mss(self.mss());
    }

    fn options_len(&self) -> u16 {
        self.base_mss - sat_u16(self.mss()).min(self.base_mss)
    }

    /// A path that swallows large segments without a word (RFC 4821 section 7.7): they become smaller, in steps, and the
    /// search for larger ones goes on from there.
    pub(super) fn suspect_black_hole(&mut self, config: &Config, now: Instant) {
        let options = self.options_len();
        let floor = config.black_hole_floor.max(config.min_mss);
        match &mut self.search {
            _ if config.mtu_probing == MtuProbing::Off => {}
            None => {
                self.search_from(config.base_mss, now);
                self.resend_at_new_size();
            }
            Some(search) => {
                let half = (search.low - options.min(search.low)) / 2;
                search.low = half.min(config.base_mss).max(floor).saturating_add(options).min(search.top);
                let low = search.low;
                if low < self.base_mss {
                    self.base_mss = low;
                    self.congestion.set_mss(self.mss());
                    self.resend_at_new_size();
                }
            }
        }
    }

    /// The path's routers or the link say what fits: no search goes beyond it. Returns the size to use.
    pub(super) fn bound_mtu_search(&mut self, size: u16) -> u16 {
        let Some(search) = &mut self.search else { return size };
        search.high = search.high.min(size);
        size.min(search.low)
    }

    /// Sends a probe if it is time for one and everything is in place for it (Linux's `tcp_mtu_probe`). `Err`: nothing is to
    /// be sent before more is acknowledged.
    pub(super) fn send_mtu_probe(
        &mut self,
        config: &Config,
        now: Instant,
        limits: TransmitLimits,
    ) -> Result<Option<DataOut>, ()> {
        let size = match self.mtu_probe_chance(config, now, limits) {
            Chance::No => return Ok(None),
            Chance::Wait => return Err(()),
            Chance::Yes(size) => size,
        };
        let len = u32::from(size - self.options_len());
        let (start, end) = (self.snd_nxt, self.snd_nxt + len);
        self.snd_nxt = end;
        self.board.on_sent(start, end, now);
        self.account(config, now, len);
        self.note_usage();
        // It takes the place of two segments.
        self.congestion.set_cwnd(self.congestion.cwnd().saturating_sub(self.mss()));
        if let Some(search) = &mut self.search {
            search.probe = Some(Probe { start, end, size });
        }
        Ok(Some(self.piece(start, end, TransmitLimits { segment: len, ..limits }, true)))
    }

    fn mtu_probe_chance(&mut self, config: &Config, now: Instant, limits: TransmitLimits) -> Chance {
        let (mss, options) = (self.mss(), self.options_len());
        let (base, cwnd, in_flight) = (self.base_mss, self.congestion.cwnd(), self.board.in_flight());
        let Some(search) = &mut self.search else { return Chance::No };
        let is_quiet = search.probe.is_none()
            && self.recovery.is_open()
            && cwnd >= LEAST_WINDOW * mss
            // Variable options "throw things off".
            && limits.segment == mss;
        if !is_quiet {
            return Chance::No;
        }
        let interval = search.high - search.low.min(search.high);
        if interval < config.mtu_probe_threshold.max(1) {
            // The path may have changed since.
            if now - search.since >= config.mtu_probe_interval {
                (search.low, search.high, search.since) = (base, search.top, now);
            }
            return Chance::No;
        }
        let size = search.low + interval / 2;
        let len = u32::from(size - options.min(size));
        // RFC 4821 section 7.4: enough behind it for its loss to be detected.
        let needed = len + (u32::from(config.reordering) + 1) * mss;
        if self.not_sent() < needed || self.snd_wnd < needed {
            return Chance::No;
        }
        if self.window_room() < needed {
            return Chance::Wait;
        }
        if in_flight + 2 * mss > cwnd {
            return if in_flight == 0 { Chance::No } else { Chance::Wait };
        }
        Chance::Yes(size)
    }

    /// Whether a probe is in flight.
    #[inline]
    pub(super) fn is_mtu_probing(&self) -> bool {
        self.search.as_ref().is_some_and(|search| search.probe.is_some())
    }

    /// An acknowledgment has come: what it says of the probe.
    pub(super) fn judge_mtu_probe(&mut self) {
        let Some(probe) = self.search.as_ref().and_then(|search| search.probe) else { return };
        if self.snd_una.ge(probe.end) {
            return self.on_mtu_probe_success(probe);
        }
        if self.snd_una == probe.start && self.board.lost() > 0 && self.recovery.is_open() {
            self.on_mtu_probe_failure(probe);
        }
    }

    fn on_mtu_probe_success(&mut self, probe: Probe) {
        if let Some(search) = &mut self.search {
            search.low = probe.size;
            search.probe = None;
        }
        // The window in bytes stays what it is.
        self.base_mss = probe.size.min(self.peer_mss);
        self.congestion.set_mss(self.mss());
    }

    /// RFC 4821 section 7.6.2: "the congestion window SHOULD NOT be reduced" for the loss of a probe only.
    fn on_mtu_probe_failure(&mut self, probe: Probe) {
        if let Some(search) = &mut self.search {
            search.high = probe.size - 1;
            search.probe = None;
        }
        self.congestion.set_cwnd(self.congestion.cwnd().saturating_add(self.mss()));
        self.recovery.phase = Phase::Loss { high: self.snd_nxt, frto: Frto::Off };
        self.recovery.undo = None;
    }

    /// Something is sent again for other reasons: the probe proves nothing any more.
    pub(super) fn forget_mtu_probe(&mut self) {
        if let Some(search) = &mut self.search {
            search.probe = None;
        }
    }
}

/// Linux probes with eleven segments in the window or more.
const LEAST_WINDOW: u32 = 11;
