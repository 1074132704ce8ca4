//! The host side of membership protocols, as a value: when to report which group (RFC 3376 section 5, RFC 3810 section 6).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use netstack_wire::membership::{GroupRecord, MembershipQuery, MembershipRepr, RecordKind};

use super::source_filter::{FilterMode, SourceFilter};
use crate::time::Instant;

/// The groups of one NIC and one family.
///
/// Each input takes a random number, from which it derives its delays. Inputs return the messages to send.
#[derive(Debug, Clone)]
pub(crate) struct GroupMachine {
    groups: BTreeMap<IpAddr, Group>,
    /// When to answer a query for all groups.
    general_at: Option<Instant>,
    /// Until when the querier is taken to speak version 1 or 2.
    old_querier: [Option<Instant>; 2],
    robustness: u8,
    interval: Duration,
    max_response: Duration,
}

/// One group.
#[derive(Debug, Clone)]
struct Group {
    filter: SourceFilter,
    /// How often a change of the mode is still to be told.
    mode_left: u8,
    /// How often changes of sources are still to be told.
    sources_left: BTreeMap<IpAddr, u8>,
    change_at: Option<Instant>,
    answer: Option<Answer>,
    /// Version 2: we were the last to report, so a leave is for us to tell.
    reported_last: bool,
}

/// A question that waits for its answer.
#[derive(Debug, Clone)]
struct Answer {
    at: Instant,
    /// The sources asked for; all if not set.
    sources: Option<BTreeSet<IpAddr>>,
}

impl GroupMachine {
    pub(crate) fn new() -> Self {
        Self {
            groups: BTreeMap::new(),
            general_at: None,
            old_querier: [None; 2],
            robustness: DEFAULT_ROBUSTNESS,
            interval: DEFAULT_INTERVAL,
            max_response: DEFAULT_MAX_RESPONSE,
        }
    }

    /// The members of a group want other sources, or there are members for the first or no more.
    pub(crate) fn set_filter(
        &mut self,
        now: Instant,
        group: IpAddr,
        filter: SourceFilter,
        random: u64,
    ) -> Vec<MembershipRepr> {
        let version = self.version(now);
        let robustness = self.robustness;
        let state = self.groups.entry(group).or_insert_with(Group::new);
        let before = std::mem::replace(&mut state.filter, filter);
        if before == state.filter {
            if before.is_none() && state.change_at.is_none() {
                self.groups.remove(&group);
            }
            return Vec::new();
        }
        if version < 3 {
            return self.change_in_old_version(now, group, version, &before, random);
        }
        if before.mode == state.filter.mode {
            let changed = before.sources.symmetric_difference(&state.filter.sources);
            state.sources_left.extend(changed.map(|source| (*source, robustness)));
        } else {
            state.mode_left = robustness;
            state.sources_left.clear();
        }
        self.tell_change(now, group, random).into_iter().map(report_of).collect()
    }

    /// A querier asks.
    pub(crate) fn on_query(&mut self, now: Instant, query: &MembershipQuery, random: u64) {
        if query.version < 3 {
            // RFC 3376 section 7.2.1: the older version's querier counts for a while, and everything pending is off.
            let index = usize::from(query.version.clamp(1, 2) - 1);
            let lifetime = self.interval * u32::from(self.robustness) + self.max_response;
            if self.old_querier[index].replace(now + lifetime).is_none_or(|until| until <= now) {
                self.cancel();
            }
        } else {
            self.robustness = query.robustness.unwrap_or(self.robustness).max(1);
            self.interval = query.interval.unwrap_or(self.interval);
            self.max_response = query.max_response;
        }
        let at = now + delay(random, query.max_response);
        // RFC 3376 section 5.2 rule 1: an answer to a general query that comes sooner says it all.
        if self.general_at.is_some_and(|general| general <= at) {
            return;
        }
        let sources = (!query.sources.is_empty()).then(|| query.sources.iter().copied().collect());
        match query.group {
            None if self.version(now) == 3 => self.general_at = Some(at),
            None => {
                // Version 2: each group has its own delay, and stays silent if another host is faster.
                for (index, state) in (0_u64..).zip(self.groups.values_mut()) {
                    let at = now + delay(mix(random, index), query.max_response);
                    state.ask(at, None);
                }
            }
            Some(group) => {
                if let Some(state) = self.groups.get_mut(&group) {
                    state.ask(at, sources);
                }
            }
        }
    }

