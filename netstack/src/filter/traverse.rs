//! The way of a packet through the chains of a table.

use super::change;
use super::compile::{Compiled, CompiledRule};
use super::log;
use super::owner::{self, ProxyPlace};
use super::rule::{ConnMarkAction, Hook, NatRange, Policy, RejectWith, Table, Target};
use super::subject::Subject;
use super::test;

/// What a table decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Reject(RejectWith),
    SourceNat(NatRange),
    DestinationNat(NatRange),
    Masquerade(NatRange),
    Redirect(NatRange),
    NetMap(NatRange),
}

/// Shows a packet to a table.
pub(super) fn traverse(rules: &Compiled, table: Table, hook: Hook, subject: &mut Subject<'_>) -> Verdict {
    let table = rules.table(table);
    let Some(start) = table.start(hook) else { return Verdict::Accept };
    // Where to go on after a return. Chains do not lead to themselves, so it ends.
    let mut back: Vec<(usize, usize)> = Vec::new();
    let (mut chain, mut at) = (start, 0);
    loop {
        let Some(rule) = table.chains[chain].rules.get(at) else {
            match back.pop() {
                Some(place) => (chain, at) = place,
                None => break,
            }
            continue;
        };
        at += 1;
        if !test::all_pass(&rule.tests, subject) {
            continue;
        }
        rule.counters.count(subject.transit.len());
        match step(rule, subject) {
            Step::Next => {}
            Step::Done(verdict) => return verdict,
            Step::Return => match back.pop() {
                Some(place) => (chain, at) = place,
                None => break,
            },
            Step::Jump(to) => {
                back.push((chain, at));
                (chain, at) = (to, 0);
            }
            Step::Goto(to) => (chain, at) = (to, 0),
        }
    }
    let chain = &table.chains[start];
    chain.fell_through.count(subject.transit.len());
    match chain.policy {
        Policy::Accept => Verdict::Accept,
        Policy::Drop => Verdict::Drop,
    }
}

enum Step {
    Next,
    Return,
    Jump(usize),
    Goto(usize),
    Done(Verdict),
}

fn step(rule: &CompiledRule, subject: &mut Subject<'_>) -> Step {
    match &rule.target {
        Target::Return => Step::Return,
        Target::Jump(_) => Step::Jump(rule.jump),
        Target::Goto(_) => Step::Goto(rule.jump),
        target => apply(target, subject).map_or(Step::Next, Step::Done),
    }
}

/// Does what a target does that is no way to another chain. `None` if the packet goes on with the next rule.
pub(super) fn apply(target: &Target, subject: &mut Subject<'_>) -> Option<Verdict> {
    let own = |ports: &Option<_>, choice| NatRange { addresses: None, ports: Option::clone(ports), choice };
    let transit = &mut *subject.transit;
    match target {
        Target::Continue | Target::Return | Target::Jump(_) | Target::Goto(_) => return None,
        Target::Mark { value, mask } => {
            let mark = &mut transit.packet.meta.mark;
            *mark = (*mark & !mask) ^ value;
            return None;
        }
        Target::ConnMark(action) => {
            conn_mark(*action, subject);
            return None;
        }
        Target::Tos { value, mask } => {
            change::tos(transit, *value, *mask);
            return None;
        }
        Target::Ttl(action) => {
            change::ttl(transit, *action);
            return None;
        }
        Target::Mss(target) => {
            change::mss(subject, *target);
            return None;
        }
        Target::Proxy(proxy) => {
            let place = ProxyPlace { address: proxy.address, port: proxy.port };
            if !owner::give(subject, &place) {
                return Some(Verdict::Drop);
            }
            let mark = &mut subject.transit.packet.meta.mark;
            *mark = (*mark & !proxy.mask) ^ proxy.mark;
        }
        Target::Log(prefix) => {
            log::write(subject, prefix);
            return None;
        }
        Target::NoTrack => {
            subject.leave_untracked();
            return None;
        }
        _ => {}
    }
    Some(match target {
        Target::Drop => Verdict::Drop,
        Target::Reject(with) => Verdict::Reject(*with),
        Target::SourceNat(range) => Verdict::SourceNat(range.clone()),
        Target::DestinationNat(range) => Verdict::DestinationNat(range.clone()),
        Target::NetMap(range) => {
            Verdict::NetMap(NatRange { addresses: Some(range.clone()), ..NatRange::default() })
        }
        Target::Masquerade { ports, choice } => Verdict::Masquerade(own(ports, *choice)),
        Target::Redirect { ports, choice } => Verdict::Redirect(own(ports, *choice)),
        _ => Verdict::Accept,
    })
}

fn conn_mark(action: ConnMarkAction, subject: &mut Subject<'_>) {
    let Some(tracking) = subject.tracking else { return };
    let conn = &tracking.conn;
    let mark = &mut subject.transit.packet.meta.mark;
    match action {
        ConnMarkAction::Set { value, mask } => conn.set_mark((conn.mark() & !mask) ^ value),
        ConnMarkAction::Save { packet_mask, flow_mask } => {
            conn.set_mark((conn.mark() & !flow_mask) ^ (*mark & packet_mask));
        }
        ConnMarkAction::Restore { packet_mask, flow_mask } => {
            *mark = (*mark & !packet_mask) ^ (conn.mark() & flow_mask);
        }
    }
}
