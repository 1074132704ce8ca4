//! The hooks: what happens to a packet where it is looked at.

use std::sync::Arc;

use netstack_wire::checksum::{Accumulator, pseudo_header};
use netstack_wire::ethernet;
use netstack_wire::ip::Protocol;
use netstack_wire::tcp::{TcpRepr, TcpView};

use super::compile::Compiled;
use super::rule::{Hook, NatRange, Table};
use super::subject::Subject;
use super::traverse::{Verdict, traverse};
use super::{icmp, nat, reject, rewrite};
use crate::cidr::family_of;
use crate::conntrack::{Conn, ConnState, Direction, Identified, Side, Tracked, Tracking, Transport, Tuple};
use crate::interface::Interface;
use crate::ip::{Egress, Fragmenting, IpOutput, Origin, OutputError, RouteQuery, Rx, Transit};
use crate::outbox::Outbox;
use crate::packet::{Checksum, Packet};
use crate::stack::Core;
use crate::time::Instant;

/// A packet's way from where it came to where it goes.
pub(crate) struct Passage {
    rules: Arc<Compiled>,
    now: Instant,
    input: Option<Arc<Interface>>,
    tracking: Option<Tracking>,
    state: ConnState,
    /// The packet as its sender knows it, if its destination was translated.
    before: Option<Transit>,
}

/// Shows a whole packet that arrived to the rules. `None` if it goes no further.
pub(crate) fn prerouting(rx: &mut Rx<'_>, transit: &mut Transit) -> Option<Passage> {
    let core = rx.core;
    let mut passage = Passage::begin(core, transit, rx.now, Some(rx.interface))?;
    if !passage.track(core, Hook::Prerouting, transit, rx.is_looped)
        || !passage.table(core, Table::Mangle, Hook::Prerouting, transit, None, rx.outbox)
    {
        return None;
    }
    // What comes from ourselves was translated when it left.
    let goes_on = rx.is_looped || passage.map_destination(core, Hook::Prerouting, transit);
    goes_on.then_some(passage)
}

/// Shows a packet for this stack to the rules; false if it goes no further.
pub(crate) fn input(
    core: &Arc<Core>,
    passage: &mut Passage,
    transit: &mut Transit,
    outbox: &mut Outbox,
) -> bool {
    passage.table(core, Table::Mangle, Hook::Input, transit, None, outbox)
        && passage.table(core, Table::Filter, Hook::Input, transit, None, outbox)
        && passage.map_source(core, Hook::Input, transit, None)
        && passage.confirm(core)
}

/// Shows a packet on its way from one NIC to another to the rules, also as one that leaves.
pub(crate) fn forward(
    core: &Arc<Core>,
    passage: &mut Passage,
    transit: &mut Transit,
    egress: &Egress,
    outbox: &mut Outbox,
) -> bool {
    passage.table(core, Table::Mangle, Hook::Forward, transit, Some(egress), outbox)
        && passage.table(core, Table::Filter, Hook::Forward, transit, Some(egress), outbox)
        && postrouting(core, passage, transit, egress, outbox)
}

fn postrouting(
    core: &Arc<Core>,
    passage: &mut Passage,
    transit: &mut Transit,
    egress: &Egress,
    outbox: &mut Outbox,
) -> bool {
    passage.table(core, Table::Mangle, Hook::Postrouting, transit, Some(egress), outbox)
        && passage.map_source(core, Hook::Postrouting, transit, Some(egress))
        && passage.confirm(core)
}

