//! The hooks: what happens to a packet where it is looked at.

use std::sync::Arc;

use netstack_wire::checksum::{Accumulator, pseudo_header};
use netstack_wire::ethernet;
use netstack_wire::ip::Protocol;
use netstack_wire::tcp::{TcpRepr, TcpView};

use super::machine::{self, ChainId, ChainKind, PlacedChain};
use super::owner::AssignedSocket;
use super::rule::{Hook, NatRange, Table};
use super::subject::Subject;
use super::traverse::{Verdict, traverse};
use super::{Snapshot, icmp, nat, reject, rewrite};
use crate::cidr::family_of;
use crate::conntrack::{
    Carried, Conn, ConnState, Direction, Identified, Side, Tracked, Tracking, Transport, Tuple,
};
use crate::interface::Interface;
use crate::ip::{Egress, Fragmenting, IpOutput, Origin, OutputError, RouteQuery, Rx, Transit};
use crate::outbox::Outbox;
use crate::packet::{Checksum, Packet};
use crate::stack::Core;
use crate::time::Instant;

/// A packet's way from where it came to where it goes.
#[derive(Clone)]
pub(crate) struct Passage {
    rules: Arc<Snapshot>,
    now: Instant,
    input: Option<Arc<Interface>>,
    /// It comes from ourselves, and what it is was found out and applied when it left.
    is_carried: bool,
    tracking: Option<Tracking>,
    state: ConnState,
    /// A rule said not to track it.
    is_untracked: bool,
    /// The socket that a rule has given it to.
    assigned: Option<AssignedSocket>,
    /// The packet as its sender knows it, if its destination was translated.
    before: Option<Transit>,
}

/// What is done at a hook besides what the machine's chains do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Table(Table),
    Track,
    MapDestination,
    MapSource,
    /// Enters a new flow that got through.
    Confirm,
}

/// The stages of a hook with their priorities, which are Linux's (`enum nf_ip_hook_priorities`).
fn stages(hook: Hook) -> &'static [(i32, Stage)] {
    const RAW: (i32, Stage) = (-300, Stage::Table(Table::Raw));
    const TRACK: (i32, Stage) = (-200, Stage::Track);
    const MANGLE: (i32, Stage) = (-150, Stage::Table(Table::Mangle));
    const MAP_DESTINATION: (i32, Stage) = (DESTINATION_PRIORITY, Stage::MapDestination);
    const FILTER: (i32, Stage) = (0, Stage::Table(Table::Filter));
    const SECURITY: (i32, Stage) = (50, Stage::Table(Table::Security));
    const MAP_SOURCE: (i32, Stage) = (SOURCE_PRIORITY, Stage::MapSource);
    const CONFIRM: (i32, Stage) = (i32::MAX, Stage::Confirm);
    match hook {
        Hook::Prerouting => &[RAW, TRACK, MANGLE, MAP_DESTINATION],
        Hook::Input => &[MANGLE, FILTER, SECURITY, MAP_SOURCE, CONFIRM],
        Hook::Forward => &[MANGLE, FILTER, SECURITY],
        Hook::Output => &[RAW, TRACK, MANGLE, MAP_DESTINATION, FILTER, SECURITY],
        Hook::Postrouting => &[MANGLE, MAP_SOURCE, CONFIRM],
    }
}

/// Shows a whole packet that arrived to the rules. `None` if it goes no further.
pub(crate) fn prerouting(rx: &mut Rx<'_>, transit: &mut Transit) -> Option<Passage> {
    let interface = rx.interface;
    prerouting_on(rx, interface, transit)
}

/// The same for a packet that seems to have come in through another NIC than the frame it was in.
pub(crate) fn prerouting_on(
    rx: &mut Rx<'_>,
    interface: &Arc<Interface>,
    transit: &mut Transit,
) -> Option<Passage> {
    let core = rx.core;
    let mut passage = Passage::begin(core, transit, rx.now, Some(interface))?;
    // Another stack's link may hand over a packet with what that one knew.
    if let Some(carried) = transit.packet.meta.carried.take().filter(|_| rx.is_looped) {
        passage.resume(&carried);
    }
    passage.pass(core, Hook::Prerouting, transit, None, rx.outbox).then_some(passage)
}

