//! Neighbour unreachability detection (RFC 4861 section 7.3) as a value.

use std::time::Duration;

use netstack_wire::ethernet::MacAddr;

use crate::nic::NeighbourState;
use crate::time::Instant;

/// What is known of one neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nud {
    state: State,
    timers: NudTimers,
}

/// How long a confirmation counts, and how long an answer is waited for. Routers may say (RFC 4861 section 6.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NudTimers {
    pub(crate) reachable: Duration,
    pub(crate) retransmit: Duration,
}

impl Default for NudTimers {
    fn default() -> Self {
        Self { reachable: REACHABLE, retransmit: RETRANSMIT }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Asked `probes` times, the next time is `at`.
    Incomplete {
        probes: u8,
        at: Instant,
    },
    /// Confirmed; becomes stale at `until`.
    Reachable {
        mac: MacAddr,
        until: Instant,
    },
    Stale {
        mac: MacAddr,
    },
    /// In use without confirmation; asks at `until`.
    Delay {
        mac: MacAddr,
        until: Instant,
    },
    /// Asked directly `probes` times, the next time is `at`.
    Probe {
        mac: MacAddr,
        probes: u8,
        at: Instant,
    },
    /// Did not answer; asked again when somebody sends after `until`.
    Failed {
        until: Instant,
    },
    Permanent {
        mac: MacAddr,
    },
}

/// What the shell has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NudAction {
    /// Nothing.
    None,
    /// Ask everybody (ARP broadcast, NS to the solicited-node group).
    SolicitAll,
    /// Ask the station itself.
    SolicitStation(MacAddr),
    /// Nobody answered: drop what waits and tell the senders.
    Fail,
}

/// An advertisement (NA or ARP reply) as the machine sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Advertisement {
    pub(crate) mac: MacAddr,
    /// Answers a question of ours.
    pub(crate) is_solicited: bool,
    /// May replace another station address.
    pub(crate) is_override: bool,
}

impl Nud {
    /// Somebody wants to send to an unknown neighbour: ask with the returned action.
    pub(crate) fn begin(now: Instant, timers: NudTimers) -> (Self, NudAction) {
        let state = State::Incomplete { probes: 1, at: now + timers.retransmit };
        (Self { state, timers }, NudAction::SolicitAll)
    }

    /// A neighbour that told us its address by asking for ours.
    pub(crate) fn learned(mac: MacAddr, timers: NudTimers) -> Self {
        Self { state: State::Stale { mac }, timers }
    }

    /// Set by the user.
    pub(crate) fn permanent(mac: MacAddr) -> Self {
        Self { state: State::Permanent { mac }, timers: NudTimers::default() }
    }

    /// Changes the times; they count from the next question or confirmation on.
    pub(crate) fn set_timers(&mut self, timers: NudTimers) {
        self.timers = timers;
    }

    /// The station address, if it may be used.
    pub(crate) fn mac(&self) -> Option<MacAddr> {
        match self.state {
            State::Reachable { mac, .. }
            | State::Stale { mac }
            | State::Delay { mac, .. }
            | State::Probe { mac, .. }
            | State::Permanent { mac } => Some(mac),
            State::Incomplete { .. } | State::Failed { .. } => None,
        }
    }

    /// Whether senders may go on without telling the machine.
    pub(crate) fn is_quiet(&self) -> bool {
        match self.state {
            State::Reachable { .. } | State::Delay { .. } | State::Probe { .. } | State::Permanent { .. } => {
                true
            }
            State::Stale { .. } | State::Incomplete { .. } | State::Failed { .. } => false,
        }
    }

    pub(crate) fn state(&self) -> NeighbourState {
        match self.state {
            State::Incomplete { .. } => NeighbourState::Incomplete,
            State::Reachable { .. } => NeighbourState::Reachable,
            State::Stale { .. } => NeighbourState::Stale,
            State::Delay { .. } => NeighbourState::Delay,
            State::Probe { .. } => NeighbourState::Probe,
            State::Failed { .. } => NeighbourState::Failed,
            State::Permanent { .. } => NeighbourState::Permanent,
        }
    }