/// Sends a packet of ours past the rules.
pub(crate) fn output(
    core: &Arc<Core>,
    egress: &mut Egress,
    policy: Fragmenting,
    mut transit: Transit,
    outbox: &mut Outbox,
) -> Result<(), OutputError> {
    let now = core.clock.now();
    let Some(mut passage) = Passage::begin(core, &transit, now, None) else {
        return transit.send(core, egress, policy, outbox);
    };
    let (destination, mark) = (transit.destination, transit.packet.meta.mark);
    let goes_on = passage.track(core, Hook::Output, &mut transit, false)
        && passage.table(core, Table::Mangle, Hook::Output, &mut transit, Some(egress), outbox)
        && passage.map_destination(core, Hook::Output, &mut transit)
        && passage.table(core, Table::Filter, Hook::Output, &mut transit, Some(egress), outbox);
    if !goes_on {
        return Err(OutputError::Filtered);
    }
    // Rules may lead it elsewhere.
    let mut rerouted = None;
    if transit.destination != destination || transit.packet.meta.mark != mark {
        let query = RouteQuery { destination: transit.destination, source: Some(transit.source), nic: None };
        let origin = Origin { mark: transit.packet.meta.mark, arrived_on: None };
        match Egress::resolve_for(core, query, origin) {
            Ok(egress) => rerouted = Some(egress),
            Err(_) => {
                core.counters.ip_out_no_routes.increment();
                return Ok(());
            }
        }
    }
    let egress = rerouted.as_mut().unwrap_or(egress);
    if !postrouting(core, &mut passage, &mut transit, egress, outbox) {
        return Err(OutputError::Filtered);
    }
    transit.send(core, egress, policy, outbox)
}

/// Shows what the stack says to its link by itself to the rules for what it sends; false if it goes no further. Others have
/// met them already.
pub(crate) fn passes_link_control(core: &Arc<Core>, interface: &Arc<Interface>, frame: &Packet) -> bool {
    if !frame.meta.is_link_control {
        return true;
    }
    let mut packet = frame.clone();
    // ETHERNET_HEADER_LEN is 14.
    packet.meta.l3_offset = if interface.mac().is_some() { ethernet::HEADER_LEN as u16 } else { 0 };
    let Some(mut transit) = Transit::new(packet) else { return true };
    let Some(passage) = Passage::begin(core, &transit, core.clock.now(), None) else { return true };
    // A rule that rejects tells nobody: there is no socket that sent it.
    let tables = [
        (Table::Raw, Hook::Output),
        (Table::Mangle, Hook::Output),
        (Table::Filter, Hook::Output),
        (Table::Mangle, Hook::Postrouting),
    ];
    let goes_on = tables.into_iter().all(|(table, hook)| {
        let verdict = passage.traverse(table, hook, &mut transit, Some(interface));
        !matches!(verdict, Verdict::Drop | Verdict::Reject(_))
    });
    if !goes_on {
        core.counters.filter_dropped.increment();
    }
    goes_on
}

impl Passage {
    fn begin(core: &Core, transit: &Transit, now: Instant, input: Option<&Arc<Interface>>) -> Option<Self> {
        // Taken away between the check and here: like a packet that came a moment later.
        let rules = core.filter.rules(family_of(transit.source))?;
        let state = ConnState::UNTRACKED;
        Some(Self { rules, now, input: input.cloned(), tracking: None, state, before: None })
    }

    /// The packet as its sender knows it, if that is not what it looks like now.
    pub(crate) fn before(&self) -> Option<&Transit> {
        self.before.as_ref()
    }

    /// Shows the packet to a table that does not translate; false if it goes no further.
    fn table(
        &self,
        core: &Arc<Core>,
        table: Table,
        hook: Hook,
        transit: &mut Transit,
        egress: Option<&Egress>,
        outbox: &mut Outbox,
    ) -> bool {
        match self.traverse(table, hook, transit, egress.map(|egress| &egress.interface)) {
            Verdict::Drop => {
                core.counters.filter_dropped.increment();
                false
            }
            Verdict::Reject(with) => {
                core.counters.filter_rejected.increment();
                reject::reject(core, self.before.as_ref().unwrap_or(transit), with, outbox);
                false
            }
            _ => true,
        }
    }

    fn traverse(
        &self,
        table: Table,
        hook: Hook,
        transit: &mut Transit,
        output: Option<&Arc<Interface>>,
    ) -> Verdict {
        let mut subject = Subject {
            transit,
            input: self.input.as_ref().map(|interface| interface.name.as_str()),
            output: output.map(|interface| interface.name.as_str()),
            state: self.state,
            now: self.now,
        };
        traverse(&self.rules, table, hook, &mut subject)
    }

