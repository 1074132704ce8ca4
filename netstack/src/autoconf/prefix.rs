//! The addresses of one autonomous prefix and their lifetimes (RFC 4862 section 5.5, RFC 8981 section 3).

use std::net::Ipv6Addr;
use std::time::Duration;

use netstack_wire::ndp::PrefixInformation;

use super::identifier::{Identity, address};
use super::{Action, TemporaryAddresses};
use crate::time::Instant;

/// A lifetime as moments: `None` is forever.
pub(super) type Until = Option<Instant>;

/// One prefix that addresses were made of.
#[derive(Debug, Clone)]
pub(super) struct AutonomousPrefix {
    pub(super) prefix: Ipv6Addr,
    preferred_until: Until,
    valid_until: Until,
    pub(super) addresses: Vec<MadeAddress>,
    /// How often a temporary address turned out to be taken, since one was not.
    temporary_collisions: u8,
}

/// An address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MadeAddress {
    pub(super) address: Ipv6Addr,
    pub(super) kind: Kind,
    pub(super) preferred_until: Until,
    pub(super) valid_until: Until,
    is_deprecated: bool,
}

/// How an address came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// RFC 7217, with its DAD counter.
    Stable { dad_counter: u8 },
    /// RFC 8981.
    Temporary {
        /// From here on it is not preferred whatever routers say.
        preferred_limit: Instant,
        /// From here on it is gone whatever routers say.
        valid_limit: Instant,
        /// When its successor is made; `None` once that happened.
        regenerates_at: Until,
    },
}

impl AutonomousPrefix {
    /// Makes the first addresses of a prefix.
    pub(super) fn new(
        now: Instant,
        information: &PrefixInformation,
        temporary: TemporaryAddresses,
        identity: &mut Identity,
        actions: &mut Vec<Action>,
    ) -> Self {
        let mut prefix = Self {
            prefix: information.prefix,
            preferred_until: until(now, information.preferred_s),
            valid_until: until(now, information.valid_s),
            addresses: Vec::new(),
            temporary_collisions: 0,
        };
        prefix.make_stable(0, identity, actions);
        if temporary == TemporaryAddresses::Prefer {
            prefix.make_temporary(now, identity, actions);
        }
        prefix
    }

    /// A router told about the prefix again (RFC 4862 section 5.5.3 (e)).
    pub(super) fn refresh(
        &mut self,
        now: Instant,
        information: &PrefixInformation,
        actions: &mut Vec<Action>,
    ) {
        self.preferred_until = until(now, information.preferred_s);
        let offered = until(now, information.valid_s);
        let two_hours = Some(now + TWO_HOURS);
        self.valid_until = if is_later(offered, two_hours) || is_later(offered, self.valid_until) {
            offered
        } else if is_later(self.valid_until, two_hours) {
            two_hours
        } else {
            self.valid_until
        };
        let (preferred, valid) = (self.preferred_until, self.valid_until);
        for made in &mut self.addresses {
            made.bound(preferred, valid);
        }
        self.update(now, actions);
    }

    /// Another node has an address; true if it was one of these.
    pub(super) fn on_duplicate(
        &mut self,
        now: Instant,
        address: Ipv6Addr,
        identity: &mut Identity,
        actions: &mut Vec<Action>,
    ) -> bool {
        let Some(index) = self.addresses.iter().position(|made| made.address == address) else {
            return false;
        };
        let made = self.addresses.remove(index);
        actions.push(Action::RemoveAddress(address));
        match made.kind {
            Kind::Stable { dad_counter } if dad_counter < IDGEN_RETRIES => {
                self.make_stable(dad_counter + 1, identity, actions);
            }
            Kind::Temporary { .. } if self.temporary_collisions < IDGEN_RETRIES => {
                self.temporary_collisions += 1;
                self.make_temporary(now, identity, actions);
            }
            Kind::Stable { .. } | Kind::Temporary { .. } => {}
        }
        true
    }

    /// Deprecates, renews and removes what is due. False when nothing is left.
    pub(super) fn on_timer(
        &mut self,
        now: Instant,
        identity: &mut Identity,
        actions: &mut Vec<Action>,
    ) -> bool {
        let mut needs_temporary = false;
        for made in &mut self.addresses {
            if let Kind::Temporary { regenerates_at, .. } = &mut made.kind
                && is_over(*regenerates_at, now)
            {
                *regenerates_at = None;
                needs_temporary = true;
            }
        }
        // RFC 8981 section 3.4: a new one is made while the prefix itself is preferred.
        if needs_temporary && !is_over(self.preferred_until, now) {
            self.temporary_collisions = 0;
            self.make_temporary(now, identity, actions);
        }
        self.update(now, actions);
        !(self.addresses.is_empty() && is_over(self.valid_until, now))
    }