    /// Another host reported a group in version 1 or 2: in those, one report is enough.
    pub(crate) fn on_other_report(&mut self, now: Instant, group: IpAddr) {
        if self.version(now) < 3
            && let Some(state) = self.groups.get_mut(&group)
        {
            state.answer = None;
            state.change_at = None;
            state.reported_last = false;
        }
    }

    /// Does what is due.
    pub(crate) fn on_timer(&mut self, now: Instant, random: u64) -> Vec<MembershipRepr> {
        let version = self.version(now);
        let mut messages = Vec::new();
        if self.general_at.is_some_and(|at| at <= now) {
            self.general_at = None;
            let records: Vec<_> =
                self.groups.iter().filter_map(|(group, state)| state.current(*group)).collect();
            // RFC 3376 section 4.2.16: as many messages as it takes.
            messages.extend(records.chunks(MAX_RECORDS).map(|chunk| MembershipRepr::Records(chunk.to_vec())));
        }
        let due: Vec<IpAddr> =
            self.groups.iter().filter(|(_, state)| state.is_due(now)).map(|(&ip, _)| ip).collect();
        for (index, group) in (0_u64..).zip(due) {
            if version < 3 {
                messages.extend(self.repeat_in_old_version(now, group, version));
                continue;
            }
            messages.extend(self.answer(now, group).map(report_of));
            let changes =
                self.groups.get(&group).is_some_and(|state| state.change_at.is_some_and(|at| at <= now));
            if changes {
                messages.extend(self.tell_change(now, group, mix(random, index)).into_iter().map(report_of));
            }
        }
        messages
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let groups = self.groups.values();
        let each = groups.flat_map(|state| [state.change_at, state.answer.as_ref().map(|answer| answer.at)]);
        each.chain([self.general_at]).flatten().min()
    }

    /// The version to speak: the oldest of those heard of lately.
    fn version(&self, now: Instant) -> u8 {
        let is_present = |index: usize| self.old_querier[index].is_some_and(|until| now < until);
        match (is_present(0), is_present(1)) {
            (true, _) => 1,
            (false, true) => 2,
            (false, false) => 3,
        }
    }

    fn cancel(&mut self) {
        self.general_at = None;
        for state in self.groups.values_mut() {
            state.answer = None;
            state.change_at = None;
            state.mode_left = 0;
            state.sources_left.clear();
        }
    }

    /// The records that tell of a change, and when to tell it again.
    fn tell_change(&mut self, now: Instant, group: IpAddr, random: u64) -> Vec<GroupRecord> {
        let Some(state) = self.groups.get_mut(&group) else { return Vec::new() };
        let records = state.take_change(group);
        state.change_at = None;
        if state.mode_left > 0 || !state.sources_left.is_empty() {
            state.change_at = Some(now + delay(random, UNSOLICITED_INTERVAL));
        } else if state.filter.is_none() {
            self.groups.remove(&group);
        }
        records
    }

    /// RFC 3376 section 5.2: the answer to a query for a group.
    fn answer(&mut self, now: Instant, group: IpAddr) -> Option<GroupRecord> {
        let state = self.groups.get_mut(&group)?;
        let answer = state.answer.take_if(|answer| answer.at <= now)?;
        let Some(asked) = answer.sources else { return state.current(group) };
        let wanted: Vec<IpAddr> = asked.into_iter().filter(|source| state.filter.allows(*source)).collect();
        (!wanted.is_empty()).then_some(GroupRecord { kind: RecordKind::IsInclude, group, sources: wanted })
    }

    /// RFC 2236 section 3: versions without sources.
    fn change_in_old_version(
        &mut self,
        now: Instant,
        group: IpAddr,
        version: u8,
        before: &SourceFilter,
        random: u64,
    ) -> Vec<MembershipRepr> {
        let Some(state) = self.groups.get_mut(&group) else { return Vec::new() };
        if state.filter.is_none() {
            let tells = state.reported_last && version == 2;
            self.groups.remove(&group);
            return if tells { vec![MembershipRepr::Leave { group }] } else { Vec::new() };
        }
        if !before.is_none() {
            return Vec::new();
        }
        state.reported_last = true;
        state.change_at = Some(now + delay(random, OLD_UNSOLICITED_INTERVAL));
        vec![MembershipRepr::Report { version, group }]
    }