    /// The raw table, and tracking; false if the packet goes no further.
    fn track(&mut self, core: &Arc<Core>, hook: Hook, transit: &mut Transit, is_looped: bool) -> bool {
        match self.traverse(Table::Raw, hook, transit, None) {
            Verdict::Drop => {
                core.counters.filter_dropped.increment();
                return false;
            }
            Verdict::NoTrack => return true,
            _ => {}
        }
        if !self.rules.needs_tracking {
            return true;
        }
        let arrives = hook == Hook::Prerouting && !is_looped;
        self.state = ConnState::INVALID;
        if arrives && !has_right_checksum(transit) {
            core.counters.conntrack_invalid.increment();
            return true;
        }
        let identified =
            Tuple::identify(transit.source, transit.destination, transit.protocol, transit.transport());
        match identified {
            Identified::Flow(tuple) if is_looped => self.recognize(core, tuple),
            Identified::Flow(tuple) => self.track_flow(core, tuple, transit),
            Identified::Error => self.track_error(core, transit, is_looped),
            Identified::Link => self.state = ConnState::UNTRACKED,
            Identified::Invalid => {}
        }
        if self.state == ConnState::INVALID {
            core.counters.conntrack_invalid.increment();
        }
        true
    }

    /// A packet that left through the hooks already, translated: it looks like the other direction turned round.
    fn recognize(&mut self, core: &Core, tuple: Tuple) {
        let found = core.filter.conntrack.table.find(&tuple.inverted(), self.now);
        if let Some((conn, answers)) = found {
            let direction = answers.opposite();
            self.state = conn.state(direction);
            self.tracking = Some(Tracking { conn, direction, is_related: false });
        }
    }

    fn track_flow(&mut self, core: &Arc<Core>, tuple: Tuple, transit: &Transit) {
        let segment = match transit.protocol {
            Protocol::TCP => TcpView::new(transit.transport()).ok().map(|view| TcpRepr::parse(&view)),
            _ => None,
        };
        // A packet is at most 64 KiB long.
        let payload_len = transit.packet.body_len() as u32;
        let transport = match &segment {
            Some(segment) => Transport::Tcp { segment, payload_len },
            None => Transport::Other,
        };
        let table = &core.filter.conntrack.table;
        if let Some((conn, direction)) = table.find(&tuple, self.now) {
            match conn.on_packet(self.now, direction, &transport) {
                Tracked::Valid => {
                    self.state = conn.state(direction);
                    self.tracking = Some(Tracking { conn, direction, is_related: false });
                    return;
                }
                Tracked::Invalid => return,
                Tracked::Reopened => table.remove(&conn),
            }
        }
        if let Some(conn) = Conn::begin(self.now, tuple, &transport) {
            self.state = ConnState::NEW;
            let direction = Direction::Original;
            self.tracking = Some(Tracking { conn: Arc::new(conn), direction, is_related: false });
        }
    }

    fn track_error(&mut self, core: &Core, transit: &mut Transit, is_looped: bool) {
        let Some((conn, direction)) = icmp::related(core, transit, self.now) else { return };
        self.state = ConnState::RELATED;
        if conn.is_translated() && !is_looped {
            self.before = Some(transit.clone());
            icmp::translate(transit, &conn, direction);
        }
        self.tracking = Some(Tracking { conn, direction: direction.opposite(), is_related: true });
    }

