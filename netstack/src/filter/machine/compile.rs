//! From a program as it is written to one that can be run: what makes no sense is refused, and base chains are put in order.

use std::sync::Arc;

use super::expression::{AddressFamily, CompatTest, Expression, NatKind};
use super::set::{Data, Set};
use super::{Chain, ChainId, ChainKind, MAX_JUMPS, Program, SetId, Verdict};
use crate::filter::compile::{looks_at_flows, translates_flows};
use crate::filter::rule::{Hook, Target, Test};
use crate::filter::state::SharedStates;
use crate::filter::test::CompiledTest;
use crate::options::Family;
use crate::time::Instant;

/// Why a program was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// A chain leads to itself, or through too many others.
    #[error("chain {0:?} leads to itself or too deep")]
    TooDeep(ChainId),
    /// An expression is not for packets at a hook that leads to it, or for the kind of chain.
    #[error("an expression of chain {0:?} is not for where it is")]
    NotForHook(ChainId),
    /// The same of a test or target of the other kind of rules.
    #[error("a test or target of chain {0:?} is not for where it is")]
    ExtensionNotForHook(ChainId),
}

/// A program that can be run.
#[derive(Debug)]
pub(in crate::filter) struct CompiledProgram {
    program: Program,
    /// By family and hook, in order of priority.
    placed: [[Vec<PlacedChain>; 5]; 2],
    pub(in crate::filter) needs_tracking: bool,
    pub(in crate::filter) translates: bool,
}

/// A base chain at its place.
#[derive(Debug, Clone, Copy)]
pub(in crate::filter) struct PlacedChain {
    pub(in crate::filter) chain: ChainId,
    pub(in crate::filter) priority: i32,
    pub(in crate::filter) kind: ChainKind,
}

impl CompiledProgram {
    pub(in crate::filter) fn new(program: Program, now: Instant) -> Result<Self, ProgramError> {
        let mut compiled =
            Self { program, placed: Default::default(), needs_tracking: false, translates: false };
        let chains = || compiled.program.chains.iter().flatten();
        let rules = || chains().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.expressions);
        compiled.translates =
            chains().any(|chain| chain.base.is_some_and(|base| base.kind == ChainKind::Nat));
        compiled.needs_tracking = compiled.translates || rules().any(needs_tracking);
        compiled.check(now)?;
        for index in 0..compiled.program.chains.len() {
            // A program's slots are numbered with 32 bits.
            let id = ChainId(index as u32);
            let Some(base) = compiled.chain(id).and_then(|chain| chain.base) else { continue };
            let placed = PlacedChain { chain: id, priority: base.priority, kind: base.kind };
            for family in [Family::V4, Family::V6] {
                let is_for = match base.family {
                    AddressFamily::V4 => family == Family::V4,
                    AddressFamily::V6 => family == Family::V6,
                    AddressFamily::Both => true,
                };
                if is_for {
                    compiled.placed[crate::filter::index(family)][base.hook as usize].push(placed);
                }
            }
        }
        // Stable: chains of one priority are asked in the order in which they were made.
        compiled.placed.iter_mut().flatten().for_each(|chains| chains.sort_by_key(|placed| placed.priority));
        Ok(compiled)
    }

    pub(in crate::filter) fn is_for(&self, family: Family) -> bool {
        self.placed[crate::filter::index(family)].iter().any(|chains| !chains.is_empty())
    }

    pub(in crate::filter) fn at(&self, family: Family, hook: Hook) -> &[PlacedChain] {
        &self.placed[crate::filter::index(family)][hook as usize]
    }

    pub(super) fn chain(&self, id: ChainId) -> Option<&Chain> {
        self.program.chains.get(usize::try_from(id.0).ok()?)?.as_deref()
    }

    pub(super) fn set(&self, id: SetId) -> Option<&Arc<Set>> {
        self.program.sets.get(usize::try_from(id.0).ok()?)?.as_ref()
    }

    /// Walks from each base chain along the jumps, as deep as packets can go.
    fn check(&self, now: Instant) -> Result<(), ProgramError> {
        let mut walk = Walk { program: self, now, seen: vec![None; self.program.chains.len()] };
        for index in 0..self.program.chains.len() {
            let id = ChainId(index as u32);
            let Some(base) = self.chain(id).and_then(|chain| chain.base) else { continue };
            walk.seen.fill(None);
            walk.chain(id, (base.hook, base.kind), 0)?;
        }
        Ok(())
    }
}

struct Walk<'a> {
    program: &'a CompiledProgram,
    now: Instant,
    /// How deep each chain was found; it is looked at again if it is found deeper.
    seen: Vec<Option<usize>>,
}

