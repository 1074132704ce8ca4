//! The way of a packet through the chains of a table.

use super::compile::{Compiled, CompiledRule};
use super::rule::{Hook, NatRange, Policy, RejectWith, Table, Target};
use super::subject::Subject;
use super::test;

/// What a table decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Reject(RejectWith),
    NoTrack,
    SourceNat(NatRange),
    DestinationNat(NatRange),
    Masquerade(NatRange),
    Redirect(NatRange),
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
        if !test::matches(rule, subject) {
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
    Done(Verdict),
}

fn step(rule: &CompiledRule, subject: &mut Subject<'_>) -> Step {
    let own = |ports: &Option<_>| NatRange { addresses: None, ports: Option::clone(ports) };
    Step::Done(match &rule.target {
        Target::Continue => return Step::Next,
        Target::Return => return Step::Return,
        Target::Jump(_) => return Step::Jump(rule.jump),
        Target::Mark { value, mask } => {
            let mark = &mut subject.transit.packet.meta.mark;
            *mark = (*mark & !mask) | (value & mask);
            return Step::Next;
        }
        Target::Accept => Verdict::Accept,
        Target::Drop => Verdict::Drop,
        Target::Reject(with) => Verdict::Reject(*with),
        Target::NoTrack => Verdict::NoTrack,
        Target::SourceNat(range) => Verdict::SourceNat(range.clone()),
        Target::DestinationNat(range) => Verdict::DestinationNat(range.clone()),
        Target::Masquerade { ports } => Verdict::Masquerade(own(ports)),
        Target::Redirect { ports } => Verdict::Redirect(own(ports)),
    })
}