    /// Decides for a new flow, and applies to every packet, where it goes.
    fn map_destination(&mut self, core: &Arc<Core>, hook: Hook, transit: &mut Transit) -> bool {
        let Some(tracking) = self.tracking.clone().filter(|tracking| !tracking.is_related) else {
            return true;
        };
        if !tracking.conn.has_mapping(Side::Destination) {
            let range = match self.traverse(Table::Nat, hook, transit, None) {
                Verdict::Drop => {
                    core.counters.filter_dropped.increment();
                    return false;
                }
                Verdict::DestinationNat(range) => Some(range),
                Verdict::Redirect(range) => self.own_range(core, transit, range.ports.as_ref()),
                _ => None,
            };
            if let Some(range) = range
                && !nat::map(core, &tracking.conn, Side::Destination, &range, self.now)
            {
                core.counters.nat_exhausted.increment();
                return false;
            }
        }
        let wanted = tracking.conn.translated(tracking.direction);
        self.apply(Side::Destination, &wanted, transit);
        true
    }

    /// Decides for a new flow, and applies to every packet, where it seems to come from.
    fn map_source(
        &mut self,
        core: &Arc<Core>,
        hook: Hook,
        transit: &mut Transit,
        egress: Option<&Egress>,
    ) -> bool {
        let Some(tracking) = self.tracking.clone().filter(|tracking| !tracking.is_related) else {
            return true;
        };
        if self.rules.translates && !tracking.conn.has_mapping(Side::Source) {
            let range = match self.traverse(Table::Nat, hook, transit, egress.map(|egress| &egress.interface))
            {
                Verdict::Drop => {
                    core.counters.filter_dropped.increment();
                    return false;
                }
                Verdict::SourceNat(range) => Some(range),
                Verdict::Masquerade(range) => {
                    let own = egress.and_then(|egress| egress.own_address(core, transit.destination));
                    own.map(|own| NatRange::of_own(own, range.ports.as_ref()))
                }
                _ => None,
            };
            let has_room = match range {
                Some(range) => nat::map(core, &tracking.conn, Side::Source, &range, self.now),
                None => nat::keep_apart(core, &tracking.conn, self.now),
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
    fn own_range(
        &self,
        core: &Core,
        transit: &Transit,
        ports: Option<&std::ops::RangeInclusive<u16>>,
    ) -> Option<NatRange> {
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
        Some(NatRange::of_own(own.address(), ports))
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

    /// Enters a new flow that got through; false if there is no room for it.
    fn confirm(&mut self, core: &Arc<Core>) -> bool {
        let Some(tracking) = self.tracking.as_ref().filter(|tracking| !tracking.conn.is_confirmed()) else {
            return true;
        };
        let cell = &core.filter.conntrack;
        match cell.table.confirm(&tracking.conn, self.now) {
            Ok(outcome) => {
                if outcome == crate::conntrack::Confirmed::Evicting {
                    core.counters.conntrack_early_drops.increment();
                }
                cell.arm(core, self.now);
                true
            }
            Err(_) => {
                core.counters.conntrack_drops.increment();
                false
            }
        }
    }
}

fn is_echo(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::ICMP | Protocol::ICMPV6)
}

/// A damaged packet must not change what is known of its flow.
fn has_right_checksum(transit: &Transit) -> bool {
    let packet: &Packet = &transit.packet;
    let has_sum =
        matches!(transit.protocol, Protocol::TCP | Protocol::UDP | Protocol::ICMP | Protocol::ICMPV6);
    if packet.meta.checksum != Checksum::Plain || !has_sum || transit.is_later_fragment {
        return true;
    }
    let is_absent = transit.protocol == Protocol::UDP && transit.transport().get(6..8) == Some(&[0, 0]);
    if is_absent && transit.is_v4() {
        return true;
    }
    let mut sum = match transit.protocol {
        Protocol::ICMP => Accumulator::default(),
        protocol => {
            let len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
            Accumulator::new(pseudo_header(transit.source, transit.destination, protocol.0, len))
        }
    };
    packet.slices().for_each(|piece| sum.add(piece));
    sum.is_valid()
}

/// Makes the packet of an output for the rules.
pub(crate) fn transit_of(core: &Core, output: &IpOutput, packet: Packet) -> Transit {
    // RFC 6864 section 4.1: the identification of atomic packets may have any value; cut packets count from here.
    let ident = core.next_ident(output);
    Transit::of_output(output, ident, packet)
}