impl Walk<'_> {
    fn slot(&mut self, id: ChainId) -> Option<&mut Option<usize>> {
        self.seen.get_mut(usize::try_from(id.0).ok()?)
    }

    fn chain(&mut self, id: ChainId, place: (Hook, ChainKind), depth: usize) -> Result<(), ProgramError> {
        let program = self.program;
        let Some(chain) = program.chain(id) else { return Ok(()) };
        if depth >= MAX_JUMPS {
            return Err(ProgramError::TooDeep(id));
        }
        match self.slot(id) {
            Some(Some(known)) if *known >= depth => return Ok(()),
            Some(slot) => *slot = Some(depth),
            None => return Ok(()),
        }
        for expression in chain.rules.iter().flat_map(|rule| &rule.expressions) {
            if !fits(expression, place) {
                let is_extension = matches!(expression, Expression::Test(_) | Expression::Target(_));
                return Err(match is_extension {
                    true => ProgramError::ExtensionNotForHook(id),
                    false => ProgramError::NotForHook(id),
                });
            }
            // A goto is no deeper for packets, but chains of them must end as well.
            for next in self.ways(expression) {
                self.chain(next, place, depth + 1)?;
            }
        }
        Ok(())
    }

    /// The chains that an expression may lead to.
    fn ways(&self, expression: &Expression) -> Vec<ChainId> {
        let way = |verdict: &Verdict| match verdict {
            Verdict::Jump(to) | Verdict::Goto(to) => Some(*to),
            _ => None,
        };
        match expression {
            Expression::Verdict(verdict) => way(verdict).into_iter().collect(),
            Expression::VerdictMap { set, .. } => {
                let mut ways = Vec::new();
                if let Some(set) = self.program.set(*set) {
                    set.for_each(self.now, |_, element| {
                        if let Some(Data::Verdict(verdict)) = &element.data {
                            ways.extend(way(verdict));
                        }
                    });
                }
                ways.sort_unstable();
                ways.dedup();
                ways
            }
            _ => Vec::new(),
        }
    }
}

/// Whether an expression makes sense in a chain that is reached from such a base chain.
fn fits(expression: &Expression, (hook, kind): (Hook, ChainKind)) -> bool {
    let translates = |allowed: &[Hook]| kind == ChainKind::Nat && allowed.contains(&hook);
    match expression {
        Expression::Nat(rule) => match rule.kind {
            NatKind::Source => translates(&[Hook::Postrouting, Hook::Input]),
            NatKind::Masquerade => translates(&[Hook::Postrouting]),
            NatKind::Destination | NatKind::Redirect => translates(&[Hook::Prerouting, Hook::Output]),
        },
        Expression::Reject(_) => hook != Hook::Postrouting,
        Expression::Proxy(_) => hook == Hook::Prerouting,
        Expression::Socket { .. } => matches!(hook, Hook::Prerouting | Hook::Input | Hook::Output),
        // Only what is sent has a socket that sent it.
        Expression::Test(tests) => {
            let asks_owner = tests.0.iter().any(|test| matches!(test.test, Test::Owner(_)));
            let asks_socket = tests.0.iter().any(|test| matches!(test.test, Test::Socket(_)));
            (!asks_owner || matches!(hook, Hook::Output | Hook::Postrouting))
                && (!asks_socket || matches!(hook, Hook::Prerouting | Hook::Input))
        }
        Expression::Target(target) => match target {
            Target::SourceNat(_) => translates(&[Hook::Postrouting, Hook::Input]),
            Target::Proxy(_) => hook == Hook::Prerouting,
            Target::Masquerade { .. } => translates(&[Hook::Postrouting]),
            Target::DestinationNat(_) | Target::Redirect { .. } => {
                translates(&[Hook::Prerouting, Hook::Output])
            }
            Target::NetMap(_) => kind == ChainKind::Nat,
            Target::Reject(_) => matches!(hook, Hook::Input | Hook::Forward | Hook::Output),
            _ => true,
        },
        _ => true,
    }
}

fn needs_tracking(expression: &Expression) -> bool {
    match expression {
        Expression::Flow { .. } | Expression::SetFlowMark(_) | Expression::Nat(_) => true,
        Expression::Test(tests) => tests.0.iter().any(|test| looks_at_flows(&test.test)),
        Expression::Target(target) => translates_flows(target) || matches!(target, Target::ConnMark(_)),
        _ => false,
    }
}

impl CompatTest {
    /// Tests that all must pass; those with `true` must fail instead. Lists with names are shared with all others of `stack`.
    pub fn new(stack: &crate::Stack, tests: Vec<(Test, bool)>) -> Self {
        let shared: &SharedStates = &stack.core.filter.shared;
        Self(tests.into_iter().map(|test| CompiledTest::new(test, shared)).collect())
    }
}
