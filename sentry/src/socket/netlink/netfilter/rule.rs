//! Rules.

use std::sync::Arc;

use netstack::filter::machine;
use sentry_abi::netlink::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};

use super::attributes::{Outcome, Refused, long, name, nested, number, put_long};
use super::batch::{Batch, Change, Missing};
use super::constants::*;
use super::dump::{Query, Reset};
use super::expression::{Parser, describe_all};
use super::model::{Chain, Rule, Table};
use crate::errno::Errno;
use crate::socket::netlink::message::{Attributes, Builder, Reply};

/// `NFT_MSG_NEWRULE`.
pub(super) fn add(change: &mut Change<'_, '_>) -> Outcome {
    let attributes = change.attributes;
    let table = change.table(TABLE)?;
    let chain = chain(change, table)?;
    let rules = &change.batch.model.tables[table].chains[chain].rules;
    let at = |handle: u64| rules.iter().position(|rule| rule.handle == handle);
    let replaced = match long(attributes, HANDLE) {
        Some(handle) => {
            let place = at(handle).ok_or(Refused::at(Errno::ENOENT, attributes.find(HANDLE)))?;
            if change.has(NLM_F_EXCL) {
                return Err(Refused::at(Errno::EEXIST, attributes.find(HANDLE)));
            }
            if !change.has(NLM_F_REPLACE) {
                return Err(Errno::EOPNOTSUPP.into());
            }
            Some(place)
        }
        None if !change.has(NLM_F_CREATE) || change.has(NLM_F_REPLACE) => return Err(Errno::EINVAL.into()),
        None => None,
    };
    let position = match (long(attributes, POSITION), number(attributes, POSITION_ID)) {
        (Some(handle), _) => Some(at(handle).ok_or(Refused::at(Errno::ENOENT, attributes.find(POSITION)))?),
        (None, Some(id)) => {
            let missing = Refused::at(Errno::ENOENT, attributes.find(POSITION_ID));
            let handle = *change.batch.rule_ids.get(&id).ok_or(missing)?;
            Some(at(handle).ok_or(missing)?)
        }
        (None, None) => None,
    };
    if change.batch.model.rule_count() >= MAX_RULES {
        return Err(Errno::ENOMEM.into());
    }
    let parsed = Parser::new(change.batch, table, change.family).list(nested(attributes, EXPRESSIONS))?;
    let user_data = attributes.find(USER_DATA).map(<[u8]>::to_vec);
    if user_data.as_ref().is_some_and(|data| data.len() > MAX_USER_DATA) {
        return Err(Errno::EINVAL.into());
    }
    let is_appended = change.has(NLM_F_APPEND);
    let table_entry = change.batch.model.table_mut(table);
    let handle = table_entry.next_handle();
    let rule = Arc::new(Rule {
        handle,
        stored: parsed.stored,
        compiled: Arc::new(machine::Rule { expressions: parsed.expressions }),
        references: parsed.references,
        user_data,
    });
    let rules = &mut Arc::make_mut(&mut table_entry.chains[chain]).rules;
    let mut gone = None;
    match (replaced, position) {
        (Some(place), _) => gone = Some(std::mem::replace(&mut rules[place], rule)),
        (None, Some(place)) if is_appended => rules.insert(place + 1, rule),
        (None, Some(place)) => rules.insert(place, rule),
        (None, None) if is_appended => rules.push(rule),
        (None, None) => rules.insert(0, rule),
    }
    if let Some(gone) = gone {
        change.batch.model.forget_rules(table, &[gone]);
    }
    if let Some(id) = number(attributes, ID) {
        change.batch.rule_ids.insert(id, handle);
    }
    Ok(())
}

/// The chain that a message names.
fn chain(change: &Change<'_, '_>, table: usize) -> Outcome<usize> {
    let attributes = change.attributes;
    let chains = &change.batch.model.tables[table].chains;
    let find = |is_it: &dyn Fn(&Chain) -> bool| chains.iter().position(|chain| is_it(chain));
    if attributes.find(CHAIN).is_some() {
        let text = name(attributes, CHAIN)?;
        return find(&|chain| chain.name == text).ok_or(Refused::at(Errno::ENOENT, attributes.find(CHAIN)));
    }
    let id = number(attributes, CHAIN_ID).ok_or(Refused::from(Errno::EINVAL))?;
    let missing = Refused::at(Errno::ENOENT, attributes.find(CHAIN_ID));
    let slot = *change.batch.chain_ids.get(&id).ok_or(missing)?;
    find(&|chain| chain.slot == slot).ok_or(missing)
}

