//! The hooks: what happens to a packet where it is looked at, in which order.

use std::sync::Arc;

use netstack_wire::ethernet;

use super::machine::{self, ChainId, ChainKind, PlacedChain};
use super::owner::AssignedSocket;
use super::rule::{Hook, Table};
use super::subject::Subject;
use super::traverse::{Verdict, traverse};
use super::{Snapshot, reject};
use crate::cidr::family_of;
use crate::conntrack::{Carried, ConnState, Tracking};
use crate::interface::Interface;
use crate::ip::{Egress, Fragmenting, IpOutput, Origin, OutputError, RouteQuery, Rx, Transit};
use crate::outbox::Outbox;
use crate::packet::Packet;
use crate::route::PacketFacts;
use crate::stack::Core;
use crate::time::Instant;

/// A packet's way from where it came to where it goes.
#[derive(Clone)]
pub(crate) struct Passage {
    pub(super) rules: Arc<Snapshot>,
    pub(super) now: Instant,
    pub(super) input: Option<Arc<Interface>>,
    /// It comes from ourselves, and what it is was found out and applied when it left.
    pub(super) is_carried: bool,
    pub(super) tracking: Option<Tracking>,
    pub(super) state: ConnState,
    /// A rule said not to track it.
    pub(super) is_untracked: bool,
    /// The socket that a rule has given it to.
    assigned: Option<AssignedSocket>,
    /// The packet as its sender knows it, if its destination was translated.
    pub(super) before: Option<Transit>,
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
    let (destination, mark, tos) = (transit.destination, transit.packet.meta.mark, transit.tos());
    if !passage.pass(core, Hook::Output, &mut transit, Some(egress), outbox) {
        return Err(OutputError::Filtered);
    }
    // Rules may lead it elsewhere.
    let mut rerouted = None;
    let meta = &transit.packet.meta;
    if transit.destination != destination || meta.mark != mark || transit.tos() != tos {
        let query = RouteQuery { destination: transit.destination, source: Some(transit.source), nic: None };
        let facts = transit.facts(&core.topology.load().rules);
        // ip6_route_me_harder asks whose the socket is, ip_route_me_harder does not.
        let owner = meta.owner.filter(|_| !transit.is_v4());
        let packet = PacketFacts { user: owner.map_or(0, |owner| owner.user), ..facts };
        let origin = Origin { mark: meta.mark, arrived_on: None, packet };
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
    pub(super) fn chains_at(&self, transit: &Transit, hook: Hook) -> &[PlacedChain] {
        self.program.as_ref().map_or(&[], |program| program.at(family_of(transit.source), hook))
    }
}

/// Where a packet goes.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    path_mtu: Option<u32>,
    output: Option<&'a Arc<Interface>>,
}

impl<'a> Way<'a> {
    pub(super) fn of(egress: Option<&'a Egress>) -> Self {
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

    pub(super) fn traverse(
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

    pub(super) fn run_chain(
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

    pub(super) fn needs_tracking(&self) -> bool {
        self.rules.tables.as_ref().is_some_and(|tables| tables.needs_tracking)
            || self.rules.program.as_ref().is_some_and(|program| program.needs_tracking)
    }

    pub(super) fn translates(&self) -> bool {
        self.rules.tables.as_ref().is_some_and(|tables| tables.translates)
            || self.rules.program.as_ref().is_some_and(|program| program.translates)
    }
}

/// Makes the packet of an output for the rules.
pub(crate) fn transit_of(core: &Core, output: &IpOutput, packet: Packet) -> Transit {
    // RFC 6864 section 4.1: the identification of atomic packets may have any value; cut packets count from here.
    let ident = core.next_ident(output);
    Transit::of_output(output, ident, packet)
}

/// `NF_IP_PRI_NAT_DST`.
pub(super) const DESTINATION_PRIORITY: i32 = -100;
/// `NF_IP_PRI_NAT_SRC`.
pub(super) const SOURCE_PRIORITY: i32 = 100;