    fn repeat_in_old_version(&mut self, now: Instant, group: IpAddr, version: u8) -> Option<MembershipRepr> {
        let state = self.groups.get_mut(&group)?;
        state.answer.take_if(|answer| answer.at <= now);
        state.change_at.take_if(|at| *at <= now);
        if state.filter.is_none() {
            return None;
        }
        state.reported_last = true;
        Some(MembershipRepr::Report { version, group })
    }
}

impl Group {
    fn new() -> Self {
        Self {
            filter: SourceFilter::none(),
            mode_left: 0,
            sources_left: BTreeMap::new(),
            change_at: None,
            answer: None,
            reported_last: false,
        }
    }

    fn ask(&mut self, at: Instant, sources: Option<BTreeSet<IpAddr>>) {
        if self.filter.is_none() {
            return;
        }
        // RFC 3376 section 5.2 rules 3 to 5: a question for the group covers one for sources; times are the earlier.
        self.answer = Some(match self.answer.take() {
            None => Answer { at, sources },
            Some(pending) => {
                let merged = match (pending.sources, sources) {
                    (Some(a), Some(b)) => Some(&a | &b).filter(|all| all.len() <= MAX_ASKED),
                    _ => None,
                };
                Answer { at: pending.at.min(at), sources: merged }
            }
        });
    }

    fn is_due(&self, now: Instant) -> bool {
        self.change_at.is_some_and(|at| at <= now)
            || self.answer.as_ref().is_some_and(|answer| answer.at <= now)
    }

    /// The record of the state as it is.
    fn current(&self, group: IpAddr) -> Option<GroupRecord> {
        let kind = match self.filter.mode {
            FilterMode::Include if self.filter.sources.is_empty() => return None,
            FilterMode::Include => RecordKind::IsInclude,
            FilterMode::Exclude => RecordKind::IsExclude,
        };
        Some(GroupRecord { kind, group, sources: self.filter.sources.iter().copied().collect() })
    }

    /// RFC 3376 section 5.1: what to tell of the last changes.
    fn take_change(&mut self, group: IpAddr) -> Vec<GroupRecord> {
        if self.mode_left > 0 {
            self.mode_left -= 1;
            let kind = match self.filter.mode {
                FilterMode::Include => RecordKind::ToInclude,
                FilterMode::Exclude => RecordKind::ToExclude,
            };
            let sources = self.filter.sources.iter().copied().collect();
            return vec![GroupRecord { kind, group, sources }];
        }
        let (mut allowed, mut blocked) = (Vec::new(), Vec::new());
        for (source, left) in &mut self.sources_left {
            *left -= 1;
            if self.filter.allows(*source) { &mut allowed } else { &mut blocked }.push(*source);
        }
        self.sources_left.retain(|_, left| *left > 0);
        let lists = [(RecordKind::Allow, allowed), (RecordKind::Block, blocked)];
        let records = lists.into_iter().filter(|(_, sources)| !sources.is_empty());
        records.map(|(kind, sources)| GroupRecord { kind, group, sources }).collect()
    }
}

fn report_of(record: GroupRecord) -> MembershipRepr {
    MembershipRepr::Records(vec![record])
}

/// A time in `(0, limit]`.
fn delay(random: u64, limit: Duration) -> Duration {
    let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(random % limit + 1)
}

/// Another random number (the finalizer of splitmix64).
fn mix(random: u64, index: u64) -> u64 {
    let mut z = random.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// RFC 3376 section 8.
const DEFAULT_ROBUSTNESS: u8 = 2;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(125);
const DEFAULT_MAX_RESPONSE: Duration = Duration::from_secs(10);
const UNSOLICITED_INTERVAL: Duration = Duration::from_secs(1);
/// RFC 2236 section 8.10.
const OLD_UNSOLICITED_INTERVAL: Duration = Duration::from_secs(10);
/// Records in one message: with few sources each they fit the smallest MTU.
const MAX_RECORDS: usize = 40;
/// RFC 3376 section 5.2 lets hosts with little memory answer for the whole group instead.
const MAX_ASKED: usize = 64;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