/// `NFT_MSG_DELRULE`: one rule, those of a chain, or those of a table.
pub(super) fn remove(change: &mut Change<'_, '_>, missing: Missing) -> Outcome {
    let attributes = change.attributes;
    let table = match change.table(TABLE) {
        Ok(table) => table,
        Err(refused) => return missing.or(refused),
    };
    let has_chain = attributes.find(CHAIN).is_some();
    let chains: Vec<usize> = match has_chain {
        true => match chain(change, table) {
            Ok(chain) => vec![chain],
            Err(refused) => return missing.or(refused),
        },
        false => (0..change.batch.model.tables[table].chains.len()).collect(),
    };
    let wanted = match (long(attributes, HANDLE), number(attributes, ID)) {
        (Some(handle), _) => Some(handle),
        (None, Some(id)) => {
            Some(*change.batch.rule_ids.get(&id).ok_or(Refused::at(Errno::ENOENT, attributes.find(ID)))?)
        }
        (None, None) => None,
    };
    let mut gone = Vec::new();
    let entry = change.batch.model.table_mut(table);
    for chain in chains {
        let is_wanted = |rule: &Arc<Rule>| wanted.is_none_or(|handle| rule.handle == handle);
        if entry.chains[chain].rules.iter().any(is_wanted) {
            let rules = &mut Arc::make_mut(&mut entry.chains[chain]).rules;
            gone.extend(rules.extract_if(.., |rule| is_wanted(rule)));
        }
    }
    if wanted.is_some() && gone.is_empty() {
        let blamed = attributes.find(HANDLE).or(attributes.find(ID));
        return missing.or(Refused::at(Errno::ENOENT, blamed));
    }
    change.batch.model.forget_rules(table, &gone);
    Ok(())
}

/// `NFT_MSG_GETRULE`.
pub(super) fn get(query: &Query<'_>, is_dump: bool, reset: Reset, reply: &mut Reply) -> Outcome {
    let attributes = query.attributes;
    if !is_dump {
        let missing = |kind| Refused::at(Errno::ENOENT, attributes.find(kind));
        let table = query.tables_named(Some(name(attributes, TABLE)?)).next().ok_or(missing(TABLE))?;
        let chain = table.chain(name(attributes, CHAIN)?).ok_or(missing(CHAIN))?;
        let handle = long(attributes, HANDLE).ok_or(Refused::from(Errno::EINVAL))?;
        let place = chain.rules.iter().position(|rule| rule.handle == handle).ok_or(missing(HANDLE))?;
        one(query, table, chain, place, reset, reply);
        return Ok(());
    }
    let wanted_chain = attributes.str(CHAIN);
    for table in query.tables_named(attributes.str(TABLE)) {
        for chain in table.chains.iter().filter(|chain| wanted_chain.is_none_or(|name| chain.name == name)) {
            (0..chain.rules.len()).for_each(|place| one(query, table, chain, place, reset, reply));
        }
    }
    Ok(())
}

fn one(query: &Query<'_>, table: &Table, chain: &Chain, place: usize, reset: Reset, reply: &mut Reply) {
    query.message(reply, MSG_NEWRULE, table.family, |builder| {
        describe(table, chain, place, builder, query.now, reset);
    });
}

fn describe(
    table: &Table,
    chain: &Chain,
    place: usize,
    builder: &mut Builder,
    now: netstack::time::Instant,
    reset: Reset,
) {
    let rule = &chain.rules[place];
    builder.attr_str(TABLE, &table.name);
    builder.attr_str(CHAIN, &chain.name);
    put_long(builder, HANDLE, rule.handle);
    if let Some(before) = place.checked_sub(1) {
        put_long(builder, POSITION, chain.rules[before].handle);
    }
    builder.nest(EXPRESSIONS, |builder| describe_all(&rule.stored, builder, now, reset));
    if let Some(data) = &rule.user_data {
        builder.attr(USER_DATA, data.as_slice());
    }
}

/// The rule that a batch has made last.
pub(super) fn describe_last(
    batch: &Batch<'_>,
    family: u8,
    attributes: Attributes<'_>,
    builder: &mut Builder,
) -> bool {
    let Some(table) = batch.model.table_named(family, attributes.str(TABLE)) else { return false };
    for chain in &table.chains {
        if let Some(place) = chain.rules.iter().position(|rule| rule.handle == table.last_handle) {
            describe(table, chain, place, builder, batch.context.stack.now(), Reset::No);
            return true;
        }
    }
    false
}

const TABLE: u16 = 1;
const CHAIN: u16 = 2;
const HANDLE: u16 = 3;
const EXPRESSIONS: u16 = 4;
const POSITION: u16 = 6;
const USER_DATA: u16 = 7;
const ID: u16 = 9;
const POSITION_ID: u16 = 10;
const CHAIN_ID: u16 = 11;
/// `NFT_USERDATA_MAXLEN`.
const MAX_USER_DATA: usize = 256;
/// Bounds the memory that rules take.
const MAX_RULES: usize = 1 << 17;