    /// Somebody sends. RFC 4861 section 7.3.3: "The first time a node sends a packet to a neighbor whose entry is
    /// STALE, the sender changes the state to DELAY".
    pub(crate) fn on_send(&mut self, now: Instant) -> NudAction {
        match self.state {
            State::Stale { mac } => {
                self.state = State::Delay { mac, until: now + DELAY_FIRST_PROBE };
                NudAction::None
            }
            State::Failed { until } if now >= until => {
                self.state = State::Incomplete { probes: 1, at: now + self.timers.retransmit };
                NudAction::SolicitAll
            }
            State::Failed { .. } => NudAction::Fail,
            State::Incomplete { .. }
            | State::Reachable { .. }
            | State::Delay { .. }
            | State::Probe { .. }
            | State::Permanent { .. } => NudAction::None,
        }
    }

    /// Its answer, or an unsolicited announcement (RFC 4861 section 7.2.5). True if the address was unknown before:
    /// what waits can go.
    pub(crate) fn on_advertisement(&mut self, now: Instant, advertisement: Advertisement) -> bool {
        let Advertisement { mac, is_solicited, is_override } = advertisement;
        let fresh = || match is_solicited {
            true => State::Reachable { mac, until: now + self.timers.reachable },
            false => State::Stale { mac },
        };
        match self.state {
            State::Permanent { .. } => false,
            State::Incomplete { .. } | State::Failed { .. } => {
                self.state = fresh();
                true
            }
            State::Reachable { mac: known, .. } if known != mac && !is_override => {
                self.state = State::Stale { mac: known };
                false
            }
            State::Stale { mac: known }
            | State::Delay { mac: known, .. }
            | State::Probe { mac: known, .. }
                if known != mac && !is_override =>
            {
                false
            }
            State::Reachable { mac: known, .. } if known == mac && !is_solicited => false,
            State::Reachable { .. } | State::Stale { .. } | State::Delay { .. } | State::Probe { .. } => {
                if is_solicited || self.mac() != Some(mac) {
                    self.state = fresh();
                }
                false
            }
        }
    }

    /// It asked for our address and told its own (RFC 4861 section 7.2.3). True if the address was unknown before.
    pub(crate) fn on_solicitation(&mut self, mac: MacAddr) -> bool {
        let was_unknown = self.mac().is_none();
        match self.state {
            State::Permanent { .. } => {}
            _ if self.mac() == Some(mac) => {}
            _ => self.state = State::Stale { mac },
        }
        was_unknown
    }

    /// An upper layer made progress: "forward progress" (RFC 4861 section 7.3.1).
    pub(crate) fn on_confirmation(&mut self, now: Instant) {
        match self.state {
            State::Reachable { mac, .. }
            | State::Stale { mac }
            | State::Delay { mac, .. }
            | State::Probe { mac, .. } => {
                self.state = State::Reachable { mac, until: now + self.timers.reachable }
            }
            State::Incomplete { .. } | State::Failed { .. } | State::Permanent { .. } => {}
        }
    }

    /// Runs what is due.
    pub(crate) fn on_timer(&mut self, now: Instant) -> NudAction {
        match self.state {
            State::Incomplete { probes, at } if now >= at => {
                if probes >= MAX_PROBES {
                    self.state = State::Failed { until: now + FAILED_HOLD };
                    return NudAction::Fail;
                }
                self.state = State::Incomplete { probes: probes + 1, at: now + self.timers.retransmit };
                NudAction::SolicitAll
            }
            State::Reachable { mac, until } if now >= until => {
                self.state = State::Stale { mac };
                NudAction::None
            }
            State::Delay { mac, until } if now >= until => {
                self.state = State::Probe { mac, probes: 1, at: now + self.timers.retransmit };
                NudAction::SolicitStation(mac)
            }
            State::Probe { mac, probes, at } if now >= at => {
                if probes >= MAX_PROBES {
                    self.state = State::Failed { until: now };
                    return NudAction::Fail;
                }
                self.state = State::Probe { mac, probes: probes + 1, at: now + self.timers.retransmit };
                NudAction::SolicitStation(mac)
            }
            _ => NudAction::None,
        }
    }

    /// When `on_timer` wants to be called.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Incomplete { at, .. } | State::Probe { at, .. } => Some(at),
            State::Reachable { until, .. } | State::Delay { until, .. } => Some(until),
            State::Stale { .. } | State::Failed { .. } | State::Permanent { .. } => None,
        }
    }
}

