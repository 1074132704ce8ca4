//! The routes that redirects made: bounded, and forgotten after a while.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::Mutex;

use crate::cidr::IpCidr;
use crate::nic::NicId;
use crate::outbox::Outbox;
use crate::route::{Route, RouteOrigin};
use crate::stack::Core;
use crate::time::Instant;
use crate::timer::{TimerSlot, TimerTarget};

/// The redirected destinations, oldest first, with the time until which they are.
#[derive(Default)]
pub(crate) struct Redirects {
    entries: Mutex<VecDeque<(IpCidr, Instant)>>,
    slot: TimerSlot,
}

impl Redirects {
    /// Routes a destination through another gateway, or directly.
    pub(crate) fn note(
        self: &Arc<Self>,
        core: &Arc<Core>,
        nic: NicId,
        destination: IpCidr,
        gateway: Option<IpAddr>,
        now: Instant,
    ) {
        let mut goes = vec![destination];
        {
            let mut entries = self.entries.lock();
            entries.retain(|(known, _)| *known != destination);
            if entries.len() >= MAX_ENTRIES {
                goes.extend(entries.pop_front().map(|(oldest, _)| oldest));
            }
            entries.push_back((destination, now + LIFETIME));
        }
        core.counters.icmp_in_redirects_followed.increment();
        let route = Route { gateway, origin: RouteOrigin::Redirect, ..Route::connected(destination, nic) };
        let _ = core.topology.modify(|topology| {
            topology.routes.remove(|route| is_ours(route) && goes.contains(&route.destination));
            topology.routes.add(route);
            Ok::<_, ()>(())
        });
        core.timers.arm(self, Some(now + LIFETIME));
    }
}

impl TimerTarget for Redirects {
    fn slot(&self) -> &TimerSlot {
        &self.slot
    }

    fn on_timer(self: Arc<Self>, core: &Arc<Core>, now: Instant, _outbox: &mut Outbox) {
        let (old, deadline) = {
            let mut entries = self.entries.lock();
            let count = entries.partition_point(|(_, until)| *until <= now);
            let old: Vec<_> = entries.drain(..count).map(|(destination, _)| destination).collect();
            (old, entries.front().map(|(_, until)| *until))
        };
        if !old.is_empty() {
            let _ = core.topology.modify(|topology| {
                topology.routes.remove(|route| is_ours(route) && old.contains(&route.destination));
                Ok::<_, ()>(())
            });
        }
        core.timers.arm(&self, deadline);
    }
}

fn is_ours(route: &Route) -> bool {
    route.origin == RouteOrigin::Redirect
}

/// Linux's `net.ipv4.route.gc_timeout` is as long: a redirect that is still right comes again.
const LIFETIME: Duration = Duration::from_secs(300);
/// Bounds what forged redirects can take; each costs a route.
const MAX_ENTRIES: usize = 256;
