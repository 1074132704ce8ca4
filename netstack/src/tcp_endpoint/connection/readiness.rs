//! What observers are told, in the terms of the wait queues.

use crate::tcp::{self, Events};
use crate::wait::Readiness;

/// The machine's readiness in the terms of the wait queues.
pub(crate) fn readiness_of(ready: tcp::Readiness) -> Readiness {
    let mut result = Readiness::empty();
    for (theirs, ours) in [
        (tcp::Readiness::READABLE, Readiness::IN),
        (tcp::Readiness::WRITABLE, Readiness::OUT),
        (tcp::Readiness::READ_CLOSED, Readiness::RDHUP),
        (tcp::Readiness::HANGUP, Readiness::HUP),
        (tcp::Readiness::ERROR, Readiness::ERR),
        (tcp::Readiness::PRIORITY, Readiness::PRI),
    ] {
        result.set(ours, ready.contains(theirs));
    }
    result
}

pub(super) fn readiness_of_events(events: Events) -> Readiness {
    let mut result = Readiness::empty();
    for (event, ready) in [
        (Events::READABLE, Readiness::IN),
        (Events::WRITABLE, Readiness::OUT),
        (Events::CONNECTED, Readiness::OUT),
        (Events::READ_CLOSED, Readiness::IN.union(Readiness::RDHUP)),
        (Events::ERROR, Readiness::ERR.union(Readiness::IN).union(Readiness::OUT).union(Readiness::HUP)),
        (Events::URGENT, Readiness::PRI),
        (Events::STAMPED, Readiness::ERR),
        (Events::CLOSED, Readiness::HUP.union(Readiness::IN).union(Readiness::OUT)),
        (Events::TIME_WAIT, Readiness::HUP.union(Readiness::IN)),
    ] {
        if events.contains(event) {
            result |= ready;
        }
    }
    result
}