/// Shows a packet for this stack to the rules; false if it goes no further.
pub(crate) fn input(
    core: &Arc<Core>,
    passage: &mut Passage,
    transit: &mut Transit,
    outbox: &mut Outbox,
) -> bool {
    passage.pass(core, Hook::Input, transit, None, outbox)
}

/// Shows a packet on its way from one NIC to another to the rules, also as one that leaves.
pub(crate) fn forward(
    core: &Arc<Core>,
    passage: &mut Passage,
    transit: &mut Transit,
    egress: &Egress,
    outbox: &mut Outbox,
) -> bool {
    let goes_on = passage.pass(core, Hook::Forward, transit, Some(egress), outbox)
        && passage.pass(core, Hook::Postrouting, transit, Some(egress), outbox);
    if goes_on {
        passage.carry(egress, transit);
    }
    goes_on
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
    if !passage.pass(core, Hook::Output, &mut transit, Some(egress), outbox) {
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
    if !passage.pass(core, Hook::Postrouting, &mut transit, Some(egress), outbox) {
        return Err(OutputError::Filtered);
    }
    passage.carry(egress, &mut transit);
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
    let Some(mut passage) = Passage::begin(core, &transit, core.clock.now(), None) else { return true };
    passage.state = ConnState::UNTRACKED;
    // A rule that rejects tells nobody: there is no socket that sent it.
    let goes_on = [Hook::Output, Hook::Postrouting]
        .into_iter()
        .all(|hook| passage.is_let_out(core, hook, &mut transit, interface));
    if !goes_on {
        core.counters.filter_dropped.increment();
    }
    goes_on
}

impl Snapshot {
    /// The machine's chains at a hook, for a packet.
    fn chains_at(&self, transit: &Transit, hook: Hook) -> &[PlacedChain] {
        self.program.as_ref().map_or(&[], |program| program.at(family_of(transit.source), hook))
    }
}

/// Where a packet goes.
#[derive(Clone, Copy)]
struct Way<'a> {
    path_mtu: Option<u32>,
    output: Option<&'a Arc<Interface>>,
}

impl<'a> Way<'a> {
    fn of(egress: Option<&'a Egress>) -> Self {
        Self { path_mtu: egress.map(|egress| egress.mtu), output: egress.map(|egress| &egress.interface) }
    }
}

impl Passage {
    fn begin(core: &Core, transit: &Transit, now: Instant, input: Option<&Arc<Interface>>) -> Option<Self> {
        // Taken away between the check and here: like a packet that came a moment later.
        let rules = core.filter.rules(family_of(transit.source))?;
        // What is not tracked yet is nothing to any flow.
        let state = ConnState::INVALID;
        Some(Self {
            rules,
            now,
            input: input.cloned(),
            is_carried: false,
            tracking: None,
            state,
            is_untracked: false,
            assigned: None,
            before: None,
        })
    }

    /// Goes on with what was found out about a packet when it left.
    fn resume(&mut self, carried: &Carried) {
        self.is_carried = true;
        self.state = carried.state();
        self.tracking.clone_from(&carried.tracking);
    }

    /// Gives a packet that comes back to us along what was found out about it.
    fn carry(&self, egress: &Egress, transit: &mut Transit) {
        if egress.comes_back(transit.loops) && (self.tracking.is_some() || self.state == ConnState::UNTRACKED)
        {
            transit.packet.meta.carried =
                Some(Arc::new(Carried { tracking: self.tracking.clone(), socket: None }));
        }
    }

    /// Takes the socket that a rule has given the packet to.
    pub(crate) fn take_assigned(&mut self) -> Option<AssignedSocket> {
        self.assigned.take()
    }

    /// Whether a rule has given the packet to a socket.
    pub(crate) fn is_assigned(&self) -> bool {
        self.assigned.is_some()
    }

    /// The packet as its sender knows it, if that is not what it looks like now.
    pub(crate) fn before(&self) -> Option<&Transit> {
        self.before.as_ref()
    }