/// RFC 4861 section 10, REACHABLE_TIME. DEVIATION: not randomised; the factor exists to keep many hosts from asking
/// in step after a common start.
const REACHABLE: Duration = Duration::from_secs(30);
/// RFC 4861 section 10, RETRANS_TIMER.
const RETRANSMIT: Duration = Duration::from_secs(1);
/// RFC 4861 section 10, DELAY_FIRST_PROBE_TIME.
const DELAY_FIRST_PROBE: Duration = Duration::from_secs(5);
/// RFC 4861 section 10, MAX_MULTICAST_SOLICIT and MAX_UNICAST_SOLICIT.
const MAX_PROBES: u8 = 3;
/// How long senders are refused at once after a failure, so that a dead host costs one question per interval.
const FAILED_HOLD: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn answer(mac: MacAddr) -> Advertisement {
        Advertisement { mac, is_solicited: true, is_override: true }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    #[test]
    fn resolution_asks_three_times_and_fails() {
        let (mut nud, action) = Nud::begin(at(0), NudTimers::default());
        assert_eq!(action, NudAction::SolicitAll);
        assert_eq!(nud.on_timer(at(0)), NudAction::None);
        assert_eq!(nud.on_timer(at(1)), NudAction::SolicitAll);
        assert_eq!(nud.on_timer(at(2)), NudAction::SolicitAll);
        assert_eq!(nud.on_timer(at(3)), NudAction::Fail);
        assert_eq!(nud.on_send(at(3)), NudAction::Fail);
        assert_eq!(nud.on_send(at(5)), NudAction::SolicitAll);
    }

    #[test]
    fn a_used_stale_entry_is_probed_and_confirmed() {
        let (mut nud, _) = Nud::begin(at(0), NudTimers::default());
        assert!(nud.on_advertisement(at(0), answer(MAC)));
        assert_eq!(nud.state(), NeighbourState::Reachable);
        nud.on_timer(at(30));
        assert_eq!((nud.state(), nud.is_quiet()), (NeighbourState::Stale, false));
        assert_eq!(nud.on_send(at(40)), NudAction::None);
        assert_eq!((nud.state(), nud.mac()), (NeighbourState::Delay, Some(MAC)));
        assert_eq!(nud.on_timer(at(45)), NudAction::SolicitStation(MAC));
        assert!(!nud.on_advertisement(at(45), answer(MAC)));
        assert_eq!(nud.state(), NeighbourState::Reachable);
    }

    #[test]
    fn progress_replaces_the_probe_and_silence_fails() {
        let mut nud = Nud::learned(MAC, NudTimers::default());
        nud.on_send(at(0));
        nud.on_confirmation(at(4));
        assert_eq!(nud.state(), NeighbourState::Reachable);
        nud.on_timer(at(34));
        nud.on_send(at(34));
        nud.on_timer(at(39));
        nud.on_timer(at(40));
        nud.on_timer(at(41));
        assert_eq!(nud.on_timer(at(42)), NudAction::Fail);
        assert_eq!(nud.mac(), None);
    }

    /// RFC 4861 section 7.2.5 and appendix C, the rows on a different link-layer address.
    #[test]
    fn another_address_needs_the_override_flag() {
        let (mut nud, _) = Nud::begin(at(0), NudTimers::default());
        nud.on_advertisement(at(0), answer(MAC));
        nud.on_advertisement(at(1), Advertisement { mac: OTHER, is_solicited: false, is_override: false });
        assert_eq!((nud.mac(), nud.state()), (Some(MAC), NeighbourState::Stale));
        nud.on_advertisement(at(1), Advertisement { mac: OTHER, is_solicited: false, is_override: true });
        assert_eq!((nud.mac(), nud.state()), (Some(OTHER), NeighbourState::Stale));
    }

    #[test]
    fn permanent_entries_do_not_change() {
        let mut nud = Nud::permanent(MAC);
        nud.on_advertisement(at(0), answer(OTHER));
        nud.on_solicitation(OTHER);
        assert_eq!((nud.mac(), nud.next_deadline()), (Some(MAC), None));
    }
}