    pub(super) fn next_deadline(&self) -> Until {
        let of_address = |made: &MadeAddress| {
            let preferred = made.preferred_until.filter(|_| !made.is_deprecated);
            let regenerates = match made.kind {
                Kind::Temporary { regenerates_at, .. } => regenerates_at,
                Kind::Stable { .. } => None,
            };
            [preferred, made.valid_until, regenerates].into_iter().flatten().min()
        };
        self.addresses.iter().filter_map(of_address).chain(self.valid_until).min()
    }

    fn make_stable(&mut self, dad_counter: u8, identity: &Identity, actions: &mut Vec<Action>) {
        let address = address(self.prefix, identity.stable(self.prefix, dad_counter));
        self.add(address, Kind::Stable { dad_counter }, actions);
    }

    fn make_temporary(&mut self, now: Instant, identity: &mut Identity, actions: &mut Vec<Action>) {
        // RFC 8981 section 3.4: "a random value [...] SHOULD be chosen [...] DESYNC_FACTOR".
        let desync = Duration::from_secs(identity.random_below(MAX_DESYNC.as_secs()));
        let preferred_limit = now + (TEMPORARY_PREFERRED - desync);
        let kind = Kind::Temporary {
            preferred_limit,
            valid_limit: now + TEMPORARY_VALID,
            regenerates_at: Some(now + (TEMPORARY_PREFERRED - desync - REGENERATE_ADVANCE)),
        };
        // "A temporary address is created only if this calculated preferred lifetime is greater than REGEN_ADVANCE".
        let preferred = earlier(self.preferred_until, Some(preferred_limit));
        if is_later(Some(now + REGENERATE_ADVANCE), preferred) {
            return;
        }
        let address = address(self.prefix, identity.temporary());
        self.add(address, kind, actions);
    }

    fn add(&mut self, address: Ipv6Addr, kind: Kind, actions: &mut Vec<Action>) {
        let mut made =
            MadeAddress { address, kind, preferred_until: None, valid_until: None, is_deprecated: false };
        made.bound(self.preferred_until, self.valid_until);
        self.addresses.push(made);
        let is_temporary = matches!(kind, Kind::Temporary { .. });
        actions.push(Action::AddAddress { address, is_temporary });
    }

    fn update(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.addresses.retain_mut(|made| {
            if is_over(made.valid_until, now) {
                actions.push(Action::RemoveAddress(made.address));
                return false;
            }
            let is_deprecated = is_over(made.preferred_until, now);
            if is_deprecated != made.is_deprecated {
                made.is_deprecated = is_deprecated;
                actions.push(Action::SetDeprecated { address: made.address, is_deprecated });
            }
            true
        });
    }
}

impl MadeAddress {
    fn bound(&mut self, preferred: Until, valid: Until) {
        (self.preferred_until, self.valid_until) = match self.kind {
            Kind::Stable { .. } => (preferred, valid),
            Kind::Temporary { preferred_limit, valid_limit, .. } => {
                (earlier(preferred, Some(preferred_limit)), earlier(valid, Some(valid_limit)))
            }
        };
    }
}

/// The end of a lifetime; all ones is forever.
pub(super) fn until(now: Instant, seconds: u32) -> Until {
    (seconds != u32::MAX).then(|| now + Duration::from_secs(u64::from(seconds)))
}

pub(super) fn is_over(until: Until, now: Instant) -> bool {
    until.is_some_and(|until| until <= now)
}

fn is_later(a: Until, b: Until) -> bool {
    match (a, b) {
        (None, Some(_)) => true,
        (None | Some(_), None) => false,
        (Some(a), Some(b)) => a > b,
    }
}

fn earlier(a: Until, b: Until) -> Until {
    if is_later(a, b) { b } else { a }
}

/// RFC 4862 section 5.5.3 (e): shorter lifetimes are believed down to this, lest forged advertisements end addresses.
const TWO_HOURS: Duration = Duration::from_secs(2 * 3600);
/// RFC 7217 section 7.
const IDGEN_RETRIES: u8 = 3;
/// RFC 8981 section 3.8: TEMP_VALID_LIFETIME, TEMP_PREFERRED_LIFETIME.
const TEMPORARY_VALID: Duration = Duration::from_secs(2 * 86_400);
const TEMPORARY_PREFERRED: Duration = Duration::from_secs(86_400);
/// RFC 8981 section 3.8: 0.4 times the preferred lifetime.
const MAX_DESYNC: Duration = Duration::from_secs(86_400 * 4 / 10);
/// RFC 8981 section 3.8: 2 + (TEMP_IDGEN_RETRIES * DupAddrDetectTransmits * RetransTimer / 1000) seconds.
const REGENERATE_ADVANCE: Duration = Duration::from_secs(5);