    /// Takes the packet through a hook: the stages, and the machine's chains before, between and behind them. False if it
    /// goes no further.
    fn pass(
        &mut self,
        core: &Arc<Core>,
        hook: Hook,
        transit: &mut Transit,
        egress: Option<&Egress>,
        outbox: &mut Outbox,
    ) -> bool {
        let rules = Arc::clone(&self.rules);
        let placed = rules.chains_at(transit, hook);
        // Chains that translate run where translation is decided.
        let mut chains = placed.iter().filter(|placed| placed.kind != ChainKind::Nat).peekable();
        for &(priority, stage) in stages(hook) {
            while let Some(placed) = chains.next_if(|placed| placed.priority < priority) {
                let verdict = self.run_chain(&rules, core, placed.chain, transit, Way::of(egress));
                if !self.obey(core, verdict, transit, outbox) {
                    return false;
                }
            }
            if !self.stage(&rules, core, (hook, stage), transit, egress, outbox) {
                return false;
            }
        }
        chains.all(|placed| {
            let verdict = self.run_chain(&rules, core, placed.chain, transit, Way::of(egress));
            self.obey(core, verdict, transit, outbox)
        })
    }

    fn stage(
        &mut self,
        rules: &Snapshot,
        core: &Arc<Core>,
        (hook, stage): (Hook, Stage),
        transit: &mut Transit,
        egress: Option<&Egress>,
        outbox: &mut Outbox,
    ) -> bool {
        match stage {
            Stage::Table(table) => {
                let verdict = self.traverse(rules, core, table, hook, transit, Way::of(egress));
                self.obey(core, verdict, transit, outbox)
            }
            Stage::Track => {
                self.track(core, hook, transit);
                true
            }
            // What was known when it left was translated then.
            Stage::MapDestination => self.is_carried || self.map_destination(core, hook, transit),
            Stage::MapSource => self.map_source(core, hook, transit, egress),
            Stage::Confirm => self.confirm(core),
        }
    }

