//! Where flows are translated: the rules decide about the first packet, and what they decided is applied to each.

use std::sync::Arc;

use netstack_wire::ip::Protocol;

use super::hook::{DESTINATION_PRIORITY, Passage, SOURCE_PRIORITY, Way};
use super::machine::ChainKind;
use super::rule::{Hook, NatRange, Table};
use super::traverse::Verdict;
use super::{nat, rewrite};
use crate::conntrack::{Identified, Side, Tuple};
use crate::ip::{Egress, Transit};
use crate::stack::Core;

impl Passage {
    /// Asks the tables and the machine's chains, in order of priority, how a new flow is translated. The first that says
    /// something but "accept" decides.
    fn translation(
        &mut self,
        core: &Core,
        hook: Hook,
        transit: &mut Transit,
        egress: Option<&Egress>,
    ) -> Verdict {
        let priority = match hook {
            Hook::Prerouting | Hook::Output => DESTINATION_PRIORITY,
            _ => SOURCE_PRIORITY,
        };
        let way = Way::of(egress);
        let rules = Arc::clone(&self.rules);
        let mut chains =
            rules.chains_at(transit, hook).iter().filter(|placed| placed.kind == ChainKind::Nat).peekable();
        let mut verdict = Verdict::Accept;
        while let Some(placed) = chains.next_if(|placed| placed.priority < priority)
            && verdict == Verdict::Accept
        {
            verdict = self.run_chain(&rules, core, placed.chain, transit, way);
        }
        if verdict == Verdict::Accept {
            verdict = self.traverse(&rules, core, Table::Nat, hook, transit, way);
        }
        for placed in chains {
            if verdict == Verdict::Accept {
                verdict = self.run_chain(&rules, core, placed.chain, transit, way);
            }
        }
        verdict
    }

    /// Decides for a new flow, and applies to every packet, where it goes.
    pub(super) fn map_destination(&mut self, core: &Arc<Core>, hook: Hook, transit: &mut Transit) -> bool {
        let Some(tracking) = self.tracking.clone().filter(|tracking| !tracking.is_related) else {
            return true;
        };
        let conn = &tracking.conn;
        if self.translates() && !conn.has_mapping(Side::Destination) {
            let side = Side::Destination;
            let has_room = match self.translation(core, hook, transit, None) {
                Verdict::Drop => {
                    core.counters.filter_dropped.increment();
                    return false;
                }
                Verdict::DestinationNat(range) => nat::map(core, conn, side, &range, self.now),
                Verdict::NetMap(network) => nat::map_network(core, conn, side, &network, self.now),
                Verdict::Redirect(range) => match self.own_range(core, transit, &range) {
                    Some(range) => nat::map(core, conn, side, &range, self.now),
                    None => true,
                },
                _ => true,
            };
            if !has_room {
                core.counters.nat_exhausted.increment();
                return false;
            }
        }
        let wanted = tracking.conn.translated(tracking.direction);
        self.apply(Side::Destination, &wanted, transit);
        true
    }

    /// Decides for a new flow, and applies to every packet, where it seems to come from.
    pub(super) fn map_source(
        &mut self,
        core: &Arc<Core>,
        hook: Hook,
        transit: &mut Transit,
        egress: Option<&Egress>,
    ) -> bool {
        let Some(tracking) = self.tracking.clone().filter(|tracking| !tracking.is_related) else {
            return true;
        };
        let conn = &tracking.conn;
        if self.translates() && !conn.has_mapping(Side::Source) {
            let side = Side::Source;
            let has_room = match self.translation(core, hook, transit, egress) {
                Verdict::Drop => {
                    core.counters.filter_dropped.increment();
                    return false;
                }
                Verdict::SourceNat(range) => nat::map(core, conn, side, &range, self.now),
                Verdict::NetMap(network) => nat::map_network(core, conn, side, &network, self.now),
                Verdict::Masquerade(range) => {
                    match egress.and_then(|egress| egress.own_address(core, transit.destination)) {
                        Some(own) => nat::map(core, conn, side, &NatRange::of_own(own, &range), self.now),
                        None => nat::keep_apart(core, conn, self.now),
                    }
                }
                _ => nat::keep_apart(core, conn, self.now),
            };
            if !has_room {
                core.counters.nat_exhausted.increment();
                return false;
            }
        }
        let wanted = tracking.conn.translated(tracking.direction);
        self.apply(Side::Source, &wanted, transit);
        true
    }

    /// What "to this stack" means for a packet: the address of the NIC it came in through, or loopback.
    fn own_range(&self, core: &Core, transit: &Transit, range: &NatRange) -> Option<NatRange> {
        let topology = core.topology.load();
        let entry = match &self.input {
            Some(input) => topology.nics.get(&input.id),
            None => topology.loopback(),
        };
        let is_v4 = transit.is_v4();
        let usable = |own: &&crate::nic::InterfaceAddress| {
            own.address().is_ipv4() == is_v4
                && own.state.is_usable()
                && !matches!(own.address(), std::net::IpAddr::V6(address) if address.is_unicast_link_local())
        };
        let own = entry?.addresses.iter().find(usable)?;
        Some(NatRange::of_own(own.address(), range))
    }

    fn apply(&mut self, side: Side, wanted: &Tuple, transit: &mut Transit) {
        let seen =
            Tuple::identify(transit.source, transit.destination, transit.protocol, transit.transport());
        let Identified::Flow(seen) = seen else { return };
        let differs = match side {
            Side::Source => (seen.source, seen.source_id) != (wanted.source, wanted.source_id),
            Side::Destination => {
                (seen.destination, seen.destination_id) != (wanted.destination, wanted.destination_id)
                    // The identifier of an echo belongs to whichever side is translated back.
                    || (is_echo(transit.protocol) && seen.source_id != wanted.source_id
                        && seen.destination != wanted.destination)
            }
        };
        if differs {
            if self.before.is_none() {
                self.before = Some(transit.clone());
            }
            rewrite::rewrite(transit, side, wanted);
        }
    }
}

fn is_echo(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::ICMP | Protocol::ICMPV6)
}
