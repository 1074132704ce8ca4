//! IPv4 address conflict detection (RFC 5227) as a value: probes, announces, and defends.

use std::time::Duration;

use crate::time::Instant;

/// One address of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConflictDetection {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Sent `sent` probes; the next step is `at`.
    Probing { sent: u8, at: Instant },
    /// In use; sent `sent` announcements, the next is `at`.
    Announcing { sent: u8, at: Instant },
    /// In use; defended last at that time.
    Defending { last: Option<Instant> },
    /// Somebody else has it.
    Lost,
}

/// What the shell has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConflictAction {
    /// Nothing.
    None,
    /// Ask for the address without telling one of ours.
    Probe,
    /// From here on the address is in use: tell everybody.
    BeginUse,
    /// Tell everybody again.
    Announce,
    /// The address is somebody else's: do not use it, or stop using it.
    Lose,
}

impl ConflictDetection {
    /// Starts to look; `delay` is random, below [`PROBE_WAIT`].
    pub(crate) fn begin(now: Instant, delay: Duration) -> Self {
        Self { state: State::Probing { sent: 0, at: now + delay } }
    }

    /// An ARP packet shows that another station uses the address, or looks for it as we do.
    pub(crate) fn on_conflict(&mut self, now: Instant) -> ConflictAction {
        match self.state {
            State::Probing { .. } => {
                self.state = State::Lost;
                ConflictAction::Lose
            }
            // RFC 5227 section 2.4 (b): defends with a single announcement, once in DEFEND_INTERVAL; a second conflict
            // within it means that the other one does not give in. This host then goes on all the same (c), as Linux
            // does, but in silence, lest both flood the link.
            State::Announcing { .. } | State::Defending { last: None } => {
                self.state = State::Defending { last: Some(now) };
                ConflictAction::Announce
            }
            State::Defending { last: Some(last) } if now >= last + DEFEND_INTERVAL => {
                self.state = State::Defending { last: Some(now) };
                ConflictAction::Announce
            }
            State::Defending { .. } | State::Lost => ConflictAction::None,
        }
    }

    /// Does what is due; `jitter` is random, up to [`PROBE_SPREAD`].
    pub(crate) fn on_timer(&mut self, now: Instant, jitter: Duration) -> ConflictAction {
        match self.state {
            State::Probing { sent, at } if at <= now => {
                if sent == PROBES {
                    self.state = State::Announcing { sent: 1, at: now + ANNOUNCE_INTERVAL };
                    return ConflictAction::BeginUse;
                }
                let wait = if sent + 1 == PROBES { ANNOUNCE_WAIT } else { PROBE_MIN + jitter };
                self.state = State::Probing { sent: sent + 1, at: now + wait };
                ConflictAction::Probe
            }
            State::Announcing { sent, at } if at <= now => {
                self.state = match sent + 1 {
                    ANNOUNCEMENTS => State::Defending { last: None },
                    sent => State::Announcing { sent, at: now + ANNOUNCE_INTERVAL },
                };
                ConflictAction::Announce
            }
            _ => ConflictAction::None,
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Probing { at, .. } | State::Announcing { at, .. } => Some(at),
            State::Defending { .. } | State::Lost => None,
        }
    }
}

/// RFC 5227 section 1.1.
pub(crate) const PROBE_WAIT: Duration = Duration::from_secs(1);
const PROBES: u8 = 3;
const PROBE_MIN: Duration = Duration::from_secs(1);
/// PROBE_MAX less PROBE_MIN.
pub(crate) const PROBE_SPREAD: Duration = Duration::from_secs(1);
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
const ANNOUNCEMENTS: u8 = 2;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn run(machine: &mut ConflictDetection) -> Vec<(u64, ConflictAction)> {
        let mut done = Vec::new();
        while let Some(at) = machine.next_deadline() {
            let action = machine.on_timer(at, Duration::ZERO);
            done.push((at.as_nanos() / 1_000_000, action));
        }
        done
    }

    #[test]
    fn three_probes_then_two_announcements() {
        let mut machine = ConflictDetection::begin(Instant::ZERO, Duration::from_millis(500));
        let expected = [
            (500, ConflictAction::Probe),
            (1500, ConflictAction::Probe),
            (2500, ConflictAction::Probe),
            (4500, ConflictAction::BeginUse),
            (6500, ConflictAction::Announce),
        ];
        assert_eq!(run(&mut machine), expected);
    }

    #[test]
    fn a_conflict_while_probing_ends_it() {
        let mut machine = ConflictDetection::begin(Instant::ZERO, Duration::ZERO);
        machine.on_timer(Instant::ZERO, Duration::ZERO);
        assert_eq!(machine.on_conflict(Instant::from_millis(10)), ConflictAction::Lose);
        assert_eq!(machine.next_deadline(), None);
        assert_eq!(machine.on_conflict(Instant::from_millis(20)), ConflictAction::None);
    }

    #[test]
    fn an_address_in_use_is_defended_at_most_every_ten_seconds() {
        let mut machine = ConflictDetection::begin(Instant::ZERO, Duration::ZERO);
        run(&mut machine);
        let at = |millis| Instant::from_millis(millis);
        assert_eq!(machine.on_conflict(at(20_000)), ConflictAction::Announce);
        assert_eq!(machine.on_conflict(at(29_999)), ConflictAction::None);
        assert_eq!(machine.on_conflict(at(30_000)), ConflictAction::Announce);
    }
}