    /// Does what was decided about the packet; false if it goes no further.
    fn obey(&self, core: &Arc<Core>, verdict: Verdict, transit: &Transit, outbox: &mut Outbox) -> bool {
        match verdict {
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

    /// Whether the tables and chains of a hook that neither track nor translate let a packet pass.
    fn is_let_out(
        &mut self,
        core: &Core,
        hook: Hook,
        transit: &mut Transit,
        output: &Arc<Interface>,
    ) -> bool {
        let rules = Arc::clone(&self.rules);
        let way = Way { path_mtu: None, output: Some(output) };
        let tables = stages(hook).iter().filter_map(|&(priority, stage)| match stage {
            Stage::Table(table) => Some((priority, Ok(table))),
            _ => None,
        });
        let chains = rules.chains_at(transit, hook).iter().filter(|placed| placed.kind != ChainKind::Nat);
        let mut order: Vec<(i32, Result<Table, ChainId>)> =
            tables.chain(chains.map(|placed| (placed.priority, Err(placed.chain)))).collect();
        order.sort_by_key(|(priority, _)| *priority);
        order.into_iter().all(|(_, step)| {
            let verdict = match step {
                Ok(table) => self.traverse(&rules, core, table, hook, transit, way),
                Err(chain) => self.run_chain(&rules, core, chain, transit, way),
            };
            !matches!(verdict, Verdict::Drop | Verdict::Reject(_))
        })
    }

    fn traverse(
        &mut self,
        rules: &Snapshot,
        core: &Core,
        table: Table,
        hook: Hook,
        transit: &mut Transit,
        way: Way<'_>,
    ) -> Verdict {
        let Some(tables) = &rules.tables else { return Verdict::Accept };
        self.show(core, transit, way, |subject| traverse(tables, table, hook, subject))
    }

    fn run_chain(
        &mut self,
        rules: &Snapshot,
        core: &Core,
        chain: ChainId,
        transit: &mut Transit,
        way: Way<'_>,
    ) -> Verdict {
        let Some(program) = &rules.program else { return Verdict::Accept };
        self.show(core, transit, way, |subject| machine::run(program, chain, subject))
    }

    /// Shows the packet with all that is known of it to rules.
    fn show(
        &mut self,
        core: &Core,
        transit: &mut Transit,
        way: Way<'_>,
        rules: impl FnOnce(&mut Subject<'_>) -> Verdict,
    ) -> Verdict {
        let mut subject = Subject {
            core,
            transit,
            input: self.input.as_ref(),
            output: way.output,
            path_mtu: way.path_mtu,
            tracking: self.tracking.as_ref(),
            state: self.state,
            is_untracked: self.is_untracked,
            assigned: self.assigned.take(),
            now: self.now,
        };
        let verdict = rules(&mut subject);
        (self.state, self.is_untracked) = (subject.state, subject.is_untracked);
        self.assigned = subject.assigned;
        verdict
    }

    fn needs_tracking(&self) -> bool {
        self.rules.tables.as_ref().is_some_and(|tables| tables.needs_tracking)
            || self.rules.program.as_ref().is_some_and(|program| program.needs_tracking)
    }

    fn translates(&self) -> bool {
        self.rules.tables.as_ref().is_some_and(|tables| tables.translates)
            || self.rules.program.as_ref().is_some_and(|program| program.translates)
    }

    /// Finds or begins the packet's flow.
    fn track(&mut self, core: &Arc<Core>, hook: Hook, transit: &mut Transit) {
        if self.is_untracked || self.is_carried || !self.needs_tracking() {
            return;
        }
        self.state = ConnState::INVALID;
        if hook == Hook::Prerouting && !has_right_checksum(transit) {
            return core.counters.conntrack_invalid.increment();
        }
        let identified =
            Tuple::identify(transit.source, transit.destination, transit.protocol, transit.transport());
        match identified {
            Identified::Flow(tuple) => self.track_flow(core, tuple, transit),
            Identified::Error => self.track_error(core, transit),
            Identified::Link => self.state = ConnState::UNTRACKED,
            Identified::Invalid => {}
        }
        if self.state == ConnState::INVALID {
            core.counters.conntrack_invalid.increment();
        }
    }

    fn track_flow(&mut self, core: &Arc<Core>, tuple: Tuple, transit: &Transit) {
        let segment = match transit.protocol {
            Protocol::TCP => TcpView::new(transit.transport())
                .ok()
                .map(|view| (TcpRepr::parse(&view), transit.packet.len() - view.header_len())),
            _ => None,
        };
        let transport = match &segment {
            // A packet is at most 64 KiB long. A short payload may be in the head, behind the header.
            Some((segment, payload_len)) => Transport::Tcp { segment, payload_len: *payload_len as u32 },
            None => Transport::Other,
        };
        let table = &core.filter.conntrack.table;
        if let Some((conn, direction)) = table.find(&tuple, self.now) {
            match conn.on_packet(self.now, direction, &transport, transit.len()) {
                tracked @ (Tracked::Valid | Tracked::Refused) => {
                    if tracked == Tracked::Refused {
                        table.remove(&conn);
                    }
                    self.state = conn.state(direction);
                    self.tracking = Some(Tracking { conn, direction, is_related: false });
                    return;
                }
                Tracked::Invalid => return,
                Tracked::Reopened => table.remove(&conn),
            }
        }
        if let Some(conn) = Conn::begin(self.now, tuple, &transport, transit.len()) {
            self.state = ConnState::NEW;
            let direction = Direction::Original;
            self.tracking = Some(Tracking { conn: Arc::new(conn), direction, is_related: false });
        }
    }

    fn track_error(&mut self, core: &Core, transit: &mut Transit) {
        let Some((conn, direction)) = icmp::related(core, transit, self.now) else { return };
        self.state = ConnState::RELATED;
        if conn.is_translated() {
            self.before = Some(transit.clone());
            icmp::translate(transit, &conn, direction);
        }
        self.tracking = Some(Tracking { conn, direction: direction.opposite(), is_related: true });
    }

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
    fn map_destination(&mut self, core: &Arc<Core>, hook: Hook, transit: &mut Transit) -> bool {
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

/// `NF_IP_PRI_NAT_DST`.
const DESTINATION_PRIORITY: i32 = -100;
/// `NF_IP_PRI_NAT_SRC`.
const SOURCE_PRIORITY: i32 = 100;

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
