//! Why a packet was discarded: the counters that moved while it was dealt with.

use smallvec::SmallVec;

use crate::interface::Interface;
use crate::stack::Core;
use crate::stats::{NicCounters, StackCounters};

/// The calling thread's counters of discarded packets as they were.
pub(crate) struct Watch {
    values: SmallVec<[u64; 80]>,
}

/// Few packets have more than two reasons.
type Reasons = SmallVec<[&'static str; 4]>;

impl Watch {
    /// Looks at the counters before a packet.
    pub(crate) fn begin(core: &Core, interface: &Interface) -> Self {
        Self { values: counters(core, interface).map(|(_, value)| value).collect() }
    }

    /// Names those that have moved since.
    pub(crate) fn end(self, core: &Core, interface: &Interface) -> Reasons {
        let pairs = counters(core, interface).zip(self.values);
        pairs.filter(|((_, now), before)| now != before).map(|((name, _), _)| name).collect()
    }
}

fn counters<'a>(
    core: &'a Core,
    interface: &'a Interface,
) -> impl Iterator<Item = (&'static str, u64)> + use<'a> {
    let (nic, stack): (&NicCounters, &StackCounters) = (&interface.counters, &core.counters);
    let of_nic = NicCounters::DISCARDS.iter().map(move |(name, counter)| (*name, counter(nic).get()));
    of_nic.chain(StackCounters::DISCARDS.iter().map(move |(name, counter)| (*name, counter(stack).get())))
}
