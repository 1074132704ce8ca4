//! From the tables to the program of the stack's packet filter.

use std::sync::Arc;

use netstack::Stack;
use netstack::filter::machine::{self, AddressFamily, Program, ProgramError};

use super::attributes::{Outcome, Refused};
use super::constants::{FAMILY_V4, FAMILY_V6};
use super::element;
use super::model::{Model, Table};
use crate::errno::Errno;

/// Tells whether tables would take effect.
pub(super) fn check(stack: &Stack, model: &Model) -> Outcome {
    stack.check_filter_program(program(model, Sleepers::Awake)).map_err(refusal)
}

/// What to do with tables that sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sleepers {
    Awake,
    Asleep,
}

/// As nft_chain_validate.
fn refusal(error: ProgramError) -> Refused {
    match error {
        ProgramError::TooDeep(_) => Refused::from(Errno::EMLINK),
        ProgramError::NotForHook(_) => Refused::from(Errno::EOPNOTSUPP),
        // As nft_match_validate.
        ProgramError::ExtensionNotForHook(_) => Refused::from(Errno::EINVAL),
    }
}

fn program(model: &Model, sleepers: Sleepers) -> Program {
    let mut program =
        Program { chains: vec![None; model.chain_slots.end()], sets: vec![None; model.set_slots.end()] };
    for table in &model.tables {
        place(table, sleepers, &mut program);
    }
    program
}

/// Makes tables take effect. They are unchanged where that fails.
pub(super) fn commit(stack: &Stack, model: &mut Model) -> Outcome {
    if model.tables.iter().any(|table| table.is_dormant()) {
        // They must make sense as well.
        check(stack, model)?;
    }
    stack.set_filter_program(program(model, Sleepers::Asleep)).map_err(refusal)?;
    for table in &mut model.tables {
        if table.sets.iter().any(|set| set.is_forked) {
            Arc::make_mut(table).sets.iter_mut().for_each(element::settle);
        }
    }
    model.generation = match model.generation.wrapping_add(1) {
        // Never zero, which asks for any.
        0 => 1,
        next => next,
    };
    Ok(())
}

fn place(table: &Table, sleepers: Sleepers, program: &mut Program) {
    let family = match table.family {
        FAMILY_V4 => AddressFamily::V4,
        FAMILY_V6 => AddressFamily::V6,
        _ => AddressFamily::Both,
    };
    let slot = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    for chain in &table.chains {
        // The chains of a table that sleeps are there, but packets do not start in them.
        let is_awake = sleepers == Sleepers::Awake || !table.is_dormant();
        let base = chain.base.filter(|_| is_awake).map(|base| machine::Base {
            family,
            hook: base.hook,
            priority: base.priority,
            kind: base.kind,
            policy: base.policy,
        });
        let rules = chain.rules.iter().map(|rule| Arc::clone(&rule.compiled)).collect();
        let made = machine::Chain { base, rules, counter: chain.counter.clone() };
        if let Some(place) = program.chains.get_mut(slot(chain.slot.0)) {
            *place = Some(Arc::new(made));
        }
    }
    for set in &table.sets {
        if let Some(place) = program.sets.get_mut(slot(set.slot.0)) {
            *place = Some(element::elements(set));
        }
    }
}
